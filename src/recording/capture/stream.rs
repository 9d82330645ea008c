//! One direction of a TCP connection, put into order.

use std::collections::BTreeMap;

/// How much may wait for a segment that is missing before it is given up.
const PATIENCE: usize = 1 << 20;
/// What a waiting segment costs beside its bytes.
const OVERHEAD: usize = 64;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct StreamReassembler {
    /// The position of the next byte; unknown until the first segment.
    next: Option<u64>,
    /// Segments beyond a missing one, by position.
    parked: BTreeMap<u64, Vec<u8>>,
    /// What they weigh.
    weight: usize,
    /// How many segments were parked and taken again.
    #[cfg(test)]
    work: u64,
}

/// What a segment brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes that follow on those before.
    Bytes(Vec<u8>),
    /// So many bytes were not captured; a segment begins behind them.
    Gap(u64),
}

impl StreamReassembler {
    /// Notes where the stream begins.
    pub fn begin(&mut self, first: u32) {
        *self = Self { next: Some(origin(first)), ..Self::default() };
    }

    /// How much memory waits.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Takes a segment's bytes, and gives what is in order now. What came before is dropped: it was sent again.
    pub fn take(&mut self, sequence: u32, payload: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if payload.is_empty() {
            return pieces;
        }
        let next = *self.next.get_or_insert(origin(sequence));
        let at = position(sequence, next);
        if at > next {
            self.park(at, payload);
            if self.weight > PATIENCE {
                self.give_up(&mut pieces);
            }
        } else {
            self.append(at, payload, &mut pieces);
            self.unpark(&mut pieces);
        }
        pieces
    }

    /// The other side has received everything before this number: what is missing will not come again.
    pub fn acknowledged(&mut self, number: u32) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let (Some((parked, _)), Some(next)) = (self.parked.first_key_value(), self.next)
            && position(number, next) >= *parked
        {
            self.give_up(&mut pieces);
        }
        pieces
    }

    /// Nothing more will come.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while !self.parked.is_empty() {
            self.give_up(&mut pieces);
        }
        pieces
    }

    fn park(&mut self, at: u64, payload: &[u8]) {
        #[cfg(test)]
        {
            self.work += 1;
        }
        let known = self.parked.get(&at).map_or(0, Vec::len);
        // Of the same segment sent twice the longer one has all of it.
        if known < payload.len() {
            let replaced = self.parked.insert(at, payload.to_vec());
            self.weight += payload.len() - known + if replaced.is_none() { OVERHEAD } else { 0 };
        }
    }

    /// Jumps over what is missing before the first parked segment.
    fn give_up(&mut self, pieces: &mut Vec<Piece>) {
        let (Some((parked, _)), Some(next)) = (self.parked.first_key_value(), self.next) else { return };
        let parked = *parked;
        pieces.push(Piece::Gap(parked - next));
        self.next = Some(parked);
        self.unpark(pieces);
    }

    fn unpark(&mut self, pieces: &mut Vec<Piece>) {
        while let (Some(entry), Some(next)) = (self.parked.first_entry(), self.next)
            && *entry.key() <= next
        {
            let (at, bytes) = entry.remove_entry();
            self.weight -= bytes.len() + OVERHEAD;
            self.append(at, &bytes, pieces);
            #[cfg(test)]
            {
                self.work += 1;
            }
        }
    }

    fn append(&mut self, at: u64, payload: &[u8], pieces: &mut Vec<Piece>) {
        let Some(next) = self.next else { return };
        let known = usize::try_from(next - at).unwrap_or(usize::MAX);
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return };
        pieces.push(Piece::Bytes(new.to_vec()));
        self.next = Some(next + new.len() as u64);
    }
}

/// Positions are sequence numbers that do not wrap; they begin so high that none falls below 0.
fn origin(sequence: u32) -> u64 {
    (1 << 32) + u64::from(sequence)
}

/// The position of a sequence number near another position.
fn position(sequence: u32, near: u64) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    let ahead = sequence.wrapping_sub(near as u32).cast_signed();
    near.saturating_add_signed(ahead.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Piece {
        Piece::Bytes(bytes.to_vec())
    }

    #[test]
    fn segments_come_out_in_order_and_once() {
        let mut stream = StreamReassembler::default();
        stream.begin(u32::MAX - 1);
        assert_eq!(stream.take(u32::MAX - 1, b"ab"), [bytes(b"ab")]);
        assert_eq!(stream.take(4, b"gh"), []);
        assert_eq!(stream.take(2, b"ef"), []);
        assert_eq!(stream.take(u32::MAX - 1, b"ab"), []);
        assert_eq!(stream.take(u32::MAX, b"bcd"), [bytes(b"cd"), bytes(b"ef"), bytes(b"gh")]);
        assert_eq!(stream.take(6, b""), []);
    }

    #[test]
    fn what_was_not_captured_is_a_gap() {
        let mut stream = StreamReassembler::default();
        assert_eq!(stream.take(100, b"ab"), [bytes(b"ab")]);
        assert_eq!(stream.take(105, b"fg"), []);
        assert_eq!(stream.acknowledged(102), []);
        assert_eq!(stream.acknowledged(107), [Piece::Gap(3), bytes(b"fg")]);
        assert_eq!(stream.take(110, b"k"), []);
        assert_eq!(stream.finish(), [Piece::Gap(3), bytes(b"k")]);
        let large = vec![0; PATIENCE + 1];
        assert_eq!(stream.take(112, &large), [Piece::Gap(1), bytes(&large)]);
    }

    #[test]
    fn many_segments_behind_a_missing_one_cost_no_more_than_each_of_them() {
        let work = |segments: u32| {
            let mut stream = StreamReassembler::default();
            stream.begin(0);
            let mut bytes = 0;
            // The first one is missing; the others come backwards, which is the worst for a sorted list.
            for n in (1..=segments).rev() {
                for piece in stream.take(n, b"x") {
                    bytes += usize::from(matches!(piece, Piece::Bytes(_)));
                }
            }
            assert!(stream.weight() <= PATIENCE);
            bytes += stream.finish().iter().filter(|piece| matches!(piece, Piece::Bytes(_))).count();
            assert_eq!((stream.weight(), stream.parked.len()), (0, 0));
            (stream.work, bytes)
        };
        for segments in [1_000, 10_000] {
            assert_eq!(work(segments), (2 * u64::from(segments), segments as usize));
        }
        // More than may wait: what is missing is given up, and memory stays bounded.
        let (work, _) = work(100_000);
        assert!(work <= 200_000, "{work}");
    }
}
