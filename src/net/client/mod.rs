//! The socket shell of the gateway's end: dials, logs in, subscribes, reconnects; drives one MQTT session.
//!
//! One event loop and one reconnect policy serve every subcommand. [`Client::next`] is cancel-safe: whatever it
//! was doing goes on with the next call. What is published is written by that call too, in one write for all
//! that was published since the last.

mod connect;
mod greeting;
pub(crate) mod stream;
mod tls;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

pub use tls::Tls;

use crate::{
    collections::IdSet,
    error::{Failure, FailureKind},
    mqtt::{
        ConnectCode, SUBSCRIPTION_REFUSED,
        backoff::{Backoff, Pause},
        codec::{Connect, Message, Publish, QoS, Side, SubscribeCode, TooLarge},
        session::{self, AckToken, Session, SessionLimits},
    },
};
use greeting::Greeting;
use stream::{Activity, Stream};

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How to reach a broker, who to be, and what to insist on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the broker listens.
    pub address: Address,
    /// TLS, or plain TCP.
    pub tls: Option<Tls>,
    /// The CONNECT packet.
    pub connect: Connect,
    /// Time for name, TCP, TLS and CONNACK together.
    pub connect_timeout: Duration,
    /// Time for the SUBACK.
    pub timeout: Duration,
    /// The largest packet to accept, in bytes.
    pub max_packet: usize,
    /// How many publishes may wait for their acknowledgement at once.
    pub in_flight: u16,
    /// Whether a lost connection is opened again.
    pub reconnect: bool,
    /// Whether five connections in a row that are lost without progress are the end of it.
    pub gives_up: bool,
    /// Whether SUBSCRIBE and PUBLISH may leave with CONNECT (MQTT 3.1.1, section 3.1.4).
    pub early: bool,
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Event {
    /// The connection is open and SUBSCRIBE is on its way; now is the time to publish what is open.
    Ready {
        /// Whether the broker kept the session: what was unacknowledged is being sent again by itself.
        resumed: bool,
    },
    /// Every subscription was granted.
    Subscribed,
    /// A message arrived; one with a receipt must be acknowledged.
    Message(Message, Option<AckToken>),
    /// A publish was acknowledged (QoS 1 and 2) or written to the socket (QoS 0).
    Delivered {
        /// The token that was given with it.
        token: u64,
    },
    /// The connection was lost and will be opened again.
    Lost {
        /// Why, in words.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The broker did something odd that does no harm.
    Warning(String),
}

/// One MQTT connection that outlives its sockets.
pub struct Client {
    settings: Settings,
    subscriptions: Vec<(String, QoS)>,
    origin: Instant,
    /// When the bytes that are being heard were read, or those of QoS 0 written.
    heard_at: Duration,
    session: Session,
    link: Link,
    backoff: Backoff,
    events: VecDeque<Event>,
    awaits: Awaits,
    /// When the connection was lost, or the client was made; `None` while it is open.
    down_since: Option<Duration>,
    /// Tokens of QoS 0 publishes, which are never acknowledged.
    unacknowledged: IdSet<u64>,
    /// Those of them that are in the outbox, and count as delivered once it is empty.
    unwritten: Vec<u64>,
    /// Since when the socket takes nothing of what is to be written.
    stuck: Option<Instant>,
    /// Whether SUBSCRIBE left with CONNECT on this connection.
    early: bool,
    /// Whether bytes came since the deadlines were last looked at.
    has_read: bool,
    held: bool,
    closing: bool,
    /// Whether every subscription has been granted once.
    was_subscribed: bool,
    /// Something was published that no acknowledgement shows to have arrived.
    lingers: bool,
}

type Dial = Pin<Box<dyn Future<Output = Result<Stream, Failure>>>>;

enum Link {
    /// No socket until this moment.
    Waiting(Duration),
    Dialling(Dial),
    Up(Stream),
}

/// What the broker still owes, and until when.
#[derive(Default)]
struct Awaits {
    connack: Option<Duration>,
    suback: Option<(u16, Duration)>,
}

impl Client {
    /// A client that dials at the first [`Client::next`] and keeps these subscriptions.
    #[must_use]
    pub fn new(settings: Settings, subscriptions: Vec<(String, QoS)>) -> Self {
        let unverified = settings.tls.as_ref().filter(|tls| tls.is_insecure()).map(|_| {
            Event::Warning("--tls-insecure: nothing of the broker's certificate is verified".into())
        });
        let limits = SessionLimits { max_packet: settings.max_packet, in_flight: settings.in_flight };
        Self {
            session: Session::new(Side::Client, limits),
            subscriptions,
            origin: Instant::now(),
            heard_at: Duration::ZERO,
            link: Link::Waiting(Duration::ZERO),
            backoff: Backoff::default(),
            events: unverified.into_iter().collect(),
            awaits: Awaits::default(),
            down_since: Some(Duration::ZERO),
            unacknowledged: IdSet::default(),
            unwritten: Vec::new(),
            stuck: None,
            early: false,
            has_read: false,
            held: false,
            closing: false,
            was_subscribed: false,
            lingers: false,
            settings,
        }
    }

    /// The time since this client was made, the clock of all its moments.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Returns when the bytes behind the current events were read (QoS 0: written).
    #[must_use]
    pub fn heard_at(&self) -> Duration {
        self.heard_at
    }

    /// The instant of a moment of this client's clock.
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

    /// Since when an open connection takes nothing of what is to be written; `None` while it does.
    #[must_use]
    pub fn stuck_since(&self) -> Option<Duration> {
        self.stuck.map(|stuck| stuck.saturating_duration_since(self.origin))
    }

    /// Publishes a message; it is written by the next [`Client::next`]. The token comes back in
    /// [`Event::Delivered`].
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

    /// Acknowledges a received message; acknowledgements leave in the order of arrival.
    pub fn acknowledge(&mut self, receipt: AckToken) {
        self.session.acknowledge(receipt);
    }

    /// Says that the connection was of use, by a message's first acknowledgement or a request's answer: the next
    /// outage is met with a fresh backoff.
    pub fn progress(&mut self) {
        self.backoff.handle_progress();
    }

    /// Stops or resumes reading, for a consumer that cannot keep up. The connection is kept alive meanwhile.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The next event, without waiting: `None` where bytes would have to arrive first.
    ///
    /// # Errors
    /// What ends the connection for good.
    pub fn ready(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.held || !matches!(self.link, Link::Up(_)) {
                return Ok(None);
            }
            let now = self.heard_at;
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

    /// The next event; drives the connection until there is one. Cancel-safe.
    ///
    /// # Errors
    /// What ends the connection for good: a first connection that fails, a refusal, a broken protocol.
    pub async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.ready()? {
                return Ok(event);
            }
            match &mut self.link {
                Link::Waiting(until) => {
                    let until = *until;
                    if until > self.now() {
                        tokio::time::sleep_until(self.instant(until).into()).await;
                    }
                    self.awaits.connack = Some(self.now() + self.settings.connect_timeout);
                    self.link = Link::Dialling(Box::pin(stream::dial(self.settings.clone())));
                }
                Link::Dialling(dial) => match dial.await {
                    Ok(stream) => self.opened(stream)?,
                    Err(failure) => self.lost(failure)?,
                },
                Link::Up(_) => self.turn().await?,
            }
        }
    }

    /// Sends DISCONNECT after all that was published, and closes the socket; gives up after a second.
    pub async fn close(&mut self) {
        if !matches!(self.link, Link::Up(_)) || self.closing {
            return;
        }
        self.closing = true;
        self.session.disconnect();
        if let Link::Up(stream) = &mut self.link {
            // The peer may be gone; that it never reads the farewell changes nothing for us.
            let farewell = stream.finish(self.session.outbox(), self.lingers);
            let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        }
    }

    /// Writes and reads what can be written and read, or waits until one of them can be, or a deadline passes.
    ///
    /// A deadline counts only once what had come before it has been taken: this process may have been stopped.
    async fn turn(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.has_read) {
            self.check_deadlines()?;
        }
        let suback = self.awaits.suback.filter(|_| self.awaits.connack.is_none()).map(|(_, due)| due);
        let deadline = [self.session.next_timeout(), self.awaits.connack, suback].into_iter().flatten().min();
        let Link::Up(stream) = &mut self.link else { return Ok(()) };
        let until_written = !self.unwritten.is_empty();
        let exchange = stream.exchange(&mut self.session, self.held, until_written, &mut self.stuck);
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
                self.heard_at = self.now();
                self.has_read = true;
                Ok(())
            }
            Ok(Activity::Written) => {
                self.heard_at = self.now();
                self.events.extend(self.unwritten.drain(..).map(|token| Event::Delivered { token }));
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
            // A broker that has granted the subscriptions before is waited for, where nothing else ends the run.
            let goes_on = self.was_subscribed && !self.settings.gives_up;
            return if goes_on { self.lost(failure) } else { Err(failure) };
        }
        if self.held {
            // What the broker sent meanwhile waits unread: it is not the broker that is silent.
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

    fn opened(&mut self, stream: Stream) -> Result<(), Failure> {
        let now = self.now();
        self.heard_at = now;
        self.link = Link::Up(stream);
        self.session.open(now);
        if self.settings.connect.clean_session {
            self.session.forget();
        }
        self.session.connect(&self.settings.connect, now).map_err(|why| too_large(&why))?;
        // A connection that came back may be refused: then nothing is sent on trust.
        self.early = self.settings.early && !self.backoff.was_up();
        if self.early {
            self.subscribe(now)?;
            self.events.push_back(Event::Ready { resumed: false });
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
    fn take(&mut self, event: session::SessionEvent, now: Duration) -> Result<Option<Event>, Failure> {
        Ok(match event {
            session::SessionEvent::ConnAck { session_present, code } => {
                self.connected(session_present, code, now)?;
                None
            }
            session::SessionEvent::Publish(message, receipt) => Some(Event::Message(message, receipt)),
            session::SessionEvent::Delivered { token } if self.unacknowledged.remove(&token) => {
                self.unwritten.push(token);
                None
            }
            session::SessionEvent::Delivered { token } => Some(Event::Delivered { token }),
            session::SessionEvent::SubAck { id, codes } => self.granted(id, &codes)?,
            session::SessionEvent::Ignored(what) => Some(Event::Warning(what)),
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
            self.events.push_back(Event::Ready { resumed: session_present });
        }
        if self.subscriptions.is_empty() {
            self.events.push_back(Event::Subscribed);
        }
        Ok(())
    }

    fn granted(&mut self, id: u16, codes: &[SubscribeCode]) -> Result<Option<Event>, Failure> {
        if self.awaits.suback.is_none_or(|(awaited, _)| awaited != id) {
            return Ok(Some(Event::Warning(format!("a SUBACK for packet id {id}, which nobody waits for"))));
        }
        self.awaits.suback = None;
        match codes.iter().zip(&self.subscriptions).find(|(code, _)| **code == SubscribeCode::Refused) {
            None => {
                self.was_subscribed = true;
                Ok(Some(Event::Subscribed))
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
        self.awaits = Awaits::default();
        self.session.close();
        self.unwritten.clear();
        self.stuck = None;
        self.has_read = false;
        self.link = Link::Waiting(now);
        self.down_since.get_or_insert(now);
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
        self.link = Link::Waiting(now + wait);
        self.events.push_back(Event::Lost { reason, retry_in: wait });
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

fn refused(settings: &Settings, code: ConnectCode) -> Failure {
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
