//! Clients that attack the edge in the ways of published weaknesses of brokers. None may take more than its share of
//! memory, or keep another client waiting.

use std::{
    fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::{
    process::{Service, until},
    wire::{
        Client, Connect, DISCONNECT, Kind, PINGREQ, packet, publish, publish_with_id, subscribe, unsubscribe,
    },
};

/// Largest peak of an edge's memory, in bytes. An idle debug build needs about 12 MB.
const MOST: u64 = 64 * 1024 * 1024;

/// The peak of the edge's memory; `None` on systems without `/proc`.
fn peak(edge: &Service) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

pub fn assert_small(edge: &Service, what: &str) {
    if let Some(peak) = peak(edge) {
        assert!(peak <= MOST, "{what}: {} MB", peak / 1024 / 1024);
    }
}

/// Reads and discards everything, as a client that never acknowledges does.
fn swallow(client: &Client) {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
}

/// Sends bytes; `false` if the edge has closed the connection meanwhile.
fn flood(client: &mut Client, bytes: &[u8]) -> bool {
    client.stream.write_all(bytes).is_ok()
}

/// SUBSCRIBE with QoS 1.
fn subscribe_to(filters: &[&str]) -> Vec<u8> {
    subscribe(1, &filters.iter().map(|filter| (*filter, 1)).collect::<Vec<_>>())
}

/// A client whose pings are timed while others misbehave.
struct Witness(Client);

impl Witness {
    fn of(edge: &Service) -> Self {
        Self(edge.gateway("witness"))
    }

    /// Pings until `goes_on` is false; every answer must come in time.
    fn watch(&mut self, mut goes_on: impl FnMut() -> bool) {
        loop {
            let begin = Instant::now();
            self.0.ping();
            // Far from what a busy machine takes, and far below what these attacks once took.
            assert!(begin.elapsed() < Duration::from_secs(5), "a ping took {:?}", begin.elapsed());
            if !goes_on() {
                return;
            }
        }
    }
}

#[test]
#[ignore = "slow: fills the budgets of an edge"]
fn subscriptions_of_one_client_have_a_budget() {
    let edge = Service::edge(&[]);
    let mut witness = Witness::of(&edge);
    let mut greedy = edge.platform("greedy");
    let mut granted = 0;
    for n in 0..100 {
        let long = format!("{n}/{}", "a".repeat(60_000));
        granted += usize::from(greedy.subscribe(&[(&long, 0)]) == [0]);
    }
    assert!((5..50).contains(&granted), "{granted} of 60 KB each");
    let mut many = edge.platform("many");
    let names: Vec<String> = (0..1100).map(|n| n.to_string()).collect();
    let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let codes = many.subscribe(&filters);
    assert_eq!((codes.len(), codes[999], codes[1000]), (1100, 1, 0x80));
    assert_eq!(many.subscribe(&[("7", 2)]), [2], "one that it has may be renewed");
    many.send(&unsubscribe(9, &["8"]));
    assert_eq!(many.expect(Kind::UnsubAck).id(), 9);
    assert_eq!(many.subscribe(&[("new", 0)]), [0], "and one that it gave up makes room");
    // As many as fit into a packet.
    let all: Vec<_> = (0..120_000).map(|n| format!("{n:x}")).collect();
    many.send(&unsubscribe(10, &all));
    let all: Vec<_> = (0..110_000).map(|n| (format!("{n:x}"), 0)).collect();
    many.send(&subscribe(11, &all));
    witness.watch(|| false);
    assert_eq!(many.expect(Kind::UnsubAck).id(), 10);
    assert_eq!(many.expect(Kind::SubAck).body.len(), 2 + 110_000);
    assert_small(&edge, "many filters");
}

#[test]
#[ignore = "slow: fills the buffers of an edge"]
fn retained_messages_come_as_they_are_read_and_block_no_other_client() {
    let edge = Service::edge(&[]);
    let mut witness = Witness::of(&edge);
    let mut sender = edge.platform("sender");
    // More than there is room for.
    for n in 0..70_000 {
        sender.publish(&format!("r/{n}"), "p", 0, true);
    }
    sender.ping();
    let mut reader = edge.platform("reader");
    reader.send(&subscribe_to(&["r/+"]));
    reader.expect(Kind::SubAck);
    let mut count = 0;
    reader.send(&publish(0, "r/last", b"x"));
    while reader.message().topic != "r/last" {
        count += 1;
    }
    while count < 50_000 {
        reader.message();
        count += 1;
    }
    let mut greedy = edge.platform("greedy");
    let names: Vec<String> = (0..900).map(|n| format!("+/+/{n}")).collect();
    let mut filters = vec!["#"; 50];
    filters.extend(names.iter().map(String::as_str));
    greedy.send(&subscribe_to(&filters));
    let begin = Instant::now();
    witness.watch(|| begin.elapsed() < Duration::from_millis(500));
    drop(greedy);
    assert_small(&edge, "retained messages");
}

#[test]
fn unacknowledged_and_unreleased_messages_are_bounded() {
    let edge = Service::edge(&["--max-queue", "4000000"]);
    let mut witness = Witness::of(&edge);
    let own = "gateway/in/gw1";
    let mut mute = edge.gateway("gw1");
    mute.subscribe(&[(own, 1)]);
    swallow(&mute);
    let megabyte = vec![b'x'; 1_000_000];
    for id in 1..=100_u16 {
        if !flood(&mut mute, &publish_with_id(2, own, id, &megabyte)) {
            break;
        }
    }
    witness.watch(|| false);
    assert_small(&edge, "unacknowledged messages");

    let own = "gateway/in/gw2";
    let mut forgetful = edge.gateway("gw2");
    swallow(&forgetful);
    for id in 1..=u16::MAX {
        assert!(flood(&mut forgetful, &publish_with_id(4, own, id, b"p")));
    }
    witness.watch(|| false);
    assert_small(&edge, "unreleased messages");
}

#[test]
fn unfinished_packets_do_not_fill_the_memory() {
    let edge = Service::edge(&[]);
    let mut witness = Witness::of(&edge);
    // The first bytes of a packet, from many.
    let unfinished: Vec<Client> = (0..400)
        .map(|n| {
            let mut client = edge.gateway(&format!("begun{n}"));
            client.send(&[0x30, 0x80]);
            client
        })
        .collect();
    witness.watch(|| false);
    assert_small(&edge, "400 begun packets");
    // Nearly all of a large one, before and after CONNECT.
    let message = publish(0, "gateway/in/x", &vec![b'x'; 900_000]);
    let greeting = packet(0x10, &[b"\0\x04MQTT\x04", &vec![b'x'; 900_000]]);
    let mut held = Vec::new();
    for n in 0..60 {
        let mut client = edge.gateway(&format!("held{n}"));
        flood(&mut client, &message[..800_000]);
        let mut unknown = edge.client();
        flood(&mut unknown, &greeting[..800_000]);
        held.extend([client, unknown]);
        witness.watch(|| false);
    }
    assert_small(&edge, "120 large packets");
    // A client of small messages is not affected, and memory is released.
    let mut other = edge.gateway("other");
    other.publish("gateway/in/other", &"x".repeat(3000), 1, false);
    other.expect(Kind::PubAck);
    drop((unfinished, held));
    until("room for a large message", || {
        let mut late = edge.gateway("late");
        late.send(&publish_with_id(2, "gateway/in/late", 1, &vec![b'x'; 900_000]));
        late.read().is_some_and(|packet| packet.kind() == Kind::PubAck)
    });
}

#[test]
#[ignore = "slow: fills the budgets of an edge"]
fn absent_sessions_share_one_budget() {
    let edge = Service::edge(&["--max-queue", "100000"]);
    let mut platform = edge.platform("console");
    swallow(&platform);
    for n in 0..600 {
        let id = format!("gw{n}");
        let mut gateway = edge.client();
        assert_eq!(gateway.login(&id, "acme", false), 0);
        let own = format!("gateway/in/{id}");
        gateway.subscribe(&[(&own, 1)]);
        gateway.send(&DISCONNECT);
        for part in 0..4 {
            platform.publish(&own, &format!("{part}{}", "x".repeat(30_000)), 1, false);
        }
    }
    let mut last = edge.platform("last");
    last.ping();
    if let Some(peak) = peak(&edge) {
        assert!(peak <= 2 * MOST, "{} MB", peak / 1024 / 1024);
    }
}

/// Whether a client is still connected, whatever came before the answer to its ping.
fn is_there(client: &mut Client) -> bool {
    flood(client, &PINGREQ)
        && std::iter::from_fn(|| client.read()).any(|packet| packet.kind() == Kind::PingResp)
}

/// Lets each of twenty clients take a tenth of the budget of all. Some of these must be disconnected; a modest client
/// and the session of an absent one must survive.
fn some_have_to_go(act: impl Fn(&mut Client, &str)) {
    let edge = Service::edge(&["--max-queues", "1000000"]);
    let mut away = edge.client();
    assert_eq!(away.login("away", "acme", false), 0);
    away.subscribe(&[("gateway/in/away", 1)]);
    away.send(&DISCONNECT);
    assert!(away.is_closed());
    let mut small = edge.platform("small");
    small.publish("gateway/in/away", "kept", 1, false);
    small.expect(Kind::PubAck);
    let mut greedy: Vec<Client> = Vec::new();
    for n in 0..20 {
        let id = format!("greedy{n}");
        let mut client = edge.gateway(&id);
        act(&mut client, &id);
        // The edge has handled all that the client sent.
        is_there(&mut client);
        small.ping();
        greedy.push(client);
    }
    let there = greedy.iter_mut().map(is_there).filter(|is_there| *is_there).count();
    assert!((1..20).contains(&there), "{there} of 20");
    let mut back = edge.client();
    assert_eq!(back.login("away", "acme", false), 0);
    assert_eq!(back.message().payload, b"kept");
}

#[test]
fn subscriptions_of_all_clients_share_one_budget() {
    some_have_to_go(|client, id| {
        let filter = format!("gateway_id/{id}/{}", "x".repeat(50_000));
        assert!(flood(client, &subscribe_to(&[&filter])));
    });
}

#[test]
fn unacknowledged_messages_of_all_clients_share_one_budget() {
    some_have_to_go(|client, id| {
        let own = format!("gateway/in/{id}");
        client.subscribe(&[(&own, 1)]);
        let message = publish_with_id(2, &own, 1, &[b'x'; 1000]);
        assert!(flood(client, &message.repeat(100)));
    });
}

#[test]
fn unreleased_messages_of_all_clients_share_one_budget() {
    some_have_to_go(|client, id| {
        let own = format!("gateway/out/{id}");
        let message = |n: u16| publish_with_id(4, &own, n, b"");
        assert!(flood(client, &(1..=1000).flat_map(message).collect::<Vec<u8>>()));
    });
}

#[test]
fn messages_for_absent_clients_share_one_budget() {
    let edge = Service::edge(&["--max-queues", "1000000"]);
    let mut platform = edge.platform("console");
    let ids: Vec<String> = (0..20).map(|n| format!("gw{n}")).collect();
    for id in &ids {
        let own = format!("gateway/in/{id}");
        let mut gateway = edge.client();
        assert_eq!(gateway.login(id, "acme", false), 0);
        gateway.subscribe(&[(&own, 1)]);
        gateway.send(&DISCONNECT);
        assert!(gateway.is_closed());
        platform.publish(&own, &"x".repeat(100_000), 1, false);
        platform.expect(Kind::PubAck);
    }
    let kept = ids.iter().filter(|id| {
        let mut gateway = edge.client();
        assert_eq!(gateway.login(id, "acme", false), 0);
        gateway.send(&PINGREQ);
        gateway.read().is_some_and(|packet| packet.kind() == Kind::Publish)
    });
    let kept = kept.count();
    assert!((1..20).contains(&kept), "{kept} of 20");
}

#[test]
#[ignore = "slow: fills the budgets of an edge"]
fn successive_connections_of_one_client_leave_no_memory_behind() {
    let edge = Service::edge(&[]);
    let mut witness = Witness::of(&edge);
    let payload = "x".repeat(10_000);
    for _ in 0..1000 {
        let mut client = edge.client();
        let code = client.connect(&Connect {
            clean: false,
            keep_alive: 0,
            will: Some(("gateway/out/gw1", &payload, 1)),
            ..Connect::new("gw1", "acme")
        });
        assert_eq!(code, 0);
        client.subscribe(&[("gateway_id/gw1/#", 2)]);
    }
    // Logins that are refused.
    let long = "x".repeat(60_000);
    for n in 0..500 {
        let mut client = edge.client();
        let wrong = Connect {
            client_id: "gw1",
            username: Some(&long),
            password: Some(long.clone()),
            clean: n % 2 == 0,
            keep_alive: 0,
            will: Some(("gateway/out/gw1", &long, 2)),
        };
        assert_eq!(client.connect(&wrong), 4);
    }
    witness.watch(|| false);
    assert_small(&edge, "takeovers and refusals");
}

#[test]
#[ignore = "slow: fills the budgets of an edge"]
fn a_client_that_reads_no_ping_answers_is_no_longer_read() {
    let edge = Service::edge(&[]);
    let mut witness = Witness::of(&edge);
    let mut deaf = edge.gateway("deaf");
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let pings = PINGREQ.repeat(100_000);
    let mut sent = 0;
    while sent < 200 && flood(&mut deaf, &pings) {
        sent += 1;
    }
    assert!(sent < 200, "nothing is read from who does not read");
    witness.watch(|| false);
    assert_small(&edge, "unread answers");
}
