//! When a request is sent, sent again and tried again: its time stamp, its answers, its rate.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{accounted, reports};
use crate::{
    fake_broker::{FakeBroker, response},
    process::{ended, gateway, run, run_with, signal},
    wire::{Packet, Publish, puback, suback},
};

fn t(request: &Publish) -> i64 {
    request.json()["t"].as_i64().expect("t")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}

/// Loses the connection with a request, then answers it 500, then 0.
fn loses_and_fails() -> FakeBroker {
    FakeBroker::start(|number, peer| {
        peer.set_out();
        let request = peer.request();
        if number == 1 {
            peer.answer(&request, 500);
            let retry = peer.request();
            peer.answer(&retry, 0);
            peer.hold();
        }
    })
}

#[test]
fn a_repetition_keeps_the_bytes_and_a_retry_takes_a_fresh_t() {
    let broker = loses_and_fails();
    let args = ["--cid", "m1", "water_flow=1", "--retries", "1", "--t-unit", "ms", "--timeout", "20s"];
    let ended = run(&mut gateway("report", &broker.url(), &args));
    assert_eq!((ended.code, ended.line()["attempts"].as_u64()), (Some(0), Some(2)), "{ended:#?}");
    let sent: Vec<_> = broker.publishes().into_iter().map(|(_, publish)| publish).collect();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].payload, sent[1].payload);
    // It rests for 250 ms at least.
    assert!(t(&sent[2]) >= t(&sent[1]) + 250, "{sent:?}");
    assert_eq!(sent[2].request_id(), sent[1].request_id());
}

