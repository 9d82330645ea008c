//! The edge as its clients see it: every check, code and fault.

use serde_json::{Value, json};

use super::*;
use crate::{
    mqtt::ConnectCode,
    tuya::{Command, derive_password},
};

const NOW: EdgeTime = EdgeTime { mono: Duration::from_secs(100), unix: Duration::from_secs(1_700_000_000) };

fn at(seconds: u64) -> EdgeTime {
    EdgeTime { mono: NOW.mono + Duration::from_secs(seconds), unix: NOW.unix + Duration::from_secs(seconds) }
}

fn edge_with(faults: &[&str], change: impl FnOnce(&mut EdgeSettings)) -> Edge {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let mut settings = EdgeSettings {
        access: LoginRule { usernames: Vec::new(), platform_usernames: vec!["platform".into()] },
        product: Product::smart_water_meter(),
        accepts_all: false,
        max_skew: None,
        offline_after: None,
        command_timeout: Duration::from_secs(5),
        faults: Faults::new(faults, 1),
    };
    change(&mut settings);
    Edge::new(settings, Registry::default())
}

fn edge() -> Edge {
    edge_with(&[], |_| ())
}

fn gw1() -> GatewayId {
    GatewayId::new("gw1").unwrap()
}

/// What the edge does about a gateway's message.
fn tell(edge: &mut Edge, now: EdgeTime, channel: Channel, payload: &str) -> (Disposition, Vec<Action>) {
    let topic = Topics::default().topic(channel, &gw1());
    let outcome = edge.handle_publish(now, &Role::Gateway(gw1()), &topic, payload.as_bytes());
    (outcome.disposition, actions_of(edge))
}

/// What the edge asks for.
fn actions_of(edge: &mut Edge) -> Vec<Action> {
    std::iter::from_fn(|| edge.poll_action()).collect()
}

/// The messages that the edge says, parsed.
fn said(actions: &[Action]) -> Vec<(String, Value)> {
    let mut said = Vec::new();
    for action in actions {
        if let Action::Publish { topic, payload, .. } = action {
            said.push((topic.to_string(), serde_json::from_slice(payload).unwrap_or(Value::Null)));
        }
    }
    said
}

fn answer_code(actions: &[Action]) -> i64 {
    let said = said(actions);
    assert_eq!(said.len(), 1, "{actions:?}");
    said[0].1["param"]["code"].as_i64().unwrap()
}

fn sync(edge: &mut Edge, cid: &str) -> i64 {
    let message =
        json!({"t":1_700_000_000,"request_id":format!("s-{cid}"),"param":{"cid":cid,"product_id":"p"}});
    answer_code(&tell(edge, NOW, Channel::Sync, &message.to_string()).1)
}

fn report(edge: &mut Edge, cid: &str, id: &str, value: &Value) -> i64 {
    let message = json!({"t":1,"request_id":"r","param":{"cid":cid,"id":id,"value":value}});
    answer_code(&tell(edge, NOW, Channel::Report, &message.to_string()).1)
}

#[test]
fn a_sync_is_kept_and_answered_on_its_own_topic() {
    let mut edge = edge();
    let message = r#"{"t":1,"request_id":"r1","param":{"cid":"m1","product_id":"p"}}"#;
    let (disposition, actions) = tell(&mut edge, NOW, Channel::Sync, message);
    assert_eq!(disposition, Disposition::RouteKept);
    assert_eq!(
        actions[0],
        Action::Persist(b"{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\n".to_vec())
    );
    assert!(matches!(&actions[1], Action::Publish { once_kept: true, .. }));
    let expected = json!({"t":1_700_000_000,"request_id":"r1","param":{"cid":"m1","msg":"success","code":0}});
    assert_eq!(said(&actions), [("gateway_id/gw1/devices/sync/response".to_owned(), expected)]);
}

