//! The edge of `--direction down`: the embedded one, which sends the recorded commands.

use std::{rc::Rc, time::Instant};

use super::replay_stats::{IncomingMessage, SharedReplayStats};
use crate::{
    edge::{Edge, EdgeSettings, EndedCommand, Faults, LoginRule, Registry},
    error::Failure,
    io::{batch_writer::WriterError, console::print},
    mqtt::{ConnectCode, Direction},
    net::server::{Broker, ServerLimits},
    recording::{ConnectionRecord, Record},
    run::{
        edge_handler::{self, EdgeHandler, EdgeObserver},
        listen_address::{listening_event, resolve},
    },
    tuya::product::Product,
};

/// Listens, and prints the address on stdout.
///
/// # Errors
/// An address that cannot be bound, or a stdout that cannot be written.
pub fn listen(address: &str, stats: &SharedReplayStats) -> Result<Rc<Broker<EdgeHandler>>, Failure> {
    let settings = EdgeSettings {
        access: LoginRule { usernames: Vec::new(), platform_usernames: Vec::new() },
        product: Product::smart_water_meter(),
        // The devices of the recording are not registered at this edge.
        accepts_all: true,
        max_skew: None,
        offline_after: None,
        command_timeout: std::time::Duration::from_secs(5),
        faults: Faults::new(Vec::new(), 0),
    };
    let (observer, limits) = (Box::new(ReplayObserver(Rc::clone(stats))), ServerLimits::default());
    let edge = Edge::new(settings, Registry::default());
    let handler = EdgeHandler::new(edge, None, observer, limits.max_queues / 4);
    let broker = Broker::bind(resolve(address)?, handler, limits, None, Instant::now())?;
    print(&listening_event(&broker.url()))
        .map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    let broker = Rc::new(broker);
    let (serving, stats) = (Rc::clone(&broker), Rc::clone(stats));
    tokio::task::spawn_local(async move {
        if let WriterError::Failed(failure) = edge_handler::serve(&serving).await {
            let mut stats = stats.borrow_mut();
            stats.failure.get_or_insert(failure);
            stats.notify();
        }
    });
    Ok(broker)
}

/// Passes the gateways' messages to the replay.
struct ReplayObserver(SharedReplayStats);

impl EdgeObserver for ReplayObserver {
    fn handle_message(&mut self, record: &Record<'_>) {
        if let (Some(Direction::Up), Some(channel), Some(gateway_id)) =
            (record.dir, record.channel, &record.gateway_id)
        {
            let gateway_id = gateway_id.clone().into_owned();
            let payload = record.payload.clone().into_owned().into();
            self.0.borrow_mut().arrived.push_back(IncomingMessage { gateway_id, channel, payload });
        }
    }

    fn handle_connection(&mut self, record: &ConnectionRecord<'_>) {
        if let (true, Some(ConnectCode::ACCEPTED), Some(id)) =
            (record.connected, record.code, record.gateway_id)
        {
            let mut stats = self.0.borrow_mut();
            stats.ready.insert(id.to_owned());
            stats.notify();
        }
    }

    fn handle_command_end(&mut self, _: EndedCommand) {}

    fn warn(&mut self, message: &str) {
        self.0.borrow_mut().warn(message);
    }

    fn flush(&mut self) {
        self.0.borrow().notify();
    }

    fn is_congested(&self) -> bool {
        false
    }
}