#[test]
fn a_t_of_the_input_is_never_touched() {
    for (subcommand, input) in [
        ("sync", r#"{"cid":"m1","product_id":"p1","t":7}"#),
        ("report", r#"{"cid":"m1","properties":{"1":1},"t":7}"#),
        ("report", r#"{"t":7,"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#),
    ] {
        let broker = loses_and_fails();
        let args = ["-", "--retries", "1", "--t-unit", "ms", "--timeout", "20s"];
        let ended = run_with(&mut gateway(subcommand, &broker.url(), &args), input.as_bytes());
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let sent = broker.publishes();
        assert_eq!(sent.iter().map(|(_, publish)| t(publish)).collect::<Vec<_>>(), [7, 7, 7], "{input}");
    }
    let broker = FakeBroker::kind();
    let input = "{\"cid\":\"m1\",\"status\":true,\"t\":7}\n{\"cid\":\"m2\",\"status\":true}\n";
    let ended = run_with(&mut gateway("status", &broker.url(), &["-"]), input.as_bytes());
    accounted(&ended, 2);
    let times: Vec<_> = broker.publishes().iter().map(|(_, publish)| t(publish)).collect();
    assert!(times.len() == 2 && times.contains(&7), "{times:?}");
}

/// Input of an outage is sent after it, with the time of sending.
#[test]
fn a_request_waiting_for_the_connection_takes_its_t_when_sent() {
    let back = Arc::new(AtomicU64::new(u64::MAX));
    let is_back = Arc::clone(&back);
    let broker = FakeBroker::start(move |number, peer| match number {
        0 => {
            peer.set_out();
            let request = peer.request();
            peer.answer(&request, 0);
        }
        1 | 2 => peer.expect_connect(),
        _ => {
            is_back.store(now_ms(), Ordering::SeqCst);
            peer.log_in();
            peer.serve(|_| 0);
        }
    });
    let mut command = gateway("report", &broker.url(), &["-", "--t-unit", "ms", "--timeout", "20s"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    stdin.write_all(reports(1).as_bytes()).expect("it reads");
    let mut said = String::new();
    while !said.contains("reconnecting") {
        assert!(stderr.read_line(&mut said).expect("text") > 0, "{said}");
    }
    stdin.write_all(reports(1).as_bytes()).expect("it reads");
    drop(stdin);
    thread::spawn(move || stderr.read_to_string(&mut said));
    super::all_accepted(&ended(child), 2);
    let sent = broker.publishes();
    let (_, last) = sent.last().expect("a report");
    assert!(u64::try_from(t(last)).expect("positive") >= back.load(Ordering::SeqCst), "{sent:?}");
}

/// As above, of a recording's message that is due during an outage.
#[test]
fn a_replay_after_an_outage_takes_its_t_when_sent() {
    let back = Arc::new(AtomicU64::new(u64::MAX));
    let is_back = Arc::clone(&back);
    let broker = FakeBroker::start(move |number, peer| {
        match number {
            1 | 2 => return peer.expect_connect(),
            0 => {}
            _ => is_back.store(now_ms(), Ordering::SeqCst),
        }
        peer.log_in();
        while let Some(packet) = peer.receive() {
            match packet {
                Packet::Subscribe { id, filters } => peer.send(&suback(id, &vec![1; filters.len()])),
                Packet::Publish(publish) => {
                    peer.send(&puback(publish.id));
                    if number == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    let record = |mono_us: u32| {
        let payload = format!(
            r#"{{"t":1700000000000,"request_id":"r{mono_us}","param":{{"cid":"m1","id":"1","value":1}}}}"#
        );
        let length = payload.len();
        format!(
            r#"{{"v":1,"tst":"2026-11-22T07:22:00.000000Z","topic":"gateway_id/gw1/properties/report","qos":1,"retain":0,"payloadlen":{length},"dir":"up","kind":"report","gateway_id":"gw1","mono_us":{mono_us},"payload":{payload}}}"#
        ) + "\n"
    };
    let recording = [record(0), record(50_000)].concat();
    let args = ["-", "--timeout", "20s"];
    let ended = run_with(&mut gateway("replay", &broker.url(), &args), recording.as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let sent = broker.publishes();
    let (_, last) = sent.last().expect("a report");
    assert!(u64::try_from(t(last)).expect("positive") >= back.load(Ordering::SeqCst), "{sent:?}");
    assert!(last.request_id() != sent[0].1.request_id());
}

#[test]
fn an_answer_counts_during_the_pause_before_a_retry() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        let request = peer.request();
        // The system error starts a pause; the second message is another answer to the same request.
        peer.send(&[puback(request.id).into(), response(&request, 500), response(&request, 0)].concat());
        peer.hold();
    });
    let args = ["--cid", "m1", "water_flow=1", "--retries", "3", "--timeout", "20s"];
    let ended = run(&mut gateway("report", &broker.url(), &args));
    assert_eq!((ended.code, &ended.line()["code"]), (Some(0), &0.into()), "{ended:#?}");
    assert!(ended.line()["attempts"].is_null() && !ended.stderr.contains("warning"), "{ended:#?}");
    assert_eq!(broker.publishes().len(), 1);
}

#[test]
fn a_request_pausing_before_a_retry_at_the_end_counts_as_sent() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        let request = peer.request();
        peer.answer(&request, 500);
    });
    let args = ["--cid", "m1", "water_flow=1", "--retries", "3", "--no-reconnect", "--timeout", "20s"];
    let ended = run(&mut gateway("report", &broker.url(), &args));
    assert_eq!((ended.code, &ended.line()["sent"]), (Some(3), &true.into()), "{ended:#?}");
}

#[test]
fn an_impossible_rate_is_refused() {
    for subcommand in ["report", "replay"] {
        for rate in ["1e-20", "0/s", "1e-320", "-1/m", "inf", "1/h"] {
            let rate = format!("--rate={rate}");
            let ended = run(&mut gateway(subcommand, "127.0.0.1:1", &["-", &rate]));
            assert_eq!(ended.code, Some(2), "{subcommand} {rate}: {ended:#?}");
            assert!(ended.stderr.contains("30/m"), "{}", ended.stderr);
        }
    }
}

/// An endless producer must not fill the disk with results of unsent requests.
#[test]
#[ignore = "slow: takes 100,000 results"]
fn an_endless_input_is_abandoned_after_a_refused_login() {
    let broker = FakeBroker::start(|_, peer| {
        peer.expect_connect();
        peer.send(&[0x20, 2, 0, 5]);
    });
    let mut command = gateway("report", &broker.url(), &["-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || {
        let input = reports(1000);
        while stdin.write_all(input.as_bytes()).is_ok() {}
    });
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = thread::spawn(move || stdout.lines().count());
    let ended = ended(child);
    writer.join().expect("no panic");
    let told = reader.join().expect("no panic");
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!((100_000..110_000).contains(&told), "{told}");
    assert!(ended.stderr.contains("the rest is not read"), "{}", ended.stderr);
}

/// A broker with a limit of its own closes the connection, and would do so after each reconnect.
#[test]
fn a_message_that_no_connection_survives_fails_alone() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        loop {
            let request = peer.request();
            if request.topic == "gone" || request.payload.len() > 70_000 {
                return;
            }
            peer.answer(&request, 0);
        }
    });
    let long = "x".repeat(100_000);
    let line = |value: &str| format!("{{\"cid\":\"m1\",\"id\":\"1\",\"value\":\"{value}\"}}\n");
    let input = [line("1"), line(&long), line("3")].concat();
    let args = ["-", "--no-check", "--timeout", "20s"];
    let mut ended = run_with(&mut gateway("report", &broker.url(), &args), input.as_bytes());
    accounted(&ended, 3);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    ended.lines.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(ended.lines.iter().map(|line| line["ok"] == true).collect::<Vec<_>>(), [true, false, true]);
    let message = ended.lines[1]["message"].as_str().expect("a message");
    assert!(message.contains("longer than the broker accepts"), "{message}");
    assert_eq!(broker.publishes().iter().filter(|(_, sent)| sent.payload.len() > 70_000).count(), 3);
}

/// All requests of a run are answered, and no result has been read yet.
fn answered(broker: &FakeBroker, count: usize) -> std::process::Child {
    let input = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&input, reports(count)).expect("a file");
    let name = input.path().to_str().expect("UTF-8");
    let args = [name, "--window", "100", "--timeout", "20s", "--ordered"];
    let mut command = gateway("report", &broker.url(), &args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    crate::site::until("the last request", || broker.received_so_far().len() >= count + 2);
    child
}

#[test]
fn a_signal_leaves_time_to_read_the_results() {
    let broker = FakeBroker::kind();
    let mut child = answered(&broker, 3000);
    signal(child.id(), "INT");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("the same signal again ends at once") {
        assert!(stderr.read_line(&mut said).expect("text") > 0, "{said}");
    }
    thread::spawn(move || stderr.read_to_string(&mut said));
    let ended = ended(child);
    accounted(&ended, 3000);
    assert_eq!(ended.code, Some(130));
}

#[test]
fn unread_results_are_counted() {
    let broker = FakeBroker::kind();
    let mut child = answered(&broker, 3000);
    signal(child.id(), "INT");
    let mut stdout = child.stdout.take().expect("a pipe");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let mut taken = String::new();
    stdout.read_to_string(&mut taken).expect("text");
    assert!(taken.ends_with('\n'), "no line is torn");
    let untaken = 3000 - taken.lines().count();
    let expected = format!("has not taken the last {untaken} result lines");
    assert!(untaken > 0 && ended.stderr.contains(&expected), "{untaken}: {}", ended.stderr);
}
