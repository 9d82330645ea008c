//! When messages are due: pipes, pauses, clocks.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use super::{conversation, heard, replay};
use crate::{
    process::{Ended, ended, run_with, signal, tuyagw},
    site::Site,
};

#[test]
fn a_pipe_is_replayed_live_until_a_signal() {
    let edge = Site::start(&[]);
    let mut child = replay(&edge.broker(), &["-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(conversation("gw1", 3).as_bytes()).unwrap();
    heard(&edge, 4);
    pipe.write_all(conversation("gw3", 3).as_bytes()).unwrap();
    heard(&edge, 8);
    signal(child.id(), "INT");
    let Ended { code, lines, stderr } = ended(child);
    assert_eq!((code, lines.len()), (Some(130), 0), "{stderr}");
    assert!(stderr.contains("8 sent, 8 acknowledged"), "{stderr}");
}

#[test]
fn a_long_pause_is_announced() {
    let line = |tst: &str, n: u32| {
        format!(
            "{{\"tst\":{tst},\"topic\":\"gateway_id/gw1/properties/report\",\"payload\":{{\"t\":1,\"request_id\":\"{n}\"}}}}\n"
        )
    };
    let forward = [line("1", 1), line("2", 2), line("1714557604", 3), line("1714557605", 4)].concat();
    let dry = |args: &[&str], input: &str| {
        run_with(tuyagw().args(["replay", "--dry-run"]).args(args).arg("-"), input.as_bytes())
    };
    let ended = dry(&[], &forward);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
    let [warning] = warnings[..] else { panic!("{ended:?}") };
    assert!(
        warning.contains("line 3 ") && warning.contains("19844 d 10 h") && warning.contains("--max-gap"),
        "{warning}"
    );
    for args in [&["--max-gap", "10s"][..], &["--speed", "max"], &["--rate", "5/s"]] {
        assert!(!dry(args, &forward).stderr.contains("warning:"), "{args:?}");
    }
    // A replay reports the pause when it has sent only the message before it.
    let edge = Site::start(&[]);
    let mut child =
        replay(&edge.broker(), &["-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all([line("1", 1), line("1714557604", 2)].concat().as_bytes()).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("--max-gap") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert_eq!(heard(&edge, 1).len(), 1);
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_clock_set_back_keeps_the_later_pauses() {
    let line = |tst: u32| format!("{{\"tst\":{tst},\"topic\":\"a\",\"payload\":1}}\n");
    let back: String = [100, 101, 50, 51, 53].map(line).concat();
    let converted = tuyagw_output(&["convert", "-"], back.as_bytes());
    for input in [back.as_bytes(), &converted] {
        let ended = run_with(tuyagw().args(["replay", "--dry-run", "-"]), input);
        assert_eq!(ended.line()["duration_ms"], 4000.0, "{ended:?}");
        let inspected = run_with(tuyagw().args(["inspect", "-"]), input);
        assert_eq!(inspected.line()["span_s"], 4.0, "{inspected:?}");
    }
}

fn tuyagw_output(args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut child = tuyagw().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap().stdout
}
