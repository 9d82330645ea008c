//! Puts the segments of one direction of a TCP connection into order.

use std::collections::BTreeMap;

/// Most bytes that wait for a missing segment.
const MAX_PARKED: usize = 1 << 20;
/// What a parked segment costs in addition to its bytes.
const OVERHEAD: usize = 64;

/// One direction of a connection, in order.
#[derive(Debug, Default)]
pub(super) struct StreamReassembler {
    /// The position of the next byte; unknown until the first segment.
    next: Option<u64>,
    /// Segments beyond a missing one, by position.
    parked: BTreeMap<u64, Vec<u8>>,
    /// The bytes of the parked segments, and their overhead.
    weight: usize,
    /// How many segments were parked or taken again.
    #[cfg(test)]
    work: u64,
}

/// A part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The bytes after the part before.
    Bytes(Vec<u8>),
    /// How many bytes were not captured; the next part begins with a segment.
    Gap(u64),
}

impl StreamReassembler {
    /// Begins the stream at this sequence number.
    pub fn begin(&mut self, first: u32) {
        *self = Self { next: Some(origin(first)), ..Self::default() };
    }

    /// The memory of the parked segments, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Handles a segment, and returns the parts that are in order now. Bytes that came before are dropped, because they were
    /// retransmitted.
    pub fn handle_segment(&mut self, sequence: u32, payload: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if payload.is_empty() {
            return pieces;
        }
        let next = *self.next.get_or_insert(origin(sequence));
        let at = position(sequence, next);
        if at > next {
            self.park(at, payload);
            if self.weight > MAX_PARKED {
                self.give_up(&mut pieces);
            }
        } else {
            self.append(at, payload, &mut pieces);
            self.unpark(&mut pieces);
        }
        pieces
    }

    /// Handles an acknowledgement by the other side. It has received everything before this number, so missing bytes will not
    /// be sent again.
    pub fn handle_acknowledgement(&mut self, number: u32) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let (Some((parked, _)), Some(next)) = (self.parked.first_key_value(), self.next)
            && position(number, next) >= *parked
        {
            self.give_up(&mut pieces);
        }
        pieces
    }

    /// Handles the end of the capture.
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
        // If a segment was sent twice, the longer one holds all of its bytes.
        if known < payload.len() {
            let replaced = self.parked.insert(at, payload.to_vec());
            self.weight += payload.len() - known + if replaced.is_none() { OVERHEAD } else { 0 };
        }
    }

    /// Skips the missing bytes before the first parked segment.
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

/// Returns the position of a stream's first byte. Positions are sequence numbers that do not wrap; they begin so high that
/// none falls below 0.
fn origin(sequence: u32) -> u64 {
    (1 << 32) + u64::from(sequence)
}

/// Returns the position of a sequence number that is near another position.
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
        assert_eq!(stream.handle_segment(u32::MAX - 1, b"ab"), [bytes(b"ab")]);
        assert_eq!(stream.handle_segment(4, b"gh"), []);
        assert_eq!(stream.handle_segment(2, b"ef"), []);
        assert_eq!(stream.handle_segment(u32::MAX - 1, b"ab"), []);
        assert_eq!(stream.handle_segment(u32::MAX, b"bcd"), [bytes(b"cd"), bytes(b"ef"), bytes(b"gh")]);
        assert_eq!(stream.handle_segment(6, b""), []);
    }

    #[test]
    fn missing_bytes_are_a_gap() {
        let mut stream = StreamReassembler::default();
        assert_eq!(stream.handle_segment(100, b"ab"), [bytes(b"ab")]);
        assert_eq!(stream.handle_segment(105, b"fg"), []);
        assert_eq!(stream.handle_acknowledgement(102), []);
        assert_eq!(stream.handle_acknowledgement(107), [Piece::Gap(3), bytes(b"fg")]);
        assert_eq!(stream.handle_segment(110, b"k"), []);
        assert_eq!(stream.finish(), [Piece::Gap(3), bytes(b"k")]);
        let large = vec![0; MAX_PARKED + 1];
        assert_eq!(stream.handle_segment(112, &large), [Piece::Gap(1), bytes(&large)]);
    }

    #[test]
    fn many_segments_behind_a_missing_one_cost_no_more_than_each_of_them() {
        let work = |segments: u32| {
            let mut stream = StreamReassembler::default();
            stream.begin(0);
            let mut bytes = 0;
            // The first one is missing; the others come backwards, which is the worst for a sorted list.
            for n in (1..=segments).rev() {
                for piece in stream.handle_segment(n, b"x") {
                    bytes += usize::from(matches!(piece, Piece::Bytes(_)));
                }
            }
            assert!(stream.weight() <= MAX_PARKED);
            bytes += stream.finish().iter().filter(|piece| matches!(piece, Piece::Bytes(_))).count();
            assert_eq!((stream.weight(), stream.parked.len()), (0, 0));
            (stream.work, bytes)
        };
        for segments in [1_000, 10_000] {
            assert_eq!(work(segments), (2 * u64::from(segments), segments as usize));
        }
        // More than may wait: the missing segment is given up, and memory stays bounded.
        let (work, _) = work(100_000);
        assert!(work <= 200_000, "{work}");
    }
}
