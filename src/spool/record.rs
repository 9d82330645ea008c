//! One entry in a segment, and how the entries behind a damaged one are found again.

use std::ops::Range;

use bytes::Bytes;
use smol_str::SmolStr;

use super::{SpoolEntry, SpoolKind, checksum, u32_at, u64_at};

/// The length of what precedes a record's body.
pub const RECORD_HEADER: usize = 24;

/// The longest body.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// The longest topic and request id, and the most devices.
const MAX_FIELD: usize = u16::MAX as usize;

const MARKER: [u8; 4] = *b"\xf5SR\x0a";

/// The bytes of a body apart from texts, devices and payload.
const FIXED: usize = 1 + 8 + 2 + 2 + 2;

/// Returns how many bytes an entry has in a segment.
///
/// # Errors
/// The length of an entry that is too long, or that has a field or a number of devices that is.
pub fn stored_length(entry: &SpoolEntry) -> Result<usize, usize> {
    let devices: usize = entry.devices.iter().map(|device| 2 + device.len()).sum();
    let body = FIXED + entry.topic.len() + entry.request_id.len() + devices + entry.payload.len();
    let fields = [entry.topic.len(), entry.request_id.len(), entry.devices.len()];
    let longest = entry.devices.iter().map(SmolStr::len).chain(fields).max().unwrap_or_default();
    if body > MAX_BODY || longest > MAX_FIELD { Err(body) } else { Ok(RECORD_HEADER + body) }
}

/// Appends an entry's record to `out`. The entry is one that [`stored_length`] accepts.
pub fn encode(salt: u32, sequence: u64, entry: &SpoolEntry, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + RECORD_HEADER, 0);
    out.push(match entry.kind {
        SpoolKind::Report => 1,
        SpoolKind::Status => 2,
    });
    out.extend_from_slice(&entry.given.to_le_bytes());
    for length in [entry.topic.len(), entry.request_id.len(), entry.devices.len()] {
        put_length(length, out);
    }
    out.extend_from_slice(entry.topic.as_bytes());
    out.extend_from_slice(entry.request_id.as_bytes());
    for device in &entry.devices {
        put_length(device.len(), out);
        out.extend_from_slice(device.as_bytes());
    }
    out.extend_from_slice(&entry.payload);
    let (header, body) = out[start..].split_at_mut(RECORD_HEADER);
    header[..4].copy_from_slice(&MARKER);
    header[4..8].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..20].copy_from_slice(&checksum(salt, body).to_le_bytes());
    let sum = checksum(salt, &header[..20]);
    header[20..].copy_from_slice(&sum.to_le_bytes());
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
}

/// Reads a record's body; `None` if it is none of this version.
#[must_use]
pub fn decode(body: &[u8]) -> Option<SpoolEntry> {
    let (kind, rest) = body.split_first()?;
    let kind = match kind {
        1 => SpoolKind::Report,
        2 => SpoolKind::Status,
        _ => return None,
    };
    let (given, mut rest) = rest.split_first_chunk()?;
    let mut lengths = [0; 3];
    for length in &mut lengths {
        *length = take_length(&mut rest)?;
    }
    let topic = take_text(lengths[0], &mut rest)?;
    let request_id = take_text(lengths[1], &mut rest)?;
    let mut devices = Vec::with_capacity(lengths[2]);
    for _ in 0..lengths[2] {
        let length = take_length(&mut rest)?;
        devices.push(take_text(length, &mut rest)?);
    }
    let (given, payload) = (i64::from_le_bytes(*given), Bytes::copy_from_slice(rest));
    Some(SpoolEntry { kind, topic, payload, devices, request_id, given })
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(usize::from(u16::from_le_bytes(*length)))
}

fn take_text(length: usize, rest: &mut &[u8]) -> Option<SmolStr> {
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    str::from_utf8(text).ok().map(SmolStr::new)
}

/// What a segment's bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A whole record.
    Record {
        /// The number of its entry.
        sequence: u64,
        /// Where its body is.
        body: Range<usize>,
        /// How long it is.
        length: usize,
    },
    /// So many bytes that belong to no whole record; the rest is to be scanned.
    Damaged {
        /// How many bytes.
        length: usize,
    },
    /// A record that the bytes do not hold whole.
    NeedsMore {
        /// How many bytes are needed.
        length: usize,
    },
}

/// Looks at the beginning of `bytes`, which are not empty; `is_end` says that the segment has no more. Records of entries
/// below `least` are not taken.
///
/// A damaged body costs its entry alone, because the header says where the next one begins. After a damaged header the next
/// one is searched for: its checksum begins with the segment's random salt, so that no payload can pass for one.
#[must_use]
pub fn scan(salt: u32, least: u64, bytes: &[u8], is_end: bool) -> Scanned {
    let Some(header) = RecordHeader::read(salt, least, bytes) else {
        if bytes.len() < RECORD_HEADER && !is_end {
            return Scanned::NeedsMore { length: RECORD_HEADER };
        }
        let next = (1..bytes.len()).find(|at| RecordHeader::read(salt, least, &bytes[*at..]).is_some());
        // The last bytes may be the first ones of a header.
        let rest = if is_end { bytes.len() } else { bytes.len() + 1 - RECORD_HEADER };
        return Scanned::Damaged { length: next.unwrap_or(rest) };
    };
    let length = RECORD_HEADER + header.body;
    match bytes.get(RECORD_HEADER..length) {
        Some(body) if checksum(salt, body) == header.checksum => {
            Scanned::Record { sequence: header.sequence, body: RECORD_HEADER..length, length }
        }
        Some(_) => Scanned::Damaged { length },
        None if is_end => Scanned::Damaged { length: bytes.len() },
        None => Scanned::NeedsMore { length },
    }
}

