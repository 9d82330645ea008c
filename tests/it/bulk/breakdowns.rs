//! Edges that go away in the middle of thousands of lines.

use std::{
    collections::BTreeSet,
    io::BufReader,
    process::{Child, Stdio},
};

use crate::{
    process::{Ended, ended},
    site::{Site, accounted, all_accepted, json_lines, request_ids, syncs},
};

/// A run over a file, with its results read as they come.
fn started(site: &Site, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut run = site.gateway("sync", args);
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(run.stdout.take().unwrap());
    (run, stdout)
}

/// Reads so many result lines.
fn read(stdout: &mut impl std::io::BufRead, lines: usize) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "the results ended early:\n{text}");
    }
    text
}

/// Reads the rest and joins it with what came before.
fn finished(run: Child, mut stdout: impl std::io::BufRead, mut before: String) -> Ended {
    stdout.read_to_string(&mut before).unwrap();
    let mut ended = ended(run);
    ended.lines = json_lines(&before);
    ended
}

#[test]
#[ignore = "slow: breaks connections under bulk runs"]
fn an_edge_restart_loses_no_line() {
    const LINES: usize = 20_000;
    let mut site = Site::start(&["--devices", "devices.jsonl"]);
    let input = site.write("input.jsonl", syncs(LINES));
    let summary = site.name("summary");
    let (run, mut stdout) = started(&site, &[&input, "--window", "300", "--summary", &summary]);
    let mut text = String::new();
    for _ in 0..3 {
        text.push_str(&read(&mut stdout, 3000));
        site.kill();
        site.restart();
    }
    let ended = finished(run, stdout, text);
    all_accepted(&ended, LINES);
    assert!(ended.stderr.contains("reconnecting"), "{}", ended.stderr);
    let results: BTreeSet<_> =
        ended.lines.iter().map(|line| (line["cid"].to_string(), line["request_id"].to_string())).collect();
    let sent = request_ids(&site.records_of("sync"));
    for (cid, ids) in &sent {
        for id in ids {
            assert!(results.contains(&(format!("{cid:?}"), format!("{id:?}"))), "{cid} was sent as {ids:?}");
        }
    }
    // A killed edge may not have recorded the last messages that it read.
    let summary: serde_json::Value = serde_json::from_str(&site.read("summary")).unwrap();
    assert!(summary["resent"].as_u64() > Some(0), "{summary}");
}

#[test]
#[ignore = "slow: breaks connections under bulk runs"]
fn no_reconnect_exits_on_a_loss_with_a_result_for_every_line() {
    const LINES: usize = 20_000;
    let mut site = Site::start(&[]);
    let input = site.write("input.jsonl", syncs(LINES));
    let (run, mut stdout) = started(&site, &[&input, "--window", "300", "--no-reconnect", "--ordered"]);
    let text = read(&mut stdout, 2000);
    site.kill();
    let ended = finished(run, stdout, text);
    accounted(&ended, LINES);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let failed: Vec<_> = ended.lines.iter().filter(|line| line["ok"] == false).collect();
    assert!(failed.iter().all(|line| line["error"] == "connection" && line["input"].is_object()));
    assert!(
        failed.iter().any(|line| line["sent"] == true) && failed.iter().any(|line| line["sent"] == false)
    );
    assert!(failed.len() <= LINES - 2000);
    // What failed is the next run's input.
    site.restart();
    let again = failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let count = failed.len();
    let fed = site.run_with("sync", &["-", "--window", "300"], again);
    all_accepted(&fed, count);
}

#[test]
#[ignore = "slow: breaks connections under bulk runs"]
fn faults_of_every_kind_leave_no_line_without_a_result() {
    let mut site = Site::start(&[
        "--fault",
        "disconnect@0.005",
        "--fault",
        "duplicate@0.05",
        "--fault",
        "wrong-id@0.01",
        "--fault",
        "garbage@0.005",
        "--fault",
        "code=500@0.05",
        "--fault",
        "drop-response@0.01",
        "--seed",
        "11",
    ]);
    let args = ["-", "--window", "50", "--timeout", "3s", "--retries", "10"];
    let ended = site.run_with("sync", &args, syncs(1000));
    all_accepted(&ended, 1000);
    let lost = site.records_of("connect").len();
    assert!(lost > 1, "the seed cuts connections");
}

/// Stdout can still be written, so every input has its result, those that were never read too.
#[cfg(unix)]
#[test]
fn an_unwritable_journal_leaves_every_line_with_a_result() {
    const LINES: usize = 5000;
    let site = Site::start(&[]);
    let (input, journal) = (site.write("input.jsonl", syncs(LINES)), site.name("journal"));
    let run = site.gateway("sync", &[&input, "--journal", &journal]);
    // The limit is in units of 512 bytes: a few hundred entries.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -f 16; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    limited.env("TUYAGW_CONFIG", "/dev/null");
    let ended = crate::process::run(&mut limited);
    accounted(&ended, LINES);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    assert!(ended.lines.iter().any(|line| line["error"] == "io" && line["sent"] == false));
}
