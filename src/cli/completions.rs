//! `completions`: prints a shell completion script, made from the same tree as the help.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    cli::Cli,
    error::{Exit, Failure},
    io::console::{Console, print},
};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tuyagw completions bash > ~/.local/share/bash-completion/completions/tuyagw
  tuyagw completions zsh > ~/.zfunc/_tuyagw
  tuyagw completions fish > ~/.config/fish/completions/tuyagw.fish")]
pub struct Args {
    /// The shell that reads the script
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `completions`.
pub fn run(Args { shell }: Args, _console: Console) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tuyagw", &mut script);
    print(&script).map_err(|why| Failure::io(why.to_string())).context("cannot write to stdout")?;
    Ok(Exit::SUCCESS)
}
