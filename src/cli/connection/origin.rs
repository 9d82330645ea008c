//! Settings that may come from the command line, the environment or a profile, and the words for where one comes from.

use std::{ffi::OsStr, fmt};

use crate::{cli::config::Profile, error::Failure, tuya::check_login_name};

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// As an option on the command line.
    Flag(&'static str),
    /// In an environment variable, in the place of the option.
    Variable(&'static str, &'static str),
    /// In a profile: the option, and the file.
    Profile(&'static str, String),
}

impl Origin {
    /// Where the value of an option was given that is not from a profile.
    pub fn of(option: &'static str, variable: &'static str, value: &OsStr) -> Self {
        // clap has merged both. A flag that says the same as the variable makes no difference.
        if std::env::var_os(variable).is_some_and(|set| set == value) {
            Self::Variable(option, variable)
        } else {
            Self::Flag(option)
        }
    }

    /// Checks a client id or a username that was given here.
    ///
    /// # Errors
    /// What [`check_login_name`] finds.
    pub fn check_name(&self, text: &str) -> Result<(), Failure> {
        check_login_name(text).map_err(|why| {
            Failure::invalid(format!("{self}: {why}"))
                .hint(r"A file with the line ends of Windows leaves '\r' behind: `tr -d '\r'` takes it away")
        })
    }

    /// What takes the setting away.
    pub fn removal(&self) -> String {
        match self {
            Self::Flag(option) => format!("leave {option} out"),
            Self::Variable(_, variable) => format!("unset {variable}"),
            Self::Profile(option, file) => format!("take {} out of {file}", key(option)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(option) => f.write_str(option),
            Self::Variable(option, variable) => write!(f, "{option} (from {variable})"),
            Self::Profile(option, file) => write!(f, "{option} ({} in {file})", key(option)),
        }
    }
}

/// The key of an option in a profile.
fn key(option: &str) -> &str {
    option.trim_start_matches('-')
}

/// A text from the command line or the environment, else from the profile, and where it was given.
pub fn pick(
    option: &'static str,
    variable: &'static str,
    given: Option<&String>,
    in_profile: Option<&String>,
    profile: &Profile,
) -> Option<(String, Origin)> {
    match (given, in_profile) {
        (Some(text), _) => Some((text.clone(), Origin::of(option, variable, text.as_ref()))),
        (None, Some(text)) => Some((text.clone(), Origin::Profile(option, profile.file()))),
        (None, None) => None,
    }
}
