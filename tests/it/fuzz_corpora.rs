//! Each fuzz target's function on its corpus, and on every beginning of each file of it: what a fuzzer once found stays
//! mended, and the functions hold without a fuzzer.

use std::{fs, path::Path};

/// Makes the list of targets, each with the functions' file beside the target's.
macro_rules! targets {
    ($($name:ident in $file:literal,)+) => {
        $(
            #[path = $file]
            mod $name;
        )+

        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::check),)+];
    };
}

targets! {
    config in "../../fuzz/checks/config.rs",
    filter in "../../fuzz/checks/filter.rs",
    message in "../../fuzz/checks/message.rs",
    model in "../../fuzz/checks/model.rs",
    packet in "../../fuzz/checks/packet.rs",
    record in "../../fuzz/checks/record.rs",
    session in "../../fuzz/checks/session.rs",
}

/// Beginnings of longer files are too many to try them all.
const BEGINNINGS: usize = 400;

fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn fuzz_targets_hold_on_their_corpora() {
    for (name, check) in TARGETS {
        let mut files = files(&format!("fuzz/corpus/{name}"));
        assert!(!files.is_empty(), "{name} has no corpus");
        if *name == "model" {
            files.extend(self::files("tests/models"));
        }
        for file in files {
            check(&file);
            (0..file.len().min(BEGINNINGS)).for_each(|length| check(&file[..length]));
        }
    }
}

#[test]
fn fuzz_targets_are_all_tested() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut found: Vec<_> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
