//! Tells from the first bytes of a file whether it is text, or text inside something else: compressed, archived, in a
//! spreadsheet's own format, or in UTF-16.
//!
//! A reader keeps the bytes it has read and asks [`look`] until the answer is not [`Look::NeedsMore`]. It then unpacks
//! what it can ([`Wrapping::Gzip`], say) and looks again at what comes out (a `.tar.gz` holds a tar); everything else
//! ends with [`Wrapping::refusal`], one error that names the file, its format and the way out:
//!
//! ```
//! use tuyagw::wrapping::{Look, Wrapping, look};
//!
//! assert_eq!(look(b"{\"cid\":\"m1\"}\n", false), Look::Plain);
//! assert_eq!(look(b"PK", false), Look::NeedsMore);
//! assert_eq!(look(b"\xfd7zXZ\0", false), Look::Wrapped(Wrapping::Xz));
//! assert!(Wrapping::Xz.refusal("a.xz").message.starts_with("a.xz is compressed with xz"));
//! ```
//!
//! Packet captures count as plain: their readers know them.
//!
//! Pure: bytes in, names and reasons out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::error::Failure;

/// How many bytes decide every case: a tar archive has its mark behind 257 bytes.
pub const LOOK: usize = 263;

/// What the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Text in UTF-8, or a format that is known by other marks.
    Plain,
    /// Something that has to be unpacked or converted.
    Wrapped(Wrapping),
    /// More bytes are needed: at most [`LOOK`], fewer if a line of text ends before.
    NeedsMore,
}

/// What text may be wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapping {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
    /// `.xz`
    Xz,
    /// `.lzma`
    Lzma,
    /// `.bz2`
    Bzip2,
    /// `.lz4`
    Lz4,
    /// `.lz`
    Lzip,
    /// `.Z`
    Compress,
    /// `.zip`
    Zip,
    /// `.7z`
    SevenZip,
    /// `.rar`
    Rar,
    /// `.tar`
    Tar,
    /// `.xlsx`, and the other ZIP formats of Office.
    Excel,
    /// `.xls`
    OldExcel,
    /// `.ods`
    OpenDocument,
    /// `.pdf`
    Pdf,
    /// UTF-16, with a byte order mark or without.
    Utf16 {
        /// The low byte of each unit comes first, as Windows writes it.
        little_endian: bool,
    },
    /// UTF-32 with a byte order mark.
    Utf32,
}

/// The formats that are known by their first bytes alone.
const MARKS: [(&[u8], Wrapping); 17] = [
    (b"\x1f\x8b", Wrapping::Gzip),
    (b"\x28\xb5\x2f\xfd", Wrapping::Zstd),
    (b"\xfd7zXZ\0", Wrapping::Xz),
    (b"\x5d\0\0", Wrapping::Lzma),
    (b"BZh", Wrapping::Bzip2),
    (b"\x04\x22\x4d\x18", Wrapping::Lz4),
    (b"\x02\x21\x4c\x18", Wrapping::Lz4),
    (b"LZIP\x01", Wrapping::Lzip),
    (b"\x1f\x9d", Wrapping::Compress),
    (b"7z\xbc\xaf\x27\x1c", Wrapping::SevenZip),
    (b"Rar!\x1a\x07", Wrapping::Rar),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Wrapping::OldExcel),
    (b"%PDF-", Wrapping::Pdf),
    (b"\xff\xfe\0\0", Wrapping::Utf32),
    (b"\0\0\xfe\xff", Wrapping::Utf32),
    (b"\xff\xfe", Wrapping::Utf16 { little_endian: true }),
    (b"\xfe\xff", Wrapping::Utf16 { little_endian: false }),
];

