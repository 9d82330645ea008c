//! The request subcommands against brokers that behave and brokers that do not.

mod acknowledgements;
mod answers;
mod greetings;
mod inputs;
mod outages;
mod packets;
mod qualities;
mod runs;
mod settings;
mod subscriptions;

use std::thread;

use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{Ended, gateway, reports, run},
};

/// One thing that a broker does to a single report, and how the run must end.
struct Case {
    name: &'static str,
    broker: fn(usize, &mut Peer),
    args: &'static [&'static str],
    code: i32,
    /// `error` of the result line, or `ok`, or `code N`.
    result: &'static str,
    /// What stderr or the result line's words must contain.
    says: &'static str,
}

impl Case {
    const fn new(name: &'static str, code: i32, result: &'static str, broker: fn(usize, &mut Peer)) -> Self {
        Self { name, broker, args: &[], code, result, says: "" }
    }

    const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    const fn args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    fn check(&self) -> Result<(), String> {
        let broker = FakeBroker::start(self.broker);
        let args = [&["--cid", "m1", "water_flow=1"], self.args].concat();
        let ended = run(&mut gateway("report", &broker.url(), &args));
        let line = ended.lines.first().cloned().unwrap_or_default();
        let result = match (line["error"].as_str(), line["ok"].as_bool(), line["code"].as_i64()) {
            (Some(error), Some(false), _) => error.to_owned(),
            (None, Some(true), Some(0)) => "ok".to_owned(),
            (None, Some(false), Some(code)) => format!("code {code}"),
            other => format!("{other:?}"),
        };
        let said = ended.stderr.contains(self.says);
        let echoed = line["ok"] == true || line["input"]["cid"] == "m1";
        if (ended.code, result.as_str(), ended.lines.len(), said, echoed)
            == (Some(self.code), self.result, 1, true, true)
        {
            Ok(())
        } else {
            Err(format!(
                "{}: expected exit {}, {}, {:?} in\n{ended:#?}\n",
                self.name, self.code, self.result, self.says
            ))
        }
    }
}

/// Plays every case, all at once, and tells all that failed.
fn check(cases: Vec<Case>) {
    let running: Vec<_> = cases.into_iter().map(|case| thread::spawn(move || case.check())).collect();
    let failed: Vec<_> =
        running.into_iter().filter_map(|case| case.join().expect("no panic").err()).collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// That every line of the input has exactly one result, and that all are accepted.
fn all_accepted(ended: &Ended, count: usize) {
    accounted(ended, count);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.lines.iter().all(|line| line["ok"] == true), "{ended:#?}");
}

fn accounted(ended: &Ended, count: usize) {
    let mut indexes: Vec<_> = ended.lines.iter().filter_map(|line| line["index"].as_u64()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..count as u64).collect::<Vec<_>>(), "{ended:#?}");
}
