//! Measures how long a quiet client waits beside a flooding one, at the emulator and at a stock broker.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tuyagw::{
    mqtt::{
        QoS,
        codec::{Message, Packet},
    },
    tuya::Channel,
};

use crate::{
    Options, peers,
    process::Server,
    table::{Goal, Table, median},
    wire::{Inbox, PAYLOAD, USERNAME, connect, encode, report, subscribe, topic},
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
    let deep = (0..4500).map(|n| (format!("gateway_id/gw1/{}{n}", "+/".repeat(99)), QoS::AtLeastOnce));
    let many = filters(1000).map(|filter| (filter, QoS::AtLeastOnce)).collect();
    let nested = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let reports = topic(Channel::Report, "gw1");
    [
        ("SUBSCRIBE with 40,000 filters", encode(&Packet::Subscribe { id: 2, filters: many })),
        (
            "SUBSCRIBE with filters of 101 levels",
            encode(&Packet::Subscribe { id: 2, filters: deep.collect() }),
        ),
        (
            "UNSUBSCRIBE with 40,000 filters",
            encode(&Packet::Unsubscribe { id: 3, filters: filters(1000).collect() }),
        ),
        ("reports that are no JSON", publish(&reports, "[").repeat(20_000)),
        ("reports of 600 KB", publish(&reports, &nested)),
        ("reports", publish(&reports, &report("m1", PAYLOAD)).repeat(5000)),
    ]
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    encode(&Packet::Publish(Message {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtMostOnce,
        retain: false,
        dup: false,
        id: None,
    }))
}

/// The median and the longest wait of a client, in milliseconds; it is answered by the edge, or by its own message.
fn waits(options: &Options, port: u16, is_edge: bool, flood: &[u8]) -> [f64; 2] {
    let mut attacker = client(port, "gw1", &filters_of("gw1"));
    let mut drain = attacker.try_clone().unwrap();
    let (mut flooding, bytes) = (attacker.try_clone().unwrap(), flood.to_owned());
    let reader = thread::spawn(move || {
        let mut rest = vec![0; 1 << 20];
        while drain.read(&mut rest).is_ok_and(|read| read > 0) {}
    });
    let writer = thread::spawn(move || while flooding.write_all(&bytes).is_ok() {});

    let answers = topic(if is_edge { Channel::ReportResponse } else { Channel::Report }, "victim");
    let mut victim = client(port, "victim", &[answers]);
    let message = publish(&topic(Channel::Report, "victim"), &report("m1", PAYLOAD));
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

/// A client that is connected and subscribed.
fn client(port: u16, id: &str, filters: &[String]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&connect(id, USERNAME)).unwrap();
    stream.write_all(&subscribe(filters)).unwrap();
    let mut inbox = Inbox::new(1 << 16);
    for kind in [0x20, 0x90] {
        loop {
            if let Some((first, _)) = inbox.next() {
                assert_eq!(first & 0xf0, kind);
                break;
            }
            assert!(inbox.fill(&mut stream).unwrap() > 0);
        }
    }
    stream
}
