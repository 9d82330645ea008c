//! The agent's part between local programs and the edge: one MQTT connection, many programs.
//!
//! Local programs speak MQTT 3.1.1 to the agent over a Unix socket. The agent forwards their messages over the gateway's one
//! connection, and passes each answer to the programs that asked for it. Sans-IO: times, bytes and tokens are arguments.
//!
//! - [`LocalTopics`] says which topics local programs may use.
//! - [`Forwarding`] holds the messages on their way to the edge and the requests without an answer.
//! - [`AgentStatus`] is the JSON that the agent retains on [`STATUS_TOPIC`].
//! - [`socket_name()`] names an agent's socket after its broker and gateway.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod forwarding;
mod local_topics;
mod socket_name;
mod status;

pub use forwarding::{Accepted, AnsweredClients, ForwardId, Forwarding, LocalClient, ToForward};
pub use local_topics::{
    ANSWER_TOPIC, LocalPublish, LocalTopics, QUEUE_PREFIX, RELOAD_TOPIC, STATUS_TOPIC, STOP_TOPIC,
};
pub use socket_name::{NamedBroker, socket_name};
pub use status::{AgentStatus, SpoolStatus};
