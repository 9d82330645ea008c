//! Configuration files: any text is read or refused with the file's name, and never with a panic.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tuyagw::commands::config::Profile;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("tuyagw-fuzz-{}.toml", std::process::id())));

fuzz_target!(|text: &str| {
    fs::write(&*FILE, text).expect("a temporary file");
    for name in [None, Some("a")] {
        match Profile::load(Some(&FILE), name) {
            Ok(profile) => drop(profile.topics()),
            Err(why) => assert!(format!("{why:?}").contains("tuyagw-fuzz"), "{why:?}"),
        }
    }
});
