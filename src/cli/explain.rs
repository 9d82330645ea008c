//! `explain`: the meaning of a code and what to do about it, from the tables that the program itself uses.

use std::io::{self, IsTerminal as _};

use crate::{
    error::{Exit, Failure},
    io::console::{Console, WIDTH, print, wrapped},
    json::json_line,
    run::code_tables::{CodeEntry, look_up},
};
use anyhow::Context as _;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tuyagw explain 2003            every meaning of a number
  tuyagw explain connack 0x87    one meaning; hexadecimal, too
  tuyagw explain exit 5
  tuyagw explain connack         the whole table
  tuyagw explain --json          all tables, one JSON line a code")]
pub struct Args {
    /// A code, or the table to look in: result, connack, suback or exit
    #[arg(value_name = "CODE|TABLE")]
    first: Option<String>,

    /// The code in that table
    #[arg(value_name = "CODE")]
    code: Option<String>,

    /// Print JSON Lines, as in a pipe
    #[arg(long)]
    json: bool,
}

/// Runs `explain`.
pub fn run(Args { first, code, json }: Args, _console: Console) -> anyhow::Result<Exit> {
    let found = look_up(first.as_deref(), code.as_deref())?;
    let as_json = json || !io::stdout().is_terminal();
    let mut out = Vec::new();
    for (n, entry) in found.iter().enumerate() {
        if as_json {
            out.extend(json_line(entry));
        } else {
            if n > 0 {
                out.push(b'\n');
            }
            out.extend(text(entry).into_bytes());
        }
    }
    print(&out).map_err(|why| Failure::io(why.to_string())).context("cannot write to stdout")?;
    Ok(Exit::SUCCESS)
}

fn text(entry: &CodeEntry) -> String {
    let CodeEntry { kind, code, name, meaning, hint } = entry;
    let hex = if matches!(*kind, "connack" | "suback") && *code >= 0x80 {
        format!(" (0x{code:02X})")
    } else {
        String::new()
    };
    let mut text = format!("{kind} {code}{hex}: {name}\n");
    for line in [meaning, hint].into_iter().flat_map(|sentence| wrapped(sentence, WIDTH - 2)) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}
