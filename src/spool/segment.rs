//! A segment's header and, once it is complete, its table of devices and its trailer.

use std::ops::Range;

use super::{FormatError, VERSION, checksum, u32_at, u64_at};

/// The length of a segment's header.
pub const SEGMENT_HEADER: usize = 64;

/// The length of a segment's trailer.
pub const TRAILER: usize = 64;

/// The bytes of one device in the table.
pub const TABLE_ENTRY: usize = 12;

const HEADER_MAGIC: [u8; 7] = *b"TGWSEGM";
const TRAILER_MAGIC: [u8; 7] = *b"TGWTABL";

/// The length of one copy of the header.
const COPY: usize = SEGMENT_HEADER / 2;

/// How many devices a bucket has on average: a look-up reads one bucket.
const BUCKET: usize = 128;

/// What a segment says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The least number that an entry in it may have.
    pub first: u64,
    /// A random number that all checksums of the segment begin with.
    pub salt: u32,
}

impl SegmentHeader {
    /// Returns the header's bytes: two copies, so that damage to one of them costs nothing.
    #[must_use]
    pub fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut copy = [0; COPY];
        copy[..7].copy_from_slice(&HEADER_MAGIC);
        copy[7] = VERSION;
        copy[8..16].copy_from_slice(&self.first.to_le_bytes());
        copy[16..20].copy_from_slice(&self.salt.to_le_bytes());
        let sum = checksum(0, &copy[..28]);
        copy[28..].copy_from_slice(&sum.to_le_bytes());
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..COPY].copy_from_slice(&copy);
        bytes[COPY..].copy_from_slice(&copy);
        bytes
    }

    /// Reads a segment's first bytes.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] if neither copy is whole, [`FormatError::Version`] for a header of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let copies = bytes.chunks_exact(COPY).take(2);
        let whole = copies.filter(|copy| {
            copy.starts_with(&HEADER_MAGIC) && u32_at(copy, 28) == Some(checksum(0, &copy[..28]))
        });
        let copy = whole.into_iter().next().ok_or(FormatError::Damaged)?;
        if copy[7] != VERSION {
            return Err(FormatError::Version(copy[7]));
        }
        let (first, salt) = u64_at(copy, 8).zip(u32_at(copy, 16)).ok_or(FormatError::Damaged)?;
        Ok(Self { first, salt })
    }
}

/// What a complete segment says last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// As in the header.
    pub first: u64,
    /// The greatest number of its entries.
    pub last: u64,
    /// How many entries it has.
    pub count: u64,
    /// Where its records end and its table begins.
    pub records_end: u64,
    /// How the table is divided.
    pub table: TableShape,
}

impl Trailer {
    /// Returns the trailer's bytes.
    #[must_use]
    pub fn encode(&self, salt: u32) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..7].copy_from_slice(&TRAILER_MAGIC);
        bytes[7] = VERSION;
        for (at, number) in [(8, self.first), (16, self.last), (24, self.count), (32, self.records_end)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&self.table.buckets.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.table.devices.to_le_bytes());
        let sum = checksum(salt, &bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the last bytes of a segment of `length` bytes; `None` if they are no trailer of it, as in a segment that was
    /// not completed.
    #[must_use]
    pub fn decode(header: SegmentHeader, length: u64, bytes: &[u8]) -> Option<Self> {
        let is_whole = bytes.len() == TRAILER
            && bytes.starts_with(&TRAILER_MAGIC)
            && bytes[7] == VERSION
            && u32_at(bytes, 60)? == checksum(header.salt, &bytes[..60]);
        let trailer = is_whole.then_some(Self {
            first: u64_at(bytes, 8)?,
            last: u64_at(bytes, 16)?,
            count: u64_at(bytes, 24)?,
            records_end: u64_at(bytes, 32)?,
            table: TableShape { buckets: u32_at(bytes, 40)?, devices: u32_at(bytes, 44)? },
        })?;
        let fits = trailer.records_end + trailer.table.length() + TRAILER as u64 == length;
        (fits && trailer.first == header.first).then_some(trailer)
    }
}

