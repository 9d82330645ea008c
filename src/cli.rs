//! The command line: the clap tree, dispatch, and the one place that turns an error into words and an exit code.

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use crate::{
    commands::{Command, Console},
    failure::{Exit, Failure, exit_code},
};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "tuyagw",
    version,
    about = "The gateway end of Tuya IoT Edge Gateway's MQTT protocol, as one-shot commands",
    long_about = "Plays a third-party gateway against Tuya IoT Edge Gateway over MQTT: derives the password, \
                  synchronises devices, reports data points and online status, answers commands, records and \
                  replays traffic. `tuyagw edge` is the other end, an emulator. JSON Lines in, JSON Lines out, \
                  and an exit code that tells the truth.",
    after_help = exit_codes(),
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    /// Print only errors and warnings on stderr
    #[arg(short, long, global = true, display_order = 1000)]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The exit-code table as help shows it.
#[must_use]
pub fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for (Exit(code), meaning, _) in Exit::TABLE {
        text.push_str(&format!("  {code:>3}  {meaning}\n"));
    }
    text.push_str(
        "Of several, the first of 3, 4, 6, 5, 2, 1 wins; `tuyagw explain exit CODE` says what to do.",
    );
    text
}

/// Reads the command line, runs the subcommand, reports its failure, and gives the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe while help is printed is the reader's choice, not an error.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(Exit::USAGE.0),
            };
        }
    };
    let console = Console::new(cli.quiet);
    let exit = cli.command.run(console).unwrap_or_else(|error| {
        console.error(&format!("{error:#}"));
        if let Some(hint) = error.chain().find_map(|e| e.downcast_ref::<Failure>()?.hint.as_deref()) {
            console.hint(hint);
        }
        exit_code(&error)
    });
    ExitCode::from(exit.0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }
}
