//! Runs the console blocks of the README, the documentation and the transcripts, and compares what they print.
//!
//! DEVELOPERS.md describes the blocks. One file is one session of `sh`, inside `tuyagw edge -- sh` and in an empty
//! folder. `BLESS=1 cargo test` rewrites what the blocks expect, and keeps lines whose wildcards still match.
#![allow(clippy::print_stderr, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process,
    sync::Mutex,
    time::{Duration, Instant},
};

use clap::CommandFactory as _;
use tuyagw::{cli::Cli, error::Exit};

use super::{
    command::{LIMIT, PROGRAM},
    generated::{bless_tables, is_blessed, root},
};

#[test]
fn console_blocks_show_the_actual_output() {
    if is_blessed() {
        bless_tables();
    }
    let files = Mutex::new(pages());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(file) = { files.lock().unwrap().pop() } {
                    let found = check(&file);
                    failures.lock().unwrap().extend(found);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "`BLESS=1 cargo test` rewrites them:\n\n{}", failures.join("\n"));
}

#[test]
fn every_subcommand_has_its_transcript() {
    let names: BTreeSet<String> =
        transcripts().iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let tree = Cli::command();
    let subcommands: BTreeSet<String> = tree.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    assert_eq!(
        names, subcommands,
        "tests/transcripts/NAME.md is there for each subcommand and for nothing else"
    );
}

#[test]
fn every_exit_code_is_reached_by_a_transcript() {
    let mut reached = BTreeSet::new();
    for path in transcripts() {
        let page = Page::read(&path);
        reached.extend(page.commands().map(|command| split_exit(&command.expected).1));
    }
    let table: BTreeSet<i32> = Exit::TABLE.iter().map(|(Exit(code), ..)| i32::from(*code)).collect();
    let missing: Vec<_> = table.difference(&reached).collect();
    assert!(missing.is_empty(), "no transcript ends with {missing:?}");
}

#[test]
fn wildcards_match_within_a_line_and_over_lines() {
    for (pattern, text, expected) in [
        ("a[..]c", "abc", true),
        ("a[..]c", "ac", true),
        ("a[..]c", "abcd", false),
        ("[..]b[..]b", "abcb", true),
        ("a[..]a", "a", false),
        ("plain", "plain", true),
        ("plain", "plainer", false),
    ] {
        assert_eq!(line_matches(pattern, text), expected, "{pattern} {text}");
    }
    let lines = |text: &'static str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (pattern, text, expected) in [
        ("a\n...\nd", "a\nb\nc\nd", true),
        ("a\n...", "a", true),
        ("...\nd", "a\nb", false),
        ("a\nb", "a", false),
        ("", "a", false),
    ] {
        assert_eq!(matches(&lines(pattern), &lines(text)), expected, "{pattern:?} {text:?}");
    }
    let line =
        r#"{"tst":"2026-11-22T07:22:00.123456Z","mono_us":12,"x":1,"rtt_ms":0.25,"t":1795332120} in 0.01 s"#;
    assert_eq!(
        without_volatile(line),
        r#"{"tst":"[..]","mono_us":[..],"x":1,"rtt_ms":[..],"t":[..]} in [..] s"#
    );
}

/// Every page with console blocks.
fn pages() -> Vec<PathBuf> {
    let mut pages = transcripts();
    pages.extend(markdown(&root().join("docs")));
    pages.push(root().join("README.md"));
    pages
}

fn transcripts() -> Vec<PathBuf> {
    markdown(&root().join("tests/transcripts"))
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A page, cut into prose and commands.
struct Page {
    parts: Vec<Part>,
}

enum Part {
    /// A line that is no part of a console block, or a fence.
    Prose(String),
    Command(Command),
}

/// A command of a console block, with the output that the page expects of it.
#[derive(Default)]
struct Command {
    /// The line of the page where it begins, from 1.
    at: usize,
    lines: Vec<String>,
    expected: Vec<String>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut parts: Vec<Part> = Vec::new();
        let mut in_block = false;
        for (n, line) in text.lines().enumerate() {
            let fence = line.trim_start().starts_with("```");
            in_block = if fence { !in_block && line.trim() == "```console" } else { in_block };
            match (parts.last_mut(), line) {
                (_, line) if in_block && line.starts_with("$ ") => {
                    let lines = vec![line[2..].to_owned()];
                    parts.push(Part::Command(Command { at: n + 1, lines, ..Command::default() }));
                }
                (Some(Part::Command(command)), line) if in_block => match line.strip_prefix('>') {
                    Some(more) if command.expected.is_empty() => {
                        command.lines.push(more.strip_prefix(' ').unwrap_or(more).to_owned());
                    }
                    _ => command.expected.push(line.to_owned()),
                },
                (_, line) => parts.push(Part::Prose(line.to_owned())),
            }
        }
        Self { parts }
    }

    fn commands(&self) -> impl Iterator<Item = &Command> {
        self.parts.iter().filter_map(|part| match part {
            Part::Command(command) if !command.lines[0].starts_with("cargo") => Some(command),
            _ => None,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Prose(line) => text += &format!("{line}\n"),
                Part::Command(Command { lines, expected, .. }) => {
                    text += &format!("$ {}\n", lines.join("\n> ").replace("\n> \n", "\n>\n"));
                    text.extend(expected.iter().flat_map(|line| [line, "\n"]));
                }
            }
        }
        text
    }
}

