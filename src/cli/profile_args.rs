//! The options that choose a profile of the configuration file.

use std::path::PathBuf;

use super::config::Profile;
use crate::{error::Failure, tuya::Topics};

/// Which profile of which configuration file is in force.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileArgs {
    /// The profile of the configuration file to use [default: the file's default-profile]
    #[arg(long, env = "TUYAGW_PROFILE", value_name = "NAME")]
    profile: Option<String>,

    /// The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]
    #[arg(long, env = "TUYAGW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ProfileArgs {
    /// Reads the profile.
    ///
    /// # Errors
    /// A file that cannot be read, or that has no such profile.
    pub fn load(&self) -> Result<Profile, Failure> {
        Profile::load(self.config.as_deref(), self.profile.as_deref())
    }

    /// Returns the topics in force.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub fn topics(&self) -> Result<Topics, Failure> {
        self.load()?.topics()
    }
}
