//! Settings from the command line, the environment or a profile, and how messages name their origin.

use std::{ffi::OsStr, fmt};

use crate::{cli::config::Profile, error::Failure, tuya::check_login_name};

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// As an option on the command line.
    Flag(&'static str),
    /// In the environment variable of the option.
    Variable(&'static str, &'static str),
    /// In a profile: the option, and the file.
    Profile(&'static str, String),
}

impl Origin {
    /// Returns whether a value is from the option or from its environment variable.
    pub fn of(option: &'static str, variable: &'static str, value: &OsStr) -> Self {
        // clap has merged both. If the two are equal, either name is right.
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
                .hint(r"A file with CR LF line ends leaves '\r' behind: `tr -d '\r'` removes it")
        })
    }

    /// Returns how to remove the setting.
    pub fn removal(&self) -> String {
        match self {
            Self::Flag(option) => format!("leave out {option}"),
            Self::Variable(_, variable) => format!("unset {variable}"),
            Self::Profile(option, file) => format!("remove {} from {file}", key(option)),
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

/// Returns a setting from the command line or the environment, else from the profile, and its origin.
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
