//! Options that follow `--exec PROGRAM`, whose arguments take all the rest of the command line.

use std::ffi::OsString;

use clap::Args;

/// Takes the subcommand's own long options back from PROGRAM and its arguments, up to a `--`. Returns the arguments with
/// these options, and PROGRAM with the rest.
///
/// # Errors
/// An option that is not valid.
pub fn take_back<A: Args>(
    name: &'static str,
    mut args: A,
    mut program: Vec<OsString>,
) -> Result<(A, Vec<OsString>), clap::Error> {
    let command = A::augment_args_for_update(clap::Command::new(name).no_binary_name(true));
    let is_own = |arg: &OsString| {
        let text = arg.to_string_lossy();
        let long = text.strip_prefix("--").map(|long| long.split_once('=').map_or(long, |(long, _)| long));
        long.is_some_and(|long| command.get_arguments().any(|known| known.get_long() == Some(long)))
    };
    let end = program.iter().position(|arg| arg == "--");
    let own = program.iter().take(end.unwrap_or(usize::MAX)).position(is_own);
    if let Some(own) = own {
        let rest = program.split_off(own);
        args.update_from_arg_matches(&command.try_get_matches_from(rest)?)?;
    } else if let Some(end) = end {
        program.remove(end);
    }
    Ok((args, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Args)]
    struct Options {
        #[arg(long)]
        all: bool,
        #[arg(long)]
        count: Option<u8>,
    }

    fn taken(line: &str) -> (bool, Option<u8>, String) {
        let program = line.split(' ').map(OsString::from).collect();
        let (options, program) = take_back("test", Options::default(), program).unwrap();
        let words: Vec<_> = program.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        (options.all, options.count, words.join(" "))
    }

    #[test]
    fn own_long_options_behind_the_program_are_taken_back() {
        assert_eq!(taken("prog -x --their 1"), (false, None, "prog -x --their 1".into()));
        assert_eq!(taken("prog -x --all --count=3"), (true, Some(3), "prog -x".into()));
        assert_eq!(taken("prog -- --all"), (false, None, "prog --all".into()));
        let program = ["prog", "--count", "many"].map(OsString::from).to_vec();
        assert!(take_back("test", Options::default(), program).is_err());
    }
}
