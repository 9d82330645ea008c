//! The socket shell of the gateway's end: dials, logs in, subscribes, reconnects; drives one MQTT session.
//!
//! One event loop and one reconnect policy serve every subcommand. [`Client::next`] is cancel-safe: the next call continues
//! its work. It also writes all publishes since the last call, in one write.

mod address;
mod connect;
mod greeting;
mod settings;
pub(crate) mod stream;
mod tls;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

pub use self::{address::BrokerAddress, settings::ClientSettings, tls::Tls};

use crate::{
    collections::IdSet,
    error::{Failure, FailureKind},
    mqtt::{
        ConnectCode, SUBSCRIPTION_REFUSED,
        backoff::{Backoff, Pause},
        codec::{Message, Publish, QoS, Side, SubscribeCode, TooLarge},
        session::{self, AckToken, Session, SessionLimits},
    },
};
use greeting::Greeting;
use stream::{Activity, BrokerStream};

/// An event of the connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// The connection is open and SUBSCRIBE is on its way. The caller should now publish its open requests again.
    Ready {
        /// Whether the broker kept the session: the client then sends unacknowledged publishes again by itself.
        resumed: bool,
    },
    /// Every subscription was granted.
    Subscribed,
    /// A message arrived. If it has a receipt, the caller must acknowledge it.
    Message(Message, Option<AckToken>),
    /// A publish was acknowledged (QoS 1 and 2) or written to the socket (QoS 0).
    Delivered {
        /// The token given to [`Client::publish`].
        token: u64,
    },
    /// The connection was lost and will be opened again.
    Lost {
        /// Why, in words.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The broker deviated from the protocol without harm.
    Warning(String),
}

/// The pause of a patient client after a refusal.
const PATIENCE: Duration = Duration::from_secs(30);

/// One MQTT connection that outlives its sockets.
pub struct Client {
    settings: ClientSettings,
    subscriptions: Vec<(String, QoS)>,
    origin: Instant,
    /// When the bytes behind the current events were read (QoS 0: written).
    received_at: Duration,
    session: Session,
    link: LinkState,
    backoff: Backoff,
    events: VecDeque<ClientEvent>,
    awaits: Awaits,
    /// When the connection was lost, or the client was made; `None` while it is open.
    down_since: Option<Duration>,
    /// Tokens of QoS 0 publishes, which are never acknowledged.
    unacknowledged: IdSet<u64>,
    /// Those of them that are in the outbox. They count as delivered once it is empty.
    unwritten: Vec<u64>,
    /// Since when the socket has taken no byte of the output.
    write_stalled: Option<Instant>,
    /// Whether SUBSCRIBE left with CONNECT on this connection.
    early: bool,
    /// Whether bytes were read since the deadlines were last checked.
    has_read: bool,
    reads_paused: bool,
    closing: bool,
    /// Whether every subscription has been granted once.
    was_subscribed: bool,
    /// Whether a publish of QoS 0 may still be on its way when the connection is closed.
    lingers: bool,
}

type Dial = Pin<Box<dyn Future<Output = Result<BrokerStream, Failure>>>>;

enum LinkState {
    /// No socket until this moment.
    Waiting(Duration),
    Dialling(Dial),
    Up(BrokerStream),
}

/// Packets that the broker owes, with their deadlines.
#[derive(Default)]
struct Awaits {
    connack: Option<Duration>,
    suback: Option<(u16, Duration)>,
}

impl Client {
    /// A client that dials at the first [`Client::next`] and keeps these subscriptions.
    #[must_use]
    pub fn new(settings: ClientSettings, subscriptions: Vec<(String, QoS)>) -> Self {
        let unverified = settings.tls.as_ref().filter(|tls| tls.is_insecure()).map(|_| {
            ClientEvent::Warning("--tls-insecure: nothing of the broker's certificate is verified".into())
        });
        let limits = SessionLimits { max_packet: settings.max_packet, in_flight: settings.in_flight };
        Self {
            session: Session::new(Side::Client, limits),
            subscriptions,
            origin: Instant::now(),
            received_at: Duration::ZERO,
            link: LinkState::Waiting(Duration::ZERO),
            backoff: Backoff::default(),
            events: unverified.into_iter().collect(),
            awaits: Awaits::default(),
            down_since: Some(Duration::ZERO),
            unacknowledged: IdSet::default(),
            unwritten: Vec::new(),
            write_stalled: None,
            early: false,
            has_read: false,
            reads_paused: false,
            closing: false,
            was_subscribed: false,
            lingers: false,
            settings,
        }
    }

