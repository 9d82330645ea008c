//! Commands of the platform: answered by the agent, or by the one program that asks for them; and who hears what.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    thread,
};

use serde_json::Value;

use super::{AgentSite, read};
use crate::{
    process::{Ended, ended, json_lines, reports, run, run_with, signal, until},
    site::{all_accepted, syncs},
};

/// A `listen` through the agent, whose stdout goes to a file.
struct Listener {
    child: Option<Child>,
    out: PathBuf,
    stderr: Option<BufReader<std::process::ChildStderr>>,
}

impl Listener {
    /// Starts `listen` and waits until it listens.
    fn start(site: &AgentSite, name: &str, args: &[&str]) -> Self {
        let out = site.path(name);
        let mut command = site.program("listen", &[&["--agent", "require"][..], args].concat());
        let mut child = command.stdout(File::create(&out).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("listening\n") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        Self { child: Some(child), out, stderr: Some(stderr) }
    }

    /// The whole lines printed so far.
    fn lines(&self) -> Vec<Value> {
        let text = read(&self.out);
        json_lines(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
    }

    fn count(&self, kind: &str) -> usize {
        self.lines().iter().filter(|line| line["kind"] == kind).count()
    }

    /// Ends it with a signal.
    fn end(mut self, name: &str) -> Ended {
        let child = self.child.take().unwrap();
        signal(child.id(), name);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.stderr.take().unwrap(), &mut said).unwrap();
        let mut ended = ended(child);
        ended.lines = json_lines(&read(&self.out));
        ended.stderr = said;
        ended
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Commands as input lines: so many to meter m1.
fn commands(count: usize) -> String {
    let line = |n| format!("{{\"cid\":\"m1\",\"code\":\"valve_open_degree\",\"value\":{}}}\n", n % 100);
    (0..count).map(line).collect::<Vec<_>>().concat()
}

fn code(ended: &Ended) -> &Value {
    &ended.line()["code"]
}

/// A command to a meter.
fn command(site: &AgentSite, cid: &str) -> Ended {
    run(&mut site.site.command(&["--cid", cid, "valve_open_degree=5"]))
}

#[test]
fn the_agent_answers_every_command_while_reports_run() {
    let mut site = AgentSite::start(&["--answer", "success"]);
    all_accepted(&site.run_with("sync", &["-"], syncs(10)), 10);
    thread::scope(|scope| {
        let ordered = scope.spawn(|| run_with(&mut site.site.command(&["-"]), commands(100).as_bytes()));
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..5 {
                    all_accepted(&site.run_with("report", &["-"], reports(10).repeat(10)), 100);
                }
            });
        }
        all_accepted(&ordered.join().unwrap(), 100);
    });
    assert_eq!(site.end("TERM").code(), Some(0));
    let commands = |site: &AgentSite| site.records().iter().filter(|it| it["kind"] == "command").count();
    assert_eq!(commands(&site), 100, "each command is recorded");
    let records = site.site.records();
    let count = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!(count("command.response"), 100);
    assert_eq!(count("report"), 5 * 5 * 100 + 100, "with the reports of the new values");
}

#[test]
fn one_program_answers_the_commands_and_a_second_is_exit_4() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
    let first = Listener::start(&site, "first.out", &["--answer", "success"]);
    site.wait_status("a program answers", |status| status["answering"] == "client");
    let second = site.run("listen", &["--answer", "2001"]);
    assert_eq!(second.code, Some(4), "{}", second.stderr);
    assert!(second.stderr.contains("hint: "), "{}", second.stderr);
    assert_eq!(code(&command(&site, "m1")), 0);
    let unanswering = Listener::start(&site, "unanswering.out", &[]);
    assert_eq!(code(&command(&site, "m2")), 0);
    until("a listener without --answer hears the command", || unanswering.count("command") == 1);
    let first = first.end("TERM");
    assert_eq!(first.code, Some(143), "{}", first.stderr);
    site.wait_status("no one answers", |status| status["answering"] == "");
    let next = Listener::start(&site, "next.out", &["--answer", "2001:asleep"]);
    assert_eq!(code(&command(&site, "m1")), 2001);
    assert_eq!(next.end("INT").code, Some(130));
    assert_eq!(unanswering.end("TERM").code, Some(143));
    assert_eq!(site.end("TERM").code(), Some(0));
    assert_eq!(site.site.records_of("command.response").len(), 3, "each command has one answer");
}

#[test]
fn an_agent_that_answers_keeps_programs_from_it() {
    let site = AgentSite::start(&["--answer", "success"]);
    all_accepted(&site.run_with("sync", &["-"], syncs(1)), 1);
    assert_eq!(site.status().line()["answering"], "agent");
    let ended = site.run("listen", &["--answer", "2001"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let listener = Listener::start(&site, "listener.out", &[]);
    assert_eq!(code(&command(&site, "m1")), 0);
    until("it hears the command", || listener.count("command") == 1);
    assert_eq!(listener.end("TERM").code, Some(143));
}

#[test]
fn an_observer_hears_the_uplinks_and_answers_of_others() {
    let site = AgentSite::start(&[]);
    let all = Listener::start(&site, "all.out", &["--all"]);
    let down = Listener::start(&site, "down.out", &[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(3)), 3);
    all_accepted(&site.run_with("report", &["-"], reports(3)), 3);
    assert_eq!(site.run("status", &["--online", "m1"]).code, Some(0));
    until("both hear all", || {
        let is_heard = |kind| all.count(kind) == 3 && down.count(kind) == 3;
        is_heard("sync.response") && is_heard("report.response")
    });
    until("uplinks are heard", || (all.count("sync"), all.count("report"), all.count("status")) == (3, 3, 1));
    for listener in [all, down] {
        let is_all = listener.out.ends_with("all.out");
        let ended = listener.end("TERM");
        assert_eq!(ended.code, Some(143), "{}", ended.stderr);
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
        assert_eq!(ended.lines.len(), if is_all { 13 } else { 6 }, "{:#?}", ended.lines);
    }
}

#[test]
fn an_agent_that_records_its_uplinks_hears_them_once() {
    let mut site = AgentSite::start(&["--all"]);
    all_accepted(&site.run_with("sync", &["-"], syncs(3)), 3);
    let all = Listener::start(&site, "all.out", &["--all"]);
    all_accepted(&site.run_with("report", &["-"], reports(3)), 3);
    until("the answers are heard", || all.count("report.response") == 3);
    let ended = all.end("TERM");
    assert_eq!(ended.lines.iter().filter(|line| line["kind"] == "report").count(), 3);
    until("the agent has recorded them", || {
        site.records().iter().filter(|record| record["kind"] == "report").count() == 3
    });
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn a_listener_that_sends_too_gets_its_own_answers() {
    let site = AgentSite::start(&[]);
    let mut command = site.program("listen", &["--agent", "require", "--stdin", "--answer", "success"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = |input: &str, wanted: &str| {
        use std::io::Write as _;
        if !input.is_empty() {
            writeln!(stdin, "{input}").unwrap();
        }
        loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "stdout ended");
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["op"] == wanted {
                return value;
            }
        }
    };
    let synced = line(r#"{"op":"sync","cid":"m1","product_id":"p"}"#, "sync");
    assert_eq!(synced["code"], 0, "{synced}");
    let reported = line(r#"{"op":"report","cid":"m1","code":"water_flow","value":1}"#, "report");
    assert_eq!(reported["code"], 0, "{reported}");
    assert_eq!(code(&self::command(&site, "m1")), 0);
    all_accepted(&site.run_with("report", &["-"], reports(1)), 1);
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
