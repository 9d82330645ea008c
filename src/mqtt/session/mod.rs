//! One MQTT session, for either end of a connection: bytes in, events out; commands in, bytes out.
//!
//! A session outlives its transports. Its owner moves bytes between a socket and [`Session::inbox`] and
//! [`Session::outbox`], takes events with [`Session::poll_event`], and calls [`Session::handle_timeout`] at
//! [`Session::next_timeout`]. Pure: it knows neither socket nor clock. A moment is a `Duration` since any origin
//! that the owner keeps to.

mod ack_token;
mod event;
mod incoming;
mod keep_alive;
mod outgoing;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

pub use self::{
    ack_token::AckToken,
    event::{SessionEvent, Violation},
    keep_alive::Silence,
};
use self::{
    event::{ignored, violation},
    incoming::Reception,
    keep_alive::KeepAlive,
    outgoing::{Delivery, encode},
};
use crate::mqtt::{
    ConnectCode,
    codec::{Connect, Packet, PacketType, ProtocolVersion, Publish, QoS, Side, SubscribeCode, TooLarge},
};

/// The limits of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The largest packet in bytes that is received; a larger one is a violation before its body is stored.
    pub max_packet: usize,
    /// The most publishes of QoS 1 and 2 that wait for acknowledgement; 1 to 65,000, others are taken as the
    /// nearer of these.
    pub in_flight: u16,
}

/// The phase of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer's first packet must be CONNACK, or CONNECT.
    Greeting,
    /// It has come.
    Open,
    /// Nothing more is read.
    Closed,
}

/// The packets that this side may send on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Nothing before CONNECT or an accepting CONNACK.
    Before,
    /// Everything.
    Free,
    /// Nothing after DISCONNECT (MQTT-3.14.4-2), nor without a transport.
    Over,
}

/// A session; see the module.
#[derive(Debug)]
pub struct Session {
    inbox: BytesMut,
    outbox: BytesMut,
    delivery: Delivery,
    reception: Reception,
    keep_alive: KeepAlive,
    /// The topic of the last message that came.
    topic: Option<Arc<str>>,
    /// How many bytes of an unfinished packet have been seen.
    unfinished: usize,
    max_packet: usize,
    end: Side,
    /// The client's version on this transport, after its CONNECT.
    version: ProtocolVersion,
    phase: Phase,
    speech: Speech,
    /// Whether new publishes wait for `resume` or `forget`, which decide about the former ones.
    held: bool,
    clean: bool,
}

impl Session {
    /// A session without a transport; [`Session::open`] gives it one.
    #[must_use]
    pub fn new(end: Side, limits: SessionLimits) -> Self {
        Self {
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            delivery: Delivery::new(limits.in_flight),
            reception: Reception::default(),
            keep_alive: KeepAlive::default(),
            topic: None,
            unfinished: 0,
            max_packet: limits.max_packet,
            end,
            version: ProtocolVersion::default(),
            phase: Phase::Greeting,
            speech: Speech::Before,
            held: false,
            clean: true,
        }
    }

    /// Begins a new transport: forgets half-read bytes, unwritten output and unanswered subscriptions, keeps
    /// the delivery state. Later publishes wait for [`Session::resume`] or [`Session::forget`]
    /// if publishes of a former transport are left.
    pub fn open(&mut self, now: Duration) {
        self.inbox.clear();
        self.outbox.clear();
        self.delivery.open();
        self.reception.open();
        self.keep_alive.open(now);
        self.unfinished = 0;
        self.version = ProtocolVersion::default();
        self.phase = Phase::Greeting;
        self.speech = Speech::Before;
        self.clean = true;
        self.held = self.in_flight() + self.queued() > 0;
    }

    /// Marks the transport as closed. Later publishes are queued for the next one.
    ///
    /// Must be called when the connection is lost, or QoS 0 publishes are reported as delivered.
    pub fn close(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.phase = Phase::Closed;
        self.speech = Speech::Over;
    }

    /// Drops the delivery state: unacknowledged and queued publishes, and unreleased messages of QoS 2. Packet ids
    /// begin at 1 again. To publish them again, the caller asks [`Session::unacknowledged`] first.
    pub fn forget(&mut self) {
        self.delivery.forget();
        self.reception.forget();
        self.held = false;
    }

