//! Sessions of MQTT with bytes changed at random, while a connection that is held open keeps getting its answers.

#![allow(clippy::print_stdout, reason = "the seed is shown where the test fails")]

use std::{fs, io::Write as _, net::Shutdown, time::Duration};

use fastrand::Rng;
use serde_json::json;

use super::{
    hostile::assert_small,
    report, sync, topic,
    wire::{Client, Connect, Edge, packet, password, text},
};

const SESSIONS: usize = 2000;

/// How many sessions stay open side by side.
const OPEN: usize = 20;

/// The packets of a session in which everything happens, as a gateway or a platform user.
fn session(id: &str, dice: &mut Rng) -> Vec<Vec<u8>> {
    let username = ["acme", "platform"][usize::from(dice.u8(..4) == 0)];
    let login = password(id, username);
    let own = topic(id, "#");
    let connect = Connect {
        client_id: id,
        username: Some(username),
        password: Some(&login),
        clean: dice.bool(),
        keep_alive: dice.u16(..),
        will: dice.bool().then_some(("gateway/out/x", "{}", dice.u8(..3))),
    };
    let publish = |first: u8, topic: &str, payload: &str| {
        let id: &[u8] = if first & 6 == 0 { b"" } else { b"\0\x05" };
        packet(first, &[&text(topic), id, payload.as_bytes()])
    };
    let answer = json!({"t":1,"cid":"m1","request_id":"c","param":{"msg":"success","code":0}}).to_string();
    let status = json!({"t":1,"request_id":"s","param":[{"cid":"m1","status":false}]}).to_string();
    vec![
        connect.bytes(),
        packet(0x82, &[b"\0\x01", &text(&own), &[2], &text("gateway/in/+"), &[1]]),
        publish(0x32, &topic(id, "devices/sync"), &sync("m1")),
        publish(0x34, &topic(id, "properties/report"), &report("m1", "1", &json!(1))),
        vec![0x62, 2, 0, 5],
        publish(0x31, &topic(id, "devices/status"), &status),
        publish(0x30, &topic(id, "commands/response"), &answer),
        publish(0x3b, &format!("gateway/in/{id}"), "back"),
        vec![0x40, 2, 0, 1],
        vec![0x50, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        packet(0xa2, &[b"\0\x02", &text(&own)]),
        vec![0xc0, 0],
        vec![0xe0, 0],
    ]
}

/// Changes a session: most keep their CONNECT, or nothing behind it would be reached.
fn mutate(mut packets: Vec<Vec<u8>>, dice: &mut Rng) -> Vec<u8> {
    let head = if dice.u8(..5) == 0 { Vec::new() } else { packets.remove(0) };
    if dice.u8(..3) == 0 {
        dice.shuffle(&mut packets);
    }
    let mut bytes = packets.concat();
    for _ in 0..dice.usize(1..6) {
        let at = dice.usize(..bytes.len());
        let to = (at + dice.usize(..20)).min(bytes.len());
        match dice.u8(..7) {
            0 => bytes[at] ^= 1 << dice.u8(..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, dice.u8(..)][dice.usize(..6)],
            2 => drop(bytes.drain(at..to)),
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let noise: Vec<u8> = (at..to).map(|_| dice.u8(..)).collect();
                bytes.splice(at..at, noise);
            }
            5 => bytes.truncate(at.max(1)),
            _ => {
                // A length, or the lower half of a number, that is off by one.
                bytes[at] = bytes[at].wrapping_add(1);
            }
        }
        if bytes.is_empty() {
            bytes.push(dice.u8(..));
        }
    }
    [head, bytes].concat()
}

#[test]
fn a_held_connection_is_answered_whatever_two_thousand_others_send() {
    let seed = std::env::var("FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("FUZZ_SEED={seed} repeats this run");
    let mut dice = Rng::with_seed(seed);
    let edge = Edge::start(&["--connect-timeout", "1s", "--max-connections", "100"]);
    let mut held = super::gateway_with_device(&edge, "held");
    let mut open = std::collections::VecDeque::new();
    for n in 0..SESSIONS {
        let bytes = mutate(session(&format!("gw{}", n % 50), &mut dice), &mut dice);
        let mut client = Client::open(&edge.address);
        let cut = dice.usize(..=bytes.len());
        // Whatever the edge closes meanwhile is its right.
        let _ = client.stream.write_all(&bytes[..cut]);
        let _ = client.stream.write_all(&bytes[cut..]);
        match dice.u8(..4) {
            0 => drop(client),
            1 => {
                let _ = client.stream.shutdown(Shutdown::Write);
                while client.read_lenient() {}
            }
            _ => open.push_back(client),
        }
        if open.len() > OPEN {
            open.pop_front();
        }
        if n % 5 == 0 {
            let asked = json!({"t":1,"request_id":n.to_string(),"param":{"cid":"m1","id":"1","value":n}});
            held.publish(&topic("held", "properties/report"), &asked.to_string(), 0, false);
            loop {
                let message = held.json();
                // Its own report comes back too, since it asked for all of its topics.
                if message["param"]["code"].is_null() {
                    continue;
                }
                assert_eq!(
                    (&message["request_id"], &message["param"]["code"]),
                    (&json!(n.to_string()), &json!(0))
                );
                break;
            }
        }
    }
    drop(open);
    held.ping_skipping_messages(|_| ());
    assert_small(&edge, "after all sessions");
    // Every connection but the held one is given up.
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    while let Ok(files) = fs::read_dir(format!("/proc/{}/fd", edge.child.id())) {
        let count = files.count();
        if count < 25 {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{count} files are open");
        held.ping_skipping_messages(|_| ());
    }
}