/// Runs a page and returns the differences from its expected output. With `BLESS`, rewrites the page.
fn check(path: &Path) -> Vec<String> {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let mut page = Page::read(path);
    if page.commands().any(|command| command.lines.iter().any(|line| line.contains("jq "))) && !has_jq() {
        let skipped = format!("{name} is not run: its examples need jq, which is not installed");
        if std::env::var_os("CI").is_some() {
            return vec![skipped];
        }
        eprintln!("{skipped}");
        return Vec::new();
    }
    let outputs = match run(&page) {
        Ok(outputs) => outputs,
        Err(why) => return vec![format!("{name}: {why}")],
    };
    let mut failures = Vec::new();
    let commands = page.parts.iter_mut().filter_map(|part| match part {
        Part::Command(command) if !command.lines[0].starts_with("cargo") => Some(command),
        _ => None,
    });
    for (command, output) in commands.zip(outputs) {
        if matches(&command.expected, &output) {
            continue;
        }
        if is_blessed() {
            command.expected = blessed(&command.expected, &output);
        } else {
            failures.push(format!(
                "{name}:{}: $ {}\n--- expected\n{}\n--- got\n{}\n",
                command.at,
                command.lines.join("\n"),
                command.expected.join("\n"),
                output.join("\n")
            ));
        }
    }
    let text = page.text();
    if is_blessed() && text != fs::read_to_string(path).unwrap() {
        fs::write(path, text).unwrap();
    }
    failures
}

fn has_jq() -> bool {
    process::Command::new("jq").arg("--version").output().is_ok()
}

/// Runs the commands of a page in one shell, and gives the lines that each printed, the exit code last.
fn run(page: &Page) -> Result<Vec<Vec<String>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("work")).unwrap();
    let mut script = String::new();
    for (n, command) in page.commands().enumerate() {
        let lines = command.lines.join("\n");
        script += &format!("{{ {lines}\n}} >../{n}.out 2>&1\necho $? >../{n}.exit\n");
    }
    if script.is_empty() {
        return Ok(Vec::new());
    }
    fs::write(at("script"), script).unwrap();
    let log = fs::File::create(at("log")).unwrap();
    let mut session = process::Command::new(PROGRAM)
        .args(["edge", "--", "sh", "../script"])
        .current_dir(at("work"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", at("work"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while session.try_wait().unwrap().is_none() && start.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The edge hands the signal on to all that the session started.
    let _ =
        process::Command::new("kill").arg(session.id().to_string()).stderr(process::Stdio::null()).status();
    let _ = session.wait();
    let results = page.commands().enumerate().map(|(n, command)| {
        let output = fs::read(at(&format!("{n}.out"))).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        let Ok(exit) = fs::read_to_string(at(&format!("{n}.exit"))) else {
            let said = fs::read_to_string(at("log")).unwrap_or_default();
            return Err(format!("the session hung or ended at line {}: {output}{said}", command.at));
        };
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        if exit.trim() != "0" {
            lines.push(format!("[exit {}]", exit.trim()));
        }
        Ok(lines)
    });
    results.collect()
}

/// The output without its last line, where that is an exit code, and the exit code.
fn split_exit(lines: &[String]) -> (&[String], i32) {
    let code = |line: &String| line.strip_prefix("[exit ")?.strip_suffix(']')?.parse().ok();
    match lines.split_last() {
        Some((last, rest)) => code(last).map_or((lines, 0), |code| (rest, code)),
        None => (lines, 0),
    }
}

fn matches(pattern: &[String], lines: &[String]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((dots, rest)) if dots == "..." => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, more)| line_matches(first, line) && matches(rest, more))
        }
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once("[..]") {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|skip| rest.is_char_boundary(skip) && line_matches(after, &rest[skip..]))
        }),
    }
}

/// The new expected output: old lines that match, else new lines with wildcards for ids, times, ports and durations.
fn blessed(old: &[String], output: &[String]) -> Vec<String> {
    let renew = |line: &String| {
        let kept = old.iter().find(|pattern| *pattern != "..." && line_matches(pattern, line));
        kept.cloned().unwrap_or_else(|| without_volatile(line))
    };
    output.iter().map(renew).collect()
}

/// The line with wildcards in place of ids, times, ports and durations.
fn without_volatile(line: &str) -> String {
    let mut line = line.to_owned();
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    hide(&mut line, "\"", hex, |id| id.len() == 36);
    hide(&mut line, "\"foreign-", hex, |_| true);
    hide(&mut line, "tuyagw-", hex, |id| id.len() == 32);
    hide(&mut line, "\"tst\":\"", |c| c != '"', |_| true);
    for key in ["rtt_ms", "mono_us", "elapsed_ms", "t"] {
        hide(&mut line, &format!("\"{key}\":"), number, |_| true);
    }
    hide(&mut line, "127.0.0.1:", number, |port| port.len() == 5 && port != "21883");
    hide(&mut line, "round trip ", number, |_| true);
    hide(&mut line, " ms, at most ", number, |_| true);
    hide(&mut line, " in ", number, |seconds| seconds.contains('.'));
    line
}

/// Puts a wildcard in place of each run of characters that stands after `before` and is to be hidden.
fn hide(line: &mut String, before: &str, belongs: impl Fn(char) -> bool, hidden: impl Fn(&str) -> bool) {
    let mut from = 0;
    while let Some(found) = line[from..].find(before) {
        from += found + before.len();
        let length = line[from..].find(|c| !belongs(c)).unwrap_or(line.len() - from);
        if length > 0 && hidden(&line[from..from + length]) {
            line.replace_range(from..from + length, "[..]");
        }
    }
}
