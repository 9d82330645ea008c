//! The house's conventions, where a test can hold them.

use std::{fs, path::Path, process::Command};

use super::generated::root;

/// `.cargo/static` links what is released, and nothing that was asked for otherwise; `echo` stands for the compiler.
#[cfg(unix)]
#[test]
fn the_released_program_alone_is_linked_statically() {
    let flags_of = |args: &str| {
        let mut command = Command::new(root().join(".cargo/static"));
        let output = command.arg("echo").args(args.split(' ')).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.trim_end().strip_prefix(args).unwrap_or_else(|| panic!("{args}: {said}")).to_owned()
    };
    let released = "--crate-name tuyagw --crate-type bin -C lto=fat";
    let can_be = cfg!(all(target_arch = "x86_64", target_os = "linux"))
        && Command::new("cc").arg("-print-file-name=libc.a").output().is_ok_and(|found| {
            let name = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
            Path::new(&name).exists()
        });
    let expected = if can_be { " -C target-feature=+crt-static" } else { "" };
    assert_eq!(flags_of(released), expected);
    for other in [
        format!("{released} --target x86_64-unknown-linux-gnu"),
        released.replace(" -C lto=fat", ""),
        released.replace("--crate-type bin", "--crate-type lib"),
        released.replace("--crate-type bin", "--crate-type proc-macro"),
    ] {
        assert_eq!(flags_of(&other), "", "{other}");
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["unimple", "mented!"].concat(),
        ["to", "do!("].concat(),
    ];
    for (name, text) in
        tracked_texts().iter().filter(|(name, _)| name.starts_with("src/") || name.starts_with("tests/it/"))
    {
        for (n, line) in text.lines().enumerate() {
            let word = words.iter().find(|word| line.contains(*word));
            assert!(word.is_none(), "{name}:{}: {}", n + 1, word.unwrap());
        }
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    for (name, text) in tracked_texts() {
        for (n, line) in text.lines().enumerate() {
            // Parts, so that this file does not hold what it looks for.
            for path in [["/ho", "me/"], ["/ro", "ot/"], ["/wo", "rk/"], ["/Us", "ers/"], ["C:", "\\Users"]]
                .map(|parts| parts.concat())
            {
                assert!(!line.contains(&path), "{name}:{}: a path of one machine, {path}", n + 1);
            }
        }
    }
}

#[test]
fn the_changelog_names_the_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(changelog.lines().any(|line| line.starts_with(&heading)), "CHANGELOG.md has no {heading}");
}

#[test]
fn links_lead_somewhere_and_every_page_is_linked() {
    let pages: Vec<_> = tracked_texts().into_iter().filter(|(name, _)| is_page(name)).collect();
    let mut linked = Vec::new();
    for (name, text) in &pages {
        let folder = Path::new(name).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = root().join(folder).join(link);
            assert!(target.exists(), "{name} links to {link}, which is not there");
            linked.push(target.canonicalize().unwrap());
        }
    }
    for (name, _) in pages.iter().filter(|(name, _)| name.starts_with("docs/")) {
        assert!(linked.contains(&root().join(name).canonicalize().unwrap()), "no page links to {name}");
    }
}

/// Pages that people read, transcripts aside.
fn is_page(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "md") && !name.starts_with("tests/")
}

/// Every file that git keeps, or without git every file of the source, that is text.
fn tracked_texts() -> Vec<(String, String)> {
    let listed =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let names = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => return Vec::new(),
    };
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?));
    names.lines().filter_map(read).collect()
}

/// `cargo test` takes a minute because only slow tests are ignored; `.ci/run` runs them, too.
#[test]
fn ignored_tests_are_slow_and_say_why() {
    let is_rust = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "rs");
    for (name, text) in tracked_texts().into_iter().filter(|(name, _)| is_rust(name)) {
        for (number, line) in (1..).zip(text.lines()) {
            let attribute = line.trim_start();
            let reason = attribute.strip_prefix("#[ignore = \"slow: ").map_or(0, str::len);
            assert!(
                !attribute.starts_with("#[ignore") || reason > 10,
                "{name}:{number}: write #[ignore = \"slow: …\"], with the reason"
            );
        }
    }
    let gate = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(gate.contains("--include-ignored"));
}
