//! Completions, man pages and docs/cli.md are made from the program and must be what the repository holds.
//!
//! `BLESS=1 cargo test` rewrites them and removes what is no longer made; without it, every difference fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, CommandFactory as _, ValueEnum as _};
use clap_complete::{Generator as _, Shell};
use tuyagw::{cli::Cli, error::Exit};

use super::process::tuyagw;

/// File names and contents.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn shell_completions_are_as_generated() {
    let mut files = Files::new();
    for shell in Shell::value_variants() {
        let output =
            tuyagw().args(["completions", &shell.to_string()]).output().expect("the binary was built");
        assert!(output.status.success(), "{shell}: {output:?}");
        files.insert(shell.file_name("tuyagw"), output.stdout);
    }
    hold("completions", &files);
}

#[test]
fn man_pages_are_as_generated() {
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
    let files = names(folder.path()).into_iter().map(|name| {
        let page = fs::read_to_string(folder.path().join(&name)).unwrap();
        (name, sections(&page).into_bytes())
    });
    hold("docs/man", &files.collect());
}

/// Replaces the generator's section EXTRA by the usual sections of a manual page.
fn sections(page: &str) -> String {
    let page = page.replace("\n.SH EXTRA\nExit codes:\n", "\n.SH \"EXIT STATUS\"\n");
    let page = page.replace("\n.SH EXTRA\nEXAMPLES\n", "\n.SH EXAMPLES\n");
    let page = page.replace("\n.SH EXTRA\n", "\n.SH NOTES\n").replace("\nEXAMPLES\n", "\n.SH EXAMPLES\n");
    // Lines of examples stay as they are.
    let Some((before, examples)) = page.split_once("\n.SH EXAMPLES\n") else { return page };
    let (examples, after) = examples.find("\n.SH ").map_or((examples, ""), |end| examples.split_at(end));
    format!("{before}\n.SH EXAMPLES\n.nf\n{}\n.fi{after}", examples.trim_end())
}

#[test]
fn the_reference_is_as_generated() {
    let page = reference_page();
    let path = root().join("docs/cli.md");
    if is_blessed() {
        fs::write(path, page).unwrap();
    } else if let Some(difference) = difference("docs/cli.md", &path, page.as_bytes()) {
        stale(&[difference]);
    }
}

#[test]
fn tables_in_the_documentation_are_as_generated() {
    // Blessing is left to the test of the console blocks, which rewrites the same pages.
    if !is_blessed() {
        for (name, page) in pages_with_tables() {
            let path = root().join(name);
            if let Some(difference) = difference(name, &path, page.as_bytes()) {
                stale(&[difference]);
            }
        }
    }
}

/// What docs/reliability.md claims beside its generated tables names the test that holds it.
#[test]
fn every_claim_of_the_reliability_page_names_a_test() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (_, claims) = page.split_once("<!-- end misbehaviours -->").unwrap();
    let rows: Vec<_> = claims.lines().filter(|line| line.ends_with("` |")).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let path = row.trim_end_matches("` |").rsplit('`').next().unwrap();
        let (module, name) = path.rsplit_once("::").unwrap_or_else(|| panic!("no test: {row}"));
        let place = module.replace("::", "/");
        let text = ["tests/it", "src"].iter().find_map(|folder| {
            fs::read_to_string(root().join(folder).join(&place).with_extension("rs")).ok()
        });
        let text = text.unwrap_or_else(|| panic!("{module} is no module: {row}"));
        let (before, _) =
            text.split_once(&format!("fn {name}() {{")).unwrap_or_else(|| panic!("no {path}: {row}"));
        // Attributes stand between `#[test]` and the function.
        let mut lines =
            before.trim_end().lines().rev().map(str::trim).take_while(|line| line.starts_with("#["));
        assert!(lines.any(|line| line == "#[test]"), "{path} is no test: {row}");
    }
}

/// Writes the tables of hand-written pages anew.
pub fn bless_tables() {
    for (name, page) in pages_with_tables() {
        fs::write(root().join(name), page).unwrap();
    }
}

/// Hand-written pages with what should stand between their markers, `<!-- begin NAME -->` and `<!-- end NAME -->`.
fn pages_with_tables() -> Vec<(&'static str, String)> {
    let with = |page: &'static str, names: &[&str]| {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let text = names.iter().fold(text, |text, name| {
            let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
            let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
            let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
            let table = match *name {
                "exit codes" => exit_codes(),
                "misbehaviours" => super::client::table(),
                _ => subcommands("docs/cli.md"),
            };
            format!("{before}{begin}{table}{end}{after}")
        });
        (page, text)
    };
    vec![
        with("README.md", &["subcommands", "exit codes"]),
        with("docs/output.md", &["exit codes"]),
        with("docs/reliability.md", &["misbehaviours"]),
    ]
}