/// Says what a file is whose first bytes these are; `ended` says that it has no more.
#[must_use]
pub fn look(beginning: &[u8], ended: bool) -> Look {
    let beginning = &beginning[..beginning.len().min(LOOK)];
    let complete = ended || beginning.len() == LOOK;
    if let Some(wrapping) = zip(beginning, complete).or_else(|| marked(beginning, complete)) {
        return Look::Wrapped(wrapping);
    }
    // No format with a NUL in it has a whole line of text in front.
    let text = beginning.iter().position(|byte| matches!(byte, b'\n' | 0)).map(|at| beginning[at]);
    if complete || text == Some(b'\n') {
        return tar(beginning).or_else(|| utf16(beginning)).map_or(Look::Plain, Look::Wrapped);
    }
    Look::NeedsMore
}

/// Refuses a file that is not text, by its first bytes; `name` is its name for the failure.
///
/// # Errors
/// A file in any wrapping.
pub fn refuse_wrapped(beginning: &[u8], name: &str) -> Result<(), Failure> {
    match look(beginning, true) {
        Look::Wrapped(wrapping) => Err(wrapping.refusal(name)),
        Look::Plain | Look::NeedsMore => Ok(()),
    }
}

fn marked(beginning: &[u8], complete: bool) -> Option<Wrapping> {
    let (_, found) = *MARKS.iter().find(|(mark, _)| beginning.starts_with(mark))?;
    match found {
        // A text may begin with BZh; a block of compressed data, or the end, follows its level.
        Wrapping::Bzip2 => {
            let block = beginning.get(4..10)?;
            matches!(block, b"\x31\x41\x59\x26\x53\x59" | b"\x17\x72\x45\x38\x50\x90").then_some(found)
        }
        // The mark of UTF-32 begins with that of UTF-16.
        Wrapping::Utf16 { .. } if beginning.len() < 4 && !complete => None,
        _ => Some(found),
    }
}

