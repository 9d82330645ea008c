//! The tables of `docs/architecture.md` that walk through the code.

use std::{collections::BTreeSet, fs};

use super::generated::root;

/// A row: the number of the file, its path, and the functions that are named.
struct Stop {
    number: String,
    file: String,
    functions: Vec<String>,
}

/// The tables whose heading ends with "way".
fn walks() -> Vec<(String, Vec<Stop>)> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let sections = page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    sections
        .filter(|(title, _)| title.ends_with("way"))
        .map(|(title, text)| (title.to_owned(), text.lines().filter_map(stop).collect()))
        .collect()
}

fn stop(row: &str) -> Option<Stop> {
    let [_, number, file, functions, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
        return None;
    };
    let file = file.strip_prefix('`')?.strip_suffix('`')?.to_owned();
    let is_function = |name: &&str| {
        let last = name.rsplit("::").next().unwrap_or_default();
        last.starts_with(|first: char| first.is_lowercase())
    };
    let functions = functions.split('`').skip(1).step_by(2).filter(is_function).map(str::to_owned).collect();
    Some(Stop { number: number.to_owned(), file, functions })
}

#[test]
fn every_file_and_function_of_a_walk_exists() {
    for (title, stops) in walks() {
        for Stop { file, functions, .. } in stops {
            let code =
                fs::read_to_string(root().join(&file)).unwrap_or_else(|why| panic!("{title}: {file}: {why}"));
            assert!(!functions.is_empty(), "{title}: {file} has no function");
            for name in functions {
                let (owner, function) = name.split_once("::").unwrap_or(("", &name));
                let is_there = ["(", "<"].iter().any(|end| code.contains(&format!("fn {function}{end}")));
                assert!(is_there, "{title}: {file} has no function {function}");
                let is_owned = code.lines().any(|line| {
                    line.starts_with("impl")
                        && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == owner)
                });
                assert!(owner.is_empty() || is_owned, "{title}: {file} has no impl of {owner}");
            }
        }
    }
}

#[test]
fn a_walk_has_at_most_ten_files_and_a_number_is_one_file() {
    let walks = walks();
    let titles: Vec<_> = walks.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles, ["A report's way", "A command's way", "A recorded message's way"]);
    for (title, stops) in &walks {
        let files: BTreeSet<_> = stops.iter().map(|stop| &stop.file).collect();
        let pairs: BTreeSet<_> = stops.iter().map(|stop| (&stop.number, &stop.file)).collect();
        assert!((5..=10).contains(&files.len()), "{title}: {files:?}");
        assert_eq!(files.len(), pairs.len(), "{title}: a file has two numbers");
    }
}
