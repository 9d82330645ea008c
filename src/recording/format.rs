//! Which format a recording has.

use serde::de::IgnoredAny;

use super::recorder_csv::RecorderCsvReader;

/// The formats of recordings, recognised by their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingFormat {
    /// One JSON object a line: records, `mosquitto_sub -F %j` and `%J`, mqtt-recorder-rs.
    JsonLines,
    /// CSV without a header, as rpdswtk's mqtt_recorder writes it.
    RecorderCsv,
    /// A capture of packets, with the length of its first block.
    Capture {
        /// How many bytes the caller must have read before it opens the capture.
        header: usize,
    },
}

impl RecordingFormat {
    /// How many bytes tell whether a recording is a capture.
    pub const SIGNATURE: usize = 12;

    /// Returns the format of a capture that begins with these bytes, at least [`RecordingFormat::SIGNATURE`] of them; `None` for text.
    #[must_use]
    pub fn of_capture(beginning: &[u8]) -> Option<Self> {
        match &beginning[..beginning.len().min(Self::SIGNATURE)] {
            [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x34, 0xcd, 0xb2, 0xa1, ..] => Some(Self::Capture { header: 24 }),
            [0x0a, 0x0d, 0x0d, 0x0a, length @ .., 0x1a, 0x2b, 0x3c, 0x4d] if length.len() == 4 => {
                Some(Self::pcapng(length, false))
            }
            [0x0a, 0x0d, 0x0d, 0x0a, length @ .., 0x4d, 0x3c, 0x2b, 0x1a] if length.len() == 4 => {
                Some(Self::pcapng(length, true))
            }
            _ => None,
        }
    }

    fn pcapng(length: &[u8], is_little: bool) -> Self {
        let length = length.try_into().unwrap_or([0; 4]);
        let length = if is_little { u32::from_le_bytes(length) } else { u32::from_be_bytes(length) };
        // Headers hold names of programs and machines; nothing longer than 64 KiB is a header.
        Self::Capture { header: usize::try_from(length).unwrap_or(0).clamp(28, 64 * 1024) }
    }

    /// What this format's entries are numbered by.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::JsonLines | Self::RecorderCsv => "line",
            Self::Capture { .. } => "packet",
        }
    }
}

/// Finds the beginning and the format of a recording in text: the first line that can be read as a record or a row. A stray
/// line, or the end of a record that `tail -c` cut, decides nothing.
#[derive(Debug, Default)]
pub struct FormatDetector {
    /// The ends of the pending lines; there are several only if they may be one row with line breaks in it.
    ends: Vec<usize>,
    pending: Vec<u8>,
    /// How many of them have been tried as a row.
    tried: usize,
    /// How many lines were passed over, blank ones included.
    lines: u64,
    strays: StrayLines,
    decided: Option<RecordingFormat>,
}

/// Lines before a recording that do not belong to it.
#[derive(Clone, Debug, Default)]
pub struct StrayLines {
    /// The numbers of the first ones.
    pub numbers: Vec<u64>,
    /// How many there are.
    pub count: u64,
    /// Whether they can be the rest of one record without its beginning.
    may_be_rest: bool,
    /// The format whose records can end like the last of them.
    ends_as: Option<RecordingFormat>,
}

impl StrayLines {
    /// How many numbers are kept.
    const NUMBERS: usize = 32;

    fn add(&mut self, number: u64, line: &[u8]) {
        let text = line.trim_ascii();
        let is_first = self.count == 0;
        self.count += 1;
        if self.numbers.len() < Self::NUMBERS {
            self.numbers.push(number);
        }
        let ends_row = RecorderCsvReader::is_end_of_row(text);
        // An indented object's lines are indented but for the last; a row's may be anything.
        let continues = matches!(line, [b' ' | b'\t', ..]) || text == b"}" || ends_row;
        self.may_be_rest = is_first && number == 1 || self.may_be_rest && continues;
        self.ends_as = match text {
            _ if ends_row => Some(RecordingFormat::RecorderCsv),
            [b'{', ..] => None,
            [.., b'}'] => Some(RecordingFormat::JsonLines),
            _ => None,
        };
    }
}

