//! The files of a command line, and the rule that no two parts of a run write to the same one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

use super::config::Profile;
use crate::{
    error::Failure,
    io::files::{FileUse, RunFiles},
};

/// Refuses a command line if one part of it would overwrite the file of another part.
///
/// Every argument that is a path counts, of any subcommand, so a new option needs no mention here unless its file is written.
///
/// # Errors
/// Two parts that name the same file, and at least one of them writes to it.
pub fn check(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((subcommand, matches)) = matches.subcommand() else { return Ok(()) };
    let mut files = RunFiles::default();
    for id in matches.ids() {
        let id = id.as_str();
        if let Ok(Some(paths)) = matches.try_get_many::<PathBuf>(id) {
            for path in paths {
                files.add(&name(id), path, usage(subcommand, id));
            }
        } else if let ("values", Ok(Some(values))) = (id, matches.try_get_many::<OsString>(id)) {
            // An argument with = is a data point.
            for file in values.filter(|value| !value.as_encoded_bytes().contains(&b'=')) {
                files.add("FILE", Path::new(file), FileUse::Read);
            }
        }
    }
    if files.writes() {
        for (key, path) in profile_files(matches) {
            files.add(&format!("{key} of the profile"), &path, FileUse::Read);
        }
    }
    files.add_standard_streams();
    files.check()
}

/// Returns what a subcommand does with the file of an argument.
fn usage(subcommand: &str, id: &str) -> FileUse {
    match (subcommand, id) {
        (_, "summary" | "html") => FileUse::Replace,
        (_, "out" | "journal") | ("edge", "devices") => FileUse::Append,
        _ => FileUse::Read,
    }
}

fn name(id: &str) -> String {
    match id {
        "file" => "FILE".to_owned(),
        option => format!("--{}", option.replace('_', "-")),
    }
}

/// Returns the configuration file and the files that the profile in force names. The subcommand reads the profile, too, and
/// reports its errors.
fn profile_files(matches: &ArgMatches) -> Vec<(&'static str, PathBuf)> {
    let Ok(config) = matches.try_get_one::<PathBuf>("config") else { return Vec::new() };
    let name = matches.try_get_one::<String>("profile").ok().flatten();
    let profile = Profile::load(config.map(PathBuf::as_path), name.map(String::as_str));
    profile.map(|profile| profile.files()).unwrap_or_default()
}
