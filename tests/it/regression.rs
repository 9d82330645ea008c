//! A session that a tap recorded, as a test of either end: the gateway's side against an edge, the edge's against a
//! gateway.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Service, ended, gateway, run, signal, tuyagw};

/// A gateway that answers commands, once it listens.
fn answering(broker: &str, args: &[&str]) -> Child {
    let mut child =
        gateway("listen", broker, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended too early");
    }
    thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    child
}

/// Ends a process with SIGTERM.
fn end(child: Child) {
    signal(child.id(), "TERM");
    ended(child);
}

/// Records a sync, two commands with answers and reports, an accepted report, and a refused one.
fn session() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("site.jsonl");
    let edge = Service::edge(&[]);
    let tap = Service::tap(&edge.url, &["--out", out.to_str().unwrap()]);
    assert_eq!(run(&mut gateway("sync", &tap.url, &["--cid", "m1", "--product-id", "p"])).code, Some(0));
    let listener = answering(&tap.url, &["--answer", "success", "--kind", "command", "--count", "2"]);
    for value in ["closed", "opened"] {
        let value = format!("valve_state={value}");
        let commanded = run(tuyagw().args(["command", "-b", &edge.url, "-g", "gw1", "--cid", "m1", &value]));
        assert_eq!(commanded.code, Some(0), "{commanded:?}");
    }
    // With --count it waits for its reports to be answered.
    assert_eq!(ended(listener).code, Some(0));
    for (cid, code) in [("m1", 0), ("m9", 1)] {
        let report = run(&mut gateway("report", &tap.url, &["--cid", cid, "water_flow=12345"]));
        assert_eq!(report.code, Some(code), "{report:?}");
    }
    assert_eq!(tap.end("TERM").code, Some(143));
    (folder, out)
}

fn verify(broker: &str, args: &[&str], file: &Path) -> Command {
    let mut command = tuyagw();
    command.args(["replay", "--verify", "-b", broker, "-u", "acme"]).args(args).arg(file);
    if !args.contains(&"--timeout") {
        command.args(["--timeout", "2s"]);
    }
    command
}

/// The device, the kind of difference, the recorded code and the actual code of each line.
fn differences(lines: &[Value]) -> Vec<(&str, &str, Option<i64>, Option<i64>)> {
    lines
        .iter()
        .map(|line| {
            assert_eq!(line["ok"], false);
            let word = |key: &str| line[key].as_str().unwrap();
            (word("cid"), word("difference"), line["expected"].as_i64(), line["code"].as_i64())
        })
        .collect()
}

#[test]
fn the_gateway_s_side_of_a_session_tests_an_edge() {
    let (_folder, site) = session();
    let edge = Service::edge(&["--out", "/dev/null"]);
    let unknown = run(&mut verify(&edge.url, &["--kind", "report"], &site));
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let refused = ("m1", "code", Some(0), Some(2003));
    assert_eq!(differences(&unknown.lines), [refused; 3], "the refusal of m9 is as recorded");

    let known = run(&mut verify(&edge.url, &["--kind", "sync,report"], &site));
    assert_eq!((known.code, known.lines.len()), (Some(0), 0), "{known:?}");
    assert!(known.stderr.contains("5 answers as recorded, 0 differences"), "{known:?}");

    let alone = run(&mut verify(&edge.url, &["--timeout", "300ms"], &site));
    assert_eq!(alone.code, Some(1), "{alone:?}");
    assert_eq!(differences(&alone.lines), [("m1", "missing", None, None); 2]);
    assert!(alone.stderr.contains("2 answers of the recording had no command to answer"), "{alone:?}");
    assert!(alone.stderr.contains("--kind sync,report,status"), "{alone:?}");
}

#[test]
fn the_edge_s_side_of_a_session_tests_a_gateway() {
    let (_folder, site) = session();
    let play = |gateway_args: &[&str], args: &[&str]| {
        let mut command =
            verify("127.0.0.1", &[&["--direction", "down", "--listen", "127.0.0.1:0"], args].concat(), &site);
        let service = Service::start(&mut command);
        let listener = answering(&service.url, gateway_args);
        let played = service.ended();
        end(listener);
        (played.code, played.lines, played.stderr)
    };
    let (code, lines, stderr) = play(&["--answer", "success"], &[]);
    assert_eq!((code, lines.len()), (Some(0), 0), "{stderr}");
    assert!(
        stderr.contains("waiting for gateway gw1") && stderr.contains("2 answers as recorded"),
        "{stderr}"
    );
    assert!(!stderr.contains("device not exist"), "what it reports back is accepted: {stderr}");

    let (code, lines, stderr) = play(&["--answer", "2001"], &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(differences(&lines), [("m1", "code", Some(0), Some(2001)); 2]);

    let (code, lines, stderr) = play(&[], &["--timeout", "300ms"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(differences(&lines), [("m1", "missing", Some(0), None); 2]);
}
