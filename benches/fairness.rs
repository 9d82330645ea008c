//! Measures how long a quiet client waits beside a flooding one, at the emulator and at a stock broker.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tuyagw::tuya::Channel;

use crate::{
    Options, peers,
    process::Server,
    table::{Goal, Table, median},
    traffic::{Inbox, PAYLOAD, USERNAME, client, report, topic, with_qos},
    wire::{publish, subscribe, unsubscribe},
};

/// As many filters as a packet of some 960 KB holds.
const FILTERS: usize = 40_000;

pub fn measure(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    for (name, flood) in floods() {
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..options.rounds(3) {
            let edge = Server::edge();
            for (all, wait) in ours.iter_mut().zip(waits(options, edge.port, true, &flood)) {
                all.push(wait);
            }
            drop(edge);
            if let Some(broker) = peers::mosquitto(&folder) {
                for (all, wait) in theirs.iter_mut().zip(waits(options, broker.port, false, &flood)) {
                    all.push(wait);
                }
            }
        }
        let figures = ["p50", "longest"].into_iter().zip(ours).zip(theirs);
        for ((figure, ours), theirs) in figures {
            let peer = (!theirs.is_empty()).then(|| ("mosquitto, an echo", median(theirs)));
            let what = format!("`edge`, a report's answer beside a flood of {name}, {figure}");
            table.add("fairness", what, "ms", median(ours), peer, Goal::PeerAtMost(2.0));
        }
    }
}

/// What an attacker sends again and again.
fn floods() -> [(&'static str, Vec<u8>); 6] {
    let filters = |from: usize| (from..from + FILTERS).map(|n| format!("gateway_id/gw1/{n:06}"));
    let many: Vec<_> = filters(1000).collect();
    let deep: Vec<_> = (0..4500).map(|n| format!("gateway_id/gw1/{}{n}", "+/".repeat(99))).collect();
    let nested = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let reports = topic(Channel::Report, "gw1");
    [
        ("SUBSCRIBE with 40,000 filters", subscribe(2, &with_qos(&many))),
        ("SUBSCRIBE with filters of 101 levels", subscribe(2, &with_qos(&deep))),
        ("UNSUBSCRIBE with 40,000 filters", unsubscribe(3, &many)),
        ("reports that are no JSON", publish(0, &reports, b"[").repeat(20_000)),
        ("reports of 600 KB", publish(0, &reports, nested.as_bytes())),
        ("reports", publish(0, &reports, report("m1", PAYLOAD).as_bytes()).repeat(5000)),
    ]
}

/// The median and the longest wait of a client, in milliseconds; it is answered by the edge, or by its own message.
fn waits(options: &Options, port: u16, is_edge: bool, flood: &[u8]) -> [f64; 2] {
    let mut attacker = client(port, "gw1", USERNAME, &filters_of("gw1"));
    let mut drain = attacker.try_clone().unwrap();
    let (mut flooding, bytes) = (attacker.try_clone().unwrap(), flood.to_owned());
    let reader = thread::spawn(move || {
        let mut rest = vec![0; 1 << 20];
        while drain.read(&mut rest).is_ok_and(|read| read > 0) {}
    });
    let writer = thread::spawn(move || while flooding.write_all(&bytes).is_ok() {});

    let answers = topic(if is_edge { Channel::ReportResponse } else { Channel::Report }, "victim");
    let mut victim = client(port, "victim", USERNAME, &[answers]);
    let message = publish(0, &topic(Channel::Report, "victim"), report("m1", PAYLOAD).as_bytes());
    let mut inbox = Inbox::new(1 << 16);
    let mut waits = Vec::new();
    let (start, time) = (Instant::now(), Duration::from_millis(options.size(4000) as u64));
    while start.elapsed() < time {
        let begin = Instant::now();
        victim.write_all(&message).unwrap();
        while inbox.next().is_none_or(|(first, _)| first & 0xf0 != 0x30) {
            assert!(inbox.fill(&mut victim).unwrap() > 0);
        }
        waits.push(begin.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(10));
    }
    // A broker that has closed it already has ended both threads.
    let _ = attacker.shutdown(Shutdown::Both);
    let _ = attacker.flush();
    writer.join().unwrap();
    reader.join().unwrap();
    let longest = waits.iter().copied().fold(0.0, f64::max);
    [median(waits), longest]
}

/// What the attacker is subscribed to beforehand: as many filters as the edge grants to one client.
fn filters_of(gateway: &str) -> Vec<String> {
    (0..1000).map(|n| format!("gateway_id/{gateway}/{n:06}")).collect()
}
