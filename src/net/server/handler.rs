//! The trait that decides what a [`Broker`](super::Broker) does.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::mqtt::{AckToken, Connect, ConnectCode, Direction, Message, QoS};

/// Decides what a broker does with logins, subscriptions and messages.
///
/// The broker owns sockets, MQTT sessions, subscriptions, retained messages, queues and their limits. The handler owns
/// everything with a meaning beyond MQTT. It must not block. The broker calls its methods on one thread, one at a time.
///
/// # Order of calls
///
/// For each client: [`handle_connect`](Self::handle_connect), then either [`handle_refused`](Self::handle_refused) and
/// nothing more, or [`handle_connected`](Self::handle_connected); then any number of
/// [`may_subscribe`](Self::may_subscribe) and [`handle_publish`](Self::handle_publish); then
/// [`handle_disconnected`](Self::handle_disconnected). [`handle_session_ended`](Self::handle_session_ended) follows at
/// once for a clean session, and later, or never if the client comes back in time, for a persistent one. At last comes
/// [`handle_will`](Self::handle_will) if the client leaves one. A client that connects anew while it is connected is
/// disconnected first.
///
/// After each input that may cause actions (`handle_subscribed`, `handle_publish`, `handle_will`, `handle_timeout` and
/// [`Broker::turn`](super::Broker::turn)) the broker calls [`poll_action`](Self::poll_action) until it returns `None`, and
/// at the end of each turn [`poll_timeout`](Self::poll_timeout). [`flush`](Self::flush) follows once after all turns that
/// were due at the same time.
///
/// Events from elsewhere, such as an answer of another server or a finished write, enter through
/// [`Broker::turn`](super::Broker::turn), which gives access to the handler and performs the actions that it then returns.
pub trait Handler: 'static {
    /// What the handler knows of a client for as long as the client's session lives. A persistent session is resumed
    /// only by a client for which this is equal.
    type ClientData: PartialEq;

    /// How the names begin that the broker gives to clients without a client id.
    const ASSIGNED_ID_PREFIX: &'static str;

    // Getters.

    /// Whether the broker should stop reading from its clients until [`Broker::resume`](super::Broker::resume), or a
    /// [`Broker::turn`](super::Broker::turn) after which this is no longer so.
    fn is_congested(&self) -> bool;

    // Inputs.

    /// Decides who a client is that has sent this CONNECT.
    ///
    /// # Errors
    /// Why the client may not connect.
    fn handle_connect(&mut self, now: Now, connect: &Connect) -> Result<Self::ClientData, ConnectRefusal>;

    /// Takes note of a CONNECT that was answered with a return code other than 0, by the handler's decision or because
    /// the client speaks another version of MQTT.
    fn handle_refused(&mut self, now: Now, client_id: &str, username: Option<&str>, code: ConnectCode);

    /// Takes note of a client that is connected from now on. Its session is new or resumed.
    fn handle_connected(&mut self, now: Now, client: ClientInfo<'_, Self::ClientData>);

    /// Decides whether a client gets a subscription.
    ///
    /// # Errors
    /// Why not, to be logged; the client gets return code 0x80 for this filter.
    fn may_subscribe(
        &mut self,
        client: ClientInfo<'_, Self::ClientData>,
        filter: &str,
    ) -> Result<(), &'static str>;

    /// Takes note of a subscription that was granted.
    fn handle_subscribed(&mut self, _client: ClientInfo<'_, Self::ClientData>, _filter: &str) {}

    /// Takes note of a subscription that has ended, though its session goes on.
    fn handle_unsubscribed(&mut self, _client: ClientInfo<'_, Self::ClientData>, _filter: &str) {}

    /// Decides what becomes of a client's PUBLISH.
    fn handle_publish(&mut self, now: Now, publish: Incoming<'_, Self::ClientData>) -> PublishDecision;

    /// Takes note of a client whose connection has ended; `by` is [`Direction::Up`] if the client ended it.
    fn handle_disconnected(&mut self, now: Now, client: ClientInfo<'_, Self::ClientData>, by: Direction);

    /// Takes note of a session that has ended, with all that was queued for it.
    fn handle_session_ended(&mut self, client: ClientInfo<'_, Self::ClientData>);

    /// Decides whether the will of a client that is gone is passed on to its subscribers.
    fn handle_will(&mut self, now: Now, client: ClientInfo<'_, Self::ClientData>, will: &Message) -> bool;

    /// Does what is due at the time of [`poll_timeout`](Self::poll_timeout). May do a part of it and leave the rest due.
    fn handle_timeout(&mut self, now: Now);

    /// Takes a warning for the operator: the broker's own, or one from [`poll_action`](Self::poll_action).
    fn handle_warning(&mut self, message: &str);

    // Commands.

    /// Hands over to other threads what the turns have produced, such as lines to write.
    fn flush(&mut self);

    // Outputs.

    /// Returns the next thing that the broker is to do.
    fn poll_action(&mut self, now: Now) -> Option<ServerAction>;

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next, on the clock of [`Now::mono`].
    fn poll_timeout(&self) -> Option<Duration>;
}

/// The present time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: since the broker's start.
    pub mono: Duration,
    /// The wall clock: since 1970-01-01 UTC.
    pub unix: Duration,
}

/// A client's session among the broker's.
///
/// Unique among the sessions that exist; after [`Handler::handle_session_ended`] another session may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u32);

#[cfg(test)]
impl SessionId {
    /// The first session, for handlers' tests.
    pub(crate) const FIRST: Self = Self(0);
}

/// A connected client, or one that has just left.
#[derive(Debug)]
pub struct ClientInfo<'a, C> {
    /// Its session.
    pub session: SessionId,
    /// Its client id, never empty.
    pub client_id: &'a str,
    /// The username of its CONNECT.
    pub username: Option<&'a str>,
    /// What [`Handler::handle_connect`] returned.
    pub data: &'a C,
}

impl<C> Clone for ClientInfo<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for ClientInfo<'_, C> {}

/// A PUBLISH that has come from a client.
#[derive(Debug)]
pub struct Incoming<'a, C> {
    /// The sender.
    pub client: ClientInfo<'a, C>,
    /// What it published.
    pub message: &'a Message,
    /// Acknowledges it, if the handler decides [`Ack::Later`]; `None` for QoS 0.
    pub ack: Option<PublishAck>,
}

/// The acknowledgement that a client waits for: PUBACK or PUBREC.
///
/// It outlives its session harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishAck {
    pub(super) session: SessionId,
    /// With which connection the session began. A later session has receipts of its own, so that this one would stand
    /// for another message.
    pub(super) origin: u64,
    pub(super) receipt: AckToken,
}

#[cfg(test)]
impl PublishAck {
    /// An acknowledgement of the first session's, for handlers' tests.
    pub(crate) fn of(receipt: AckToken) -> Self {
        Self { session: SessionId::FIRST, origin: 1, receipt }
    }
}

/// Why a client may not connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// Answer with this return code, then close the connection. The reason is for the operator.
    Refuse(ConnectCode, Cow<'static, str>),
    /// Close the connection without an answer. The reason is for the operator.
    Close(Cow<'static, str>),
}

/// What becomes of a client's PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishDecision {
    /// It goes to its subscribers, and is retained if it says so.
    Forward(Ack),
    /// It goes no further: the handler has dealt with it.
    Consume(Ack),
    /// The sender's connection is closed, for this reason; the message is not acknowledged.
    Disconnect(Cow<'static, str>),
    /// It goes no further and is not acknowledged, nor is anything else sent to this client from now on. The connection
    /// stays open.
    Silence,
}

/// When a message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Now.
    Now,
    /// Once the handler gives [`ServerAction::Acknowledge`].
    Later,
}

/// Something that the broker is to do for its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Publish a message.
    Publish {
        /// The topic.
        topic: Arc<str>,
        /// The payload.
        payload: Bytes,
        /// The quality of service; each subscriber gets it with that of its subscription, if that is lower.
        qos: QoS,
        /// Which of the topic's subscribers get it.
        to: Recipients,
    },
    /// Publish a message with the RETAIN flag, as the answer to a subscription (MQTT 3.1.1, section 3.3.1.3).
    Retained {
        /// The topic.
        topic: Arc<str>,
        /// The payload.
        payload: Bytes,
        /// The session that has subscribed.
        to: SessionId,
    },
    /// Close a client's connection, for this reason.
    Disconnect(SessionId, &'static str),
    /// Acknowledge a client's message.
    Acknowledge(PublishAck),
    /// Warn the operator: comes back as [`Handler::handle_warning`], and counts as work of the turn, so that a client that
    /// causes many warnings does not hold up the others.
    Warn(String),
}

/// Which subscribers of a topic get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// All of them.
    Subscribers,
    /// This client, if it subscribes to the topic.
    Session(SessionId),
}
