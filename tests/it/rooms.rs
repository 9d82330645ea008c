//! The rooms of `src`, from the bottom to the top: a room names rooms above it in the list, never below, and pure rooms name
//! only the crates that stand beside them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::generated::root;

/// A top-level module of the library.
struct Room {
    name: &'static str,
    /// The rooms that it may name.
    rooms: &'static str,
    /// The crates that it may name; `None` for a room that is not pure.
    crates: Option<&'static str>,
}

const fn pure(name: &'static str, rooms: &'static str, crates: &'static str) -> Room {
    Room { name, rooms, crates: Some(crates) }
}

const fn shell(name: &'static str, rooms: &'static str) -> Room {
    Room { name, rooms, crates: None }
}

/// The allow list.
const ROOMS: [Room; 21] = [
    pure("text", "", ""),
    pure("collections", "", "foldhash"),
    pure("rate", "", ""),
    pure("duration", "", "jiff"),
    pure("json", "text", "itoa serde serde_json smol_str"),
    pure("error", "", "anyhow"),
    pure("wrapping", "error", ""),
    // MQTT 3.1.1 knows nothing of the vendor's protocol.
    pure("mqtt", "text collections", "bytes rumqttc"),
    pure("tuya", "text collections json mqtt", "csv hex md5 serde serde_json smol_str"),
    // The two halves of the protocol do not know each other.
    pure("gateway", "text collections rate json mqtt tuya", "bytes md5 smol_str"),
    // What the agent knows beside the gateway: its local programs.
    pure("agent", "collections mqtt tuya", "bytes hex md5 serde serde_json smol_str"),
    pure("edge", "text duration collections json mqtt tuya", "bytes fastrand serde serde_json smol_str"),
    pure(
        "recording",
        "text duration collections rate json mqtt tuya",
        "base64 bytes csv etherparse jiff pcap_parser serde serde_json smol_str",
    ),
    pure(
        "request",
        "text duration collections rate json error mqtt tuya gateway",
        "bytes csv hex md5 serde serde_json smol_str",
    ),
    pure("spool", "collections", "bytes crc32fast smol_str"),
    pure("stats", "text collections json mqtt tuya recording", "jiff serde serde_json smol_str"),
    // The sockets know neither the vendor's protocol nor recordings: the server calls a trait.
    shell("net", "text collections rate error wrapping mqtt"),
    shell("io", "text duration collections rate json error wrapping mqtt tuya edge recording request spool"),
    shell(
        "run",
        "text duration collections rate json error wrapping mqtt tuya gateway agent edge recording request spool stats net io",
    ),
    shell(
        "cli",
        "text duration collections rate json error wrapping mqtt tuya gateway agent edge recording request spool stats net io run",
    ),
    shell("lib", ""),
];

/// What carries the lint for a room, and for all below it.
const PURITY: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

#[test]
fn rooms_name_only_the_rooms_and_crates_of_the_allow_list() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    let mut debts: BTreeSet<_> =
        DEBTS.iter().map(|(file, name)| ((*file).to_owned(), (*name).to_owned())).collect();
    for file in rust_files(&root().join("src")) {
        let name = file.strip_prefix(root().join("src")).unwrap().display().to_string();
        let room_name = name.split(['/', '.']).next().unwrap();
        if room_name == "main" {
            continue;
        }
        let room = ROOMS.iter().find(|room| room.name == room_name);
        let room = room.unwrap_or_else(|| panic!("src/{name} belongs to no room of the list"));
        let code = code_of(&file);
        for used in rooms_named(&code) {
            let is_allowed = used == room_name || room.rooms.split(' ').any(|allowed| allowed == used);
            if !is_allowed && !debts.remove(&(name.clone(), used.clone())) {
                wrong.push(format!("src/{name} names the room {used}"));
            }
        }
        if let Some(crates) = room.crates {
            for used in dependencies.iter().filter(|dependency| names_crate(&code, dependency)) {
                let is_allowed = crates.split(' ').any(|allowed| allowed == used);
                if !is_allowed && !debts.remove(&(name.clone(), used.clone())) {
                    wrong.push(format!("src/{name} names the crate {used}"));
                }
            }
        }
    }
    assert!(debts.is_empty(), "no longer true, to be taken off the list: {debts:?}");
    assert!(wrong.is_empty(), "not in the allow list of tests/it/rooms.rs:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_carry_the_lint() {
    for room in ROOMS.iter().filter(|room| room.crates.is_some()) {
        let folder = root().join("src").join(room.name);
        let head = if folder.is_dir() { folder.join("mod.rs") } else { folder.with_extension("rs") };
        let text = fs::read_to_string(&head).unwrap();
        let carries = text.lines().any(|line| line == PURITY);
        assert!(carries, "{} begins with {PURITY}", head.display());
    }
}

/// The rooms named behind `crate::`, in paths and in trees of `use`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            let (mut depth, mut begins) = (1, true);
            for (at, character) in tree.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 1 => break,
                    '}' => depth -= 1,
                    ',' if depth == 1 => begins = true,
                    _ if begins && depth == 1 && !character.is_whitespace() => {
                        rooms.insert(identifier(&tree[at..]));
                        begins = false;
                    }
                    _ => {}
                }
            }
        } else {
            rooms.insert(identifier(rest));
        }
    }
    rooms
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The names by which the code knows the dependencies.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let table = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") }).collect()
}

/// A file without its unit tests and comments.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |code, line| code + line + "\n")
}

/// The files of a folder and its folders, but for those that hold only tests.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("schedules.rs")
        {
            files.push(path);
        }
    }
    files
}

/// Files that name what the allow list forbids them, with what they name. An entry that is no longer true fails the test.
const DEBTS: &[(&str, &str)] = &[];