/// How a table of devices is divided into buckets.
///
/// A bucket holds the devices whose hashes begin alike, with the number of the last entry of each, and has a checksum of its
/// own. Before the buckets stand the numbers of devices before each. So a look-up reads twice, however many devices there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// How many buckets.
    pub buckets: u32,
    /// How many devices.
    pub devices: u32,
}

/// A bucket that fails its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedBucket;

impl TableShape {
    /// Returns the table's length in bytes.
    #[must_use]
    pub fn length(self) -> u64 {
        let (buckets, devices) = (u64::from(self.buckets), u64::from(self.devices));
        4 * (buckets + 1) + TABLE_ENTRY as u64 * devices + 4 * buckets
    }

    /// Encodes the table of a segment that begins at the entry `first`. `devices` are hashes with the number of the last
    /// entry, in any order.
    #[must_use]
    pub fn encode(header: SegmentHeader, devices: &mut [(u64, u64)]) -> (Self, Vec<u8>) {
        devices.sort_unstable();
        let buckets = u32::try_from(devices.len().div_ceil(BUCKET)).unwrap_or(u32::MAX);
        let shape = Self { buckets, devices: u32::try_from(devices.len()).unwrap_or(u32::MAX) };
        let (mut fences, mut bytes) = (Vec::new(), Vec::new());
        let mut rest = &*devices;
        for bucket in 0..buckets {
            fences.extend_from_slice(&(shape.devices - u32::try_from(rest.len()).unwrap_or(0)).to_le_bytes());
            let (these, after) =
                rest.split_at(rest.partition_point(|(hash, _)| shape.bucket_of(*hash) <= bucket));
            let start = bytes.len();
            for (hash, last) in these {
                let last = u32::try_from(last.saturating_sub(header.first)).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&hash.to_le_bytes());
                bytes.extend_from_slice(&last.to_le_bytes());
            }
            let sum = checksum(header.salt ^ bucket, &bytes[start..]);
            bytes.extend_from_slice(&sum.to_le_bytes());
            rest = after;
        }
        fences.extend_from_slice(&shape.devices.to_le_bytes());
        fences.append(&mut bytes);
        (shape, fences)
    }

    /// Returns the bucket that has a device if the table has it.
    #[must_use]
    pub fn bucket_of(self, hash: u64) -> u32 {
        let bucket = (u128::from(hash) * u128::from(self.buckets)) >> 64;
        u32::try_from(bucket).unwrap_or(u32::MAX)
    }

    /// Returns where in the table the 8 bytes stand that say where a bucket is.
    #[must_use]
    pub fn fences_of(self, bucket: u32) -> u64 {
        4 * u64::from(bucket)
    }

    /// Returns where in the table a bucket is, by its fences.
    ///
    /// # Errors
    /// Fences that cannot be right.
    pub fn bucket_range(self, bucket: u32, fences: [u8; 8]) -> Result<Range<u64>, DamagedBucket> {
        let (from, to) = (u32_at(&fences, 0).unwrap_or(0), u32_at(&fences, 4).unwrap_or(0));
        if from > to || to > self.devices {
            return Err(DamagedBucket);
        }
        let place = |devices: u32, bucket: u64| {
            4 * (u64::from(self.buckets) + 1) + TABLE_ENTRY as u64 * u64::from(devices) + 4 * bucket
        };
        Ok(place(from, u64::from(bucket))..place(to, u64::from(bucket) + 1))
    }

    /// Returns the number of the last entry of a device, by the bytes of its bucket.
    ///
    /// # Errors
    /// A bucket that fails its checksum.
    pub fn find(
        header: SegmentHeader,
        bucket: u32,
        bytes: &[u8],
        hash: u64,
    ) -> Result<Option<u64>, DamagedBucket> {
        let (devices, sum) = bytes.split_last_chunk().ok_or(DamagedBucket)?;
        if u32::from_le_bytes(*sum) != checksum(header.salt ^ bucket, devices) {
            return Err(DamagedBucket);
        }
        let found = devices.chunks_exact(TABLE_ENTRY).find(|device| u64_at(device, 0) == Some(hash));
        Ok(found.and_then(|device| u32_at(device, 8)).map(|last| header.first + u64::from(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::device_hash;

    const HEADER: SegmentHeader = SegmentHeader { first: 1_000, salt: 77 };

    fn find(shape: TableShape, table: &[u8], hash: u64) -> Result<Option<u64>, DamagedBucket> {
        if shape.buckets == 0 {
            return Ok(None);
        }
        let bucket = shape.bucket_of(hash);
        let place = |at: u64| usize::try_from(at).unwrap();
        let fences = place(shape.fences_of(bucket));
        let range = shape.bucket_range(bucket, table[fences..fences + 8].try_into().unwrap())?;
        TableShape::find(HEADER, bucket, &table[place(range.start)..place(range.end)], hash)
    }

    #[test]
    fn a_header_survives_a_flipped_bit_and_says_its_version() {
        let bytes = HEADER.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(SegmentHeader::decode(&damaged), Ok(HEADER));
        }
        assert_eq!(SegmentHeader::decode(&bytes[..20]), Err(FormatError::Damaged));
        assert_eq!(SegmentHeader::decode(&[0; 64]), Err(FormatError::Damaged));
        let mut newer = bytes;
        for copy in newer.chunks_exact_mut(COPY) {
            copy[7] = 2;
            let sum = checksum(0, &copy[..28]);
            copy[28..].copy_from_slice(&sum.to_le_bytes());
        }
        assert_eq!(SegmentHeader::decode(&newer), Err(FormatError::Version(2)));
    }

    #[test]
    fn a_trailer_is_of_its_segment_and_length_only() {
        let table = TableShape { buckets: 2, devices: 200 };
        let trailer = Trailer { first: 1_000, last: 1_400, count: 300, records_end: 9_000, table };
        let length = 9_000 + table.length() + TRAILER as u64;
        let bytes = trailer.encode(HEADER.salt);
        assert_eq!(Trailer::decode(HEADER, length, &bytes), Some(trailer));
        assert_eq!(Trailer::decode(HEADER, length + 1, &bytes), None);
        assert_eq!(Trailer::decode(SegmentHeader { salt: 78, ..HEADER }, length, &bytes), None);
        assert_eq!(Trailer::decode(SegmentHeader { first: 1, ..HEADER }, length, &bytes), None);
        for at in 0..TRAILER {
            let mut damaged = bytes;
            damaged[at] ^= 4;
            assert_eq!(Trailer::decode(HEADER, length, &damaged), None, "byte {at}");
        }
    }

    #[test]
    fn a_device_is_found_with_its_last_entry_and_no_other_one_is() {
        for count in [0, 1, 127, 128, 129, 5_000] {
            let hash = |n: u64| device_hash(&format!("meter-{n:04}"));
            let mut devices: Vec<_> = (0..count).map(|n| (hash(n), 1_000 + 3 * n)).collect();
            let (shape, table) = TableShape::encode(HEADER, &mut devices);
            assert_eq!(shape.length(), table.len() as u64);
            for n in 0..count {
                assert_eq!(find(shape, &table, hash(n)), Ok(Some(1_000 + 3 * n)), "{n} of {count}");
            }
            for n in count..count + 1_000 {
                assert_eq!(find(shape, &table, hash(n)), Ok(None), "{n} of {count}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_table_is_detected_or_harmless() {
        let hash = |n: u64| device_hash(&n.to_string());
        let mut devices: Vec<_> = (0..400).map(|n| (hash(n), 1_000 + n)).collect();
        let (shape, table) = TableShape::encode(HEADER, &mut devices);
        let mut detected = 0;
        for at in (0..table.len()).step_by(5) {
            let mut damaged = table.clone();
            damaged[at] ^= 1;
            for n in (0..400).step_by(3) {
                match find(shape, &damaged, hash(n)) {
                    Ok(found) => assert_eq!(found, Some(1_000 + n), "byte {at}"),
                    Err(DamagedBucket) => detected += 1,
                }
            }
        }
        assert!(detected > 1000);
    }
}