    /// Takes the delivery state over from the session that the same client had before (a server's end),
    /// before anything is published here.
    pub fn adopt(&mut self, former: Self) {
        self.delivery.adopt(former.delivery);
        self.delivery.open();
        self.reception = former.reception;
        self.reception.open();
        self.held = self.in_flight() + self.queued() > 0;
    }

    /// Sends every unacknowledged publish again with DUP and every PUBREL, with their packet ids and in their
    /// order, then what is queued. To be called after CONNACK, on either side.
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.held) {
            self.watch_output(|session| {
                session.delivery.resend(&mut session.outbox);
                session.drain();
            });
        }
    }

    /// Where received bytes go.
    pub fn inbox(&mut self) -> &mut BytesMut {
        &mut self.inbox
    }

    /// Bytes to send. The caller removes the bytes that it has written from the front.
    pub fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    /// Frees the memory of empty buffers, for a session that will be idle.
    pub fn shrink(&mut self) {
        for buffer in [&mut self.inbox, &mut self.outbox] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
        self.topic = None;
        self.delivery.shrink();
        self.reception.shrink();
    }

    /// Sends CONNECT. Later publishes leave at once, before the answer.
    ///
    /// # Errors
    /// A text or payload of more than 65,535 bytes; then nothing is sent.
    pub fn connect(&mut self, connect: &Connect, now: Duration) -> Result<(), TooLarge> {
        debug_assert_eq!(self.end, Side::Client);
        self.keep_alive.set_now(now);
        self.watch_output(|session| connect.encode(&mut session.outbox))?;
        self.keep_alive.start(connect.keep_alive);
        self.clean = connect.clean_session;
        self.speech = Speech::Free;
        Ok(())
    }

    /// Answers CONNECT. After a refusal nothing more is read.
    pub fn connack(&mut self, session_present: bool, code: ConnectCode) {
        debug_assert_eq!(self.end, Side::Server);
        let accepted = code == ConnectCode::ACCEPTED;
        // MQTT 3.1 has no such flag.
        let session_present = session_present && accepted && self.version != ProtocolVersion::V3_1;
        self.watch_output(|session| {
            encode(&Packet::ConnAck { session_present, code }, &mut session.outbox);
            if accepted {
                session.speech = Speech::Free;
            } else {
                session.phase = Phase::Closed;
            }
            session.drain();
        });
    }

    /// Sends a message, or queues it while the window is full. [`SessionEvent::Delivered`] will bring the token back.
    ///
    /// # Errors
    /// A message for which MQTT has no room; it is not sent.
    pub fn publish(&mut self, publish: Publish, token: u64) -> Result<(), TooLarge> {
        publish.fits()?;
        let flowing = self.flowing();
        self.watch_output(|session| {
            session.delivery.publish(publish, token, flowing, &mut session.outbox);
        });
        Ok(())
    }

    /// Acknowledges a received message. PUBACKs and PUBRECs leave in the order of arrival, so this one waits
    /// for those before it (MQTT-4.6.0-2). A token of a former transport sends nothing.
    pub fn acknowledge(&mut self, token: AckToken) {
        self.watch_output(|session| session.reception.acknowledge(token, &mut session.outbox));
    }

    /// Sends SUBSCRIBE with filters that the caller has checked, at least one; gives its packet id.
    ///
    /// # Errors
    /// Filters for which MQTT has no room; nothing is sent.
    pub fn subscribe<S: AsRef<str>>(&mut self, filters: &[(S, QoS)]) -> Result<u16, TooLarge> {
        debug_assert!(!filters.is_empty() && self.speech != Speech::Before);
        let packet = |id| Packet::Subscribe {
            id,
            filters: filters.iter().map(|(filter, qos)| (filter.as_ref().to_owned(), *qos)).collect(),
        };
        self.watch_output(|session| session.delivery.request(packet, &mut session.outbox))
    }

    /// Sends UNSUBSCRIBE with at least one filter; gives its packet id.
    ///
    /// # Errors
    /// Filters for which MQTT has no room; nothing is sent.
    pub fn unsubscribe<S: AsRef<str>>(&mut self, filters: &[S]) -> Result<u16, TooLarge> {
        debug_assert!(!filters.is_empty() && self.speech != Speech::Before);
        let packet = |id| Packet::Unsubscribe {
            id,
            filters: filters.iter().map(|filter| filter.as_ref().to_owned()).collect(),
        };
        self.watch_output(|session| session.delivery.request(packet, &mut session.outbox))
    }

    /// Answers a SUBSCRIBE with a code for each of its filters.
    pub fn suback(&mut self, id: u16, codes: Vec<SubscribeCode>) {
        self.send(&Packet::SubAck { id, codes });
    }

    /// Answers an UNSUBSCRIBE.
    pub fn unsuback(&mut self, id: u16) {
        self.send(&Packet::UnsubAck(id));
    }

    /// Sends PINGREQ; [`Session::handle_timeout`] does so when it is due.
    pub fn ping(&mut self) {
        self.send(&Packet::PingReq);
        self.keep_alive.handle_ping();
    }

    /// Sends DISCONNECT, after which nothing may follow: later publishes wait for the next transport.
    pub fn disconnect(&mut self) {
        self.send(&Packet::Disconnect);
        self.speech = Speech::Over;
    }

    /// Whether publishes of a former transport wait for [`Session::resume`] or [`Session::forget`], and later
    /// ones behind them.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// How many of our publishes wait for acknowledgement.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.delivery.in_flight()
    }

    /// The bytes of topics and payloads that are kept until their acknowledgement.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.delivery.in_flight_bytes()
    }

    /// How many of our publishes wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.delivery.queued()
    }

    /// How many received messages of QoS 2 wait for the peer's PUBREL.
    #[must_use]
    pub fn unreleased(&self) -> usize {
        self.reception.unreleased()
    }

    /// The number of pending acknowledgements on this transport.
    #[must_use]
    pub fn pending_acks(&self) -> usize {
        self.reception.pending_acks()
    }

    /// The tokens of all publishes that were not acknowledged, sent ones first, in their order.
    pub fn unacknowledged(&self) -> impl Iterator<Item = u64> {
        self.delivery.unacknowledged()
    }

    /// The next moment at which [`Session::handle_timeout`] will act; `None` without keep-alive, and before the greeting.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.phase == Phase::Open { self.keep_alive.next_timeout(self.end) } else { None }
    }

    /// Pings when nothing was sent, or nothing received, for the keep-alive interval (a client's end).
    ///
    /// Read what has come before calling this late, because the last packet that [`Session::poll_event`] read dates the silence.
    ///
    /// # Errors
    /// Nothing has come for 1.5 times the interval. At a client, bytes of an unfinished packet count as a sign
    /// of life; at a server only whole packets do.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), Silence> {
        self.keep_alive.set_now(now);
        if self.phase == Phase::Open && self.keep_alive.handle_timeout(self.end)? {
            self.ping();
        }
        Ok(())
    }

    /// Restarts the silence timer, because this side is not reading: the silence is not the peer's.
    pub fn not_reading(&mut self, now: Duration) {
        self.keep_alive.set_now(now);
        self.keep_alive.handle_received();
    }

    /// Takes the next event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The peer broke MQTT. Nothing more is read on this transport.
    pub fn poll_event(&mut self, now: Duration) -> Result<Option<SessionEvent>, Violation> {
        self.keep_alive.set_now(now);
        if let Some(token) = self.delivery.next_written() {
            return Ok(Some(SessionEvent::Delivered { token }));
        }
        let heard = self.watch_output(Self::read_event);
        if heard.is_err() {
            self.phase = Phase::Closed;
        }
        if self.phase == Phase::Closed {
            self.inbox.clear();
        }
        heard
    }

    fn read_event(&mut self) -> Result<Option<SessionEvent>, Violation> {
        while self.phase != Phase::Closed {
            if self.phase == Phase::Greeting {
                self.check_greeting()?;
            }
            let Some(packet) = Packet::decode_sharing(
                &mut self.inbox,
                self.end,
                self.max_packet,
                self.version,
                &mut self.topic,
            )?
            else {
                if self.end == Side::Client && self.inbox.len() != self.unfinished {
                    self.keep_alive.handle_received();
                }
                self.unfinished = self.inbox.len();
                break;
            };
            self.unfinished = 0;
            self.keep_alive.handle_received();
            if let Some(event) = self.handle_packet(packet)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Refuses anything but the greeting by its first byte, before its body is waited for.
    fn check_greeting(&self) -> Result<(), Violation> {
        let (greeting, rule) = match self.end {
            Side::Client => (PacketType::ConnAck, "MQTT-3.2.0-1"),
            Side::Server => (PacketType::Connect, "MQTT-3.1.0-1"),
        };
        let Some(&first) = self.inbox.first() else { return Ok(()) };
        // The protocols that most often answer on a wrong port.
        if self.inbox.starts_with(b"HTTP") || self.inbox.starts_with(b"GET ") {
            return Err(violation!("the {} speaks HTTP, not MQTT", self.end.peer().name()));
        }
        match PacketType::of(first) {
            _ if matches!(self.inbox[..], [0x15 | 0x16, 3, ..]) => {
                Err(violation!("the {} speaks TLS, and this end does not", self.end.peer().name()))
            }
            Some(kind) if kind != greeting => {
                Err(violation!("{} where {} must come first ({rule})", kind.name(), greeting.name()))
            }
            _ => Ok(()),
        }
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Option<SessionEvent>, Violation> {
        let event = match packet {
            Packet::Publish(message) => return self.reception.handle_publish(message, &mut self.outbox),
            Packet::PubAck(id) => self.delivery.handle_puback(id)?,
            Packet::PubRec(id) => return self.delivery.handle_pubrec(id, &mut self.outbox),
            Packet::PubRel(id) => return self.reception.handle_pubrel(id, &mut self.outbox),
            Packet::PubComp(id) => self.delivery.handle_pubcomp(id)?,
            Packet::SubAck { id, codes } => self.delivery.handle_suback(id, codes)?,
            Packet::UnsubAck(id) => self.delivery.handle_unsuback(id)?,
            Packet::Subscribe { id, filters } => SessionEvent::Subscribe { id, filters },
            Packet::Unsubscribe { id, filters } => SessionEvent::Unsubscribe { id, filters },
            Packet::PingReq => {
                encode(&Packet::PingResp, &mut self.outbox);
                return Ok(None);
            }
            Packet::PingResp if self.keep_alive.handle_pingresp() => return Ok(None),
            Packet::PingResp => ignored!("PINGRESP without a PINGREQ"),
            Packet::Connect(connect) => self.handle_connect(connect)?,
            Packet::OtherVersion { protocol, level, client_id, username } => {
                self.phase = Phase::Closed;
                SessionEvent::OtherVersion { protocol, level, client_id, username }
            }
            Packet::ConnAck { session_present, code } => self.handle_connack(session_present, code)?,
            Packet::Disconnect => {
                self.phase = Phase::Closed;
                SessionEvent::Disconnect
            }
        };
        if matches!(event, SessionEvent::Delivered { .. }) {
            self.drain();
        }
        Ok(Some(event))
    }

    fn handle_connect(&mut self, connect: Box<Connect>) -> Result<SessionEvent, Violation> {
        if self.phase == Phase::Open {
            return Err(violation!("a second CONNECT (MQTT-3.1.0-2)"));
        }
        self.phase = Phase::Open;
        self.version = connect.version;
        self.keep_alive.start(connect.keep_alive);
        Ok(SessionEvent::Connect(connect))
    }

    fn handle_connack(
        &mut self,
        session_present: bool,
        code: ConnectCode,
    ) -> Result<SessionEvent, Violation> {
        if self.phase == Phase::Open {
            return Err(violation!("a second CONNACK"));
        }
        if self.speech == Speech::Before {
            return Err(violation!("CONNACK without a CONNECT"));
        }
        if session_present && self.clean {
            return Err(violation!(
                "CONNACK says that a session is present, though a clean one was asked for (MQTT-3.2.2-1)"
            ));
        }
        if code == ConnectCode::ACCEPTED {
            self.phase = Phase::Open;
            if !session_present {
                // The server counts anew, so an id it uses again is a new message.
                self.reception.forget();
            }
            self.drain();
        } else {
            self.phase = Phase::Closed;
        }
        Ok(SessionEvent::ConnAck { session_present, code })
    }

    fn flowing(&self) -> bool {
        self.speech == Speech::Free && !self.held
    }

    fn drain(&mut self) {
        if self.flowing() {
            self.delivery.drain(&mut self.outbox);
        }
    }

    fn send(&mut self, packet: &Packet) {
        self.watch_output(|session| encode(packet, &mut session.outbox));
    }

    /// Notifies the keep-alive timer if the outbox has grown, and drops what is written after DISCONNECT.
    fn watch_output<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.outbox.len();
        let result = act(self);
        if self.speech == Speech::Over {
            self.outbox.truncate(before);
        }
        if self.outbox.len() > before {
            self.keep_alive.handle_sent();
        }
        result
    }
}
