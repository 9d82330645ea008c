//! The gateway as its caller sees it; `pending.rs` and `commands.rs` have tests of their own.

use super::*;
use crate::tuya::{DataPointValue, DeviceStatus, Property};

const TIMEOUT: Duration = Duration::from_secs(2);

fn gateway(change: impl FnOnce(&mut GatewaySettings)) -> Gateway<u32> {
    let mut settings = GatewaySettings {
        gateway_id: Some(GatewayId::new("gw1").unwrap()),
        topics: Topics::default(),
        qos: QoS::AtLeastOnce,
        timeout: TIMEOUT,
        max_packet: 1 << 20,
        waits_for_answers: true,
        retries: 0,
        rate: None,
        endures_outages: false,
        topic_prefix: "",
    };
    change(&mut settings);
    Gateway::new(settings)
}

fn at(milliseconds: u64) -> GatewayTime {
    GatewayTime { since: Duration::from_millis(milliseconds), t: 1_700_000_000 }
}

fn report(value: &str) -> Payload {
    let value = DataPointValue::parse(value).unwrap();
    Payload::Uplink(Uplink::Report(Property { cid: "m1".into(), id: "1".into(), value }))
}

/// Sends a report with this id, which is its context too.
fn send(gateway: &mut Gateway<u32>, now: GatewayTime, id: u32, value: &str) {
    let id_text = id.to_string().into();
    let draft = gateway.prepare(now, Channel::Report, None, id_text, None, &report(value)).unwrap();
    gateway.insert(draft, id);
}

/// The tokens of what leaves now.
fn leaving(gateway: &mut Gateway<u32>, now: GatewayTime) -> Vec<u64> {
    std::iter::from_fn(|| gateway.poll_publish(now).map(|message| message.token)).collect()
}

fn answer(id: u32) -> Message {
    let payload = format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","code":0,"msg":"success"}}}}"#);
    let topic = "gateway_id/gw1/properties/report/response".into();
    Message { topic, payload: payload.into(), qos: QoS::AtLeastOnce, retain: false, dup: false, id: Some(1) }
}

/// The requests that have ended, and how.
fn ended(gateway: &mut Gateway<u32>) -> Vec<(u32, RequestOutcome)> {
    let events = std::iter::from_fn(|| gateway.poll_event());
    let ended = events.filter_map(|event| match event {
        GatewayEvent::Ended(ended, outcome) => Some((ended.context, outcome)),
        _ => None,
    });
    ended.collect()
}

#[test]
fn nothing_leaves_without_a_connection() {
    let mut gateway = gateway(|_| ());
    send(&mut gateway, at(0), 1, "5");
    assert!(leaving(&mut gateway, at(0)).is_empty());
    gateway.handle_connected(false);
    assert_eq!(leaving(&mut gateway, at(1)), [0]);
    gateway.handle_disconnected(at(2).since);
    send(&mut gateway, at(3), 2, "6");
    assert!(leaving(&mut gateway, at(3)).is_empty());
    gateway.handle_connected(false);
    assert_eq!(leaving(&mut gateway, at(4)), [0, 1], "the first one is sent again");
}

#[test]
fn an_answer_before_the_suback_counts_with_it_and_not_across_a_loss() {
    let mut gateway = gateway(|_| ());
    send(&mut gateway, at(0), 1, "5");
    gateway.handle_connected(false);
    leaving(&mut gateway, at(0));
    gateway.handle_message(answer(1), at(1).since, || 0.0);
    assert!(ended(&mut gateway).is_empty());
    gateway.handle_disconnected(at(2).since);
    gateway.handle_connected(false);
    gateway.handle_subscribed(at(3).since, || 0.0);
    assert!(ended(&mut gateway).is_empty(), "the answer of another connection");
    gateway.handle_disconnected(at(4).since);
    gateway.handle_connected(false);
    gateway.handle_message(answer(1), at(5).since, || 0.0);
    gateway.handle_subscribed(at(6).since, || 0.0);
    assert!(matches!(ended(&mut gateway)[..], [(1, RequestOutcome::Answered { .. })]));
    assert!(gateway.is_empty());
}

