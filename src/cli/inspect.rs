//! `inspect`: shows the contents of a recording, as a table, as JSON, or as one HTML page with charts.

use std::{
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    path::PathBuf,
};

use crate::{
    cli::profile_args::ProfileArgs,
    error::{Exit, Failure},
    io::{
        console::{Console, print},
        files::Replacement,
        recording_file::{IssueReporter, Recording, RecordingArgs},
    },
    json::json_line,
    recording::{ConnectionRecord, IssueKind, RecordingEntry},
    run::product_model,
    stats::{self, Inspection},
    text::visible,
};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints a table on a terminal, and one line of JSON in a pipe or with --json. --html writes a page, too, which needs no \
network: the traffic over time, round trips, refusals, and each data point's values with their units.

A request and its answer are matched by request_id, gateway and topic. A request without an answer counts as unanswered \
after 65,536 further requests.

EXAMPLES
  tuyagw inspect site.jsonl
  tuyagw inspect site.pcapng                       a capture of tcpdump
  tuyagw inspect site.jsonl --html site.html
  tuyagw inspect site.jsonl --json | jq '.codes[] | select(.code != 0)'
  tuyagw listen --all --for 1h | tuyagw inspect -")]
pub struct Args {
    /// Print JSON, on a terminal too
    #[arg(long)]
    json: bool,

    /// Write a page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Product model for names, units and scales [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    #[command(flatten)]
    profile: ProfileArgs,

    #[command(flatten)]
    recording: RecordingArgs,
}

/// Runs `inspect`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let product = product_model::load(args.model.as_deref())?;
    // RecordingEntry out now, rather than after a long recording.
    let html = args.html.as_deref().map(|path| Replacement::prepare("--html", path)).transpose()?;
    let mut inspection = Inspection::new(args.html.is_some().then_some(product));
    let exit = take(&args, &mut inspection, console)?;
    let summary = inspection.summary();
    if let (Some(html), Some(path)) = (html, &args.html) {
        let file = &args.recording.file;
        let title = match file.as_os_str().to_str() {
            Some("-") => "stdin".into(),
            _ => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy(),
        };
        let page = stats::page(&inspection, &title, &uuid::Uuid::new_v4().simple().to_string());
        html.replace(page.as_bytes())?;
        console.note(&format!("wrote {}", path.display()));
    }
    let output = if args.json || !io::stdout().is_terminal() {
        json_line(&summary)
    } else {
        let lines = stats::table(&summary);
        lines
            .lines()
            .flat_map(|line| [visible(line).into_owned(), "\n".into()])
            .collect::<String>()
            .into_bytes()
    };
    print(&output).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    Ok(exit?)
}

/// Reads a recording to its end, and prints its issues; unreadable lines give exit code 2. The inner result is a read that
/// failed in the middle.
fn take(
    args: &Args,
    inspection: &mut Inspection,
    console: Console,
) -> Result<Result<Exit, Failure>, Failure> {
    let topics = args.profile.topics()?;
    let recording = Recording::open(&args.recording)?;
    let mut issues = IssueReporter::of(&recording, console);
    let read = recording.read(&topics, &mut |number, found| {
        match found {
            RecordingEntry::Message(record) => inspection.handle_message(&record),
            RecordingEntry::Connection(ConnectionRecord { connected: true, code, .. }) => {
                inspection.handle_connect(code);
            }
            RecordingEntry::Connection(_) => inspection.handle_disconnect(),
            RecordingEntry::EventLine(line) => inspection.handle_event_line(line),
            RecordingEntry::Issue(issue) => {
                issues.report(number, &issue);
                if matches!(issue.kind, IssueKind::Unreadable | IssueKind::Torn) {
                    inspection.handle_bad_line(number, &issue.message);
                }
            }
            RecordingEntry::Idle => {}
        }
        ControlFlow::Continue(())
    });
    let exit = issues.finish();
    Ok(read.map(|()| exit))
}
