//! The emulator under load, beside a stock broker with a responder of a few lines behind it.

use std::time::Instant;

use tempfile::TempDir;

use crate::{
    Options,
    generator::Fleet,
    peers,
    process::Server,
    sinks::respond,
    table::{Goal, Table, median},
};

pub fn measure(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    for (connections, window, goal) in [(1, 100, 280_000.0), (100, 10, 250_000.0), (1000, 10, 150_000.0)] {
        answered(options, table, &folder, connections, window, goal);
    }
    one_at_a_time(options, table, &folder);
    idle(options, table, &folder);
}

fn answered(
    options: &Options,
    table: &mut Table,
    folder: &TempDir,
    connections: usize,
    window: usize,
    goal: f64,
) {
    let count = options.size(200_000);
    let (mut rates, mut costs, mut stock) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds(5) {
        let edge = Server::edge();
        let mut fleet = Fleet::connect(edge.port, connections);
        fleet.synchronise();
        let before = edge.cpu_us();
        rates.push(count as f64 / fleet.report(count, window).as_secs_f64());
        costs.push((edge.cpu_us() - before) / count as f64);
        if let Some(broker) = peers::mosquitto(folder) {
            respond(broker.port);
            let some = count / 4;
            let time = Fleet::connect(broker.port, connections).report(some, window);
            stock.push(some as f64 / time.as_secs_f64());
        }
    }
    let peer = (!stock.is_empty()).then(|| ("mosquitto + responder", median(stock)));
    let what = format!("`edge`, reports answered to {connections} × {window} in flight");
    table.add("edge", format!("{what}, rate"), "/s", median(rates), peer, Goal::AtLeast(goal));
    let goal = if connections == 1 { Goal::AtMost(5.0) } else { Goal::None };
    table.add("edge", format!("{what}, CPU"), "us a report", median(costs), None, goal);
}

fn one_at_a_time(options: &Options, table: &mut Table, folder: &TempDir) {
    let count = options.size(5000);
    let edge = Server::edge();
    let mut fleet = Fleet::connect(edge.port, 1);
    fleet.synchronise();
    let ours = median(fleet.stop_and_wait(count));
    let stock = peers::mosquitto(folder).map(|broker| {
        respond(broker.port);
        ("mosquitto + responder", median(Fleet::connect(broker.port, 1).stop_and_wait(count)))
    });
    table.add("edge", "`edge`, one report at a time, p50", "us", ours, stock, Goal::AtMost(150.0));
}

fn idle(options: &Options, table: &mut Table, folder: &TempDir) {
    // The file limit of some machines lies below what 10,000 connections need.
    let count = options.size(10_000);
    let connect = |server: Server| {
        let before = server.resident();
        let start = Instant::now();
        let _fleet = Fleet::connect(server.port, count);
        let seconds = start.elapsed().as_secs_f64();
        (seconds, server.resident().saturating_sub(before) as f64 / 1024.0 / count as f64)
    };
    let (seconds, kib) = connect(Server::edge());
    let stock = peers::mosquitto(folder).map(connect);
    let peer = |figure: fn((f64, f64)) -> f64| stock.map(|stock| ("mosquitto", figure(stock)));
    let what = format!("`edge`, {count} gateways with 3 subscriptions each");
    table.add("edge", format!("{what}, connected in"), "s", seconds, peer(|f| f.0), Goal::AtMost(3.0));
    table.add("edge", format!("{what}, memory"), "KiB each", kib, peer(|f| f.1), Goal::AtMost(4.0));
}
