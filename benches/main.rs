//! The cost of tuyagw, beside its peers: `cargo bench`, or `cargo bench -- --quick core bulk`.
//!
//! Every workload is run in several rounds in which all contestants take turns, so that a noisy machine is noisy for
//! all of them; the table has medians. A missing peer is reported and left out. The table goes to stdout
//! as Markdown, and the same figures to `target/bench.json`. docs/performance.md shows one run.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, ends at the first thing that goes wrong, and counts in floating point"
)]

mod bulk;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/command.rs"]
mod command;
mod core;
mod distance;
mod edge;
mod fairness;
mod generator;
mod listen;
mod one_shot;
mod peers;
mod process;
mod replay;
mod sinks;
mod spool;
mod start;
mod table;
mod tap;
mod traffic;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/wire.rs"]
mod wire;

use table::Table;

/// What can be measured, by the names that select it. A subcommand with a cost of its own gets a file and a line here.
const THEMES: [(&str, Theme); 11] = [
    ("core", core::measure),
    ("start", start::measure),
    ("one-shot", one_shot::measure),
    ("bulk", bulk::measure),
    ("growth", bulk::growth),
    ("listen", listen::measure),
    ("edge", edge::measure),
    ("fairness", fairness::measure),
    ("tap", tap::measure),
    ("replay", replay::measure),
    ("spool", spool::measure),
];

/// Measures a theme and adds rows to the table.
type Theme = fn(&Options, &mut Table);

/// How much is measured.
#[derive(Debug)]
pub struct Options {
    /// Whether sizes are so small that only the harness itself is tested.
    quick: bool,
    /// The themes asked for; none are all.
    themes: Vec<String>,
}

impl Options {
    /// The full size, or a hundredth of it.
    fn size(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(100) } else { full }
    }

    /// How often all contestants take their turn.
    fn rounds(&self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }
}

fn main() {
    if spool::is_task() {
        return;
    }
    let mut options = Options { quick: false, themes: Vec::new() };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => options.quick = true,
            // cargo passes it to every benchmark.
            "--bench" => {}
            name if THEMES.iter().any(|(theme, _)| *theme == name) => options.themes.push(argument),
            other => {
                let names = THEMES.map(|(theme, _)| theme).join(", ");
                eprintln!("{other} is no benchmark; there are --quick and {names}");
                return;
            }
        }
    }
    process::raise_file_limit();
    let mut table = Table::default();
    for (theme, measure) in THEMES {
        if options.themes.is_empty() || options.themes.iter().any(|name| name == theme) {
            eprintln!("{theme} …");
            measure(&options, &mut table);
        }
    }
    print!("{table}");
    table.save(options.quick);
}
