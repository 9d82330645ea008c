//! The history of a journal: for each key the accepted contents, in order, compared with those of the input.
//!
//! Pure: the file's entries go in, the entries to write come out.

use std::collections::{HashMap, VecDeque};

/// 128 bits of a hash.
pub type Hash = [u8; 16];

/// Hashes of one line of the input: whom it concerns, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineDigest {
    /// The gateway, the device and the data point.
    pub key: Hash,
    /// The message.
    pub content: Hash,
}

/// An entry of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The accepted line.
    pub digest: LineDigest,
    /// The place of this content among those of its key, if this entry makes that one and all behind it void.
    pub at: Option<u32>,
}

/// One accepted content. There may be tens of millions, so each takes 40 bytes and nothing else.
#[derive(Clone, Copy, Debug)]
struct AcceptedContent {
    key: Hash,
    content: Hash,
    /// While the file is read, its place in the file; afterwards, in the first content of a key, how many contents
    /// of that key the input has had in common with the journal.
    place: u32,
    /// While the file is read, `at` of its entry; afterwards, in the first content of a key, how the input goes on.
    state: u32,
}

/// No `at`.
const NONE: u32 = u32::MAX;
/// The input has had only contents that the journal holds.
const FOLLOWS: u32 = 0;
/// The input differs; the next content that is accepted takes the place of the first one that differs.
const DIFFERS: u32 = 1;
/// As [`DIFFERS`], and that content has been recorded.
const REPLACED: u32 = 2;

/// A content in flight.
#[derive(Debug)]
struct SentContent {
    index: u64,
    content: Hash,
    /// Whether it was accepted; `None` while it is open.
    accepted: Option<bool>,
}

/// The accepted contents of a journal, and the contents in flight.
#[derive(Debug, Default)]
pub struct History {
    /// Sorted by key; of one key, in the journal's order.
    known: Vec<AcceptedContent>,
    /// The keys of contents in flight, by the index of the result line.
    keys: HashMap<u64, Hash>,
    /// Contents whose entries are not written, by key and in input order: entries are written in that order, whatever the
    /// order of the answers.
    sent: HashMap<Hash, VecDeque<SentContent>>,
}

impl History {
    /// A history with memory for this many entries. Call [`History::add`] for each, then [`History::sort`].
    pub fn with_capacity(entries: usize) -> Self {
        Self { known: Vec::with_capacity(entries), ..Self::default() }
    }

    /// Adds an entry of the file; returns false if there are more than 4 billion.
    pub fn add(&mut self, entry: JournalEntry) -> bool {
        let Ok(place) = u32::try_from(self.known.len()) else { return false };
        let LineDigest { key, content } = entry.digest;
        self.known.push(AcceptedContent { key, content, place, state: entry.at.unwrap_or(NONE) });
        true
    }

    /// Ends the reading: sorts the entries by key and drops those that later ones made void.
    pub fn sort(&mut self) {
        // In place: a stable sort would need memory for half of the entries more.
        self.known.sort_unstable_by_key(|known| (known.key, known.place));
        let mut kept = 0;
        let mut first = 0;
        for n in 0..self.known.len() {
            let known = self.known[n];
            if kept == first || self.known[first].key != known.key {
                first = kept;
            }
            if known.state != NONE {
                kept = kept.min(first.saturating_add(known.state as usize));
            }
            self.known[kept] = AcceptedContent { place: 0, state: FOLLOWS, ..known };
            kept += 1;
        }
        self.known.truncate(kept);
    }

    /// Returns whether a former run accepted all lines of a request, which is then passed over. If not, all of them are in
    /// flight. `first` is the index of the request's first result line; asking again for a request in flight returns false.
    pub fn pass_over(&mut self, first: u64, lines: &[LineDigest]) -> bool {
        if lines.is_empty() || self.keys.contains_key(&first) {
            return false;
        }
        let matched = lines.iter().take_while(|line| self.advance(line)).count();
        if matched == lines.len() {
            return true;
        }
        for line in lines[..matched].iter().rev() {
            self.step_back(line);
        }
        for (index, line) in (first..).zip(lines) {
            self.differ(line);
            self.keys.insert(index, line.key);
            let sent = SentContent { index, content: line.content, accepted: None };
            self.sent.entry(line.key).or_default().push_back(sent);
        }
        false
    }