/// Holds a folder to files that were made: the same names, the same bytes, nothing else.
fn hold(folder: &str, made: &Files) {
    let path = root().join(folder);
    let found = names(&path);
    let orphans = found.iter().filter(|name| !made.contains_key(*name));
    if is_blessed() {
        orphans.for_each(|name| fs::remove_file(path.join(name)).unwrap());
        fs::create_dir_all(&path).unwrap();
        for (name, bytes) in made {
            fs::write(path.join(name), bytes).unwrap();
        }
        return;
    }
    let mut stale_files: Vec<String> =
        orphans.map(|name| format!("{folder}/{name}: is no longer generated")).collect();
    for (name, bytes) in made {
        stale_files.extend(difference(&format!("{folder}/{name}"), &path.join(name), bytes));
    }
    if !stale_files.is_empty() {
        stale(&stale_files);
    }
}

fn stale(files: &[String]) {
    panic!("generated files are stale; `BLESS=1 cargo test` rewrites them:\n{}", files.join("\n"));
}

fn difference(name: &str, path: &Path, made: &[u8]) -> Option<String> {
    let Ok(held) = fs::read(path) else { return Some(format!("{name}: is missing")) };
    if held == made {
        return None;
    }
    let (held, made) = (String::from_utf8_lossy(&held), String::from_utf8_lossy(made));
    let line = held.lines().zip(made.lines()).take_while(|(held, made)| held == made).count();
    let show = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    Some(format!("{name}:{}: holds {:?}, should hold {:?}", line + 1, show(&held), show(&made)))
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn is_blessed() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

fn reference_page() -> String {
    let mut tree = Cli::command();
    tree.build();
    let mut page =
        String::from("# The command line\n\nMade from the program by `BLESS=1 cargo test`; do not edit.\n\n");
    page += &format!("{}.\n\n", text(tree.get_long_about().or(tree.get_about())).trim_end_matches('.'));
    page += &subcommands("");
    page += "\n## Options of every subcommand\n\n";
    tree.get_arguments().filter(|arg| arg.is_global_set()).for_each(|arg| page += &item(arg));
    for command in tree.get_subcommands() {
        page += &section(command);
    }
    page += "\n## Exit codes\n\n";
    page += &exit_codes();
    page += "\nOf several, the first of 3, 4, 6, 5, 2, 1 wins; 130 and 143 beat all others.\n";
    page
}

/// The subcommands as a table, with links into the reference page.
fn subcommands(page: &str) -> String {
    let mut table = String::from("| subcommand | what it does |\n| --- | --- |\n");
    for command in Cli::command().get_subcommands() {
        let (name, about) = (command.get_name(), cell(&text(command.get_about())));
        table += &format!("| [`{name}`]({page}#tuyagw-{name}) | {about} |\n");
    }
    table
}

/// The exit codes as a table.
fn exit_codes() -> String {
    let mut table = String::from("| code | meaning | what to do |\n| --- | --- | --- |\n");
    for (Exit(code), meaning, hint) in Exit::TABLE {
        table += &format!("| {code} | {} | {} |\n", cell(meaning), cell(hint));
    }
    table
}

fn section(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let mut page = format!(
        "\n## `tuyagw {}`\n\n{}.\n\n```text\n{}\n```\n",
        command.get_name(),
        text(command.get_long_about().or(command.get_about())).trim_end_matches('.'),
        usage.trim_start_matches("Usage: ").trim_end()
    );
    let mut headings: Vec<&str> = Vec::new();
    let shown = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
    for arg in command.get_arguments().filter(shown) {
        if !headings.contains(&heading(arg)) {
            headings.push(heading(arg));
        }
    }
    // Positional arguments stand first in the help, too.
    headings.sort_by_key(|heading| *heading != "Arguments");
    for title in headings {
        page += &format!("\n**{title}**\n\n");
        for arg in command.get_arguments().filter(shown).filter(|arg| heading(arg) == title) {
            page += &item(arg);
        }
    }
    let after = text(command.get_after_long_help().or(command.get_after_help()));
    if !after.is_empty() {
        page += &format!("\n```text\n{}\n```\n", after.trim_end());
    }
    page
}

fn heading(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or(if arg.is_positional() { "Arguments" } else { "Options" })
}

/// One argument as an item of a list: its forms, environment, default, values and help.
fn item(arg: &Arg) -> String {
    let forms = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => String::new(),
    };
    let takes_value = arg.get_action().takes_values();
    let values = arg.get_value_names().filter(|_| takes_value).unwrap_or_default();
    let name = values.iter().fold(forms, |name, value| format!("{name} <{value}>"));
    let mut notes = Vec::new();
    if let Some(variable) = arg.get_env() {
        notes.push(format!("environment `{}`", variable.to_string_lossy()));
    }
    if takes_value && !arg.get_default_values().is_empty() {
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        notes.push(format!("default `{}`", defaults.join(" ")));
    }
    let possible = arg.get_possible_values();
    if takes_value && !possible.is_empty() && !arg.is_hide_possible_values_set() {
        let names: Vec<_> = possible
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(clap::builder::PossibleValue::get_name)
            .collect();
        notes.push(format!("one of `{}`", names.join("`, `")));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    let help = text(arg.get_long_help().or(arg.get_help()));
    format!("- `{}`{notes}: {}\n", name.trim(), help.replace("\n\n", "\n").replace('\n', "\n  "))
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
