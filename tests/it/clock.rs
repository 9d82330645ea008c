//! A wall clock that jumps under a running program: nothing happens but that `t` and `tst` follow it.
//!
//! The clock is Debian's libfaketime, which leaves the monotonic clock alone; without it the test says so and passes,
//! except where `CI` is set.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Read as _},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    process::{ended, run, signal, tuyagw},
    site::Site,
};

const DAY: i64 = 24 * 60 * 60;

fn library() -> Option<String> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found =
        folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, and libfaketime is not installed");
        println!("skipped: libfaketime is not installed");
    }
    found.map(|path| path.to_str().unwrap().to_owned())
}

/// A running subcommand under the clock of a file.
struct Run {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Run {
    fn start(mut command: Command, library: &str, clock: &str) -> Self {
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", clock)
            .env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.stdout.next().unwrap().unwrap()).unwrap()
    }

    /// Ends it; nothing went wrong.
    fn end(mut self) {
        signal(self.child.id(), "TERM");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert!(!said.contains("warning") && !said.contains("error"), "{said}");
        assert_eq!(ended(self.child).code, Some(143), "{said}");
    }
}

#[test]
#[ignore = "slow: waits for clocks that are set"]
fn clocks_that_jump_change_only_the_times() {
    let Some(library) = library() else { return };
    let mut site = Site::start(&[]);
    site.sync(1);
    let clock = site.write("clock", "+0\n");
    let mut status = tuyagw();
    // Each gateway is a client of its own.
    status.args(["status", "-b", &site.broker(), "-g", "gw2", "-u", "acme", "--online", "m1"]);
    status.args(["--every", "100ms", "--keep-alive", "1s"]);
    let mut status = Run::start(status, &library, &clock);
    let listen = site.gateway("listen", &["--answer", "success", "--no-report-back", "--keep-alive", "1s"]);
    let mut listen = Run::start(listen, &library, &clock);
    listen.stderr.read_line(&mut String::new()).unwrap();
    status.line();
    for days in [0, 1, -30, 365] {
        // Replaced at once, so that no half of it is read.
        let next = site.write("next", format!("{days:+}d\n"));
        fs::rename(next, &clock).unwrap();
        let mut command = site.command(&["--cid", "m1", "switch_state=true"]);
        let answered = run(&mut command);
        assert_eq!(answered.code, Some(0), "{days} days: {answered:#?}");
        let record = listen.line();
        assert_eq!(record["kind"], "command");
        assert!(record["mono_us"].as_i64().unwrap() >= 0, "{record}");
        // More rounds than fit into the time-outs of a keep-alive.
        for _ in 0..20 {
            assert_eq!(status.line()["ok"], true);
        }
    }
    status.end();
    listen.end();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let records = site.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    let mut seen: Vec<i64> = of("status")
        .iter()
        .map(|record| (record["payload"]["t"].as_i64().unwrap() - now + DAY / 2).div_euclid(DAY))
        .collect();
    seen.dedup();
    assert_eq!(seen, [0, 1, -30, 365]);
    let connects = of("connect");
    for gateway in ["gw1", "gw2"] {
        let of_it = connects.iter().filter(|record| record["client_id"] == gateway);
        // gw1 has synchronised its meter, too.
        assert_eq!(of_it.count(), if gateway == "gw1" { 2 } else { 1 }, "{connects:#?}");
    }
}
