//! How `mosquitto_sub` prints and escapes payloads, in all its versions.

use std::slice;

/// The format that `mosquitto_sub -F` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MosquittoFormat {
    /// `%j`: the payload is a string.
    Text,
    /// `%J`: the payload is the JSON that it is.
    Json,
}

/// How the characters of a `%j` payload are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EscapeStyle {
    /// As in JSON.
    Json,
    /// As by mosquitto_sub until 1.5.8: `\u` and four decimal digits for quotes, backslashes and control characters.
    Decimal,
}

/// The styles that a line's escapes allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EscapeEvidence {
    Only(EscapeStyle),
    /// The escapes mean something in either style.
    Either,
}

/// Returns what a line shows; `None` for a line that cannot be mosquitto's `%j`, or has no telling escape.
pub(super) fn escapes_in_line(line: &[u8]) -> Option<EscapeEvidence> {
    let rest = line.strip_prefix(b"{\"tst\":")?;
    if !rest.first()?.is_ascii_digit() {
        // Versions that write a string escape as JSON does.
        return Some(EscapeEvidence::Only(EscapeStyle::Json));
    }
    let at = rest.windows(11).position(|part| part == b"\"payload\":\"")?;
    escapes_in_payload(&rest[at + 10..])
}

/// Returns what a payload's string shows. Until 1.5.8 the only escape is `\u` with the decimal codes of quotes (34),
/// backslashes (92) and control characters (0 to 31); no later version writes `\u0034`.
pub(super) fn escapes_in_payload(payload: &[u8]) -> Option<EscapeEvidence> {
    let mut shown = None;
    let mut rest = payload;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        let digits = rest
            .strip_prefix(b"u")
            .and_then(|rest| rest.get(..4))
            .and_then(|digits| str::from_utf8(digits).ok());
        let code = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match code.and_then(|digits| digits.parse::<u8>().ok()) {
            Some(34) => shown = Some(EscapeEvidence::Only(EscapeStyle::Decimal)),
            Some(10..=31 | 92) => shown = shown.or(Some(EscapeEvidence::Either)),
            Some(0..=9) => {}
            _ => return Some(EscapeEvidence::Only(EscapeStyle::Json)),
        }
        rest = &rest[1..];
    }
    shown
}

impl EscapeStyle {
    /// Returns the bytes of a JSON string, quotes included, whose text need not be UTF-8.
    pub fn unescape(self, quoted: &[u8]) -> Option<Vec<u8>> {
        let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let mut bytes = Vec::with_capacity(inner.len());
        let mut rest = inner.iter();
        let radix = if self == Self::Decimal { 10 } else { 16 };
        let unit = |rest: &mut slice::Iter<'_, u8>| {
            let digits = str::from_utf8(rest.as_slice().get(..4)?).ok()?;
            let unit = u32::from_str_radix(digits, radix).ok()?;
            rest.nth(3);
            Some(unit)
        };
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => return None,
                b'\\' => match rest.next()? {
                    b'u' if self == Self::Decimal => bytes.push(u8::try_from(unit(&mut rest)?).ok()?),
                    b'n' => bytes.push(b'\n'),
                    b't' => bytes.push(b'\t'),
                    b'r' => bytes.push(b'\r'),
                    b'b' => bytes.push(8),
                    b'f' => bytes.push(12),
                    plain @ (b'"' | b'\\' | b'/') => bytes.push(*plain),
                    b'u' => {
                        let mut code = unit(&mut rest)?;
                        if (0xd800..0xdc00).contains(&code) && rest.as_slice().starts_with(b"\\u") {
                            rest.nth(1);
                            code =
                                0x1_0000 + ((code - 0xd800) << 10) + unit(&mut rest)?.checked_sub(0xdc00)?;
                        }
                        let c = char::from_u32(code)?;
                        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    _ => return None,
                },
                plain => bytes.push(*plain),
            }
        }
        Some(bytes)
    }
}

/// Describes the loss if a payload has another length than the one that travelled.
pub(super) fn loss(here: usize, travelled: usize, format: Option<MosquittoFormat>) -> Option<String> {
    if here == travelled {
        return None;
    }
    let why = match format {
        Some(MosquittoFormat::Json) => "-F %J writes JSON anew; record with -F %j or with tuyagw listen",
        _ => "-F %j drops what C strings cannot hold; record with tuyagw listen",
    };
    Some(format!("holds {here} of a payload's {travelled} bytes: mosquitto_sub {why}"))
}
