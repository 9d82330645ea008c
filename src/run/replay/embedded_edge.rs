//! The edge that `--direction down` plays: the embedded one, which says the recorded commands.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    rc::Rc,
    time::Instant,
};

use serde::Serialize;

use super::replay_stats::{Arrival, Shared};
use crate::{
    edge::{Access, Edge, EndedCommand, Faults, Registry, Settings},
    error::Failure,
    io::{batch_writer::WriterError, console::print},
    json::json_line,
    mqtt::{ConnectCode, Direction},
    net::server::{Broker, ServerLimits},
    recording::{ConnectionRecord, Record},
    run::edge_handler::{self, EdgeHandler, EdgeObserver},
    tuya::product::Product,
};

/// Listens, and says where on stdout.
pub fn listen(address: &str, stats: &Shared) -> Result<Rc<Broker<EdgeHandler>>, Failure> {
    #[derive(Serialize)]
    struct Listening<'a> {
        event: &'static str,
        broker: &'a str,
    }
    let settings = Settings {
        access: Access { usernames: Vec::new(), platform_usernames: Vec::new() },
        product: Product::smart_water_meter(),
        // The gateway's devices and values are what the recording is about; nobody has told them to this edge.
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
    print(&json_line(&Listening { event: "listening", broker: &broker.url() }))
        .map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    let broker = Rc::new(broker);
    let (serving, stats) = (Rc::clone(&broker), Rc::clone(stats));
    tokio::task::spawn_local(async move {
        if let WriterError::Failed(failure) = edge_handler::serve(&serving).await {
            let mut stats = stats.borrow_mut();
            stats.failure.get_or_insert(failure);
            stats.changed();
        }
    });
    Ok(broker)
}

fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let unusable = |why: String| {
        Failure::invalid(format!("--listen {address}: {why}"))
            .hint("write HOST:PORT, such as 127.0.0.1:21883")
    };
    let mut found = address.to_socket_addrs().map_err(|why| unusable(why.to_string()))?;
    found.next().ok_or_else(|| unusable("the host has no address".into()))
}

/// Hears what gateways say.
struct ReplayObserver(Shared);

impl EdgeObserver for ReplayObserver {
    fn handle_message(&mut self, record: &Record<'_>) {
        if let (Some(Direction::Up), Some(channel), Some(gateway_id)) =
            (record.dir, record.channel, &record.gateway_id)
        {
            let gateway_id = gateway_id.clone().into_owned();
            let payload = record.payload.clone().into_owned().into();
            self.0.borrow_mut().arrived.push_back(Arrival { gateway_id, channel, payload });
        }
    }

    fn handle_connection(&mut self, record: &ConnectionRecord<'_>) {
        if let (true, Some(ConnectCode::ACCEPTED), Some(id)) =
            (record.connected, record.code, record.gateway_id)
        {
            let mut stats = self.0.borrow_mut();
            stats.ready.insert(id.to_owned());
            stats.changed();
        }
    }

    fn handle_command_end(&mut self, _: EndedCommand) {}

    fn warn(&mut self, message: &str) {
        self.0.borrow_mut().warn(message);
    }

    fn flush(&mut self) {
        self.0.borrow().changed();
    }

    fn is_congested(&self) -> bool {
        false
    }
}
