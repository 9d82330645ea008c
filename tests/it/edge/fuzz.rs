//! Sessions of MQTT with bytes changed at random, while a connection that is held open keeps getting its answers.

#![allow(clippy::print_stdout, reason = "the seed is shown where the test fails")]

use std::{fs, io::Write as _, net::Shutdown, time::Duration};

use fastrand::Rng;
use serde_json::json;

use super::{hostile::assert_small, report, sync, topic};
use crate::{
    process::Service,
    wire::{self, Connect, DISCONNECT, PINGREQ, puback, pubcomp, pubrec, pubrel, subscribe, unsubscribe},
};

const SESSIONS: usize = 2000;

/// How many sessions stay open side by side.
const OPEN: usize = 20;

/// The packets of a session in which everything happens, as a gateway or a platform user.
fn session(id: &str, dice: &mut Rng) -> Vec<Vec<u8>> {
    let username = ["acme", "platform"][usize::from(dice.u8(..4) == 0)];
    let own = topic(id, "#");
    let connect = Connect {
        clean: dice.bool(),
        keep_alive: dice.u16(..),
        will: dice.bool().then_some(("gateway/out/x", "{}", dice.u8(..3))),
        ..Connect::new(id, username)
    };
    let publish = |first: u8, topic: &str, payload: &str| {
        if first & 6 == 0 {
            wire::publish(first, topic, payload.as_bytes())
        } else {
            wire::publish_with_id(first, topic, 5, payload.as_bytes())
        }
    };
    let answer = json!({"t":1,"cid":"m1","request_id":"c","param":{"msg":"success","code":0}}).to_string();
    let status = json!({"t":1,"request_id":"s","param":[{"cid":"m1","status":false}]}).to_string();
    vec![
        connect.bytes(),
        subscribe(1, &[(&*own, 2), ("gateway/in/+", 1)]),
        publish(0x32, &topic(id, "devices/sync"), &sync("m1")),
        publish(0x34, &topic(id, "properties/report"), &report("m1", "1", &json!(1))),
        pubrel(5).into(),
        publish(0x31, &topic(id, "devices/status"), &status),
        publish(0x30, &topic(id, "commands/response"), &answer),
        publish(0x3b, &format!("gateway/in/{id}"), "back"),
        puback(1).into(),
        pubrec(1).into(),
        pubcomp(1).into(),
        unsubscribe(2, &[&own]),
        PINGREQ.into(),
        DISCONNECT.into(),
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
fn two_thousand_random_sessions_leave_a_held_connection_answered() {
    let seed = std::env::var("FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("FUZZ_SEED={seed} repeats this run");
    let mut dice = Rng::with_seed(seed);
    let edge = Service::edge(&["--connect-timeout", "1s", "--max-connections", "100"]);
    let mut held = super::gateway_with_device(&edge, "held");
    let mut open = std::collections::VecDeque::new();
    for n in 0..SESSIONS {
        let bytes = mutate(session(&format!("gw{}", n % 50), &mut dice), &mut dice);
        let mut client = edge.client();
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
    while let Ok(files) = fs::read_dir(format!("/proc/{}/fd", edge.id())) {
        let count = files.count();
        if count < 25 {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{count} files are open");
        held.ping_skipping_messages(|_| ());
    }
}
