//! Lost connections and missing acknowledgements.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::{conversation, message, replay};
use crate::{
    fake_broker::FakeBroker,
    process::run_with,
    site::Site,
    wire::{ACCEPTED, Publish, puback, suback},
};

#[test]
fn a_lost_connection_loses_no_message() {
    const COUNT: u64 = 300;
    let broker = FakeBroker::start(|number, peer| {
        peer.log_in();
        if number > 0 {
            return peer.serve(|_| 0);
        }
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1; 3]));
        for n in 0..40 {
            let report = peer.request();
            if n % 2 == 0 {
                peer.send(&puback(report.id));
            }
        }
    });
    let report = |n| {
        let payload = format!(r#"{{"t":1,"request_id":"r{n}","param":{{"cid":"m1","id":"1","value":{n}}}}}"#);
        message(n, "gw1", "properties/report", "up", &payload)
    };
    let recording: String = (0..COUNT).map(report).collect();
    let ended = run_with(&mut replay(&broker.url(), &["--speed", "max", "-"]), recording.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{COUNT} sent, {COUNT} acknowledged")), "{ended:?}");
    let of_connection = |number| -> Vec<(u64, String)> {
        let publishes = broker.publishes().into_iter().filter(|(connection, _)| *connection == number);
        let named =
            |publish: &Publish| (publish.json()["param"]["value"].as_u64().unwrap(), publish.request_id());
        publishes.map(|(_, publish)| named(&publish)).collect()
    };
    let (first, second) = (of_connection(0), of_connection(1));
    assert!(second.is_sorted_by_key(|(value, _)| *value), "{second:?}");
    // A message keeps its id when it is sent again.
    let all: BTreeMap<_, _> = first.iter().chain(&second).cloned().collect();
    assert!(all.keys().copied().eq(0..COUNT), "{all:?}");
    let ids: BTreeSet<_> = first.iter().chain(&second).map(|(_, id)| id).collect();
    assert_eq!(ids.len() as u64, COUNT);
    // Unacknowledged messages came again.
    assert!(
        (0..40).filter(|n| n % 2 == 1).all(|n| second.iter().any(|(value, _)| *value == n)),
        "{second:?}"
    );
}

#[test]
fn each_unacknowledged_message_is_reported() {
    let edge = Site::start(&["--fault", "silent"]);
    let args = ["--timeout", "300ms", "--speed", "max", "-"];
    let ended = run_with(&mut replay(&edge.broker(), &args), conversation("gw1", 4).as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(5), 5), "{ended:?}");
    for (index, line) in (0..).zip(&ended.lines) {
        assert_eq!((line["index"].as_u64(), &line["error"]), (Some(index), &"timeout".into()), "{line}");
    }
}

#[test]
fn no_reconnect_exits_on_the_first_loss() {
    for (args, code, connections) in
        [(&["--speed", "max", "-"][..], 0, 2), (&["--speed", "max", "--no-reconnect", "-"], 3, 1)]
    {
        let broker = FakeBroker::start(|number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 1, 1]));
            peer.request();
        });
        let ended = run_with(&mut replay(&broker.url(), args), conversation("gw1", 4).as_bytes());
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let last = broker.received().last().map(|(number, _)| number + 1);
        assert_eq!(last, Some(connections), "{ended:?}");
    }
}

#[test]
fn a_broker_lost_before_the_first_message_exits_3() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = listener.local_addr().unwrap().to_string();
    let accepted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
        stream.write_all(&ACCEPTED).unwrap();
        // SUBSCRIBE begins, so the client has CONNACK. From now on, the port is closed.
        stream.read_exact(&mut [0]).unwrap();
    });
    let args = ["--speed", "max", "--timeout", "300ms", "-"];
    let ended = run_with(&mut replay(&broker, &args), conversation("gw1", 4).as_bytes());
    accepted.join().unwrap();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.stderr.contains("gw1: the connection was lost and did not come back in 300ms"),
        "{ended:?}"
    );
}
