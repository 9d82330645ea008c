//! Compressed data of several members or frames, with zeros between and after them, as tapes leave them.

use std::io::{self, BufRead, BufReader, Read};

/// A compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// The name, which is also that of the command-line tool.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns whether a member, or for zstd a skippable frame, can begin with this byte.
    fn begins_with(self, first: u8) -> bool {
        match self {
            Self::Gzip => first == 0x1f,
            Self::Zstd => first == 0x28 || first & 0xf0 == 0x50,
        }
    }
}

type CompressedSource = BufReader<Box<dyn Read + Send>>;

/// A reader of all members.
pub struct MemberReader {
    format: Compression,
    state: MemberState,
}

enum MemberState {
    Between(CompressedSource),
    Gzip(flate2::bufread::GzDecoder<CompressedSource>),
    Zstd(zstd::Decoder<'static, CompressedSource>),
    Ended,
}

impl MemberReader {
    /// Returns a reader of data that begins with a member.
    pub fn new(format: Compression, reader: Box<dyn Read + Send>) -> Self {
        Self { format, state: MemberState::Between(BufReader::with_capacity(64 * 1024, reader)) }
    }

    /// Skips zeros and begins the next member; [`MemberState::Ended`] if there is none.
    fn begin(format: Compression, mut source: CompressedSource) -> io::Result<MemberState> {
        loop {
            let buffer = source.fill_buf()?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            match buffer.get(zeros) {
                None if buffer.is_empty() => return Ok(MemberState::Ended),
                None => source.consume(zeros),
                Some(first) if format.begins_with(*first) => {
                    source.consume(zeros);
                    return Ok(match format {
                        Compression::Gzip => MemberState::Gzip(flate2::bufread::GzDecoder::new(source)),
                        Compression::Zstd => {
                            MemberState::Zstd(zstd::Decoder::with_buffer(source)?.single_frame())
                        }
                    });
                }
                Some(_) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "something else follows it"));
                }
            }
        }
    }
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = match &mut self.state {
                MemberState::Ended => return Ok(0),
                MemberState::Between(_) => 0,
                MemberState::Gzip(member) => member.read(buffer)?,
                MemberState::Zstd(frame) => frame.read(buffer)?,
            };
            if length > 0 {
                return Ok(length);
            }
            self.state = match std::mem::replace(&mut self.state, MemberState::Ended) {
                MemberState::Ended => MemberState::Ended,
                MemberState::Between(source) => Self::begin(self.format, source)?,
                MemberState::Gzip(member) => MemberState::Between(member.into_inner()),
                MemberState::Zstd(frame) => MemberState::Between(frame.finish()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(format: Compression, text: &[u8]) -> Vec<u8> {
        match format {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(text, 1).unwrap(),
        }
    }

    fn unpacked(format: Compression, bytes: &[u8]) -> (String, Option<io::ErrorKind>) {
        let mut text = Vec::new();
        let mut members = MemberReader::new(format, Box::new(io::Cursor::new(bytes.to_vec())));
        let why = members.read_to_end(&mut text).err().map(|why| why.kind());
        (String::from_utf8(text).unwrap(), why)
    }

    #[test]
    fn members_follow_each_other_with_zeros_between_and_behind_them() {
        for format in [Compression::Gzip, Compression::Zstd] {
            let (one, two) = (packed(format, b"one\n"), packed(format, b"two\n"));
            for zeros in [0, 1, 9, 512, 200_000] {
                let padding = vec![0; zeros];
                let bytes = [&one[..], &padding, &two, &padding].concat();
                assert_eq!(unpacked(format, &bytes), ("one\ntwo\n".to_owned(), None), "{format:?} {zeros}");
            }
            let (text, why) = unpacked(format, &[&one[..], b"garbage"].concat());
            assert_eq!((text.as_str(), why), ("one\n", Some(io::ErrorKind::InvalidData)));
        }
        let skippable =
            [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &packed(Compression::Zstd, b"x")].concat();
        assert_eq!(unpacked(Compression::Zstd, &skippable), ("x".to_owned(), None));
    }

    #[test]
    fn a_member_that_is_cut_off_anywhere_fails_after_what_it_holds() {
        for format in [Compression::Gzip, Compression::Zstd] {
            let (one, two) = (packed(format, b"one\n"), packed(format, b"two\n"));
            for end in 1..two.len() {
                let (text, why) = unpacked(format, &[&one[..], &two[..end]].concat());
                assert!(text.starts_with("one\n"), "{format:?} {end}");
                assert_eq!(why, Some(io::ErrorKind::UnexpectedEof), "{format:?} {end}");
            }
        }
    }
}