#[test]
fn each_check_has_its_code_and_they_come_in_order() {
    let mut edge = edge_with(&[], |settings| settings.max_skew = Some(Duration::from_mins(1)));
    assert_eq!(sync(&mut edge, "m1"), 0);
    let old = r#"{"t":1,"request_id":"r","param":{"cid":"m9","id":"99","value":1}}"#;
    let unknown = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m9","id":"99","value":1}}"#;
    let no_point = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","id":"99","value":1}}"#;
    let no_range = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","id":"1","value":-1}}"#;
    let no_type = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","id":"1","value":"x"}}"#;
    let null = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","id":"1","value":null}}"#;
    let empty = r#"{"t":1,"request_id":"r","param":{"cid":"","id":"1","value":1}}"#;
    let good = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#;
    let milliseconds = r#"{"t":1700000000000,"request_id":"ms","param":{"cid":"m1","id":"1","value":1}}"#;
    for (message, code) in [
        (old, 1001),
        (unknown, 2003),
        (no_point, 2002),
        (no_range, 1101),
        (no_type, 1103),
        (null, 1102),
        (empty, 1100),
        (good, 0),
        (milliseconds, 0),
    ] {
        let (disposition, actions) = tell(&mut edge, NOW, Channel::Report, message);
        assert_eq!((disposition, answer_code_of_warned(&actions)), (Disposition::Route, code), "{message}");
    }
    let (_, actions) = tell(&mut edge, NOW, Channel::Report, milliseconds);
    assert_eq!(said(&actions)[0].1["t"], 1_700_000_000_000_i64, "answered in the request's unit");
}

