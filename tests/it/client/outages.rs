//! Lost connections: which messages are resent, how each input ends, and when a run gives up.

use std::{collections::BTreeMap, sync::mpsc};

use super::{Case, accounted, all_accepted, reports};
use crate::{
    fake_broker::{FakeBroker, Peer, response},
    process::{gateway, run, run_with},
    wire::{ACCEPTED, Packet, Publish, puback, suback},
};

/// Every request keeps its payload, request_id included, however often it is sent.
fn same_when_sent_again(broker: &FakeBroker, count: usize) {
    let mut by_cid = BTreeMap::<String, Vec<u8>>::new();
    for (_, publish) in broker.publishes() {
        let cid = publish.json()["param"]["cid"].as_str().expect("a cid").to_owned();
        let first = by_cid.entry(cid).or_insert_with(|| publish.payload.clone());
        assert_eq!(*first, publish.payload);
    }
    assert_eq!(by_cid.len(), count);
}

#[test]
fn a_broken_connection_loses_nothing() {
    for (name, acknowledge, args) in [
        ("before PUBACK", false, &["-"][..]),
        ("after PUBACK", true, &["-"]),
        ("no wait", false, &["-", "--no-wait"]),
        ("QoS 0", false, &["-", "--qos", "0"]),
        ("QoS 2", false, &["-", "--qos", "2"]),
    ] {
        let broker = FakeBroker::start(move |number, peer: &mut Peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            let mut left = 30;
            while left > 0 {
                match peer.receive() {
                    Some(Packet::Subscribe { id, .. }) => peer.send(&suback(id, &[1])),
                    Some(Packet::Publish(request)) => {
                        left -= 1;
                        if left > 10 {
                            peer.answer(&request, 0);
                        } else if acknowledge {
                            peer.send(&puback(request.id));
                        }
                    }
                    _ => {}
                }
            }
        });
        let args = [args, &["--timeout", "20s"]].concat();
        let ended = run_with(&mut gateway("report", &broker.url(), &args), reports(100).as_bytes());
        all_accepted(&ended, 100);
        same_when_sent_again(&broker, 100);
        assert!(ended.stderr.contains("reconnecting"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn no_reconnect_exits_on_the_first_loss() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        for _ in 0..3 {
            let request = peer.request();
            peer.answer(&request, 0);
        }
        peer.request();
    });
    let args = ["-", "--no-reconnect", "--window", "2"];
    let ended = run_with(&mut gateway("report", &broker.url(), &args), reports(10).as_bytes());
    accounted(&ended, 10);
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    let count =
        |pick: &dyn Fn(&serde_json::Value) -> bool| ended.lines.iter().filter(|line| pick(line)).count();
    assert_eq!(count(&|line| line["ok"] == true), 3);
    assert_eq!(count(&|line| line["error"] == "connection"), 7);
    assert!(broker.received().iter().all(|(number, _)| *number == 0));
}

pub fn fruitless_connections() -> Vec<Case> {
    vec![
        Case::new("closes after every CONNACK", 3, "connection", |_, peer| peer.log_in())
            .says("another client using the client id \"gw1\"")
            .args(&["--timeout", "20s"]),
        Case::new("closes after every request", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
        })
        .says("another client")
        .args(&["--timeout", "20s"]),
        Case::new("closes after every request, QoS 0", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
        })
        .says("another client")
        .args(&["--timeout", "20s", "--qos", "0"]),
        Case::new("acknowledges the request and closes, every time", 3, "connection", |_, peer| {
            peer.set_out();
            let request = peer.request();
            peer.send(&puback(request.id));
        })
        .says("another client")
        .args(&["--timeout", "20s"]),
        Case::new("closes within every answer", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
            peer.send(&[0x30, 50, 0, 3, b'a']);
        })
        .says("another client")
        .args(&["--timeout", "20s"]),
    ]
}

/// A first acknowledgement is progress. A repeated one is not, or the client would reconnect ten times a second.
#[test]
fn repeated_acknowledgements_are_no_progress() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        let request = peer.request();
        peer.send(&puback(request.id));
    });
    let ended =
        run(&mut gateway("report", &broker.url(), &["--cid", "m1", "water_flow=1", "--timeout", "20s"]));
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    let connections = broker.received().iter().map(|(number, _)| number + 1).max();
    assert_eq!(connections, Some(6), "{ended:#?}");
}

pub fn refused_reconnects() -> Vec<Case> {
    vec![
        Case::new("refuses the second connection with CONNACK 5", 4, "refused", |number, peer| {
            peer.expect_connect();
            if number > 0 {
                return peer.send(&[0x20, 2, 0, 5]);
            }
            peer.send(&ACCEPTED);
            peer.expect_subscribe();
        }),
        Case::new("refuses the second connection with CONNACK 3", 0, "ok", |number, peer| {
            peer.expect_connect();
            if number == 1 {
                return peer.send(&[0x20, 2, 0, 3]);
            }
            peer.send(&ACCEPTED);
            if number > 1 {
                peer.serve(|_| 0);
            }
        })
        .args(&["--timeout", "20s"]),
    ]
}