    /// The time since this client was created: the clock of all its times.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Returns when the bytes behind the current events were read (QoS 0: written).
    #[must_use]
    pub fn received_at(&self) -> Duration {
        self.received_at
    }

    /// The instant of a time on this client's clock.
    #[must_use]
    pub fn instant(&self, moment: Duration) -> Instant {
        self.origin + moment
    }

    /// Whether a connection has ever been accepted.
    #[must_use]
    pub fn was_up(&self) -> bool {
        self.backoff.was_up()
    }

    /// Since when there is no connection; `None` while it is open.
    #[must_use]
    pub fn down_since(&self) -> Option<Duration> {
        self.down_since
    }

    /// Since when an open connection has taken no byte of the output; `None` if it takes all.
    #[must_use]
    pub fn write_stalled_since(&self) -> Option<Duration> {
        self.write_stalled.map(|stuck| stuck.saturating_duration_since(self.origin))
    }

    /// Queues a publish; the next [`Client::next`] writes it. The token comes back in [`ClientEvent::Delivered`].
    ///
    /// # Errors
    /// A message that does not fit into a packet.
    pub fn publish(&mut self, publish: Publish, token: u64) -> Result<(), TooLarge> {
        if publish.qos == QoS::AtMostOnce {
            self.unacknowledged.insert(token);
            self.lingers = true;
        }
        self.session.publish(publish, token)
    }

    /// Acknowledges a received message. Acknowledgements are sent in the order of arrival (MQTT-4.6.0-2).
    pub fn acknowledge(&mut self, receipt: AckToken) {
        self.session.acknowledge(receipt);
    }

    /// Resets the backoff. To be called when the connection was of use: at a message's first acknowledgement or a request's
    /// answer.
    pub fn reset_backoff(&mut self) {
        self.backoff.handle_progress();
    }

    /// Stops or resumes reading, for a caller that cannot keep up. The connection is kept alive meanwhile.
    pub fn pause_reads(&mut self, paused: bool) {
        self.reads_paused = paused;
    }

    /// Returns the next event without waiting; `None` if bytes must be read first.
    ///
    /// # Errors
    /// A failure that ends the connection for good.
    pub fn try_next(&mut self) -> Result<Option<ClientEvent>, Failure> {
        match self.poll_read() {
            Err(failure) if self.is_patient() => Ok(Some(self.wait_long(failure))),
            polled => polled,
        }
    }