impl FormatDetector {
    /// A row with more bytes or lines than this does not decide a recording's form.
    const LONGEST_ROW: usize = 1 << 20;
    const MOST_LINES: usize = 64;

    /// Adds the next line, with its newline if it has one. Returns whether the format is known.
    pub fn add_line(&mut self, line: &[u8]) -> bool {
        self.pending.extend_from_slice(line);
        self.ends.push(self.pending.len());
        self.detect()
    }

    fn detect(&mut self) -> bool {
        while let Some(end) = self.ends.get(self.tried) {
            match classify(&self.pending[..*end]) {
                LineReading::Format(form) => {
                    self.decided = Some(form);
                    return true;
                }
                LineReading::MayBecomeRow if *end < Self::LONGEST_ROW && self.tried < Self::MOST_LINES => {
                    self.tried += 1;
                }
                // This may be all that a crash left of the only record; the next line decides.
                LineReading::Nothing
                    if self.pending.starts_with(b"{") && self.pending.last() != Some(&b'\n') =>
                {
                    return false;
                }
                LineReading::MayBecomeRow | LineReading::Nothing => self.pass_over(),
            }
        }
        false
    }

    /// Handles the end of the text. Returns whether the format is known now.
    pub fn finish(&mut self) -> bool {
        while self.decided.is_none() && !self.ends.is_empty() {
            if self.pending.starts_with(b"{") && !self.pending.contains(&b'\n') {
                self.decided = Some(RecordingFormat::JsonLines);
            } else {
                self.pass_over();
                self.detect();
            }
        }
        self.decided.is_some()
    }

    /// The format; `None` as long as no line could be read.
    #[must_use]
    pub fn format(&self) -> Option<RecordingFormat> {
        self.decided
    }

    /// How many lines were passed over, blank ones included.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.lines
    }

    /// The lines before the recording, without blank ones.
    #[must_use]
    pub fn strays(&self) -> &StrayLines {
        &self.strays
    }

    /// Whether the lines before the recording are the rest of one record, as `tail -c` leaves it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.strays.may_be_rest && self.decided.is_some() && self.strays.ends_as == self.decided
    }

    /// Returns the lines that decided the format, which are the recording's first.
    #[must_use]
    pub fn into_lines(self) -> Vec<u8> {
        self.pending
    }

    fn pass_over(&mut self) {
        let end = self.ends.remove(0);
        let line: Vec<u8> = self.pending.drain(..end).collect();
        self.ends.iter_mut().for_each(|other| *other -= end);
        self.tried = 0;
        self.lines += u64::from(!line.is_empty());
        if !line.trim_ascii().is_empty() {
            self.strays.add(self.lines, &line);
        }
    }
}

/// What one line, or several, can be read as.
enum LineReading {
    Format(RecordingFormat),
    /// The beginning of a row whose quotes end further down.
    MayBecomeRow,
    Nothing,
}