#[test]
fn an_outage_longer_than_the_timeout_ends_all_unless_it_is_endured() {
    for endures_outages in [false, true] {
        let mut gateway = gateway(|settings| settings.endures_outages = endures_outages);
        gateway.handle_connected(false);
        gateway.handle_disconnected(at(100).since);
        send(&mut gateway, at(200), 1, "5");
        // Attempts to connect that fail do not prolong it.
        gateway.handle_disconnected(at(1500).since);
        assert_eq!(gateway.next_timeout(None), (!endures_outages).then_some(at(2100).since));
        let outcome = gateway.handle_timeout(at(2100).since, None, || 0.0);
        assert_eq!(outcome, if endures_outages { Ok(()) } else { Err(Outage::Lost) });
    }
    let mut gateway = gateway(|_| ());
    gateway.handle_connected(false);
    send(&mut gateway, at(0), 1, "5");
    leaving(&mut gateway, at(0));
    // The socket stalls a moment after the request, and both are due.
    let stalled = Some(at(50).since);
    assert_eq!(gateway.handle_timeout(at(2000).since, stalled, || 0.0), Err(Outage::Stalled));
}

#[test]
fn a_long_message_that_ends_three_connections_is_given_up_and_failed_dials_do_not_count() {
    let mut gateway = gateway(|settings| settings.endures_outages = true);
    let long = format!("\"{}\"", "x".repeat(LONGEST_STATUS));
    send(&mut gateway, at(0), 1, &long);
    send(&mut gateway, at(0), 2, "5");
    for n in 0..3 {
        assert!(ended(&mut gateway).is_empty(), "after {n} losses");
        gateway.handle_connected(false);
        assert_eq!(leaving(&mut gateway, at(n)).len(), 2);
        for _ in 0..5 {
            gateway.handle_disconnected(at(n).since);
        }
    }
    assert!(matches!(ended(&mut gateway)[..], [(1, RequestOutcome::EndsConnections(_))]));
    assert_eq!(gateway.len(), 1);
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let mut without = gateway(|settings| settings.gateway_id = None);
    let mut small = gateway(|settings| settings.max_packet = 100);
    let mut large = gateway(|_| ());
    let statuses = (0..4000).map(|n| DeviceStatus { cid: format!("meter-{n:08}"), status: true }).collect();
    let statuses = Payload::Uplink(Uplink::Status(statuses));
    let refused = |gateway: &mut Gateway<u32>, channel, payload: &Payload| {
        gateway.prepare(at(0), channel, None, "r".into(), None, payload).unwrap_err()
    };
    assert_eq!(refused(&mut without, Channel::Report, &report("5")), Unsendable::NoGateway);
    let why = refused(&mut small, Channel::Report, &report("5"));
    assert!(matches!(why, Unsendable::TooLarge(size, 100) if size > 100), "{why}");
    let why = refused(&mut large, Channel::Status, &statuses);
    assert!(matches!(why, Unsendable::StatusTooLong(length) if length > LONGEST_STATUS), "{why}");
    assert!(large.is_empty());
}

#[test]
fn a_retry_takes_the_time_of_its_moment_and_a_repetition_keeps_its_bytes() {
    let mut gateway = gateway(|settings| settings.retries = 1);
    gateway.handle_connected(false);
    send(&mut gateway, at(0), 1, "5");
    let payload = |gateway: &mut Gateway<u32>, now: GatewayTime| {
        let message = gateway.poll_publish(now).unwrap();
        (message.is_first, String::from_utf8(message.publish.payload.to_vec()).unwrap())
    };
    let (_, first) = payload(&mut gateway, at(0));
    gateway.handle_disconnected(at(10).since);
    gateway.handle_connected(false);
    assert_eq!(payload(&mut gateway, GatewayTime { t: 1_700_000_001, ..at(1000) }), (false, first.clone()));
    gateway.handle_timeout(at(2000).since, None, || 1.0).unwrap();
    gateway.handle_timeout(at(2500).since, None, || 1.0).unwrap();
    let (is_first, second) = payload(&mut gateway, GatewayTime { t: 1_700_000_002, ..at(2500) });
    assert!(is_first);
    assert_eq!(second, first.replace("1700000000", "1700000002"));
}