    /// Handles the result of the line with this index; writes the entries that are next in input order.
    pub fn handle_result(&mut self, index: u64, accepted: bool, mut write: impl FnMut(JournalEntry)) {
        let Some(key) = self.keys.remove(&index) else { return };
        let Some(queue) = self.sent.get_mut(&key) else { return };
        if let Some(sent) = queue.iter_mut().find(|sent| sent.index == index) {
            sent.accepted = Some(accepted);
        }
        let mut accepted_contents = Vec::new();
        while let Some(SentContent { content, accepted: Some(accepted), .. }) = queue.front() {
            if *accepted {
                accepted_contents.push(*content);
            }
            queue.pop_front();
        }
        if queue.is_empty() {
            self.sent.remove(&key);
        }
        for content in accepted_contents {
            let at = self.first(&key).filter(|known| known.state == DIFFERS).map(|known| {
                known.state = REPLACED;
                known.place
            });
            write(JournalEntry { digest: LineDigest { key, content }, at });
        }
    }

    /// The first content of a key.
    fn first(&mut self, key: &Hash) -> Option<&mut AcceptedContent> {
        let at = self.known.partition_point(|known| known.key < *key);
        self.known.get_mut(at).filter(|known| known.key == *key)
    }

    /// Returns the next content of a key, if the input has followed the journal so far.
    fn next(&self, key: &Hash) -> Option<(usize, Option<&AcceptedContent>)> {
        let first = self.known.partition_point(|known| known.key < *key);
        let known = self.known.get(first).filter(|known| known.key == *key && known.state == FOLLOWS)?;
        let next = self.known.get(first + known.place as usize).filter(|known| known.key == *key);
        Some((first, next))
    }

    /// Goes one content further if input and journal have the same.
    fn advance(&mut self, line: &LineDigest) -> bool {
        match self.next(&line.key) {
            Some((first, Some(known))) if known.content == line.content => {
                self.known[first].place += 1;
                true
            }
            _ => false,
        }
    }

    fn step_back(&mut self, line: &LineDigest) {
        if let Some(first) = self.first(&line.key) {
            first.place -= 1;
        }
    }

    /// Marks a content as sent: if the journal has another one in its place, that one is void.
    fn differ(&mut self, line: &LineDigest) {
        if let Some((first, Some(_))) = self.next(&line.key) {
            self.known[first].state = DIFFERS;
        }
    }