fn classify(text: &[u8]) -> LineReading {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let line = text.trim_ascii();
    if line == b"{" {
        return LineReading::Format(RecordingFormat::JsonLines);
    }
    // mosquitto_sub -F %j copies bytes that are not UTF-8.
    if line.starts_with(b"{") && serde_json::from_str::<IgnoredAny>(&String::from_utf8_lossy(line)).is_ok() {
        return LineReading::Format(RecordingFormat::JsonLines);
    }
    match RecorderCsvReader::is_row(text) {
        Some(true) => LineReading::Format(RecordingFormat::RecorderCsv),
        Some(false) => LineReading::Nothing,
        None => LineReading::MayBecomeRow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_recognised_by_its_beginning() {
        for (beginning, header) in [
            (&b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00"[..], Some(24)),
            (b"\xa1\xb2\x3c\x4d\x00\x02\x00\x04", Some(24)),
            (b"\x0a\x0d\x0d\x0a\x6c\0\0\0\x4d\x3c\x2b\x1a", Some(0x6c)),
            (b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d", Some(28)),
            (b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0", Some(28)),
            (b"{\"v\":1,\"tst\":", None),
            (b"", None),
        ] {
            let expected = header.map(|header| RecordingFormat::Capture { header });
            assert_eq!(RecordingFormat::of_capture(beginning), expected, "{beginning:?}");
        }
    }

    /// The form, how many lines were passed over, whether those are the rest of a record, and the rest's beginning.
    fn begin(text: &str) -> (Option<RecordingFormat>, u64, bool, String) {
        let mut beginning = FormatDetector::default();
        let _is_known =
            text.split_inclusive('\n').any(|line| beginning.add_line(line.as_bytes())) || beginning.finish();
        let (form, lines, is_cut) = (beginning.format(), beginning.strays().count, beginning.is_cut());
        (form, lines, is_cut, String::from_utf8(beginning.into_lines()).unwrap())
    }

    const RECORD: &str = "{\"tst\":1,\"topic\":\"a,b\",\"payload\":{\"t\":1}}\n";
    const ROW: &str = "a/b,\"{\"\"t\"\":1,\n\"\"u\"\":2}\",0,False,1714550400.5,0.25\r\n";

    #[test]
    fn the_first_readable_line_decides_the_format() {
        for front in [
            "",
            "\n\n",
            "\u{feff}",
            "warning: lost, reconnecting\n",
            "\"quoted\n",
            "{\"torn\"\n",
            "a,b,c,d,e,f\n",
        ] {
            for (text, form) in [
                (RECORD, RecordingFormat::JsonLines),
                (ROW, RecordingFormat::RecorderCsv),
                ("{\n  \"tst\": 1\n}\n", RecordingFormat::JsonLines),
            ] {
                let (found, strays, is_cut, rest) = begin(&[front, text].concat());
                assert_eq!((found, is_cut), (Some(form), false), "{front:?} {text:?}");
                assert_eq!(strays, u64::from(front.contains(char::is_alphabetic)), "{front:?} {text:?}");
                assert!(text.starts_with(rest.trim_start_matches('\u{feff}').trim_end()), "{rest:?}");
            }
        }
        for text in [
            "",
            "\n\n",
            "no\n",
            "no",
            "topic {\"t\":1}\n",
            "2024-05-01T10:00:00+0200 a/b {\"t\":1}",
            "\"open\n\"\n",
        ] {
            assert_eq!(begin(text).0, None, "{text:?}");
        }
        assert_eq!(begin("{\"v\":1,\"tst").0, Some(RecordingFormat::JsonLines));
    }

    #[test]
    fn the_rest_of_a_cut_record_is_told_from_other_lines() {
        for (text, form) in [(RECORD, RecordingFormat::JsonLines), (ROW, RecordingFormat::RecorderCsv)] {
            // At each place but those where a smaller record begins, a row with a shorter topic, or its last byte.
            let is_told =
                |at: &usize| !text[*at..].starts_with('{') && (form == RecordingFormat::JsonLines || *at > 3);
            for at in (1..text.len() - 2).filter(is_told) {
                let (found, strays, is_cut, rest) = begin(&[&text[at..], text].concat());
                assert_eq!((found, rest.as_str()), (Some(form), text), "{at}");
                if form == RecordingFormat::JsonLines {
                    assert!(is_cut && strays == 1, "{at}");
                }
            }
        }
        let indented = "{\n\t\"tst\":\t1,\n\t\"payload\":\t\"x\"\n}\n";
        let (form, strays, is_cut, _) = begin(&[&indented[8..], indented].concat());
        assert_eq!((form, strays, is_cut), (Some(RecordingFormat::JsonLines), 3, true));
        let (_, strays, is_cut, _) = begin(&["no\n\n{}}\n", RECORD].concat());
        assert_eq!((strays, is_cut), (2, false));
    }
}