struct RecordHeader {
    body: usize,
    sequence: u64,
    checksum: u32,
}

impl RecordHeader {
    fn read(salt: u32, least: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        if !bytes.starts_with(&MARKER) || u32_at(bytes, 20)? != checksum(salt, &bytes[..20]) {
            return None;
        }
        let body = usize::try_from(u32_at(bytes, 4)?).ok().filter(|length| *length <= MAX_BODY)?;
        let sequence = u64_at(bytes, 8).filter(|sequence| *sequence >= least)?;
        Some(Self { body, sequence, checksum: u32_at(bytes, 16)? })
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::spool::tests::entry;

    const SALT: u32 = 7;

    /// The sequences found, and the damaged ranges, when the bytes come in pieces of `piece`.
    fn scan_all(bytes: &[u8], piece: usize) -> (Vec<u64>, Vec<(usize, usize)>) {
        let (mut found, mut damaged) = (Vec::new(), Vec::<(usize, usize)>::new());
        let (mut at, mut end, mut least) = (0, piece.min(bytes.len()), 0);
        while at < bytes.len() {
            if at == end {
                end = (at + piece).min(bytes.len());
            }
            match scan(SALT, least, &bytes[at..end], end == bytes.len()) {
                Scanned::Record { sequence, body, length } => {
                    assert_eq!(decode(&bytes[at..][body]), Some(entry(sequence)));
                    found.push(sequence);
                    (at, least) = (at + length, sequence + 1);
                }
                Scanned::Damaged { length } => {
                    match damaged.last_mut().filter(|(_, end)| *end == at) {
                        Some((_, end)) => *end += length,
                        None => damaged.push((at, at + length)),
                    }
                    at += length;
                }
                Scanned::NeedsMore { length } => end = (at + length).max(end + 1).min(bytes.len()),
            }
            assert!(at <= end);
        }
        (found, damaged)
    }

    fn records(count: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for sequence in 0..count {
            encode(SALT, sequence, &entry(sequence), &mut bytes);
            ends.push(bytes.len());
            assert_eq!(
                stored_length(&entry(sequence)),
                Ok(ends.last().unwrap() - ends.iter().rev().nth(1).unwrap_or(&0))
            );
        }
        (bytes, ends)
    }

    #[test]
    fn records_are_found_however_their_bytes_arrive() {
        let (bytes, _) = records(40);
        for piece in [1, 23, 24, 25, 100, 1000, bytes.len()] {
            assert_eq!(scan_all(&bytes, piece), ((0..40).collect(), vec![]), "{piece}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_entry() {
        let (bytes, ends) = records(20);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let start = if hit == 0 { 0 } else { ends[hit - 1] };
            let (found, ranges) = scan_all(&damaged, bytes.len());
            let expected: Vec<_> = (0..20).filter(|n| *n != hit as u64).collect();
            assert_eq!((found, ranges), (expected, vec![(start, ends[hit])]), "byte {at}");
        }
    }

    #[test]
    fn a_torn_end_costs_the_last_entry() {
        let (bytes, ends) = records(5);
        for cut in ends[3] + 1..ends[4] {
            let (found, damaged) = scan_all(&bytes[..cut], 64);
            assert_eq!((found, damaged), (vec![0, 1, 2, 3], vec![(ends[3], cut)]));
        }
    }

    #[test]
    fn any_damage_costs_only_the_entries_that_it_touches() {
        let mut random = Rng::with_seed(1);
        let (bytes, ends) = records(60);
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            let mut hits = vec![false; ends.len()];
            for _ in 0..random.usize(1..4) {
                let from = random.usize(..bytes.len());
                let to = (from + random.usize(1..600)).min(bytes.len());
                let fill = if random.bool() { 0 } else { 0xa7 };
                for at in from..to {
                    damaged[at] = fill;
                    hits[ends.iter().position(|end| at < *end).unwrap()] = true;
                }
            }
            let (found, _) = scan_all(&damaged, random.usize(24..5000));
            let untouched: Vec<u64> = (0..).zip(&hits).filter(|(_, hit)| !**hit).map(|(n, _)| n).collect();
            assert!(untouched.iter().all(|n| found.contains(n)), "{untouched:?} {found:?}");
        }
    }

    #[test]
    fn a_payload_that_holds_a_record_of_another_salt_is_not_mistaken_for_one() {
        let mut inner = Vec::new();
        encode(SALT + 1, 3, &entry(3), &mut inner);
        let mut bytes = Vec::new();
        encode(SALT, 2, &SpoolEntry { payload: inner.into(), ..entry(2) }, &mut bytes);
        bytes[20] ^= 1;
        assert_eq!(scan(SALT, 0, &bytes, true), Scanned::Damaged { length: bytes.len() });
    }

    #[test]
    fn what_is_too_long_is_not_encoded() {
        let long = "x".repeat(MAX_FIELD + 1);
        let payload = Bytes::from(vec![0; MAX_BODY]);
        for entry in [
            SpoolEntry { topic: long.as_str().into(), ..entry(1) },
            SpoolEntry { devices: vec![long.as_str().into()], ..entry(1) },
            SpoolEntry { devices: vec!["a".into(); MAX_FIELD + 1], ..entry(1) },
            SpoolEntry { payload, ..entry(1) },
        ] {
            assert!(stored_length(&entry).is_err());
        }
    }
}
