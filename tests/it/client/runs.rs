//! A run and its surroundings: the writer of its stdin, the reader of its stdout, and signals.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::{accounted, reports};
use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{ended, gateway, run_with, signal, tuyagw},
    wire::Packet,
};

fn spawned(broker: &FakeBroker, args: &[&str]) -> Child {
    let mut command = gateway("report", &broker.url(), args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn a_result_comes_before_the_input_ends() {
    let broker = FakeBroker::kind();
    let mut child = spawned(&broker, &["-"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for n in 1..=3 {
        writeln!(stdin, "{{\"cid\":\"m{n}\",\"code\":\"water_flow\",\"value\":{n}}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let result: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((result["cid"].as_str(), result["ok"].as_bool()), (Some(&*format!("m{n}")), Some(true)));
    }
    drop(stdin);
    assert_eq!(ended(child).code, Some(0));
}

#[test]
#[ignore = "slow: keeps a connection for several keep-alives"]
fn a_connection_without_requests_is_kept_alive() {
    let (pinged, has_pinged) = mpsc::channel();
    let broker = FakeBroker::start(move |_, peer: &mut Peer| {
        peer.set_out();
        let request = peer.request();
        peer.answer(&request, 0);
        let mut pings = 0;
        while pings < 2 {
            if peer.receive() == Some(Packet::Ping) {
                pings += 1;
                peer.send(&[0xd0, 0]);
            }
        }
        pinged.send(()).unwrap();
        peer.serve(|_| 0);
    });
    let mut child = spawned(&broker, &["-", "--keep-alive", "1s"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(reports(1).as_bytes()).unwrap();
    has_pinged.recv().unwrap();
    stdin.write_all(reports(1).as_bytes()).unwrap();
    drop(stdin);
    super::all_accepted(&ended(child), 2);
    assert!(broker.received().iter().all(|(number, _)| *number == 0));
}

/// Also while there is always something to write, and nothing is answered.
#[test]
#[ignore = "slow: keeps a connection for several keep-alives"]
fn a_busy_connection_is_kept_alive() {
    let (pinged, has_pinged) = mpsc::channel();
    let broker = FakeBroker::start(move |_, peer: &mut Peer| {
        peer.log_in();
        while let Some(packet) = peer.receive() {
            if packet == Packet::Ping {
                peer.send(&[0xd0, 0]);
                let _ = pinged.send(());
            }
        }
    });
    let mut child = spawned(&broker, &["-", "--no-wait", "--qos", "0", "--keep-alive", "3s"]);
    let mut stdin = child.stdin.take().unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(stdout).lines().count());
    let input = reports(100);
    let mut lines = 0;
    for _ in 0..2 {
        while has_pinged.try_recv().is_err() {
            stdin.write_all(input.as_bytes()).unwrap();
            lines += 100;
        }
    }
    drop(stdin);
    let ended = ended(child);
    assert_eq!((ended.code, reader.join().unwrap()), (Some(0), lines), "{}", ended.stderr);
    assert!(broker.received().iter().all(|(number, _)| *number == 0), "{}", ended.stderr);
}

/// Signals while requests are in flight: they are finished and reported.
#[test]
fn a_signal_ends_a_run_after_its_requests_in_flight() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (asked, has_asked) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let broker = FakeBroker::start(move |_, peer: &mut Peer| {
            peer.set_out();
            let request = peer.request();
            asked.send(()).unwrap();
            gone.recv().unwrap();
            peer.answer(&request, 0);
            peer.hold();
        });
        let mut child = spawned(&broker, &["-", "--timeout", "20s"]);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(reports(1).as_bytes()).unwrap();
        has_asked.recv().unwrap();
        signal(child.id(), name);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("waiting for requests in flight"), "{said}");
        go.send(()).unwrap();
        let ended = ended(child);
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert_eq!(ended.line()["ok"], true);
        drop(stdin);
    }
}

#[test]
fn a_signal_beats_a_broker_that_answers_nothing() {
    let (asked, has_asked) = mpsc::channel();
    let broker = FakeBroker::start(move |_, peer: &mut Peer| {
        peer.set_out();
        peer.request();
        asked.send(()).unwrap();
        peer.hold();
    });
    let mut child = spawned(&broker, &["-", "--timeout", "1h"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(reports(1).as_bytes()).unwrap();
    has_asked.recv().unwrap();
    signal(child.id(), "TERM");
    let ended = ended(child);
    assert_eq!(ended.code, Some(143), "{ended:#?}");
    assert_eq!(ended.line()["error"], "connection");
    assert!(ended.line()["message"].as_str().unwrap().contains("signal"));
}

#[test]
fn a_signal_beats_a_broker_that_cannot_be_reached() {
    let (connected, has_connected) = mpsc::channel();
    let broker = FakeBroker::start(move |_, peer: &mut Peer| {
        peer.expect_connect();
        connected.send(()).unwrap();
        peer.hold();
    });
    let mut child = spawned(&broker, &["-", "--connect-timeout", "1h"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(reports(1).as_bytes()).unwrap();
    has_connected.recv().unwrap();
    signal(child.id(), "INT");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    assert_eq!(ended.line()["sent"], false);
}

/// Unread results must not keep a signal from ending a run.
#[test]
fn a_signal_ends_a_run_with_unread_results() {
    let broker = FakeBroker::kind();
    let mut child = spawned(&broker, &["-", "--no-wait", "--window", "1000"]);
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let input = reports(1000);
        while stdin.write_all(input.as_bytes()).is_ok() {}
    });
    // The broker receives more reports than the pipe holds results, and then no more.
    let mut heard = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = broker.received_so_far().len();
        if now > 1000 && now == heard {
            break;
        }
        heard = now;
    }
    signal(child.id(), "INT");
    let stdout = child.stdout.take();
    let ended = ended(child);
    drop(stdout);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    writer.join().unwrap();
}

#[test]
fn a_closed_stdout_does_not_stop_the_run() {
    let broker = FakeBroker::start(|_, peer| {
        peer.log_in();
        peer.serve(|request| if request.json()["param"]["cid"] == "m300" { 2003 } else { 0 });
    });
    let mut child = spawned(&broker, &["-"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(reports(100).as_bytes()).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    stdin.write_all(reports(400).as_bytes()).unwrap();
    drop(stdin);
    let ended = ended(child);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert_eq!(broker.publishes().len(), 500);
}

#[test]
fn a_full_disk_exits_2_and_is_named() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let broker = FakeBroker::kind();
    for count in [1, 1000] {
        let mut command = gateway("report", &broker.url(), &["-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(full.try_clone().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may be gone before it has read all.
        let _ = child.stdin.take().unwrap().write_all(reports(count).as_bytes());
        let ended = ended(child);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert_eq!(ended.stderr.matches("cannot write to stdout").count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn unwritable_help_exits_2() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    for option in ["--help", "--version"] {
        let output = tuyagw().arg(option).stdout(full.try_clone().unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"), "{option}");
    }
}

#[test]
fn the_failure_of_a_connection_accounts_for_the_whole_input() {
    let broker = FakeBroker::start(|_, peer| {
        peer.expect_connect();
        peer.send(&[0x20, 2, 0, 5]);
    });
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), reports(10_000).as_bytes());
    accounted(&ended, 10_000);
    assert_eq!(ended.code, Some(4));
    assert!(ended.lines.iter().all(|line| line["error"] == "refused" && line["sent"] == false));
}

#[test]
fn many_lines_are_each_answered_once() {
    let broker = FakeBroker::kind();
    let args = ["-", "--window", "200"];
    let ended = run_with(&mut gateway("report", &broker.url(), &args), reports(10_000).as_bytes());
    super::all_accepted(&ended, 10_000);
    assert!(ended.stderr.contains("10000 accepted"), "{}", ended.stderr);
}
