//! The settings of a gateway, and its clocks.

use std::time::Duration;

use crate::{
    mqtt::codec::QoS,
    rate::Rate,
    tuya::{GatewayId, Topics},
};

/// The settings of a gateway.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// The gateway of requests that name none.
    pub gateway_id: Option<GatewayId>,
    /// The topics in force.
    pub topics: Topics,
    /// The quality of service of publishes.
    pub qos: QoS,
    /// How long an answer, or an acknowledgement if there is no answer, may take; and an outage.
    pub timeout: Duration,
    /// The largest packet to send, in bytes.
    pub max_packet: usize,
    /// Whether requests end with their answers, rather than with the broker's acknowledgement.
    pub waits_for_answers: bool,
    /// How often a request is tried again after a system error or a time-out.
    pub retries: u32,
    /// The rate at which messages leave: first ones, retries, and those sent again after a loss.
    pub rate: Option<Rate>,
    /// Whether an outage is endured, however long it takes.
    pub endures_outages: bool,
    /// What stands before the topics of requests; empty unless another program publishes them.
    pub topic_prefix: &'static str,
}

/// A moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct GatewayTime {
    /// A monotonic time, since any fixed origin.
    pub since: Duration,
    /// The time stamp of messages: Unix time in the edge's unit.
    pub t: i64,
}