pub fn silences() -> Vec<Case> {
    vec![
        Case::new("is silent for ever after CONNACK", 0, "ok", |number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            peer.hold();
        })
        .args(&["--timeout", "20s", "--keep-alive", "1s"])
        .says("silent"),
        Case::new("acknowledges, and never sends PINGRESP", 0, "ok", |number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            while let Some(packet) = peer.receive() {
                match packet {
                    Packet::Subscribe { id, .. } => peer.send(&suback(id, &[1])),
                    Packet::Publish(request) => peer.send(&puback(request.id)),
                    _ => {}
                }
            }
        })
        .args(&["--timeout", "20s", "--keep-alive", "1s"])
        .says("silent"),
        Case::new("ends its side after CONNACK, and reads on", 0, "ok", |number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            peer.end();
            peer.hold();
        }),
    ]
}

/// Answers four requests, then breaks off at the fifth.
fn cut(number: usize, peer: &mut Peer, end: fn(&mut Peer, &Publish)) {
    peer.log_in();
    if number > 0 {
        return peer.serve(|_| 0);
    }
    let id = peer.expect_subscribe();
    peer.send(&suback(id, &[1]));
    for _ in 0..4 {
        let request = peer.request();
        peer.answer(&request, 0);
    }
    let fifth = peer.request();
    end(peer, &fifth);
}

pub fn cuts() -> Vec<Case> {
    let broken = |name, broker| Case::new(name, 0, "ok", broker).input(20).says("reconnecting");
    vec![
        broken("closes before the fifth PUBACK", |number, peer| cut(number, peer, |_, _| {})),
        broken("closes after the fifth PUBACK", |number, peer| {
            cut(number, peer, |peer, fifth| peer.send(&puback(fifth.id)));
        }),
        broken("resets before the fifth PUBACK", |number, peer| cut(number, peer, |peer, _| peer.reset())),
        broken("resets after the fifth PUBACK", |number, peer| {
            cut(number, peer, |peer, fifth| {
                peer.send(&puback(fifth.id));
                peer.reset();
            });
        }),
        broken("closes within the fifth answer", |number, peer| {
            cut(number, peer, |peer, fifth| peer.send(&response(fifth, 0)[..20]));
        }),
        broken("closes after CONNACK, every other time", |number, peer| {
            peer.log_in();
            if number % 2 == 1 {
                peer.serve(|_| 0);
            }
        }),
    ]
}

/// The time-out of an answer runs on during the outage. Unsent requests fail with the connection.
#[test]
fn a_vanished_broker_exits_3_with_a_result_for_every_line() {
    let broker = FakeBroker::start(|number, peer| {
        if number == 0 {
            peer.set_out();
            let request = peer.request();
            peer.answer(&request, 0);
            peer.request();
        }
    });
    let args = ["-", "--window", "1"];
    let ended = run_with(&mut gateway("report", &broker.url(), &args), reports(5).as_bytes());
    accounted(&ended, 5);
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_eq!(ended.lines[0]["ok"], true);
    assert!(ended.lines[1..].iter().all(|line| line["ok"] == false), "{ended:#?}");
}

#[test]
#[ignore = "slow: fills the buffers of both ends twice"]
fn a_broker_that_stops_reading_exits_3() {
    let (done, is_done) = mpsc::channel::<()>();
    let broker = FakeBroker::start(move |number, peer| {
        if number == 0 {
            peer.set_out();
        } else {
            peer.log_in();
        }
        let _ = is_done.recv();
    });
    // More than the buffers of both ends take.
    let name = "n".repeat(20_000);
    let line = |n| format!("{{\"cid\":\"m{n}\",\"product_id\":\"p\",\"device_name\":\"{name}\"}}\n");
    let input = (0..800).map(line).collect::<Vec<_>>().concat();
    for args in [&["-", "--window", "2000"][..], &["-", "--window", "2000", "--no-wait", "--qos", "0"]] {
        let ended = run_with(
            &mut gateway("sync", &broker.url(), &[args, &["--connect-timeout", "30s"]].concat()),
            input.as_bytes(),
        );
        accounted(&ended, 800);
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("stopped reading"), "{}", ended.stderr);
        done.send(()).unwrap();
    }
}

/// A loss while nothing is open is no failure.
#[test]
fn an_idle_lost_connection_is_opened_again() {
    let broker = FakeBroker::start(|number, peer| {
        peer.set_out();
        if number == 0 {
            let request = peer.request();
            return peer.answer(&request, 0);
        }
        peer.serve(|_| 0);
    });
    let ended =
        run_with(&mut gateway("report", &broker.url(), &["-", "--window", "1"]), reports(2).as_bytes());
    all_accepted(&ended, 2);
}

#[test]
fn a_kept_session_is_resumed_with_dup() {
    let broker = FakeBroker::start(|number, peer| {
        peer.expect_connect();
        peer.send(&[0x20, 2, u8::from(number > 0), 0]);
        if number > 0 {
            return peer.serve(|_| 0);
        }
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1]));
        peer.request();
    });
    let args = ["--cid", "m1", "1=1", "--persistent"];
    let ended = run(&mut gateway("report", &broker.url(), &args));
    assert_eq!(ended.line()["ok"], true, "{ended:#?}");
    let publishes = broker.publishes();
    let [(0, first), (1, second)] = publishes.as_slice() else { panic!("{publishes:?}") };
    assert!(!first.dup && second.dup);
    assert_eq!((first.id, &first.payload), (second.id, &second.payload));
}
