//! Which devices have entries in the segments that were not read yet.

use std::{io, sync::Arc};

use super::folder::{SpoolFile as _, SpoolFolder};
use crate::{
    collections::SeededMap,
    spool::{DamagedBucket, SegmentHeader, TableShape},
};

/// The number of the last entry of each device, by the device's hash.
pub type LastEntries = SeededMap<u64, u64>;

/// How many answers are remembered.
const ANSWERS: usize = 1 << 16;

/// The table of a segment that takes no more entries.
#[derive(Clone, Debug)]
pub struct SegmentTable {
    pub name: Arc<str>,
    pub header: SegmentHeader,
    /// The number of its last entry.
    pub last: u64,
    pub place: TablePlace,
}

/// Where a table is.
#[derive(Clone, Debug)]
pub enum TablePlace {
    /// In the segment's file, from this offset.
    File(u64, TableShape),
    /// In memory, because it could not be written or read.
    Memory(Arc<LastEntries>),
}

impl SegmentTable {
    /// Returns the number of the last entry of a device in this segment.
    fn find(&self, folder: &impl SpoolFolder, hash: u64) -> io::Result<Option<u64>> {
        let (start, shape) = match &self.place {
            TablePlace::Memory(devices) => return Ok(devices.get(&hash).copied()),
            TablePlace::File(_, TableShape { buckets: 0, .. }) => return Ok(None),
            TablePlace::File(start, shape) => (*start, *shape),
        };
        let file = match folder.open(&self.name) {
            Ok(file) => file,
            // All its entries are finished.
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        let damaged = |DamagedBucket| io::Error::from(io::ErrorKind::InvalidData);
        let bucket = shape.bucket_of(hash);
        let mut fences = [0; 8];
        file.read_at(&mut fences, start + shape.fences_of(bucket))?;
        let range = shape.bucket_range(bucket, fences).map_err(damaged)?;
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
        let read = file.read_at(&mut bytes, start + range.start)?;
        TableShape::find(self.header, bucket, &bytes[..read], hash).map_err(damaged)
    }
}

/// The last unread entry of each device, from memory as far as it reaches, else from the segments' tables.
#[derive(Debug)]
pub struct DeviceIndex<F> {
    folder: F,
    /// The segments that take no more entries, in order.
    segments: Arc<[SegmentTable]>,
    /// The last entries of devices that have some behind those segments.
    recent: LastEntries,
    /// What the tables said: the last entry, or 0.
    answers: LastEntries,
    /// With so many devices, those without unread entries are forgotten.
    limit: usize,
}

impl<F: SpoolFolder> DeviceIndex<F> {
    /// Begins with the segments found by the opening.
    pub fn new(folder: F, segments: Arc<[SegmentTable]>) -> Self {
        let (recent, answers) = (LastEntries::default(), LastEntries::default());
        Self { folder, segments, recent, answers, limit: ANSWERS }
    }

    /// Notes an appended entry of a device; entries before `position` were read.
    pub fn insert(&mut self, hash: u64, sequence: u64, position: u64) {
        if self.recent.len() >= self.limit {
            self.recent.retain(|_, last| *last >= position);
            self.limit = ANSWERS.max(2 * self.recent.len());
        }
        self.recent.insert(hash, sequence);
    }

    /// Takes another list of segments, and forgets what stands in their tables now.
    pub fn set_segments(&mut self, segments: Arc<[SegmentTable]>) {
        let covered = segments.last().map(|segment| segment.last);
        let is_longer = covered > self.segments.last().map(|segment| segment.last);
        self.segments = segments;
        if let Some(covered) = covered.filter(|_| is_longer) {
            let answers = &mut self.answers;
            // A device with later entries may have earlier ones in the new segment, which do not matter: the last one counts.
            self.recent.retain(|hash, last| {
                if *last <= covered
                    && let Some(answer) = answers.get_mut(hash)
                {
                    *answer = *last;
                }
                *last > covered
            });
            self.recent.shrink_to(ANSWERS / 4);
        }
    }

    /// Whether a device has an entry from the number `position` on. A table that cannot be read counts as one that has it.
    pub fn holds(&mut self, hash: u64, position: u64) -> bool {
        if self.recent.get(&hash).is_some_and(|last| *last >= position) {
            return true;
        }
        if let Some(last) = self.answers.get(&hash) {
            return *last >= position;
        }
        for segment in self.segments.iter().rev().take_while(|segment| segment.last >= position) {
            match segment.find(&self.folder, hash) {
                Ok(None) => {}
                Ok(Some(last)) => {
                    self.remember(hash, last);
                    return last >= position;
                }
                Err(_) => return true,
            }
        }
        self.remember(hash, 0);
        false
    }

    fn remember(&mut self, hash: u64, last: u64) {
        if self.answers.len() >= ANSWERS {
            self.answers = LastEntries::default();
        }
        self.answers.insert(hash, last);
    }
}
