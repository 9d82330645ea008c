//! What the edge delivers as a broker of MQTT 3.1.1, and when it closes a connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{sync, topic};
use crate::{
    process::Service,
    wire::{
        Connect, DISCONNECT, Kind, PINGRESP, Publish, puback, pubcomp, publish_with_id, pubrec, pubrel,
        subscribe, unsubscribe,
    },
};

#[test]
fn a_gateway_stays_within_its_own_topics() {
    let mut edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    assert_eq!(watcher.subscribe(&[("#", 0)]), [0]);
    let mut gateway = edge.gateway("gw1");
    let codes = gateway.subscribe(&[
        ("gateway_id/gw1/#", 2),
        ("gateway_id/gw2/commands", 1),
        ("gateway_id/+/commands", 1),
        ("#", 0),
        ("gateway/in/gw1", 1),
        ("gateway/in/+", 1),
    ]);
    assert_eq!(codes, [2, 0x80, 0x80, 0x80, 1, 0x80]);
    for topic in ["gateway_id/gw1/commands", "gateway_id/gw2/properties/report", "x"] {
        let id = gateway.publish(topic, "{}", 1, true);
        assert_eq!(gateway.expect(Kind::PubAck).id(), id, "acknowledged, though dropped");
    }
    gateway.publish("gateway/out/gw1", "mine", 1, false);
    let message = watcher.message();
    assert_eq!((message.qos, &*message.topic, &*message.payload), (0, "gateway/out/gw1", &b"mine"[..]));
    let record = edge.line(|line| line["topic"] != Value::Null);
    assert_eq!(record["topic"], "gateway/out/gw1", "what was dropped is no traffic");
}

#[test]
fn qos_2_works_both_ways() {
    let edge = Service::edge(&[]);
    let mut gateway = edge.gateway("gw1");
    assert_eq!(gateway.subscribe(&[("gateway/in/gw1", 2)]), [2]);
    let id = gateway.publish("gateway/in/gw1", "once", 2, false);
    // Its own message comes back: the page's sample program expects that.
    let mut received = 0;
    let (mut completed, mut released) = (false, false);
    while !(completed && released) {
        let packet = gateway.read().unwrap();
        match packet.kind() {
            Kind::PubRec => gateway.send(&pubrel(id)),
            Kind::PubComp => completed = true,
            Kind::Publish => {
                let message = packet.publish();
                assert_eq!((message.qos, message.payload), (2, b"once".to_vec()));
                received += 1;
                gateway.send(&pubrec(message.id));
            }
            Kind::PubRel => {
                gateway.send(&pubcomp(packet.id()));
                released = true;
            }
            _ => panic!("{packet:?}"),
        }
    }
    // The same packet id again, without a new message in between: not delivered twice.
    assert_eq!(received, 1);
    gateway.ping();
}

#[test]
fn retained_messages_reach_new_subscribers_and_overlapping_filters_get_one_copy() {
    let edge = Service::edge(&[]);
    let mut first = edge.platform("first");
    first.publish("a/b", "kept", 1, true);
    first.expect(Kind::PubAck);
    first.publish("a/c", "gone", 1, true);
    first.expect(Kind::PubAck);
    first.publish("a/c", "", 1, true);
    first.expect(Kind::PubAck);
    let mut second = edge.platform("second");
    assert_eq!(second.subscribe(&[("a/+", 1), ("x", 0)]), [1, 0]);
    let message = second.message();
    assert_eq!((message.retain, message.payload), (true, b"kept".to_vec()));
    second.subscribe(&[("a/#", 0), ("#", 0)]);
    for _ in 0..2 {
        assert_eq!(second.message().payload, b"kept", "each new subscription gets it");
    }
    first.publish("a/b", "new", 1, false);
    let message = second.message();
    assert_eq!((message.retain, message.qos, message.payload), (false, 1, b"new".to_vec()));
    second.ping();
    let id = second.next_id();
    second.send(&unsubscribe(id, &["a/+", "a/#"]));
    assert_eq!(second.expect(Kind::UnsubAck).id(), id);
    first.publish("a/b", "newer", 1, false);
    let message = second.message();
    assert_eq!((message.qos, &*message.topic, message.payload), (0, "a/b", b"newer".to_vec()));
}

