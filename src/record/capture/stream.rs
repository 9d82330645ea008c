//! One direction of a TCP connection, put into order.

/// How much may wait for a segment that is missing before it is given up.
const PATIENCE: usize = 1 << 20;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The number of the next byte; unknown until the first segment.
    next: Option<u32>,
    /// Segments beyond a missing one, in their order.
    parked: Vec<(u32, Vec<u8>)>,
}

/// What a segment brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes that follow on those before.
    Bytes(Vec<u8>),
    /// So many bytes were not captured; a segment begins behind them.
    Gap(u32),
}

impl Stream {
    /// Notes where the stream begins.
    pub fn begin(&mut self, first: u32) {
        self.next = Some(first);
        self.parked.clear();
    }

    /// Takes a segment's bytes, and gives what is in order now. What came before is dropped: it was sent again.
    pub fn take(&mut self, sequence: u32, payload: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if payload.is_empty() {
            return pieces;
        }
        let next = *self.next.get_or_insert(sequence);
        if ahead(sequence, next) > 0 {
            let at = self.parked.partition_point(|(parked, _)| ahead(*parked, sequence) < 0);
            self.parked.insert(at, (sequence, payload.to_vec()));
            if self.parked.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > PATIENCE {
                self.give_up(&mut pieces);
            }
        } else {
            self.append(sequence, payload, &mut pieces);
            self.unpark(&mut pieces);
        }
        pieces
    }

    /// The other side has received everything before this number: what is missing will not come again.
    pub fn acknowledged(&mut self, number: u32) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some((parked, _)) = self.parked.first()
            && ahead(number, *parked) >= 0
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

    /// Jumps over what is missing before the first parked segment.
    fn give_up(&mut self, pieces: &mut Vec<Piece>) {
        let (Some((parked, _)), Some(next)) = (self.parked.first(), self.next) else { return };
        pieces.push(Piece::Gap(parked.wrapping_sub(next)));
        self.next = Some(*parked);
        self.unpark(pieces);
    }

    fn unpark(&mut self, pieces: &mut Vec<Piece>) {
        while let (Some((parked, _)), Some(next)) = (self.parked.first(), self.next)
            && ahead(*parked, next) <= 0
        {
            let (parked, bytes) = self.parked.remove(0);
            self.append(parked, &bytes, pieces);
        }
    }

    fn append(&mut self, sequence: u32, payload: &[u8], pieces: &mut Vec<Piece>) {
        let Some(next) = self.next else { return };
        let known = usize::try_from(next.wrapping_sub(sequence)).unwrap_or(usize::MAX);
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return };
        pieces.push(Piece::Bytes(new.to_vec()));
        #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let length = new.len() as u32;
        self.next = Some(next.wrapping_add(length));
    }
}

/// How far a sequence number is ahead of another; numbers wrap.
fn ahead(number: u32, of: u32) -> i32 {
    number.wrapping_sub(of).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Piece {
        Piece::Bytes(bytes.to_vec())
    }

    #[test]
    fn segments_come_out_in_order_and_once() {
        let mut stream = Stream::default();
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
        let mut stream = Stream::default();
        assert_eq!(stream.take(100, b"ab"), [bytes(b"ab")]);
        assert_eq!(stream.take(105, b"fg"), []);
        assert_eq!(stream.acknowledged(102), []);
        assert_eq!(stream.acknowledged(107), [Piece::Gap(3), bytes(b"fg")]);
        assert_eq!(stream.take(110, b"k"), []);
        assert_eq!(stream.finish(), [Piece::Gap(3), bytes(b"k")]);
        let large = vec![0; PATIENCE + 1];
        assert_eq!(stream.take(112, &large), [Piece::Gap(1), bytes(&large)]);
    }
}
