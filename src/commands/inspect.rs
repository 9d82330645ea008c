//! `inspect`: shows what is in a recording, as a table, as JSON, or as one HTML page with charts.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    commands::{Console, json_line, model, print, visible},
    failure::{Exit, Failure},
    inspect::{self, Inspection},
    protocol::Topics,
    record::Record,
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
  tuyagw inspect site.jsonl --html site.html
  tuyagw inspect site.jsonl --json | jq -r '.codes[] | select(.code != 0) | .code, .devices[].cid'
  tuyagw listen --all --for 1h | tuyagw inspect -")]
pub struct Args {
    /// The recording; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print JSON, on a terminal too
    #[arg(long)]
    json: bool,

    /// Write a page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Product model for names, units and scales, instead of the smart water meter
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Runs `inspect`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let product = model::load(args.model.as_deref())?;
    if let Some(html) = &args.html {
        check_target(html, &args.file)?;
    }
    let mut inspection = Inspection::new(args.html.is_some().then_some(product));
    let is_whole = take(&args.file, &mut inspection, console)?;
    let summary = inspection.summary();
    if let Some(html) = &args.html {
        let title = match args.file.as_os_str().to_str() {
            Some("-") => "stdin".into(),
            _ => args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy(),
        };
        let page = inspect::page(&inspection, &title, &Uuid::new_v4().simple().to_string());
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
    Ok(if is_whole { Exit::SUCCESS } else { Exit::USAGE })
}

/// Takes every line of a recording; false where one of them was no record. A torn last line, as a crash leaves it,
/// is passed over with a warning.
fn take(path: &Path, inspection: &mut Inspection, console: Console) -> Result<bool, Failure> {
    let unreadable = |why: io::Error| Failure::io(format!("cannot read {}: {why}", path.display()));
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let topics = Topics::default();
    let (mut line, mut number, mut is_whole) = (Vec::new(), 0, true);
    while input.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        number += 1;
        match Record::read(&line, &topics) {
            Ok(Some(record)) => inspection.message(&record),
            Ok(None) => inspection.aside(&line),
            Err(why) => {
                let why = if line.ends_with(b"\n") { why.to_string() } else { format!("{why} (it is torn)") };
                if inspection.bad_line(number, &why) == 1 {
                    console.warn(&format!("{}:{number}: passed over: {why}", path.display()));
                }
                is_whole &= !line.ends_with(b"\n");
            }
        }
        line.clear();
    }
    Ok(is_whole)
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
