//! `--dry-run`: counts what would be sent, and computes how long that takes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    reader::{RecordingReader, ReplayEntry, ReplayMessage},
    replay_stats::counted,
};
use crate::{
    error::{Exit, Failure},
    io::{
        console::{Console, print},
        recording_file::IssueReporter,
    },
    json::json_line,
    mqtt::codec::QoS,
    recording::ReplaySchedule,
    tuya::Channel,
};

#[derive(Default, Serialize)]
struct Plan {
    event: &'static str,
    messages: u64,
    payload_bytes: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_line: Option<u64>,
    qos: [u64; 3],
    gateways: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// Reads the recording to its end, and prints the plan on stdout.
///
/// # Errors
/// A recording that cannot be read, or a stdout that cannot be written.
pub async fn run(
    mut reader: RecordingReader,
    mut schedule: ReplaySchedule,
    mut issues: IssueReporter,
    qos: Option<QoS>,
    console: Console,
) -> Result<Exit, Failure> {
    let mut plan = Plan { event: "dry-run", ..Plan::default() };
    let mut duration = Duration::ZERO;
    let mut outcome = Ok(());
    loop {
        let entries = match reader.next().await {
            Ok(Some(entries)) => entries,
            Ok(None) => break,
            // Print the plan of the entries before the failure.
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        };
        for entry in entries {
            match entry {
                ReplayEntry::Again => schedule.restart(),
                ReplayEntry::Issue(number, issue) => issues.report(number, &issue),
                ReplayEntry::Message(message) if message.should_send => {
                    if let Some(pause) = schedule.long_pause(message.offset) {
                        issues.long_pause(message.number, pause);
                    }
                    duration = schedule.due(message.offset);
                    plan.count(&message, qos);
                }
                ReplayEntry::Message(_) => {}
            }
        }
    }
    plan.duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
    print(&json_line(&plan)).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    console.note(&format!(
        "{} from {} would be sent in {:.2} s",
        counted(plan.messages, "message"),
        counted(plan.gateways.len() as u64, "gateway"),
        duration.as_secs_f64()
    ));
    let exit = issues.finish();
    outcome.map(|()| exit)
}

impl Plan {
    fn count(&mut self, message: &ReplayMessage, qos: Option<QoS>) {
        self.messages += 1;
        self.payload_bytes += message.payload.len() as u64;
        self.first_line.get_or_insert(message.number);
        self.last_line = Some(message.number);
        self.qos[usize::from(qos.map_or(message.qos, |qos| qos as u8)).min(2)] += 1;
        let gateway = message.recorded_topic.gateway_id.clone().unwrap_or_default();
        let kinds = self.gateways.entry(gateway).or_default();
        *kinds.entry(message.recorded_topic.channel.map_or("other", Channel::kind)).or_default() += 1;
    }
}
