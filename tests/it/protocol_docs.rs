//! docs/protocol.md is test data: its JSON blocks are messages, its tables name every topic and code.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use tuyagw::{
    mqtt::{ConnectCode, Direction},
    tuya::{Channel, Downlink, Envelope, GatewayId, ResultCode, Topics, Uplink},
};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md")).unwrap()
}

/// The fenced blocks: the line they begin at, the words after the fence, and what they hold.
fn blocks(page: &str) -> Vec<(usize, &str, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let inside: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
            blocks.push((at + 1, info, inside.join("\n")));
        }
    }
    blocks
}

#[test]
fn every_json_block_is_a_message_of_its_kind() {
    let page = page();
    let mut shown = BTreeSet::new();
    for (line, info, block) in blocks(&page) {
        let Some(tag) = info.strip_prefix("json") else { continue };
        let (direction, kind) = tag
            .trim()
            .split_once(' ')
            .unwrap_or_else(|| panic!("docs/protocol.md:{line}: a block begins with `json DIRECTION KIND`"));
        let channel = Channel::ALL
            .into_iter()
            .find(|channel| channel.kind() == kind)
            .unwrap_or_else(|| panic!("docs/protocol.md:{line}: {kind:?} is no kind"));
        let again = match (direction, channel.direction()) {
            ("uplink", Direction::Up) => {
                Envelope::<Uplink>::decode(channel, block.as_bytes()).map(|m| m.encode())
            }
            ("downlink", Direction::Down) => {
                Envelope::<Downlink>::decode(channel, block.as_bytes()).map(|m| m.encode())
            }
            _ => panic!("docs/protocol.md:{line}: {kind} is no {direction}"),
        };
        let again = again.unwrap_or_else(|why| panic!("docs/protocol.md:{line}: {why}"));
        let (expected, found): (Value, Value) =
            (serde_json::from_str(&block).unwrap(), serde_json::from_slice(&again).unwrap());
        assert_eq!(found, expected, "docs/protocol.md:{line}");
        shown.insert(kind.to_owned());
    }
    let all: BTreeSet<_> = Channel::ALL.into_iter().map(|channel| channel.kind().to_owned()).collect();
    assert_eq!(shown, all, "every message has a block");
}

#[test]
fn the_tables_name_every_topic_and_code() {
    let page = page();
    let gateway = GatewayId::new("{gateway_id}").unwrap();
    let topics = Topics::default();
    for channel in Channel::ALL {
        let publisher = if channel.direction() == Direction::Up { "gateway" } else { "edge" };
        let row = format!("| `{}` | {publisher} | `{}` |", topics.topic(channel, &gateway), channel.kind());
        assert!(page.contains(&row), "no row {row}");
        let key = format!("\n{} = \"gateway/", channel.key());
        assert!(page.contains(&key), "the profile of the sample topics lacks {}", channel.key());
    }
    let connect = ConnectCode::TABLE.iter().filter(|known| known.code <= 5);
    for known in ResultCode::TABLE.iter().chain(connect) {
        let row = format!("| {} | {} |", known.code, known.name);
        assert!(page.contains(&row), "no row {row}");
    }
}