#[test]
fn an_edge_that_accepts_all_still_wants_the_protocol() {
    let mut edge = edge_with(&[], |settings| settings.accepts_all = true);
    assert_eq!(report(&mut edge, "m9", "99", &json!("anything")), 0);
    let (_, actions) = tell(
        &mut edge,
        NOW,
        Channel::Status,
        r#"{"t":1,"request_id":"s","param":[{"cid":"m9","status":true}]}"#,
    );
    assert_eq!(actions, []);
    let (_, actions) =
        tell(&mut edge, NOW, Channel::Report, r#"{"t":1,"request_id":"b","param":{"cid":"m9"}}"#);
    assert_eq!(answer_code(&actions), 1100);
}

fn answer_code_of_warned(actions: &[Action]) -> i64 {
    let code = answer_code(actions);
    let warned = actions.iter().any(|action| matches!(action, Action::Warn(_)));
    assert_eq!(warned, code != 0, "a refusal is said to whoever runs the edge");
    code
}

#[test]
fn what_cannot_be_read_is_answered_as_far_as_it_can_be() {
    let mut edge = edge();
    for (payload, id, cid, code) in [
        ("rubbish", "", Value::Null, 1103),
        ("[]", "", Value::Null, 1103),
        (r#"{"t":1,"param":{"cid":"m1","product_id":"p"}}"#, "", json!("m1"), 1100),
        (r#"{"t":1,"request_id":"r","param":{"cid":"m1"}}"#, "r", json!("m1"), 1100),
        (r#"{"t":1,"request_id":"r","param":null}"#, "r", Value::Null, 1102),
    ] {
        let (_, actions) = tell(&mut edge, NOW, Channel::Sync, payload);
        let (_, message) = &said(&actions)[0];
        assert_eq!(message["request_id"], id, "{payload}");
        assert_eq!(message["param"]["cid"], cid, "{payload}");
        assert_eq!(message["param"]["code"], code, "{payload}");
    }
    assert!(edge.registry().is_empty());
}

#[test]
fn a_report_is_answered_alike_whichever_way_it_was_read() {
    let skewed = |settings: &mut EdgeSettings| settings.max_skew = Some(Duration::from_mins(1));
    let (mut short, mut careful) = (edge_with(&[], skewed), edge_with(&[], skewed));
    for edge in [&mut short, &mut careful] {
        assert_eq!((sync(edge, "m1"), sync(edge, "é")), (0, 0));
    }
    let times = ["1700000000", "1700000000000", "1", "-5"];
    let cids = ["m1", "é", "m2", "[2J", " "];
    let ids = ["1", "4", "9", "01", "water_flow", "99999999999"];
    let values =
        ["1", "12345", "1.5", "-1", "true", "\"opened\"", "\"12\"", "[1]", "{}", "1e999", "\"\u{7f}\""];
    let mut publish = |payload: &str, extra: &str| {
        let topic = "gateway_id/gw1/properties/report";
        let role = Role::Gateway(gw1());
        let outcome = short.handle_publish(NOW, &role, topic, payload.as_bytes());
        assert!(outcome.is_json, "{payload}");
        // A field that the page does not know is passed over by the careful reading alone.
        let with_more = payload.replacen('{', extra, 1);
        let expected = careful.handle_publish(NOW, &role, topic, with_more.as_bytes());
        assert!(!expected.is_json, "{with_more}");
        assert_eq!(outcome.disposition, expected.disposition, "{payload}");
        assert_eq!(actions_of(&mut short), actions_of(&mut careful), "{payload}");
    };
    for t in times {
        for cid in cids {
            for id in ids {
                for value in values {
                    let payload = format!(
                        r#"{{"t":{t},"request_id":"r{id}","param":{{"cid":"{cid}","id":"{id}","value":{value}}}}}"#
                    );
                    publish(&payload, "{\"x\":{},");
                }
            }
        }
    }
}

#[test]
fn a_repeated_sync_is_answered_alike_and_never_too_late() {
    let mut edge = edge_with(&[], |settings| settings.max_skew = Some(Duration::from_mins(1)));
    let first = r#"{"t":1700000000,"request_id":"r","param":{"cid":"m1","product_id":"p"}}"#;
    let (_, actions) = tell(&mut edge, NOW, Channel::Sync, first);
    assert_eq!((answer_code(&actions), actions.len()), (0, 2));
    // Its time stamp has become too old, and yet it was accepted once.
    let (_, actions) = tell(&mut edge, at(300), Channel::Sync, first);
    assert_eq!(
        (answer_code(&actions), &actions[0]),
        (0, &Action::Persist(Vec::new())),
        "the file is looked at"
    );
    // The same id with other content is another request.
    let other = first.replace("m1", "m2").replace("1700000000", "1700000300");
    let (_, actions) = tell(&mut edge, at(300), Channel::Sync, &other);
    assert_eq!((answer_code(&actions), actions.len()), (0, 2));
}

#[test]
fn a_repeated_sync_is_done_after_another_sync_and_after_a_status() {
    let mut edge = edge();
    let sync = |hall: u8| {
        format!(
            r#"{{"t":1,"request_id":"v{hall}","param":{{"cid":"m1","product_id":"p","install_location":"Hall {hall}"}}}}"#
        )
    };
    for hall in [1, 2, 1, 2, 2] {
        let (_, actions) = tell(&mut edge, NOW, Channel::Sync, &sync(hall));
        assert_eq!(answer_code(&actions), 0);
        let lines = String::from_utf8(edge.registry().lines()).unwrap();
        assert!(lines.contains(&format!("Hall {hall}")), "{lines}");
    }
    let offline = r#"{"t":1,"request_id":"s","param":[{"cid":"m1","status":false}]}"#;
    for _ in 0..2 {
        tell(&mut edge, NOW, Channel::Status, offline);
        assert!(!edge.registry().is_online(&gw1(), "m1", NOW.mono, None));
        tell(&mut edge, NOW, Channel::Sync, &sync(2));
        assert!(edge.registry().is_online(&gw1(), "m1", NOW.mono, None));
    }
}

#[test]
fn status_is_not_answered_and_unknown_devices_are_said() {
    let mut edge = edge();
    sync(&mut edge, "m1");
    let message =
        r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":false},{"cid":"m9","status":true}]}"#;
    let (disposition, actions) = tell(&mut edge, NOW, Channel::Status, message);
    assert_eq!(disposition, Disposition::Route);
    assert!(matches!(&actions[..], [Action::Warn(warning)] if warning.contains("m9")), "{actions:?}");
    assert!(!edge.registry().is_online(&gw1(), "m1", NOW.mono, None));
    let (_, actions) = tell(&mut edge, NOW, Channel::Status, "rubbish");
    assert!(matches!(&actions[..], [Action::Warn(_)]));
    assert_eq!(report(&mut edge, "m1", "1", &json!(1)), 0, "a report of an offline device is welcome");
}

#[test]
fn a_gateway_publishes_nowhere_else() {
    let mut edge = edge();
    let role = Role::Gateway(gw1());
    let mut publish = |topic: &str| {
        let outcome = edge.handle_publish(NOW, &role, topic, b"{}");
        (outcome.disposition, actions_of(&mut edge))
    };
    assert_eq!(publish("gateway/in/gw1"), (Disposition::Route, vec![]));
    for topic in ["gateway_id/gw1/commands", "gateway_id/gw2/devices/sync", "gateway/out/gw2", "x"] {
        let (disposition, actions) = publish(topic);
        assert_eq!(disposition, Disposition::Forbid, "{topic}");
        assert!(matches!(&actions[..], [Action::Warn(warning)] if warning.contains(topic)), "{actions:?}");
    }
}

#[test]
fn faults_change_the_answer_and_nothing_else() {
    let sync = r#"{"t":1,"request_id":"r1","param":{"cid":"m1","product_id":"p"}}"#;
    let try_fault = |fault: &str| {
        let mut edge = edge_with(&[fault], |_| ());
        let (disposition, actions) = tell(&mut edge, NOW, Channel::Sync, sync);
        (disposition, actions, edge.registry().knows(&gw1(), "m1"))
    };
    let (disposition, actions, known) = try_fault("drop-response");
    assert_eq!((disposition, said(&actions).len(), known), (Disposition::RouteKept, 0, true));
    let (_, actions, known) = try_fault("duplicate");
    let answers = said(&actions);
    assert_eq!((answers.len(), known), (2, true));
    assert_eq!(answers[0], answers[1]);
    let (_, actions, known) = try_fault("wrong-id");
    assert!(known && said(&actions)[0].1["request_id"] != "r1");
    let (_, actions, known) = try_fault("garbage");
    assert_eq!((&said(&actions)[0].1, known), (&Value::Null, true));
    let (_, actions, _) = try_fault("delay=2s");
    assert!(
        actions.iter().any(
            |action| matches!(action, Action::Publish { after, .. } if *after == Duration::from_secs(2))
        )
    );
    let (disposition, actions, known) = try_fault("code=500");
    assert_eq!((disposition, answer_code(&actions), known), (Disposition::Route, 500, false));
    assert_eq!(said(&actions)[0].1["param"]["msg"], "system error, please contact the admin");
    let (_, actions, _) = try_fault("code=400");
    assert!(said(&actions)[0].1["param"]["msg"].as_str().unwrap().starts_with("tedge error: "));
    assert!(matches!(try_fault("disconnect"), (Disposition::Cut, actions, false) if actions.is_empty()));
    assert!(matches!(try_fault("silent"), (Disposition::Silence, actions, false) if actions.is_empty()));
}

#[test]
fn a_thrown_code_does_not_stick_to_a_repeated_request() {
    let mut edge = edge_with(&["code=500@0.5"], |_| ());
    let sync = r#"{"t":1,"request_id":"r1","param":{"cid":"m1","product_id":"p"}}"#;
    let codes: Vec<i64> =
        (0..32).map(|_| answer_code(&tell(&mut edge, NOW, Channel::Sync, sync).1)).collect();
    assert!(codes.contains(&0) && codes.contains(&500), "{codes:?}");
}

#[test]
fn faults_reach_login_and_subscriptions() {
    let password = derive_password("gw1", "acme");
    let login = LoginAttempt {
        client_id: "gw1",
        username: Some("acme"),
        password: Some(password.expose().as_bytes()),
        clean_session: true,
    };
    let role = edge().login(&login).unwrap();
    assert!(edge().may_subscribe(&role, "gateway_id/gw1/commands"));
    assert!(!edge().may_subscribe(&role, "gateway_id/gw2/commands"));
    assert!(!edge_with(&["suback"], |_| ()).may_subscribe(&role, "gateway_id/gw1/commands"));
    let refused = edge_with(&["connack=3"], |_| ()).login(&login);
    assert!(matches!(refused, Err(LoginError::Refused { code: ConnectCode::SERVER_UNAVAILABLE, .. })));
}

#[test]
fn a_platform_user_s_command_is_answered_here_where_nobody_could() {
    let mut edge = edge();
    let command =
        |cid: &str| format!(r#"{{"t":1,"cid":"{cid}","request_id":"c","param":{{"id":"4","value":true}}}}"#);
    let send = |edge: &mut Edge, now, payload: &str| {
        let topic = "gateway_id/gw1/commands";
        let outcome = edge.handle_publish(now, &Role::Platform, topic, payload.as_bytes());
        let answer = said(&actions_of(edge)).pop();
        (
            outcome.disposition,
            answer.map(|(topic, message)| {
                assert_eq!(topic, "gateway_id/gw1/commands/response");
                assert_eq!(message["request_id"], "c");
                message["param"]["code"].as_i64().unwrap()
            }),
        )
    };
    edge.handle_connected(&gw1());
    assert_eq!(send(&mut edge, NOW, &command("m1")), (Disposition::Drop, Some(2003)));
    sync(&mut edge, "m1");
    assert_eq!(send(&mut edge, NOW, &command("m1")), (Disposition::Route, None));
    edge.handle_session_ended(&gw1());
    assert_eq!(
        send(&mut edge, NOW, &command("m1")),
        (Disposition::Route, None),
        "the gateway's session may be kept"
    );
    edge.handle_connected(&gw1());
    edge.settings.offline_after = Some(Duration::from_secs(10));
    assert_eq!(send(&mut edge, at(10), &command("m1")), (Disposition::Route, None));
    assert_eq!(send(&mut edge, at(11), &command("m1")), (Disposition::Drop, Some(2001)));
    let online = r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":true}]}"#;
    tell(&mut edge, at(11), Channel::Status, online);
    assert_eq!(send(&mut edge, at(12), &command("m1")), (Disposition::Route, None));
    // Whoever tests a gateway with broken commands wants them to arrive.
    assert_eq!(send(&mut edge, NOW, "{}"), (Disposition::Route, None));
}

fn ask(token: u64, gateway_id: Option<&str>, cid: &str) -> CommandRequest {
    let value = crate::json::Json::parse("true").unwrap();
    CommandRequest {
        token,
        gateway_id: gateway_id.map(|id| GatewayId::new(id).unwrap()),
        t: None,
        request_id: format!("c{token}"),
        command: Command { cid: cid.into(), points: vec![("4".into(), value)] },
    }
}

fn settled(actions: &[Action]) -> Vec<(u64, CommandOutcome)> {
    let mut settled = Vec::new();
    for action in actions {
        if let Action::CommandDone(outcome) = action {
            settled.push((outcome.token, outcome.verdict.clone()));
        }
    }
    settled
}

#[test]
fn a_command_ends_with_its_answer_or_with_its_time() {
    let mut edge = edge();
    sync(&mut edge, "m1");
    edge.handle_connected(&gw1());
    let mut actions = Vec::new();
    for token in 0..3 {
        edge.send_command(at(token), ask(token, None, "m1"));
        actions.extend(actions_of(&mut edge));
    }
    let commands = said(&actions);
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[0].0, "gateway_id/gw1/commands");
    let expected = json!({"t":1_700_000_000,"cid":"m1","request_id":"c0","param":{"id":"4","value":true}});
    assert_eq!(commands[0].1, expected);

    let answer = r#"{"t":1,"cid":"m1","request_id":"c1","param":{"msg":"success","code":0}}"#;
    let (_, actions) = tell(&mut edge, at(3), Channel::CommandResponse, answer);
    assert_eq!(
        settled(&actions),
        [(1, CommandOutcome::Answered { code: ResultCode::SUCCESS, msg: "success".into() })]
    );
    assert!(settled(&tell(&mut edge, at(3), Channel::CommandResponse, answer).1).is_empty(), "once");
    let malformed = answer.replace("c1", "c2").replace("\"code\":0", "\"code\":\"0\"");
    let (_, actions) = tell(&mut edge, at(3), Channel::CommandResponse, &malformed);
    assert!(matches!(&settled(&actions)[..], [(2, CommandOutcome::Malformed(_))]), "{actions:?}");

    assert_eq!(edge.poll_timeout(), Some(at(5).mono));
    let mut actions = Vec::new();
    edge.handle_timeout(at(4));
    actions.extend(actions_of(&mut edge));
    assert_eq!(actions, []);
    edge.handle_timeout(at(5));
    actions.extend(actions_of(&mut edge));
    assert_eq!(settled(&actions), [(0, CommandOutcome::TimedOut(Duration::from_secs(5)))]);
    assert_eq!(edge.poll_timeout(), None);
}

#[test]
fn a_command_finds_its_gateway_where_only_one_is_meant() {
    let verdict = |edge: &mut Edge, ask| {
        edge.send_command(NOW, ask);
        settled(&actions_of(edge)).pop().map(|(_, verdict)| verdict)
    };
    let refused = |code: ResultCode| Some(CommandOutcome::Answered { code, msg: code.name().into() });
    let mut edge = edge();
    let field = |verdict| match verdict {
        Some(CommandOutcome::Unsent { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(verdict(&mut edge, ask(0, None, "m1"))), "gateway_id");
    edge.handle_connected(&gw1());
    assert_eq!(verdict(&mut edge, ask(0, None, "m1")), refused(ResultCode::DEVICE_UNKNOWN));
    sync(&mut edge, "m1");
    edge.handle_connected(&GatewayId::new("gw2").unwrap());
    assert_eq!(verdict(&mut edge, ask(0, None, "m1")), None);
    assert_eq!(field(verdict(&mut edge, ask(0, None, "m1"))), "request_id", "the id is in use");
    assert_eq!(verdict(&mut edge, ask(1, Some("gw2"), "m1")), refused(ResultCode::DEVICE_UNKNOWN));
    assert_eq!(field(verdict(&mut edge, ask(2, None, "m2"))), "gateway_id");
    edge.handle_session_ended(&gw1());
    assert_eq!(
        verdict(&mut edge, ask(3, Some("gw1"), "m1")),
        None,
        "it waits for an answer that may not come"
    );
}

#[test]
fn commands_beyond_the_window_wait_and_their_time_begins_when_they_are_sent() {
    let mut edge = edge();
    sync(&mut edge, "m1");
    edge.handle_connected(&gw1());
    let mut actions = Vec::new();
    let count = pending::WINDOW as u64 + 2;
    for token in 0..count {
        edge.send_command(NOW, ask(token, None, "m1"));
        actions.extend(actions_of(&mut edge));
    }
    assert_eq!((said(&actions).len(), settled(&actions).len()), (pending::WINDOW, 0));
    let answer = r#"{"t":1,"cid":"m1","request_id":"c0","param":{"msg":"success","code":0}}"#;
    let (_, actions) = tell(&mut edge, at(4), Channel::CommandResponse, answer);
    assert_eq!((said(&actions).len(), settled(&actions)[0].0), (1, 0));
    // What was not answered in time makes room as well.
    edge.handle_timeout(at(5));
    let actions = actions_of(&mut edge);
    assert_eq!((said(&actions).len(), settled(&actions).len()), (1, pending::WINDOW - 1));
    assert_eq!(edge.poll_timeout(), Some(at(9).mono), "the first that waited was sent at 4 s");
    edge.handle_timeout(at(10));
    let actions = actions_of(&mut edge);
    assert_eq!(settled(&actions).iter().map(|(token, _)| *token).collect::<Vec<_>>(), [count - 2, count - 1]);
    assert_eq!(edge.poll_timeout(), None);

    // A gateway without a session answers nothing, so that nothing waits for its answers.
    let mut actions = Vec::new();
    for token in 0..count {
        edge.send_command(NOW, ask(token, None, "m1"));
        actions.extend(actions_of(&mut edge));
    }
    edge.handle_session_ended(&gw1());
    edge.send_command(NOW, ask(count, Some("gw1"), "m1"));
    actions.extend(actions_of(&mut edge));
    assert_eq!(said(&actions).len(), pending::WINDOW + 1);
    edge.handle_timeout(at(5));
    let actions = actions_of(&mut edge);
    assert_eq!((said(&actions).len(), settled(&actions).len()), (2, pending::WINDOW + 1));
}

#[test]
fn a_platform_user_that_speaks_like_a_gateway_is_said_once() {
    let mut edge = edge();
    for topic in ["gateway_id/gw1/commands/response", "gateway_id/gw1/devices/sync", "x"] {
        edge.handle_publish(NOW, &Role::Platform, topic, b"{}");
    }
    let actions = actions_of(&mut edge);
    assert!(
        matches!(&actions[..], [Action::Warn(why)] if why.contains("--platform-username")),
        "{actions:?}"
    );
}

#[test]
fn a_flood_of_devices_is_refused_before_memory_runs_out() {
    let mut edge = edge();
    let flood = |edge: &mut Edge, n: usize| {
        let cid = format!("{n}{}", "x".repeat(1_000_000));
        let sync = json!({"t": 1, "request_id": "s", "param": {"cid": cid, "product_id": "p"}});
        answer_code(&tell(edge, NOW, Channel::Sync, &sync.to_string()).1)
    };
    for n in 0..16 {
        assert_eq!(flood(&mut edge, n), 0, "device {n}");
    }
    assert_eq!(flood(&mut edge, 16), 500, "no more room");
    assert_eq!(flood(&mut edge, 3), 0, "a device that is known is synchronised all the same");
}