    /// Returns the number of entries that there is memory for.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.known.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(line: &str) -> LineDigest {
        let hash = |byte: u8| [byte; 16];
        let bytes = line.as_bytes();
        LineDigest { key: hash(bytes[0]), content: hash(bytes[1]) }
    }

    /// A journal of lines such as `a1`: key and content.
    #[derive(Clone, Default)]
    struct Journal(Vec<JournalEntry>);

    impl Journal {
        /// Runs an input, of which these lines are refused; answers come in the opposite order in each window of
        /// three. Gives what was sent.
        fn run(&mut self, input: &str, refused: &str) -> String {
            let mut history = History::with_capacity(self.0.len());
            for entry in &self.0 {
                assert!(history.add(*entry));
            }
            history.sort();
            let lines: Vec<_> = input.split_whitespace().collect();
            let mut sent = Vec::new();
            for (index, line) in (0..).zip(&lines) {
                if !history.pass_over(index, &[digest(line)]) {
                    assert!(!history.pass_over(index, &[digest(line)]), "asked again for the same line");
                    sent.push((index, *line));
                }
            }
            for window in sent.chunks(3) {
                for (index, line) in window.iter().rev() {
                    let is_accepted = !refused.split_whitespace().any(|refused| refused == *line);
                    history.handle_result(*index, is_accepted, |entry| self.0.push(entry));
                }
            }
            assert!(history.keys.is_empty() && history.sent.is_empty());
            sent.iter().map(|(_, line)| *line).collect::<Vec<_>>().join(" ")
        }

        fn wants(&mut self, input: &str, sent: &str) {
            assert_eq!(self.run(input, ""), sent, "{input}");
            assert_eq!(self.run(input, ""), "", "{input}: the same again");
        }
    }

    #[test]
    fn lines_that_are_appended_inserted_moved_or_corrected_are_sent_and_no_others() {
        let mut journal = Journal::default();
        journal.wants("a1 b1 c1", "a1 b1 c1");
        journal.wants("a1 b1 c1 d1", "d1");
        journal.wants("e1 a1 b1 c1 d1", "e1");
        journal.wants("d1 c1 b1 a1 e1", "");
        journal.wants("d1 c1 b2 a1 e1", "b2");
        journal.wants("d1 c1 b1 a1 e1", "b1");
    }

    #[test]
    fn of_one_key_everything_from_the_first_difference_on_is_sent() {
        let mut journal = Journal::default();
        journal.wants("a1 a2 a3 a4 a5", "a1 a2 a3 a4 a5");
        journal.wants("a1 a2 a9 a4 a5", "a9 a4 a5");
        journal.wants("a1 a2 a9 a4 a5 a6", "a6");
        // Contents that are only left out were accepted.
        journal.wants("a1 a2", "");
        journal.wants("a0 a1 a2", "a0 a1 a2");
        journal.wants("a2 a1", "a2 a1");
    }

    #[test]
    fn a_refused_content_and_all_behind_it_of_its_key_are_sent_again() {
        let mut journal = Journal::default();
        assert_eq!(journal.run("a1 a2 a3 b1", "a2"), "a1 a2 a3 b1");
        journal.wants("a1 a2 a3 b1", "a2 a3");
        assert_eq!(journal.run("a1 a5 a6 b1", "a5 a6"), "a5 a6");
        // The former contents hold until another one is accepted.
        journal.wants("a1 a2 a3 b1", "");
    }

    #[test]
    fn answers_in_any_order_are_noted_in_input_order() {
        let mut journal = Journal::default();
        journal.wants("a1 a2 a3 a1 a2 a3", "a1 a2 a3 a1 a2 a3");
        let contents: Vec<_> = journal.0.iter().map(|entry| entry.digest.content[0]).collect();
        assert_eq!(contents, b"123123");
    }

    #[test]
    fn journals_of_shards_can_be_joined() {
        let mut shards = [Journal::default(), Journal::default()];
        shards[0].wants("a1 c1 a2", "a1 c1 a2");
        shards[0].wants("a1 c1 a3", "a3");
        shards[1].wants("b1 d1", "b1 d1");
        let [first, second] = shards;
        for joined in [[&first, &second], [&second, &first]] {
            let mut joined = Journal(joined.into_iter().flat_map(|journal| journal.0.clone()).collect());
            joined.wants("a1 b1 c1 d1 a3", "");
            joined.wants("a1 b1 c1 d1 a3 d2", "d2");
        }
    }

    #[test]
    fn a_message_of_several_lines_is_passed_over_as_a_whole_or_not_at_all() {
        let mut history = History::with_capacity(2);
        for line in ["a1", "b1"] {
            history.add(JournalEntry { digest: digest(line), at: None });
        }
        history.sort();
        let mut other = History { known: history.known.clone(), ..History::default() };
        assert!(history.pass_over(0, &[digest("a1"), digest("b1")]));
        assert!(!other.pass_over(0, &[digest("a1"), digest("b2")]));
        let mut written = Vec::new();
        for index in [0, 1] {
            other.handle_result(index, true, |entry| written.push(entry));
        }
        let expected = ["a1", "b2"].map(|line| JournalEntry { digest: digest(line), at: Some(0) });
        assert_eq!(written, expected);
    }

    #[test]
    fn an_entry_takes_40_bytes() {
        const ENTRIES: u32 = 10_000;
        assert_eq!(size_of::<AcceptedContent>(), 40);
        let digest = |n: u32| {
            let mut hash = [0; 16];
            hash[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
            LineDigest { key: hash, content: hash }
        };
        let mut history = History::with_capacity(ENTRIES as usize);
        for n in 0..ENTRIES {
            history.add(JournalEntry { digest: digest(n), at: None });
        }
        history.sort();
        assert_eq!(history.capacity(), ENTRIES as usize);
        // A line that is passed over takes no memory.
        for n in 0..ENTRIES {
            assert!(history.pass_over(n.into(), &[digest(n)]));
        }
        assert!(history.keys.capacity() == 0 && history.sent.capacity() == 0);
    }
}
