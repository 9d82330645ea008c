//! The spool: messages that wait on disk for the edge. What is here is the form of its files, what a torn or damaged file still
//! holds, and the order in which entries are given; [`io::spool`](crate::io::spool) has the files.
//!
//! # Files, version 1
//!
//! A spool is a folder. Its entries have numbers, which only grow. All numbers are little-endian; `crc(salt, bytes)` is the
//! CRC-32 (ISO-HDLC) of the salt's four bytes and `bytes`.
//!
//! | file | content |
//! | --- | --- |
//! | `NNNNNNNNNNNNNNNN.segment` | entries, from the number that its name says in hexadecimal |
//! | `finished` | which entries are finished |
//! | `finished.new` | the next `finished`, until it takes that name |
//! | `lock` | empty; locked (flock) by the program that uses the spool |
//!
//! A **segment** begins with two equal copies of a header of 32 bytes:
//!
//! | bytes | header |
//! | --- | --- |
//! | 0..7, 7 | `TGWSEGM`, the version |
//! | 8..16 | the least number of an entry in it |
//! | 16..20 | the salt, a random number |
//! | 20..28 | zeros |
//! | 28..32 | crc(0, bytes 0..28) |
//!
//! Records follow, of 24 bytes and a body each. Their numbers grow; there may be gaps.
//!
//! | bytes | record |
//! | --- | --- |
//! | 0..4 | F5 53 52 0A |
//! | 4..8 | the length of the body |
//! | 8..16 | the number of the entry |
//! | 16..20 | crc(salt, body) |
//! | 20..24 | crc(salt, bytes 0..20) |
//! | body | kind (1 report, 2 status); time given (i64, microseconds since 1970); lengths of topic and request id and number of devices (u16 each); topic; request id; for each device its length (u16) and its cid; the rest is the payload |
//!
//! A complete segment ends with a table of its devices and a trailer. The table has the number of devices before each of the B
//! buckets and their sum (u32 each), then the buckets: for each device its hash (u64) and the number of its last entry in this
//! segment, less the header's (u32), then crc(salt XOR number of the bucket, bucket). A device with the hash h is in the bucket
//! ⌊h · B / 2⁶⁴⌋. The hash is FNV-1a of the cid, mixed by [`device_hash`].
//!
//! | bytes | trailer, the last 64 bytes |
//! | --- | --- |
//! | 0..7, 7 | `TGWTABL`, the version |
//! | 8..16, 16..24 | the header's number, and that of the last entry |
//! | 24..32 | how many entries |
//! | 32..40 | where the table begins |
//! | 40..44, 44..48 | B, and how many devices |
//! | 48..60 | zeros |
//! | 60..64 | crc(salt, bytes 0..60) |
//!
//! **`finished`** has a header of 32 bytes (`TGWDONE`, the version, zeros to 28, crc(0, bytes 0..28)) and marks of 20 bytes: two
//! numbers, first and end of a range of finished entries, and crc(0, those 16 bytes). Entries in no segment are finished too.
//!
//! A file of another version is refused, and none is changed then. A program may be more exact about what it writes, without
//! a new version, as long as a program of this version reads it by the tables above.
//!
//! # Recovery
//!
//! A segment with a trailer is complete. Any other one was being written when the program ended: its records are read, and what
//! follows the last whole one is cut off. A record that fails its checksum costs its entry, and a header that does costs what
//! lies before the next one that does not (see [`scan`]). A damaged mark means that entries are given again.
//!
//! # Cost
//!
//! For n entries in s segments (s = n · length / 16 MiB), d of them read and unfinished (1,024 at most):
//!
//! | what | time | memory |
//! | --- | --- | --- |
//! | append, finish, next | O(log d) for each device of the entry | O(d), and one segment's devices |
//! | open | O(s), and one segment that was not completed is read | O(s) |
//! | whether a device has entries | O(s) reads the first time, O(1) then | a bounded table of answers |
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod finished;
mod record;
mod segment;
mod window;

use bytes::Bytes;
use smol_str::SmolStr;

pub use finished::{FinishedSet, MARK, MARKS_HEADER, Marks, encode_mark, marks_header, read_marks};
pub use record::{MAX_BODY, RECORD_HEADER, Scanned, decode, encode, scan, stored_length};
pub use segment::{DamagedBucket, SEGMENT_HEADER, SegmentHeader, TABLE_ENTRY, TRAILER, TableShape, Trailer};
pub use window::ReadAhead;

/// The version of the format.
pub const VERSION: u8 = 1;

/// Why a file's beginning was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// It is not the beginning of such a file, or not any more.
    Damaged,
    /// It is of another version of the format.
    Version(u8),
}

/// The number of an entry: each entry has a greater one than all entries that were appended before it, restarts included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub(crate) u64);

/// What kind of message an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpoolKind {
    /// A report, which the edge answers.
    Report,
    /// A status, which the broker only acknowledges.
    Status,
}

/// A message that is given to the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolEntry {
    /// What kind of message it is.
    pub kind: SpoolKind,
    /// The topic to publish to.
    pub topic: SmolStr,
    /// The bytes to publish.
    pub payload: Bytes,
    /// The cids of the devices that the message is about: one for a report, any number for a status. The order of entries is
    /// kept for each of them; an entry without devices is bound to no order.
    pub devices: Vec<SmolStr>,
    /// The message's `request_id`; empty if it has none.
    pub request_id: SmolStr,
    /// The time at which the message was given, in microseconds since 1970.
    pub given: i64,
}

/// An entry that the spool gives to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledEntry {
    /// Its number, for [`finish`](crate::io::spool::Spool::finish).
    pub id: EntryId,
    /// The entry, with the bytes of its appending.
    pub entry: SpoolEntry,
}

/// Returns the hash of a device in a segment's table. Another cid with the same hash makes
/// [`holds`](crate::io::spool::Spool::holds) say yes for it, which does no harm.
#[must_use]
pub fn device_hash(cid: &str) -> u64 {
    let fnv = cid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The upper bits choose a bucket; FNV mixes them least.
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry that differs from all others in every field.
    pub fn entry(n: u64) -> SpoolEntry {
        SpoolEntry {
            kind: if n.is_multiple_of(2) { SpoolKind::Report } else { SpoolKind::Status },
            topic: format!("gateway_id/gw1/devices/{n}").into(),
            payload: format!(
                "{{\"t\":{n},\"param\":\"{}\"}}",
                "\u{0}\u{f5}SR\n".repeat(usize::try_from(n % 9).unwrap())
            )
            .into(),
            devices: (0..n % 4).map(|device| format!("meter-{device}").into()).collect(),
            request_id: format!("request-{n}").into(),
            given: i64::try_from(n).unwrap() - 5,
        }
    }

    #[test]
    fn hashes_are_those_of_the_format_and_spread_over_buckets() {
        assert_eq!(device_hash(""), 0x8570_e250_fe4c_2473);
        assert_eq!(device_hash("meter-0001"), 0x2b41_f39f_b8ab_1703);
        let mut buckets = [0; 16];
        for n in 0..16_000 {
            buckets[(device_hash(&format!("meter-{n}")) >> 60) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (850..1150).contains(count)), "{buckets:?}");
    }
}
