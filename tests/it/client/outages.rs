//! Connections that are lost: what is sent again, what is accounted for, and when to stop.

use std::{collections::BTreeMap, sync::mpsc};

use super::{Case, accounted, all_accepted, check, reports};
use crate::{
    fake_broker::{ACCEPTED, FakeBroker, Packet, Peer, puback},
    process::{gateway, run, run_with},
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
fn a_connection_that_breaks_in_the_middle_loses_nothing() {
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
                    Some(Packet::Subscribe { id, .. }) => peer.send(&crate::fake_broker::suback(id, &[1])),
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
        let ended = run_with(&mut gateway("report", &broker.url(), args), reports(100).as_bytes());
        all_accepted(&ended, 100);
        same_when_sent_again(&broker, 100);
        assert!(ended.stderr.contains("reconnecting"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn without_reconnect_the_first_loss_is_final() {
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

#[test]
fn five_losses_without_progress_point_at_the_client_id() {
    check(vec![
        Case::new("after CONNACK", 3, "connection", |_, peer| peer.log_in())
            .says("another client using the client id \"gw1\"")
            .args(&["--timeout", "20s"]),
        Case::new("after SUBACK", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
        })
        .says("another client")
        .args(&["--timeout", "20s"]),
        Case::new("after SUBACK, QoS 0", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
        })
        .says("another client")
        .args(&["--timeout", "20s", "--qos", "0"]),
        Case::new("within a PUBLISH", 3, "connection", |_, peer| {
            peer.set_out();
            peer.request();
            peer.send(&[0x30, 50, 0, 3, b'a']);
        })
        .says("another client")
        .args(&["--timeout", "20s"]),
    ]);
}

#[test]
fn a_reconnect_is_refused_for_good_or_for_a_while() {
    check(vec![
        Case::new("CONNACK 5", 4, "refused", |number, peer| {
            peer.expect_connect();
            if number > 0 {
                return peer.send(&[0x20, 2, 0, 5]);
            }
            peer.send(&ACCEPTED);
            peer.expect_subscribe();
        }),
        Case::new("CONNACK 3", 0, "ok", |number, peer| {
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
    ]);
}

#[test]
fn silence_is_found_and_the_request_sent_again() {
    check(vec![
        Case::new("half-open", 0, "ok", |number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            peer.hold();
        })
        .args(&["--timeout", "20s", "--keep-alive", "1s"])
        .says("silent"),
        Case::new("half-closed", 0, "ok", |number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            peer.end();
            peer.hold();
        }),
    ]);
}

/// The answer's clock runs on through the outage; what was never written is a matter of the connection.
#[test]
fn a_broker_that_stays_away_is_3_and_every_line_is_accounted_for() {
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
fn a_broker_that_stops_reading_is_3() {
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
fn a_connection_lost_while_idle_is_opened_again() {
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
fn a_session_that_the_broker_kept_is_resumed_with_dup() {
    let broker = FakeBroker::start(|number, peer| {
        peer.expect_connect();
        peer.send(&[0x20, 2, u8::from(number > 0), 0]);
        if number > 0 {
            return peer.serve(|_| 0);
        }
        let id = peer.expect_subscribe();
        peer.send(&crate::fake_broker::suback(id, &[1]));
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
