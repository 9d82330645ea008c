//! Lines as [`Record::write`] writes them, read in one pass; what is written in another way is read with care.

use super::{Record, number::LONGEST_US};
use crate::{json::Scanner, mqtt::Direction, tuya::Channel};

impl<'a> Record<'a> {
    /// The record of a line that has what is usual, in the order of writing, and nothing else.
    pub(super) fn usual(line: &'a [u8]) -> Option<Self> {
        let mut plain = Scanner::begin(str::from_utf8(line).ok()?);
        plain.word("{\"v\":1,\"tst\":")?;
        let unix_us = unix_us(plain.text()?)?;
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
        // What a null means depends on its length.
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

/// The microseconds since 1970 of a time in UTC with microseconds, such as `2026-11-22T07:22:00.123456Z`.
fn unix_us(text: &str) -> Option<i64> {
    let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let number = |start: usize, end: usize| {
        text[start..end]
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, us) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is left to those who know what to make of it.
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // The proleptic Gregorian calendar, in years that begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + us)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn careful(line: &[u8]) -> Option<String> {
        Record::careful(line).ok().flatten().map(|record| format!("{record:?}"))
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
    fn what_is_written_is_read_as_the_careful_way_reads_it() {
        for line in lines() {
            let record = Record::usual(&line).map(|record| format!("{record:?}"));
            assert!(record.is_some(), "{}", line.escape_ascii());
            assert_eq!(record, careful(&line), "{}", line.escape_ascii());
        }
        // These need care.
        for payload in ["null", "", "\"a\\n\"", "{\"a\":1", "\u{1b}"] {
            assert!(Record::usual(&line(Some(Channel::Report), payload, None, true)).is_none(), "{payload}");
        }
    }

    #[test]
    fn what_is_changed_is_read_alike_or_with_care() {
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
            if let Some(record) = Record::usual(line) {
                read += 1;
                assert_eq!(Some(format!("{record:?}")), careful(line), "{}", line.escape_ascii());
            }
        }
        assert!(read > 10_000, "{read}");
    }

    #[test]
    fn times_are_jiff_s() {
        let day = 86_400_000_000_i64;
        // Some days of all years, and every one of the year 2000, which is a leap year after all.
        for n in (-719_528..2_932_896_i64).step_by(53).chain(10_957..11_323) {
            let expected = n * day + n.rem_euclid(day / 1_000_003) * 1_000_003;
            let text = format!("{:.6}", Timestamp::from_microsecond(expected).unwrap());
            assert_eq!(unix_us(&text), Some(expected), "{text}");
        }
        let mut random = fastrand::Rng::with_seed(3);
        let mut times = 0;
        for _ in 0..100_000 {
            let (year, month, day) = (random.u16(1890..2110), random.u8(0..14), random.u8(0..33));
            let (hour, minute, second) = (random.u8(0..26), random.u8(0..62), random.u8(0..62));
            let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000001Z");
            if random.u8(..4) == 0 {
                let at = random.usize(..text.len());
                text.replace_range(at..=at, ["-", ":", "Z", "+", " ", "9"][random.usize(..6)]);
            }
            if let Some(found) = unix_us(&text) {
                times += 1;
                assert_eq!(text.parse().map(Timestamp::as_microsecond).ok(), Some(found), "{text}");
            }
        }
        assert!(times > 50_000, "{times}");
    }
}