/// A ZIP archive, and what the name of its first member says of it.
fn zip(beginning: &[u8], complete: bool) -> Option<Wrapping> {
    const NAME: usize = 30;
    if beginning.starts_with(b"PK\x05\x06") || beginning.starts_with(b"PK\x07\x08") {
        return Some(Wrapping::Zip);
    }
    if !beginning.starts_with(b"PK\x03\x04") {
        return None;
    }
    let length =
        beginning.get(26..28).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
    let Some(rest) = beginning.get(NAME..) else { return complete.then_some(Wrapping::Zip) };
    let begins = |prefix: &&[u8]| rest.starts_with(prefix);
    let office: [&[u8]; 4] = [b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/"];
    if office.iter().any(begins) {
        return Some(Wrapping::Excel);
    }
    // OpenDocument stores its type first, uncompressed.
    if rest.starts_with(b"mimetypeapplication/vnd.oasis.opendocument.") {
        return Some(Wrapping::OpenDocument);
    }
    (complete || rest.len() >= length.max(48)).then_some(Wrapping::Zip)
}

fn tar(beginning: &[u8]) -> Option<Wrapping> {
    (beginning.get(257..262) == Some(b"ustar")).then_some(Wrapping::Tar)
}

/// UTF-16 without a byte order mark: every other byte of Latin letters is NUL.
fn utf16(beginning: &[u8]) -> Option<Wrapping> {
    let &[first, second, third, fourth, ..] = beginning else { return None };
    match [first != 0, second != 0, third != 0, fourth != 0] {
        [true, false, true, false] => Some(Wrapping::Utf16 { little_endian: true }),
        [false, true, false, true] => Some(Wrapping::Utf16 { little_endian: false }),
        _ => None,
    }
}

impl Wrapping {
    /// The failure of a reader that does not unpack it, for the file of this name.
    #[must_use]
    pub fn refusal(self, name: &str) -> Failure {
        let (what, way_out) = self.words();
        Failure::invalid(format!("{name} is {what}; it must be plain text in UTF-8")).hint(way_out)
    }

    /// The failure of a reader of recordings, which unpacks gzip and zstd.
    #[must_use]
    pub fn refusal_of_recording(self, name: &str) -> Failure {
        let (what, way_out) = self.words();
        let message =
            format!("{name} is {what}; a recording is read as it is, or compressed with gzip or zstd");
        Failure::invalid(message).hint(way_out)
    }

    /// What it is, and what to do about it.
    fn words(self) -> (&'static str, &'static str) {
        let save = "Save it as \"CSV UTF-8\" and give that file.";
        match self {
            Self::Gzip => ("compressed with gzip", "Unpack it first: gzip -dc FILE, into a file or a pipe."),
            Self::Zstd => ("compressed with zstd", "Unpack it first: zstd -dc FILE, into a file or a pipe."),
            Self::Xz => ("compressed with xz", "Unpack it first: xz -dc FILE, into a file or a pipe."),
            Self::Lzma => ("compressed with LZMA", "Unpack it first: xz -dc FILE, into a file or a pipe."),
            Self::Bzip2 => {
                ("compressed with bzip2", "Unpack it first: bzip2 -dc FILE, into a file or a pipe.")
            }
            Self::Lz4 => ("compressed with lz4", "Unpack it first: lz4 -dc FILE, into a file or a pipe."),
            Self::Lzip => ("compressed with lzip", "Unpack it first: lzip -dc FILE, into a file or a pipe."),
            Self::Compress => {
                ("compressed with compress (.Z)", "Unpack it first: gzip -dc FILE, into a file or a pipe.")
            }
            Self::Zip => ("a ZIP archive", "Unpack it first: unzip FILE; then give the file in it."),
            Self::SevenZip => ("a 7z archive", "Unpack it first: 7z x FILE; then give the file in it."),
            Self::Rar => ("a RAR archive", "Unpack it first: unrar x FILE; then give the file in it."),
            Self::Tar => ("a tar archive", "Unpack it first: tar -xf FILE; then give the file in it."),
            Self::Excel => ("an Excel workbook or another Office document", save),
            Self::OldExcel => ("an Excel workbook (.xls) or another Office document", save),
            Self::OpenDocument => ("an OpenDocument spreadsheet or another document (.ods)", save),
            Self::Pdf => ("a PDF document", "Give the table in it as CSV or JSON in UTF-8."),
            Self::Utf16 { little_endian: true } => (
                "text in UTF-16",
                "Convert it: iconv -f UTF-16 -t UTF-8 FILE; or save it as UTF-8 (in PowerShell: … | Out-File -Encoding utf8).",
            ),
            Self::Utf16 { little_endian: false } => {
                ("text in UTF-16", "Convert it: iconv -f UTF-16BE -t UTF-8 FILE; or save it as UTF-8.")
            }
            Self::Utf32 => {
                ("text in UTF-32", "Convert it: iconv -f UTF-32 -t UTF-8 FILE; or save it as UTF-8.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers for every beginning of these bytes, the same ones in a row once.
    fn answers(bytes: &[u8]) -> Vec<Look> {
        let mut found: Vec<_> =
            (0..=bytes.len()).map(|end| look(&bytes[..end], end == bytes.len())).collect();
        found.dedup();
        found
    }

    fn zip_of(member: &str, content: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&u16::try_from(member.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(b"\0\0");
        bytes.extend_from_slice(member.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len() + 64, 7);
        bytes
    }

    fn utf16_of(text: &str, little_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if little_endian { unit.to_le_bytes() } else { unit.to_be_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_wrapping_is_known_however_its_bytes_arrive() {
        let mut tar = b"devices.csv".to_vec();
        tar.resize(257, 0);
        tar.extend_from_slice(b"ustar\x0000cid\nm1\n");
        let mut long = vec![b'n'; 100];
        long.extend_from_slice(b"0000644\0");
        long.resize(257, b'0');
        long.extend_from_slice(b"ustar  \0");
        let utf16 = |little_endian| Wrapping::Utf16 { little_endian };
        for (bytes, expected) in [
            (b"\x1f\x8b\x08\0\n".to_vec(), Wrapping::Gzip),
            (b"\x28\xb5\x2f\xfd\n".to_vec(), Wrapping::Zstd),
            (b"\xfd7zXZ\0\n".to_vec(), Wrapping::Xz),
            (b"\x5d\0\0\x80\0\xff".to_vec(), Wrapping::Lzma),
            (b"BZh91AY&SY\n".to_vec(), Wrapping::Bzip2),
            (b"BZh1\x17\x72\x45\x38\x50\x90".to_vec(), Wrapping::Bzip2),
            (b"\x04\x22\x4d\x18\n".to_vec(), Wrapping::Lz4),
            (b"LZIP\x01\n".to_vec(), Wrapping::Lzip),
            (b"\x1f\x9d\x90".to_vec(), Wrapping::Compress),
            (b"7z\xbc\xaf\x27\x1c\0".to_vec(), Wrapping::SevenZip),
            (b"Rar!\x1a\x07\0".to_vec(), Wrapping::Rar),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0".to_vec(), Wrapping::OldExcel),
            (b"%PDF-1.4\n".to_vec(), Wrapping::Pdf),
            (zip_of("devices.csv", "cid\n"), Wrapping::Zip),
            (b"PK\x05\x06\0\0\0\0".to_vec(), Wrapping::Zip),
            (b"PK\x03\x04".to_vec(), Wrapping::Zip),
            (zip_of("[Content_Types].xml", "<?xml"), Wrapping::Excel),
            (zip_of("xl/workbook.xml", ""), Wrapping::Excel),
            (zip_of("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), Wrapping::OpenDocument),
            (tar, Wrapping::Tar),
            (long, Wrapping::Tar),
            (utf16_of("\u{feff}cid\n", true), utf16(true)),
            (utf16_of("\u{feff}水", false), utf16(false)),
            (utf16_of("cid,product_id\r\nm1,p1\r\n", true), utf16(true)),
            (utf16_of("{\"cid\":\"m1\"}", false), utf16(false)),
            (utf16_of("Zähler", true), utf16(true)),
            (utf16_of("\u{feff}", true), utf16(true)),
            (b"\xff\xfe\0\0c\0\0\0".to_vec(), Wrapping::Utf32),
        ] {
            let expected = Look::Wrapped(expected);
            let found = answers(&bytes);
            assert!(
                matches!(found[..], [Look::NeedsMore, last] if last == expected),
                "{expected:?}: {found:?}"
            );
        }
    }

    #[test]
    fn text_and_captures_are_plain_as_soon_as_a_line_has_ended() {
        for text in [
            &b"{\"cid\":\"m1\"}\n"[..],
            b"cid,product_id\r\nm1,p1\n",
            b"\n{}\n",
            "\u{feff}cid;product_id\n".as_bytes(),
            b"BZhang,1\n",
            b"PK,1\n",
            b"\n\r\r\n\x1c\0\0\0",
        ] {
            let found = answers(text);
            assert!(matches!(found[..], [Look::NeedsMore, Look::Plain]), "{found:?}");
            let line = text.iter().position(|byte| *byte == b'\n').unwrap();
            assert_eq!(look(&text[..=line], false), Look::Plain);
        }
        assert_eq!(look(b"", true), Look::Plain);
        assert_eq!(look(&[b'x'; LOOK], false), Look::Plain);
        assert_eq!(look(b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0", true), Look::Plain);
    }

    #[test]
    fn a_refusal_names_the_file_its_format_and_the_way_out() {
        for (wrapping, what, hint) in [
            (Wrapping::Xz, "a is compressed with xz", "xz -dc"),
            (Wrapping::Zip, "a is a ZIP archive", "unzip"),
            (Wrapping::Excel, "a is an Excel workbook", "CSV UTF-8"),
            (Wrapping::Utf16 { little_endian: true }, "a is text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ] {
            let failure = wrapping.refusal("a");
            assert!(failure.message.starts_with(what), "{failure}");
            assert!(failure.hint.as_deref().is_some_and(|found| found.contains(hint)), "{failure:?}");
        }
    }
}
