//! Configuration files: any text is read or refused with the file's name, and never with a panic.

use std::{fs, path::PathBuf, sync::LazyLock};

use tuyagw::cli::config::Profile;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("tuyagw-fuzz-{}.toml", std::process::id())));

/// Panics where the promise above is broken.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    fs::write(&*FILE, text).expect("a temporary file");
    for name in [None, Some("a")] {
        match Profile::load(Some(&FILE), name) {
            Ok(profile) => drop(profile.topics()),
            Err(why) => assert!(format!("{why:?}").contains("tuyagw-fuzz"), "{why:?}"),
        }
    }
}
