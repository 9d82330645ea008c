//! Reads lines as [`Record::write`] writes them in one pass; [`Record::read_any`] reads all others.
//!
//! Without this path `convert` takes 2.4 times the CPU time, `inspect` 1.7 times, `replay` 1.6 times; with a typed serde struct
//! in its place, 1.7, 1.3 and 1.3 times (docs/performance.md, "Second ways").

use super::Record;
use crate::{
    json::Scanner,
    mqtt::Direction,
    recording::time::{LONGEST_US, read_record_time},
    tuya::Channel,
};

impl<'a> Record<'a> {
    /// Reads a line with the usual fields in the order of writing, and no others; `None` for any other line.
    pub(super) fn read_fast(line: &'a [u8]) -> Option<Self> {
        let mut plain = Scanner::begin(str::from_utf8(line).ok()?);
        plain.word("{\"v\":1,\"tst\":")?;
        let unix_us = read_record_time(plain.text()?)?;
        plain.word(",\"topic\":")?;
        let topic = plain.text()?.into();
        plain.word(",\"qos\":")?;
        let qos = plain.json()?.parse().ok().filter(|qos| *qos <= 2)?;
        let retain = plain.has(",\"retain\":1");
        if !retain {
            plain.word(",\"retain\":0")?;
        }
        let dup = plain.has(",\"dup\":1");
        plain.word(",\"payloadlen\":")?;
        plain.json()?.parse::<u64>().ok()?;
        let mid = if plain.has(",\"mid\":") { Some(plain.json()?.parse().ok()?) } else { None };
        let dir = if plain.has(",\"dir\":") { Some(direction(plain.text()?)?) } else { None };
        plain.word(",\"kind\":")?;
        let kind = plain.text()?;
        let gateway_id = if plain.has(",\"gateway_id\":") { Some(plain.text()?.into()) } else { None };
        let mono_us = if plain.has(",\"mono_us\":") {
            Some(plain.json()?.parse().ok().filter(|mono_us| *mono_us <= LONGEST_US)?)
        } else {
            None
        };
        plain.word(",\"payload\":")?;
        // The meaning of null depends on the payload's length.
        let payload = plain.json().filter(|json| *json != "null")?;
        plain.word("}")?;
        plain.end()?;
        Some(Self {
            unix_us,
            topic,
            qos,
            retain,
            dup,
            mid,
            dir,
            channel: Channel::ALL.into_iter().find(|channel| channel.kind() == kind),
            gateway_id,
            mono_us,
            payload: payload.as_bytes().into(),
            is_json: false,
            unknown: Vec::new(),
        })
    }
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::Up, Direction::Down].into_iter().find(|direction| direction.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(line: &[u8]) -> Option<String> {
        Record::read_any(line).ok().flatten().map(|record| format!("{record:?}"))
    }

    fn line(channel: Option<Channel>, payload: &str, mid: Option<u16>, dup: bool) -> Vec<u8> {
        let record = Record {
            unix_us: 1_795_332_120_123_456,
            topic: "gateway_id/gw1/properties/report".into(),
            qos: u8::from(mid.is_some()),
            retain: !dup,
            dup,
            mid,
            dir: channel.map(Channel::direction),
            channel,
            gateway_id: channel.map(|_| "gw1".into()),
            mono_us: dup.then_some(123_456),
            payload: payload.as_bytes().into(),
            is_json: false,
            unknown: Vec::new(),
        };
        let mut line = Vec::new();
        record.write(&mut line);
        line.pop();
        line
    }

    fn lines() -> Vec<Vec<u8>> {
        let payloads = [
            r#"{"t":1785000000,"request_id":"r","param":{"cid":"m1","id":"1","value":1.10}}"#,
            r#"{ "t": 1e3, "x": [ null, true, -0.5E+7, "", {} ], "t": "é" }"#,
            "1",
            "\"payload\"",
        ];
        let mut lines = Vec::new();
        for payload in payloads {
            for mid in [None, Some(0), Some(65_535)] {
                for dup in [false, true] {
                    lines.push(line(Some(Channel::Report), payload, mid, dup));
                    lines.push(line(Some(Channel::Command), payload, mid, dup));
                    lines.push(line(None, payload, mid, dup));
                }
            }
        }
        lines
    }

    #[test]
    fn written_lines_are_read_as_the_slow_path_reads_them() {
        for line in lines() {
            let record = Record::read_fast(&line).map(|record| format!("{record:?}"));
            assert!(record.is_some(), "{}", line.escape_ascii());
            assert_eq!(record, slow(&line), "{}", line.escape_ascii());
        }
        // Lines for the slow path.
        for payload in ["null", "", "\"a\\n\"", "{\"a\":1", "\u{1b}"] {
            assert!(
                Record::read_fast(&line(Some(Channel::Report), payload, None, true)).is_none(),
                "{payload}"
            );
        }
    }

    #[test]
    fn changed_lines_are_read_alike_or_left_to_the_slow_path() {
        let lines = lines();
        let pieces: [&[u8]; 23] = [
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b" ",
            b"0",
            b"-",
            b"1e3",
            b"\xff",
            b"\x1f",
            "é".as_bytes(),
            b"\"qos\":3,",
            b"\"x\":0,",
            b",\"dup\":null",
            b",\"payload\":1",
            b",\"mid\":7",
            b"null",
            b"\\u0061",
            b"\"v\":1,",
        ];
        let mut random = fastrand::Rng::with_seed(11);
        let mut read = 0;
        for _ in 0..150_000 {
            let mut line = lines[random.usize(..lines.len())].clone();
            for _ in 0..random.u8(1..3) {
                let at = random.usize(..line.len());
                match random.u8(..4) {
                    0 => line[at] = random.u8(..),
                    1 => drop(line.remove(at)),
                    2 => drop(line.splice(at..at, pieces[random.usize(..pieces.len())].iter().copied())),
                    _ => {
                        let end = random.usize(at..line.len());
                        let part = line[at..end].to_vec();
                        let at = random.usize(..line.len());
                        line.splice(at..at, part);
                    }
                }
            }
            // As [`Record::read`] gives it.
            let line = line.trim_ascii();
            if let Some(record) = Record::read_fast(line) {
                read += 1;
                assert_eq!(Some(format!("{record:?}")), slow(line), "{}", line.escape_ascii());
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
