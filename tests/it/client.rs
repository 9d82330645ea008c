//! The request subcommands against brokers that behave and brokers that do not.

mod acknowledgements;
mod answers;
mod attempts;
mod greetings;
mod inputs;
mod listening;
mod outages;
mod packets;
mod qualities;
mod runs;
mod settings;
mod subscriptions;

use std::thread;

use serde_json::Value;

use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{gateway, reports, run_with},
    site::{accounted, all_accepted},
};

/// One thing that a broker does to a run of `report` or `listen`, and how the run must end.
pub struct Case {
    name: &'static str,
    broker: fn(usize, &mut Peer),
    subcommand: &'static str,
    args: &'static [&'static str],
    /// How many reports come on stdin; with 0, one report is on the command line.
    input: usize,
    code: i32,
    /// What the result lines say, in the order of the input and without repeats: `ok`, `code N`, or `error`'s value;
    /// of `listen`, how many records there are.
    result: &'static str,
    /// What stderr must contain.
    says: &'static str,
}

impl Case {
    const fn new(name: &'static str, code: i32, result: &'static str, broker: fn(usize, &mut Peer)) -> Self {
        Self { name, broker, subcommand: "report", args: &[], input: 0, code, result, says: "" }
    }

    const fn listen(
        name: &'static str,
        code: i32,
        result: &'static str,
        broker: fn(usize, &mut Peer),
    ) -> Self {
        Self { subcommand: "listen", ..Self::new(name, code, result, broker) }
    }

    const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    const fn args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    const fn input(self, input: usize) -> Self {
        Self { input, ..self }
    }

    fn check(&self) -> Result<(), String> {
        let broker = FakeBroker::start(self.broker);
        let is_report = self.subcommand == "report";
        let args: &[_] = match self.input {
            _ if !is_report => &[],
            0 => &["--cid", "m1", "water_flow=1"],
            _ => &["-"],
        };
        // Time-outs are short if they must expire, and long if a busy machine must not reach them.
        let limits: &[_] = match self.code {
            _ if self.args.contains(&"--timeout") => &[],
            3 => &["--timeout", "1s"],
            5 => &["--timeout", "1s", "--connect-timeout", "20s"],
            _ => &["--timeout", "20s", "--connect-timeout", "20s"],
        };
        let mut command = gateway(self.subcommand, &broker.url(), &[args, self.args, limits].concat());
        let mut ended = run_with(&mut command, reports(self.input).as_bytes());
        ended.lines.sort_by_key(|line| line["index"].as_u64());
        let (result, accounted) = if is_report {
            let mut results: Vec<_> = ended.lines.iter().map(result).collect();
            results.dedup();
            let echoed =
                ended.lines.iter().all(|line| line["ok"] == true || line["input"]["cid"].is_string());
            (results.join(", "), ended.lines.len() == self.input.max(1) && echoed)
        } else {
            let plural = if ended.lines.len() == 1 { "" } else { "s" };
            let records = format!("{} record{plural}", ended.lines.len());
            (records, ended.lines.iter().all(|line| line["topic"].is_string()))
        };
        // Every failure has a hint.
        let advised = self.code < 3 || ended.stderr.contains("hint: ") || self.input > 1;
        let said = ended.stderr.contains(self.says) && ended.stderr.matches("error: ").count() <= 1;
        if (ended.code, result.as_str(), accounted, advised, said)
            == (Some(self.code), self.result, true, true, true)
        {
            Ok(())
        } else {
            Err(format!(
                "{}: expected exit {}, {}, {:?} in\n{result}: {ended:#?}\n",
                self.name, self.code, self.result, self.says
            ))
        }
    }
}

/// What a result line says.
fn result(line: &Value) -> String {
    match (line["error"].as_str(), line["ok"].as_bool(), line["code"].as_i64()) {
        (Some(error), Some(false), _) => error.to_owned(),
        (None, Some(true), Some(0)) => "ok".to_owned(),
        (None, Some(false), Some(code)) => format!("code {code}"),
        other => format!("{other:?}"),
    }
}

/// Plays every case, many at once because most of them wait, and reports all that failed.
fn check(cases: &[Case]) {
    let mut failed = Vec::new();
    for some in cases.chunks(16) {
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|case| scope.spawn(|| case.check())).collect();
            failed.extend(running.into_iter().filter_map(|case| case.join().expect("no panic").err()));
        });
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Makes a test of every group of cases, and the tables of docs/reliability.md of all groups, so that both hold the same.
macro_rules! groups {
    ($($module:ident::$group:ident: $title:literal,)+) => {
        mod behaves {
            $(#[test] fn $group() { super::check(&super::$module::$group()); })+
        }

        fn groups() -> Vec<(&'static str, Vec<Case>)> {
            vec![$(($title, $module::$group())),+]
        }
    };
}

groups! {
    greetings::without_connack: "Until CONNACK, the broker",
    greetings::refusals: "In CONNACK's place, the broker sends the code",
    greetings::no_connack: "In CONNACK's place, the broker sends",
    greetings::connack_byte_by_byte: "The broker sends",
    subscriptions::subacks: "In SUBACK's place, the broker sends",
    acknowledgements::pubacks: "In the place of PUBACK and answer, the broker sends",
    answers::no_answers: "Before the answer, on its topic, comes",
    answers::malformed_answers: "The answer has our `request_id`, and",
    answers::odd_answers: "The answer comes",
    packets::broken_packets: "Before the answer, the broker sends what it must not",
    packets::odd_packets: "Before the answer, the broker sends what is odd",
    outages::cuts: "In the middle of a run, the broker",
    outages::fruitless_connections: "Over and over, the broker",
    outages::refused_reconnects: "After a loss, the broker",
    outages::silences: "For once, the broker",
    listening::refused: "To `listen`, the broker",
    listening::commands: "To `listen`, the platform sends",
}

/// The tables of docs/reliability.md, one for each group.
pub fn table() -> String {
    let mut table = String::new();
    for (title, cases) in groups() {
        table += &format!("\n| {title} | exit | result | stderr has |\n| --- | --- | --- | --- |\n");
        for Case { name, args, code, result, says, .. } in cases {
            let says = if says.is_empty() { String::new() } else { format!("`{says}`") };
            let args = args.join(" ");
            let args = if args.is_empty() { args } else { format!(" (`{args}`)") };
            table += &format!("| {name}{args} | {code} | {result} | {says} |\n");
        }
    }
    table + "\n"
}
