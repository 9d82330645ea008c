//! What a reader of recordings tells, whatever the form of the recording.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::ControlFlow;

use super::{Connection, Record};

/// One thing that stands in a recording.
#[derive(Debug)]
pub enum Found<'a> {
    /// A message.
    Message(Record<'a>),
    /// A client that came or went, as a capture shows it.
    Connection(Connection<'a>),
    /// A client that came or went, as a line of our own recordings, without its newline.
    ConnectionLine(&'a [u8]),
    /// Something that is not as it was, or that cannot be read.
    Flaw(Flaw),
    /// Nothing more can be had at the moment without waiting.
    Idle,
}

/// Something that is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What it means for the traffic.
    pub harm: Harm,
    /// What is wrong, as the rest of a sentence that begins with the place.
    pub message: String,
}

/// What a flaw means for the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// A place of the recording cannot be read: it is passed over.
    Unreadable,
    /// The recording ends in the middle of something, as a crash leaves it.
    Torn,
    /// The format, or whoever wrote it, has lost something of a message or a whole message.
    Lossy,
}

impl Harm {
    pub(super) fn because(self, message: impl Into<String>) -> Found<'static> {
        Found::Flaw(Flaw { harm: self, message: message.into() })
    }
}

/// Takes what is found, with the number of its line or packet, from 1; says whether to go on.
pub type Tell<'t> = dyn FnMut(u64, Found<'_>) -> ControlFlow<()> + 't;

/// The forms of recordings, told apart by how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line: records, `mosquitto_sub -F %j` and `%J`, mqtt-recorder-rs.
    Lines,
    /// CSV without a header, as rpdswtk's mqtt_recorder writes it.
    Table,
    /// A capture of packets, with the length of its first block.
    Capture {
        /// How many bytes must be at hand before the capture can be opened.
        header: usize,
    },
}

impl Form {
    /// How many bytes a capture is known by.
    pub const LOOK: usize = 12;

    /// The form of what begins like this: with at least [`Form::LOOK`] bytes, where there are as many, and for a
    /// text with its first line.
    #[must_use]
    pub fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x34, 0xcd, 0xb2, 0xa1, ..] => Self::Capture { header: 24 },
            [0x0a, 0x0d, 0x0d, 0x0a, length @ .., 0x1a, 0x2b, 0x3c, 0x4d] => {
                Self::next_generation(length, false)
            }
            [0x0a, 0x0d, 0x0d, 0x0a, length @ .., 0x4d, 0x3c, 0x2b, 0x1a] => {
                Self::next_generation(length, true)
            }
            text => {
                let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii_start();
                // A stray line without any comma does not make a table.
                if text.starts_with(b"{") || !text.contains(&b',') { Self::Lines } else { Self::Table }
            }
        }
    }

    fn next_generation(length: &[u8], is_little: bool) -> Self {
        let length = length.try_into().unwrap_or([0; 4]);
        let length = if is_little { u32::from_le_bytes(length) } else { u32::from_be_bytes(length) };
        // Headers hold names of programs and machines; what is longer is no header.
        Self::Capture { header: usize::try_from(length).unwrap_or(0).clamp(28, 64 * 1024) }
    }

    /// What is numbered in recordings of this form.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Lines | Self::Table => "line",
            Self::Capture { .. } => "packet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_known_by_its_beginning() {
        for (beginning, form) in [
            (&b"{\"v\":1,\"tst\":"[..], Form::Lines),
            (b"", Form::Lines),
            (b"\n\n  {\"tst\":1", Form::Lines),
            (b"\xef\xbb\xbf{\"tst\":1", Form::Lines),
            (b"a/b,payload,", Form::Table),
            (b"a/b,\"{\n", Form::Table),
            (b"nonsense", Form::Lines),
            (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", Form::Capture { header: 24 }),
            (b"\xa1\xb2\x3c\x4d\x00\x02\x00\x04", Form::Capture { header: 24 }),
            (b"\x0a\x0d\x0d\x0a\x6c\0\0\0\x4d\x3c\x2b\x1a", Form::Capture { header: 0x6c }),
            (b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d", Form::Capture { header: 28 }),
        ] {
            assert_eq!(Form::of(beginning), form, "{beginning:?}");
        }
    }
}
