//! `inspect`: shows what is in a recording, as a table, as JSON, or as one HTML page with charts.

use std::{
    fs,
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use crate::{
    commands::{
        Console,
        config::TopicsArgs,
        json_line, model, print,
        recording::{Flaws, Recording, RecordingArgs},
        visible,
    },
    failure::{Exit, Failure},
    inspect::{self, Inspection},
    record::{Connection, Found, Harm},
};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal a table is printed, in a pipe or with --json one line of JSON. --html writes a page besides, which \
needs no network: the traffic over time, round trips, refusals, and each data point's values with their units.

A request and its answer are matched by request_id, gateway and topic. Of 65,536 requests in a row the first is \
given up if it has no answer by then.

EXAMPLES
  tuyagw inspect site.jsonl
  tuyagw inspect site.pcapng                       what tcpdump captured
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

    /// Product model for names, units and scales, instead of the smart water meter
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    #[command(flatten)]
    topics: TopicsArgs,

    #[command(flatten)]
    recording: RecordingArgs,
}

/// Runs `inspect`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let product = model::load(args.model.as_deref())?;
    if let Some(html) = &args.html {
        check_target(html, &args.recording.file)?;
    }
    let mut inspection = Inspection::new(args.html.is_some().then_some(product));
    let exit = take(&args, &mut inspection, console)?;
    let summary = inspection.summary();
    if let Some(html) = &args.html {
        let file = &args.recording.file;
        let title = match file.as_os_str().to_str() {
            Some("-") => "stdin".into(),
            _ => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy(),
        };
        let page = inspect::page(&inspection, &title, &uuid::Uuid::new_v4().simple().to_string());
        fs::write(html, page)
            .map_err(|why| Failure::io(format!("cannot write {}: {why}", html.display())))?;
        console.note(&format!("{} is written", html.display()));
    }
    let output = if args.json || !io::stdout().is_terminal() {
        json_line(&summary)
    } else {
        let lines = inspect::table(&summary);
        lines
            .lines()
            .flat_map(|line| [visible(line).into_owned(), "\n".into()])
            .collect::<String>()
            .into_bytes()
    };
    print(&output).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    Ok(exit)
}

/// Takes all of a recording, and tells what is wrong with it; what cannot be read ends in exit code 2.
fn take(args: &Args, inspection: &mut Inspection, console: Console) -> Result<Exit, Failure> {
    let topics = args.topics.load()?;
    let recording = Recording::open(&args.recording)?;
    let mut flaws = Flaws::of(&recording, console);
    recording.read(&topics, &mut |number, found| {
        match found {
            Found::Message(record) => inspection.message(&record),
            Found::Connection(Connection { connected: true, code, .. }) => inspection.connected(code),
            Found::Connection(_) => inspection.disconnected(),
            Found::Aside(line) => inspection.aside(line),
            Found::Flaw(flaw) => {
                flaws.tell(number, &flaw);
                if flaw.harm != Harm::Lossy {
                    inspection.bad_line(number, &flaw.message);
                }
            }
            Found::Idle => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(flaws.finish())
}

/// The page must not take the recording's place.
fn check_target(html: &Path, file: &Path) -> Result<(), Failure> {
    match (html.canonicalize(), file.canonicalize()) {
        (Ok(html), Ok(file)) if html == file => {
            Err(Failure::invalid("--html names the recording itself, which it would replace"))
        }
        _ => Ok(()),
    }
}