#[test]
fn a_will_is_published_only_for_a_cut_connection() {
    let edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    watcher.subscribe(&[("#", 0)]);
    let leave = |id: &str, will_topic: &str, politely: bool| {
        let mut client = edge.client();
        let will = Some((will_topic, r#"{"will":1}"#, 1));
        assert_eq!(client.connect(&Connect { will, ..Connect::new(id, "acme") }), 0);
        if politely {
            client.send(&DISCONNECT);
            assert!(client.is_closed());
        }
    };
    leave("gw1", "gateway_id/gw1/devices/status", true);
    leave("gw1", "gateway_id/gw2/devices/status", false);
    leave("gw3", "gateway_id/gw3/devices/status", false);
    assert_eq!(
        watcher.message().topic,
        "gateway_id/gw3/devices/status",
        "neither the polite nor the foreign one"
    );
}

#[test]
fn a_persistent_session_keeps_unacknowledged_messages() {
    let edge = Service::edge(&[]);
    let mut platform = edge.platform("console");
    let mut client = edge.client();
    assert_eq!(client.login("gw1", "acme", false), 0);
    assert_eq!(client.subscribe(&[("gateway/in/gw1", 1)]), [1]);
    platform.publish("gateway/in/gw1", "1", 1, false);
    platform.expect(Kind::PubAck);
    let unacknowledged = client.expect(Kind::Publish);
    drop(client);
    for message in ["2", "3"] {
        platform.publish("gateway/in/gw1", message, 1, false);
        platform.expect(Kind::PubAck);
    }
    let mut client = edge.client();
    client.send(&Connect { clean: false, ..Connect::new("gw1", "acme") }.bytes());
    assert_eq!(client.expect(Kind::ConnAck).body, [1, 0], "the session is present");
    let again = client.expect(Kind::Publish);
    assert_eq!(again.publish(), Publish { dup: true, ..unacknowledged.publish() });
    client.acknowledge(&again.publish());
    assert_eq!((client.message().payload, client.message().payload), (b"2".to_vec(), b"3".to_vec()));
    client.ping();
    drop(client);
    let mut clean = edge.client();
    assert_eq!(clean.login("gw1", "acme", true), 0);
    platform.publish("gateway/in/gw1", "4", 1, false);
    platform.expect(Kind::PubAck);
    clean.ping();
}

#[test]
fn a_silent_client_is_disconnected() {
    let edge = Service::edge(&["--connect-timeout", "200ms"]);
    let mut mute = edge.client();
    assert!(mute.is_closed(), "no CONNECT");
    let mut slow = edge.client();
    slow.send(&[0x10, 50, 0]);
    assert!(slow.is_closed(), "half a CONNECT");
    let mut quiet = edge.client();
    let begin = Instant::now();
    let code = quiet.connect(&Connect { keep_alive: 1, ..Connect::new("gw1", "acme") });
    assert_eq!((code, quiet.is_closed()), (0, true));
    assert!(begin.elapsed() >= Duration::from_millis(1500), "{:?}", begin.elapsed());
}

#[test]
fn malformed_packets_close_only_their_connection() {
    let edge = Service::edge(&["--max-packet", "1000"]);
    let mut other = edge.gateway("other");
    for bytes in [
        &[0x00, 0][..],
        &[0xf0, 0],
        &[0x36, 5, 0, 1, b'a', 0, 1],
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x30, 2, 0, 0],
        &[0x30, 3, 0, 1, b'#'],
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
        &[0x82, 2, 0, 1],
        &[0xc0, 1, 0],
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x10, 0],
        &[0x20, 2, 0, 0],
    ] {
        let mut client = edge.gateway("gw1");
        client.send(bytes);
        assert!(client.is_closed(), "{bytes:02x?}");
        other.ping();
    }
}

#[test]
fn a_client_that_does_not_read_is_disconnected_alone() {
    let edge = Service::edge(&["--max-queue", "1000000"]);
    let mut stuck = edge.platform("stuck");
    stuck.subscribe(&[("big", 1)]);
    let mut good = edge.platform("good");
    good.subscribe(&[("big", 0)]);
    let mut sender = edge.platform("sender");
    let payload = "x".repeat(100_000);
    // Far more than socket buffers and queue can hold.
    for _ in 0..400 {
        sender.publish("big", &payload, 1, false);
        sender.expect(Kind::PubAck);
        assert_eq!(good.message().payload.len(), payload.len());
    }
    // Messages in the socket's buffers can still be read before the end.
    while stuck.read_lenient() {}
}

#[test]
fn a_late_reader_of_answers_gets_all_of_them() {
    let edge = Service::edge(&[]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/properties/report/response", 1)]);
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 0, false);
    let count = 20_000;
    for n in 0..count {
        let report = json!({"t":1,"request_id":n.to_string(),"param":{"cid":"m1","id":"1","value":n}});
        gateway.publish(&topic("gw1", "properties/report"), &report.to_string(), 0, false);
    }
    for n in 0..count {
        assert_eq!(gateway.json()["request_id"], n.to_string(), "in order, none missing");
    }
}

#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    let edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    watcher.subscribe(&[("gateway/in/gw1", 0)]);
    let mut gateway = edge.gateway("gw1");
    let message = |flags| publish_with_id(flags, "gateway/in/gw1", 1, b"once");
    gateway.send(&message(4));
    assert_eq!(gateway.expect(Kind::PubRec).id(), 1);
    for _ in 0..2000 {
        gateway.send(&message(0xc));
        assert_eq!(gateway.expect(Kind::PubRec).id(), 1, "a repetition is answered");
    }
    assert_eq!(watcher.message().payload, b"once");
    watcher.ping();
    // Without DUP it is no repetition; a sender that goes on like that has lost its state.
    for _ in 0..3 {
        gateway.send(&message(4));
    }
    while gateway.read_lenient() {}
    watcher.ping();
}

#[test]
fn packets_out_of_turn_close_the_connection() {
    let edge = Service::edge(&[]);
    let mut witness = edge.gateway("witness");
    let hello = |id: &str| Connect::new(id, "acme").bytes();
    for (what, bytes) in [
        ("a second CONNECT", hello("gw1")),
        ("CONNECT of another client", hello("gw2")),
        ("UNSUBSCRIBE of nothing", vec![0xa2, 2, 0, 1]),
        ("SUBSCRIBE with an empty filter", vec![0x82, 5, 0, 1, 0, 0, 0]),
        ("SUBSCRIBE without id", subscribe(0, &[("gateway/in/gw1", 0)])),
        ("a packet of a server's", PINGRESP.into()),
        ("over-long remaining length", vec![0xc0, 0x80, 0]),
    ] {
        let mut client = edge.gateway("gw1");
        client.send(&bytes);
        assert!(client.is_closed(), "{what}");
        witness.ping();
    }
    let mut client = edge.gateway("gw1");
    for unknown in [puback(9), pubrec(9), pubrel(9), pubcomp(9)] {
        client.send(&unknown);
    }
    assert_eq!(
        (client.expect(Kind::PubRel).id(), client.expect(Kind::PubComp).id()),
        (9, 9),
        "unknown ids are answered and forgotten"
    );
    client.ping();
}
