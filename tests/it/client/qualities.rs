//! Quality of service, persistent sessions, and runs that do not wait for answers.

use super::{all_accepted, reports};
use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{Ended, gateway, run, run_with},
    wire::{Packet, publish_with_id, suback},
};

#[test]
fn every_quality_of_service_and_every_subcommand_is_answered() {
    for qos in ["0", "1", "2"] {
        let broker = FakeBroker::kind();
        let ended =
            run_with(&mut gateway("report", &broker.url(), &["-", "--qos", qos]), reports(50).as_bytes());
        all_accepted(&ended, 50);
        let publishes = broker.publishes();
        assert_eq!(publishes.len(), 50);
        assert!(publishes.iter().all(|(_, publish)| publish.qos.to_string() == qos && !publish.retain));
        let subscribed = broker.received().into_iter().find_map(|(_, packet)| match packet {
            Packet::Subscribe { filters, .. } => Some(filters),
            _ => None,
        });
        let filter = "gateway_id/gw1/properties/report/response".to_owned();
        assert_eq!(subscribed, Some(vec![(filter, qos.parse().unwrap())]));
        assert_eq!(broker.received().last().map(|(_, packet)| packet), Some(&Packet::Disconnect));
    }
}

#[test]
fn no_wait_ends_at_the_acknowledgement_without_subscribing() {
    let broker = FakeBroker::kind();
    let ended = run_with(&mut gateway("report", &broker.url(), &["-", "--no-wait"]), reports(500).as_bytes());
    all_accepted(&ended, 500);
    assert!(ended.lines.iter().all(|line| line["confirmed"] == false && line.get("code").is_none()));
    assert!(!broker.received().iter().any(|(_, packet)| matches!(packet, Packet::Subscribe { .. })));
}

#[test]
fn no_wait_with_qos_0_reports_no_acknowledgement() {
    let broker = FakeBroker::kind();
    let args = ["-", "--no-wait", "--qos", "0"];
    let ended = run_with(&mut gateway("report", &broker.url(), &args), reports(5000).as_bytes());
    all_accepted(&ended, 5000);
    assert!(ended.lines.iter().all(|line| line["acknowledged"] == false), "{ended:?}");
    assert_eq!(broker.publishes().len(), 5000);
}

#[test]
fn a_missing_acknowledgement_is_a_timeout() {
    let broker = FakeBroker::start(|_, peer| {
        peer.log_in();
        peer.hold();
    });
    let status = run(&mut gateway("status", &broker.url(), &["--online", "m1,m2"]));
    assert_eq!(status.code, Some(5), "{status:?}");
    assert_eq!(status.lines.len(), 2);
    assert!(status.lines.iter().all(|line| line["error"] == "timeout"), "{status:?}");
}

const COMMAND: &[u8] = br#"{"t":1,"request_id":"c1","cid":"m1","param":{"id":"18","value":50}}"#;

fn command(id: u16) -> Vec<u8> {
    publish_with_id(0b0010, "gateway_id/gw1/commands", id, COMMAND)
}

fn acknowledged(broker: &FakeBroker) -> usize {
    let acknowledgement = |packet: &Packet| matches!(packet, Packet::Acknowledgement(0x40, _));
    broker.received().iter().filter(|(_, packet)| acknowledgement(packet)).count()
}

fn persistent(script: impl FnMut(usize, &mut Peer) + Send + 'static) -> (FakeBroker, Ended) {
    let broker = FakeBroker::start(script);
    let args = ["--cid", "m1", "1=1", "--persistent"];
    let ended = run(&mut gateway("report", &broker.url(), &args));
    let (_, Packet::Connect { flags, .. }) = broker.received()[0].clone() else { panic!("no CONNECT") };
    assert_eq!(flags & 0x02, 0, "clean session is off");
    (broker, ended)
}

#[test]
fn messages_after_a_queued_command_stay_unacknowledged() {
    let (broker, ended) = persistent(|_, peer| {
        peer.expect_connect();
        peer.send(&[&[0x20, 2, 1, 0][..], &command(1)].concat());
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1]));
        let request = peer.request();
        let topic = format!("{}/response", request.topic);
        let answer =
            serde_json::json!({"request_id": request.request_id(), "param": {"code": 0}}).to_string();
        peer.send(&crate::wire::puback(request.id));
        peer.send(&publish_with_id(0b0010, &topic, 2, answer.as_bytes()));
        peer.hold();
    });
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("listen --persistent"), "{}", ended.stderr);
    assert_eq!(acknowledged(&broker), 0);
}

#[test]
fn a_window_full_of_queued_commands_exits_5_with_a_hint() {
    let (broker, ended) = persistent(|_, peer| {
        peer.expect_connect();
        peer.send(&[&[0x20, 2, 1, 0][..], &(1..=20).flat_map(command).collect::<Vec<_>>()].concat());
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1]));
        let request = peer.request();
        peer.send(&crate::wire::puback(request.id));
        peer.hold();
    });
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert!(ended.line()["message"].as_str().unwrap().contains("listen --persistent"), "{ended:#?}");
    assert_eq!(acknowledged(&broker), 0);
}
