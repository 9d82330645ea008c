//! Recordings as CSV without a header, as rpdswtk's mqtt_recorder writes them: topic, payload, qos, retain
//! (`True` or `False`), time in epoch seconds, seconds since the row before.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use csv::ByteRecord;

use super::{Found, Harm, Record, RecordError, Tell, lines::from_either_alphabet, unix_us};
use crate::protocol::Topics;

/// A reader of such a table.
#[derive(Debug)]
pub struct Table<'t> {
    topics: &'t Topics,
    /// Whether payloads are base64, which the file does not say.
    is_base64: bool,
    mono_us: u64,
}

impl<'t> Table<'t> {
    /// A reader; `is_base64` says that it was recorded with `--encode_b64`.
    #[must_use]
    pub fn new(topics: &'t Topics, is_base64: bool) -> Self {
        Self { topics, is_base64, mono_us: 0 }
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// What the reader fails with.
    pub fn read(&mut self, reader: impl Read, tell: &mut Tell<'_>) -> io::Result<()> {
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // Its own rule for \r\n miscounts the lines.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(reader);
        let mut row = ByteRecord::new();
        let mut before: Option<(u64, RecordError)> = None;
        let mut is_short = false;
        loop {
            if !rows.read_byte_record(&mut row).map_err(io::Error::other)? {
                break;
            }
            let line = row.position().map_or(0, csv::Position::line);
            // The last row may be torn; whether a row is the last one shows with the next.
            if let Some((line, why)) = before.take()
                && tell(line, Harm::Unreadable.because(format!("cannot be read: {why}"))).is_break()
            {
                return Ok(());
            }
            let flow = match self.row(&row) {
                Ok(record) => tell(line, Found::Message(record)),
                Err(why) => {
                    before = Some((line, why));
                    is_short = (2..COLUMNS).contains(&row.len());
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() || tell(line, Found::Idle).is_break() {
                return Ok(());
            }
        }
        if let Some((line, why)) = before {
            let found = if is_short {
                Harm::Torn.because("ends in the middle, as a crash leaves it; it was passed over")
            } else {
                Harm::Unreadable.because(format!("cannot be read: {why}"))
            };
            let _ends_anyway = tell(line, found);
        }
        Ok(())
    }

    fn row<'r>(&mut self, row: &'r ByteRecord) -> Result<Record<'r>, RecordError> {
        if row.len() != COLUMNS {
            return Err(RecordError::new("", format!("{SHORT}, not {}", row.len())));
        }
        let text = |column: usize, name: &'static str| {
            str::from_utf8(&row[column]).map_err(|_| RecordError::new(name, "is not valid UTF-8"))
        };
        let payload = if self.is_base64 {
            from_either_alphabet(text(1, "payload")?)
                .ok_or_else(|| RecordError::new("payload", "is not base64"))?
                .into()
        } else {
            row[1].into()
        };
        let Ok(qos @ 0..=2) = text(2, "qos")?.parse() else {
            return Err(RecordError::new("qos", "must be 0, 1 or 2"));
        };
        let retain = match text(3, "retain")? {
            "True" | "true" | "1" => true,
            "False" | "false" | "0" => false,
            _ => return Err(RecordError::new("retain", "must be True or False")),
        };
        let unix_us =
            unix_us(text(4, "time")?).ok_or_else(|| RecordError::new("time", "must be epoch seconds"))?;
        let delta: f64 = match text(5, "delta")?.trim_end().parse() {
            Ok(delta) if (0.0..1e12).contains(&delta) => delta,
            // A clock that was set back while it was recorded.
            Ok(_) => 0.0,
            Err(_) => return Err(RecordError::new("delta", "must be seconds")),
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 and 1e18")]
        let delta_us = (delta * 1e6).round() as u64;
        self.mono_us += delta_us;
        let record = Record {
            unix_us,
            topic: text(0, "topic")?.into(),
            qos,
            retain,
            dup: false,
            mid: None,
            dir: None,
            channel: None,
            gateway_id: None,
            mono_us: Some(self.mono_us),
            payload,
            is_json: false,
            unknown: Vec::new(),
        };
        Ok(record.classified(self.topics))
    }
}

const COLUMNS: usize = 6;
const SHORT: &str = "must be a JSON object or have the 6 columns topic, payload, qos, retain, time, delta";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], is_base64: bool) -> Vec<String> {
        let topics = Topics::default();
        let mut found = Vec::new();
        let told = Table::new(&topics, is_base64).read(text, &mut |line, what| {
            match what {
                Found::Message(record) => found.push(format!(
                    "{line} {} {} {} {:?}",
                    record.topic,
                    record.payload.escape_ascii(),
                    record.retain,
                    record.mono_us
                )),
                Found::Flaw(flaw) => found.push(format!("{line} {:?}", flaw.harm)),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        told.unwrap();
        found
    }

    #[test]
    fn rows_are_read_with_their_own_pauses() {
        let text = b"a/b,\"{\"\"t\"\":1,\n\"\"x\"\":\xff}\",1,True,1700000000.5,0\r\nc,,0,False,1700000009.5,1.25\r\n";
        assert_eq!(
            read(text, false),
            [r#"1 a/b {\"t\":1,\n\"x\":\xff} true Some(0)"#, "3 c  false Some(1250000)"]
        );
        assert_eq!(read(b"a,+/8=,0,False,1.5,0\n", true), [r"1 a \xfb\xff false Some(0)"]);
    }

    #[test]
    fn bad_rows_are_named_and_a_torn_one_is_passed_over() {
        assert_eq!(
            read(b"a,b,3,True,1,0\na,b,0,maybe,1,0\na,b,0,True,1,0\na,b,0", false),
            ["1 Unreadable", "2 Unreadable", "3 a b true Some(0)", "4 Torn"]
        );
        assert_eq!(read(b"hello\n", false), ["1 Unreadable"]);
    }
}