    fn poll_read(&mut self) -> Result<Option<ClientEvent>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.reads_paused || !matches!(self.link, LinkState::Up(_)) {
                return Ok(None);
            }
            let now = self.received_at;
            if self.awaits.connack.is_some()
                && let Some(greeting) = Greeting::of(self.session.inbox())
            {
                return Err(self.greeted(&greeting));
            }
            match self.session.poll_event(now) {
                Ok(Some(event)) => {
                    if let Some(event) = self.take(event, now)? {
                        return Ok(Some(event));
                    }
                }
                Ok(None) => return Ok(None),
                Err(violation) => return Err(self.violated(&violation.to_string())),
            }
        }
    }

    /// Returns the next event; drives the connection until there is one. Cancel-safe.
    ///
    /// # Errors
    /// A failure that ends the connection for good: a failed first connection, a refusal, a violation of the protocol.
    pub async fn next(&mut self) -> Result<ClientEvent, Failure> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            let driven = match &mut self.link {
                LinkState::Waiting(until) => {
                    let until = *until;
                    if until > self.now() {
                        tokio::time::sleep_until(self.instant(until).into()).await;
                    }
                    self.awaits.connack = Some(self.now() + self.settings.connect_timeout);
                    self.link = LinkState::Dialling(Box::pin(stream::dial(self.settings.clone())));
                    Ok(())
                }
                LinkState::Dialling(dial) => match dial.await {
                    Ok(stream) => self.opened(stream),
                    Err(failure) => self.lost(failure),
                },
                LinkState::Up(_) => self.turn().await,
            };
            match driven {
                Err(failure) if self.is_patient() => return Ok(self.wait_long(failure)),
                driven => driven?,
            }
        }
    }

    fn is_patient(&self) -> bool {
        self.settings.is_patient && !self.closing
    }

    /// Plans the next attempt after a failure that would end another connection for good: after the usual pause if there has
    /// been no answer, and after a long one if there was one.
    fn wait_long(&mut self, failure: Failure) -> ClientEvent {
        let now = self.now();
        self.end_transport(now);
        let Pause { wait, .. } = self.backoff.handle_lost(now, fastrand::f64());
        let wait = if failure.kind == FailureKind::Connection { wait } else { PATIENCE };
        self.link = LinkState::Waiting(now + wait);
        ClientEvent::Lost { reason: failure.message, retry_in: wait }
    }

    fn end_transport(&mut self, now: Duration) {
        self.awaits = Awaits::default();
        self.session.close();
        self.unwritten.clear();
        self.write_stalled = None;
        self.has_read = false;
        self.link = LinkState::Waiting(now);
        self.down_since.get_or_insert(now);
    }

    /// Sends DISCONNECT after all publishes, and closes the socket; gives up after a second.
    pub async fn close(&mut self) {
        if !matches!(self.link, LinkState::Up(_)) || self.closing {
            return;
        }
        self.closing = true;
        self.session.disconnect();
        if let LinkState::Up(stream) = &mut self.link {
            // It makes no difference whether the peer reads it.
            let farewell = stream.finish(self.session.outbox(), self.lingers);
            let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        }
    }

    /// Writes and reads as much as possible, or waits until either is possible or a deadline passes.
    ///
    /// A deadline counts only after the bytes that came before it were read, because this process may have been stopped.
    async fn turn(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.has_read) {
            self.check_deadlines()?;
        }
        let suback = self.awaits.suback.filter(|_| self.awaits.connack.is_none()).map(|(_, due)| due);
        let deadline = [self.session.next_timeout(), self.awaits.connack, suback].into_iter().flatten().min();
        let LinkState::Up(stream) = &mut self.link else { return Ok(()) };
        let until_written = !self.unwritten.is_empty();
        let exchange =
            stream.exchange(&mut self.session, self.reads_paused, until_written, &mut self.write_stalled);
        let activity = match deadline {
            Some(due) => {
                let due = tokio::time::Instant::from_std(self.origin + due);
                tokio::select! {
                    biased;
                    activity = exchange => activity,
                    () = tokio::time::sleep_until(due) => Ok(Activity::None),
                }
            }
            None => exchange.await,
        };
        match activity {
            Ok(Activity::None) => self.check_deadlines(),
            Ok(Activity::Read) => {
                self.received_at = self.now();
                self.has_read = true;
                Ok(())
            }
            Ok(Activity::Written) => {
                self.received_at = self.now();
                self.events.extend(self.unwritten.drain(..).map(|token| ClientEvent::Delivered { token }));
                self.check_deadlines()
            }
            Ok(Activity::Closed) => {
                let failure = self.closed_by_peer("the broker closed the connection");
                self.lost(failure)
            }
            Err(why) => {
                let failure = self.closed_by_peer(&format!("the connection broke: {why}"));
                self.lost(match tls::advice(&why) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
        }
    }

    fn check_deadlines(&mut self) -> Result<(), Failure> {
        let now = self.now();
        if self.awaits.connack.is_some_and(|due| due <= now) {
            let waited = self.settings.connect_timeout;
            let failure = Failure::new(
                FailureKind::Connection,
                format!(
                    "{} accepted the connection, but sent no CONNACK in {waited:?}",
                    self.settings.address
                ),
            )
            .hint(self.scheme_hint());
            return self.lost(failure);
        }
        if self.awaits.connack.is_none() && self.awaits.suback.is_some_and(|(_, due)| due <= now) {
            let failure = Failure::new(
                FailureKind::Timeout,
                format!("{} sent no SUBACK in {:?}", self.settings.address, self.settings.timeout),
            );
            // If nothing else ends the run, it waits for a broker that has granted the subscriptions before.
            let goes_on = self.was_subscribed && !self.settings.gives_up;
            return if goes_on { self.lost(failure) } else { Err(failure) };
        }
        if self.reads_paused {
            // The broker's bytes wait unread, so that its silence means nothing.
            self.session.not_reading(now);
        }
        if self.session.next_timeout().is_some_and(|due| due <= now)
            && self.session.handle_timeout(now).is_err()
        {
            let failure = Failure::new(
                FailureKind::Connection,
                format!("{} has been silent for 1.5 times the keep-alive", self.settings.address),
            );
            return self.lost(failure);
        }
        Ok(())
    }

    fn opened(&mut self, stream: BrokerStream) -> Result<(), Failure> {
        let now = self.now();
        self.received_at = now;
        self.link = LinkState::Up(stream);
        self.session.open(now);
        if self.settings.connect.clean_session {
            self.session.forget();
        }
        self.session.connect(&self.settings.connect, now).map_err(|why| too_large(&why))?;
        // A connection that came back may be refused: then nothing is sent on trust.
        self.early = self.settings.early && !self.backoff.was_up();
        if self.early {
            self.subscribe(now)?;
            self.events.push_back(ClientEvent::Ready { resumed: false });
        }
        Ok(())
    }

    fn subscribe(&mut self, now: Duration) -> Result<(), Failure> {
        self.down_since = None;
        if !self.subscriptions.is_empty() {
            let id = self.session.subscribe(&self.subscriptions).map_err(|why| too_large(&why))?;
            self.awaits.suback = Some((id, now + self.settings.timeout));
        }
        Ok(())
    }

    /// Takes what the session made of the broker's bytes; gives what the caller should know.
    fn take(&mut self, event: session::SessionEvent, now: Duration) -> Result<Option<ClientEvent>, Failure> {
        Ok(match event {
            session::SessionEvent::ConnAck { session_present, code } => {
                self.connected(session_present, code, now)?;
                None
            }
            session::SessionEvent::Publish(message, receipt) => Some(ClientEvent::Message(message, receipt)),
            session::SessionEvent::Delivered { token } if self.unacknowledged.remove(&token) => {
                self.unwritten.push(token);
                None
            }
            session::SessionEvent::Delivered { token } => Some(ClientEvent::Delivered { token }),
            session::SessionEvent::SubAck { id, codes } => self.granted(id, &codes)?,
            session::SessionEvent::Ignored(what) => Some(ClientEvent::Warning(what)),
            session::SessionEvent::UnsubAck { .. } => None,
            session::SessionEvent::Connect(_)
            | session::SessionEvent::OtherVersion { .. }
            | session::SessionEvent::Subscribe { .. }
            | session::SessionEvent::Unsubscribe { .. }
            | session::SessionEvent::Disconnect => {
                return Err(self.violated("a packet that only clients send"));
            }
        })
    }

    fn connected(&mut self, session_present: bool, code: ConnectCode, now: Duration) -> Result<(), Failure> {
        self.awaits.connack = None;
        if code != ConnectCode::ACCEPTED {
            let failure = refused(&self.settings, code);
            let retry = code == ConnectCode::SERVER_UNAVAILABLE && self.backoff.was_up();
            return if retry { self.lost(failure) } else { Err(failure) };
        }
        self.backoff.handle_connected(now);
        if self.session.is_held() {
            if session_present {
                self.session.resume();
            } else {
                self.session.forget();
            }
        }
        if !self.early {
            self.subscribe(now)?;
            self.events.push_back(ClientEvent::Ready { resumed: session_present });
        }
        if self.subscriptions.is_empty() {
            self.events.push_back(ClientEvent::Subscribed);
        }
        Ok(())
    }

    fn granted(&mut self, id: u16, codes: &[SubscribeCode]) -> Result<Option<ClientEvent>, Failure> {
        if self.awaits.suback.is_none_or(|(awaited, _)| awaited != id) {
            return Ok(Some(ClientEvent::Warning(format!("an unexpected SUBACK for packet id {id}"))));
        }
        self.awaits.suback = None;
        match codes.iter().zip(&self.subscriptions).find(|(code, _)| **code == SubscribeCode::Refused) {
            None => {
                self.was_subscribed = true;
                Ok(Some(ClientEvent::Subscribed))
            }
            Some((_, (filter, _))) => Err(Failure::new(
                FailureKind::Refused,
                format!("the broker refused the subscription to {filter} (SUBACK 0x80)"),
            )
            .hint(SUBSCRIPTION_REFUSED.hint)),
        }
    }

    /// Meets a loss: plans the next attempt, or gives the failure back where there is none.
    fn lost(&mut self, failure: Failure) -> Result<(), Failure> {
        let now = self.now();
        self.end_transport(now);
        if !self.backoff.was_up() || !self.settings.reconnect {
            return Err(failure);
        }
        let Pause { wait, fruitless } = self.backoff.handle_lost(now, fastrand::f64());
        let mut reason = failure.message;
        if let Some(fruitless) = fruitless {
            let rival = format!(
                "is another client using the client id {:?}? A broker lets the newer one push the older one off",
                self.settings.connect.client_id
            );
            if self.settings.gives_up {
                let message = format!("the connection was lost {fruitless}: {reason}");
                return Err(Failure::new(FailureKind::Connection, message).hint(rival));
            }
            reason = format!("{reason}; lost {fruitless}: {rival}");
        }
        self.link = LinkState::Waiting(now + wait);
        self.events.push_back(ClientEvent::Lost { reason, retry_in: wait });
        Ok(())
    }

    fn closed_by_peer(&self, what: &str) -> Failure {
        let failure = Failure::new(FailureKind::Connection, format!("{}: {what}", self.settings.address));
        if self.awaits.connack.is_some() {
            let message = format!("{} before it sent a CONNACK", failure.message);
            Failure::new(FailureKind::Connection, message).hint(self.scheme_hint())
        } else {
            failure
        }
    }

    fn violated(&self, what: &str) -> Failure {
        let address = &self.settings.address;
        let failure =
            Failure::new(FailureKind::Protocol, format!("{address} broke the MQTT protocol: {what}"));
        if self.awaits.connack.is_some() {
            failure.hint("Check that the address is an MQTT broker's; the edge's port is 21883")
        } else {
            failure
        }
    }

    fn greeted(&self, greeting: &Greeting) -> Failure {
        let address = &self.settings.address;
        Failure::new(FailureKind::Protocol, format!("{address} does not speak MQTT: {}", greeting.what))
            .hint(greeting.hint)
    }

    fn scheme_hint(&self) -> &'static str {
        if self.settings.tls.is_some() {
            "Is it an MQTT broker's TLS port?"
        } else {
            "Is it a TLS port? Then write mqtts:// in --broker"
        }
    }
}

fn too_large(why: &TooLarge) -> Failure {
    Failure::invalid(why.to_string())
}

fn refused(settings: &ClientSettings, code: ConnectCode) -> Failure {
    let address = &settings.address;
    if !code.is_refusal() {
        let message = format!("{address} broke the MQTT protocol: CONNACK carries return code {code}");
        return Failure::new(FailureKind::Protocol, message)
            .hint("Check that the address is an MQTT broker's");
    }
    let message = format!("{address} refused the connection: CONNACK {code}, {}", code.name());
    let hint = match code.explained() {
        _ if settings.connect.username.is_none() && matches!(code.0, 4 | 5 | 134 | 135) => {
            "No username was given: --username NAME, TUYAGW_USERNAME or a profile; it comes from Tuya."
        }
        Some(known) => known.hint,
        None => "See the broker's log",
    };
    Failure::new(FailureKind::Refused, message).hint(hint)
}
