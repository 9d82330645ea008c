//! Which entries are finished: a set of ranges, and the marks that keep it.

use std::{collections::BTreeMap, ops::Range};

use super::{FormatError, VERSION, checksum, u32_at, u64_at};

/// The length of the header of the file of marks.
pub const MARKS_HEADER: usize = 32;

/// The length of one mark.
pub const MARK: usize = 20;

const MAGIC: [u8; 7] = *b"TGWDONE";

/// Returns the header of the file of marks.
#[must_use]
pub fn marks_header() -> [u8; MARKS_HEADER] {
    let mut bytes = [0; MARKS_HEADER];
    bytes[..7].copy_from_slice(&MAGIC);
    bytes[7] = VERSION;
    let sum = checksum(0, &bytes[..28]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Appends the mark that all entries of a range are finished.
pub fn encode_mark(range: &Range<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
    let sum = checksum(0, &out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The content of the file of marks.
#[derive(Debug, PartialEq, Eq)]
pub struct Marks {
    /// The entries that are finished.
    pub finished: FinishedSet,
    /// Where the file has bytes that are no mark; the entries concerned are given again.
    pub damaged_at: Option<usize>,
}

/// Reads the file of marks.
///
/// # Errors
/// [`FormatError::Version`] for a file of another version.
pub fn read_marks(bytes: &[u8]) -> Result<Marks, FormatError> {
    let mut marks = Marks { finished: FinishedSet::default(), damaged_at: None };
    let Some((header, rest)) = bytes.split_at_checked(MARKS_HEADER) else {
        marks.damaged_at = Some(0);
        return Ok(marks);
    };
    if header.starts_with(&MAGIC) && u32_at(header, 28) == Some(checksum(0, &header[..28])) {
        if header[7] != VERSION {
            return Err(FormatError::Version(header[7]));
        }
    } else {
        marks.damaged_at = Some(0);
    }
    for (n, mark) in rest.chunks(MARK).enumerate() {
        let range = u64_at(mark, 0).zip(u64_at(mark, 8)).filter(|(start, end)| start < end);
        match range {
            Some((start, end)) if u32_at(mark, 16) == Some(checksum(0, &mark[..16])) => {
                marks.finished.insert(start..end);
            }
            _ => marks.damaged_at = marks.damaged_at.or(Some(MARKS_HEADER + n * MARK)),
        }
    }
    Ok(marks)
}

/// A set of finished entries. Entries end nearly in order, so that few ranges hold them: one more than there are unfinished
/// entries before the last finished one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedSet {
    /// The ends of disjoint ranges that do not touch, by their starts.
    ranges: BTreeMap<u64, u64>,
}

impl FinishedSet {
    /// Adds the entries of a range.
    pub fn insert(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&found, &until)) = self.ranges.range(..=end).next_back()
            && until >= start
        {
            (start, end) = (start.min(found), end.max(until));
            self.ranges.remove(&found);
        }
        self.ranges.insert(start, end);
    }

    /// Returns the end of the range that holds an entry.
    #[must_use]
    pub fn end_of(&self, sequence: u64) -> Option<u64> {
        let (_, end) = self.ranges.range(..=sequence).next_back()?;
        (*end > sequence).then_some(*end)
    }

    /// Returns how many entries of a range are in the set.
    #[must_use]
    pub fn count_in(&self, range: Range<u64>) -> u64 {
        let before = self.ranges.range(..range.start).next_back();
        let within = self.ranges.range(range.start..range.end.max(range.start));
        let overlap =
            |(start, end): (&u64, &u64)| (*end).min(range.end).saturating_sub((*start).max(range.start));
        before.into_iter().chain(within).map(overlap).sum()
    }

    /// Returns a number greater than every one in the set.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// Forgets all entries below `floor`, of which none is stored any more.
    pub fn forget_below(&mut self, floor: u64) {
        while let Some(first) = self.ranges.first_entry().filter(|first| *first.key() < floor) {
            let end = *first.get();
            if end > floor {
                first.remove();
                self.ranges.insert(floor, end);
                break;
            }
            first.remove();
        }
    }

    /// Returns the ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fastrand::Rng;

    use super::*;

    #[test]
    fn the_set_is_that_of_its_members() {
        for seed in 0..200 {
            let mut random = Rng::with_seed(seed);
            let (mut set, mut model) = (FinishedSet::default(), BTreeSet::new());
            for _ in 0..random.usize(1..80) {
                if random.u8(..10) == 0 {
                    let floor = random.u64(..100);
                    set.forget_below(floor);
                    model.retain(|n| *n >= floor);
                } else {
                    let start = random.u64(..100);
                    let range = start..start + random.u64(1..6);
                    model.extend(range.clone());
                    set.insert(range);
                }
                let members: BTreeSet<_> = set.ranges().flatten().collect();
                assert_eq!(members, model);
                let ranges: Vec<_> = set.ranges().collect();
                assert!(ranges.is_sorted_by(|a, b| a.end < b.start), "they do not touch: {ranges:?}");
                assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
                let (from, to) = (random.u64(..110), random.u64(..110));
                assert_eq!(set.count_in(from..to), (from..to).filter(|n| model.contains(n)).count() as u64);
                assert_eq!(set.end_of(from).is_some(), model.contains(&from));
                assert!(set.end_of(from).is_none_or(|end| !model.contains(&end)));
            }
        }
    }

    #[test]
    fn marks_survive_a_flipped_bit_but_for_one() {
        let mut bytes = marks_header().to_vec();
        for n in 0..10 {
            encode_mark(&(10 * n..10 * n + 3), &mut bytes);
        }
        let whole = read_marks(&bytes).unwrap();
        assert_eq!((whole.finished.ranges().count(), whole.damaged_at), (10, None));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            let marks = read_marks(&damaged).unwrap();
            let hit = at.checked_sub(MARKS_HEADER).map(|at| at / MARK);
            let place = hit.map_or(0, |hit| MARKS_HEADER + hit * MARK);
            assert_eq!(marks.damaged_at, Some(place));
            let expected: Vec<_> = (0..10)
                .filter(|n| hit.is_none_or(|hit| *n != hit as u64))
                .map(|n: u64| 10 * n..10 * n + 3)
                .collect();
            assert_eq!(marks.finished.ranges().collect::<Vec<_>>(), expected);
        }
        for cut in 0..bytes.len() {
            let marks = read_marks(&bytes[..cut]).unwrap();
            assert_eq!(marks.finished.ranges().count(), cut.saturating_sub(MARKS_HEADER) / MARK);
        }
    }

    #[test]
    fn marks_of_another_version_are_refused() {
        let mut bytes = marks_header();
        bytes[7] = 9;
        let sum = checksum(0, &bytes[..28]);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read_marks(&bytes), Err(FormatError::Version(9)));
    }
}
