//! The fast path of recordings, reports and answers: plain objects, read in one pass without a tree. serde is the slow path, which
//! reads all others and reports errors.
//!
//! docs/performance.md, "Second ways", has what each use of it saves.

/// How deep values may be nested in a plain object.
const DEEPEST: usize = 16;

/// Passes each member of an object to `take` in order: the key, and the JSON text of the value, without spaces around
/// either.
///
/// Returns `None`, possibly after calls of `take`, if the text is no JSON object or not a plain one: a plain object has no
/// escape in a text and at most 16 levels.
pub fn members<'a>(json: &'a str, mut take: impl FnMut(&'a str, &'a str)) -> Option<()> {
    Scanner::read(json, |key, value| {
        take(key, value.json()?);
        Some(())
    })
}

/// Whether bytes are a plain object and nothing else.
#[must_use]
pub fn is_plain(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|json| members(json, |_, _| {}).is_some())
}

/// A scanner over a plain object. Each method reads one value, and returns `None` if the next one is of another type; the
/// caller then takes the slow path.
pub struct Scanner<'a> {
    json: &'a str,
    at: usize,
    /// How many levels may follow.
    room: usize,
}

impl<'a> Scanner<'a> {
    /// Calls `member` for each member of an object in order, with its key.
    ///
    /// Returns `None` as [`members`] does, and if `member` does.
    pub fn read(json: &'a str, member: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<()> {
        let mut plain = Self::begin(json);
        plain.skip_blank();
        plain.object(member)?;
        plain.skip_blank();
        plain.end()
    }

    /// A scanner at the start of a text.
    #[must_use]
    pub fn begin(json: &'a str) -> Self {
        Self { json, at: 0, room: DEEPEST }
    }

    /// Returns `None` if text is left.
    #[must_use]
    pub fn end(&self) -> Option<()> {
        (self.at == self.json.len()).then_some(())
    }

    /// Reads an object; `member` reads each member.
    pub fn object(&mut self, mut member: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |plain| {
            let key = plain.text()?;
            plain.skip_blank();
            plain.eat(b':')?;
            plain.skip_blank();
            member(key, plain)
        })
    }

    /// Reads an array; `element` reads each element.
    pub fn array(&mut self, element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b'[', b']', element)
    }

    /// The contents of a string.
    pub fn text(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let start = self.at;
        let length = length_of_text(&self.json.as_bytes()[start..])?;
        self.at += length;
        self.eat(b'"')?;
        self.json.get(start..start + length)
    }

    /// A whole number, as far as 64 bits go.
    pub fn integer(&mut self) -> Option<i64> {
        let start = self.at;
        self.number()?;
        self.json.get(start..self.at)?.parse().ok()
    }

    /// The JSON text of any value.
    pub fn json(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.skip()?;
        self.json.get(start..self.at)
    }

    fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.text().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'{' => self.object(|_, value| value.skip()),
            b'[' => self.list(b'[', b']', Self::skip),
            _ => None,
        }
    }

    /// Reads the elements between brackets.
    fn list(&mut self, first: u8, last: u8, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(first)?;
        self.room = self.room.checked_sub(1)?;
        self.skip_blank();
        if self.eat(last).is_none() {
            loop {
                element(self)?;
                self.skip_blank();
                if self.eat(b',').is_none() {
                    break;
                }
                self.skip_blank();
            }
            self.eat(last)?;
        }
        self.room += 1;
        Some(())
    }

    /// The first byte of the next value.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips this byte if it is the next one.
    #[inline]
    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Skips this piece of text if it comes next; says whether it did.
    #[inline]
    pub fn has(&mut self, piece: &str) -> bool {
        self.word(piece).is_some()
    }

    /// Skips this piece of text, which must come next.
    #[inline]
    pub fn word(&mut self, word: &str) -> Option<()> {
        self.json.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// The position of the first quote, backslash or control character. Tests eight bytes at once, because texts are most of the
/// input.
fn length_of_text(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // Marks the top bit of each byte that is less than `limit`, perhaps of some above the lowest such, where a borrow went.
    let less = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
        let found = is(b'"') | is(b'\\') | less(word, b' ');
        if found != 0 {
            return Some(n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    rest.iter().position(ends).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    /// What serde makes of the same text.
    struct ObjectMembers<'a>(Vec<(Cow<'a, str>, &'a str)>);

    #[derive(Deserialize)]
    struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

    impl<'de: 'a, 'a> Deserialize<'de> for ObjectMembers<'a> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Entries;
            impl<'de> serde::de::Visitor<'de> for Entries {
                type Value = ObjectMembers<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<ObjectMembers<'de>, A::Error> {
                    let mut members = Vec::new();
                    while let Some(Key(key)) = map.next_key()? {
                        members.push((key, map.next_value::<&RawValue>()?.get()));
                    }
                    Ok(ObjectMembers(members))
                }
            }
            deserializer.deserialize_map(Entries)
        }
    }

    /// The members, which both readers must agree on; `None` if the object is not plain.
    fn both(json: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(json, |key, value| found.push((key, value)))?;
        let ObjectMembers(expected) =
            serde_json::from_str(json).unwrap_or_else(|why| panic!("{json}: {why}"));
        let expected: Vec<_> = expected.iter().map(|(key, value)| (key.as_ref(), *value)).collect();
        assert_eq!(found, expected, "{json}");
        Some(found)
    }

    #[test]
    fn a_plain_object_is_read_as_serde_reads_it() {
        let json = " { \"cid\" : \"mé\u{9b}\" ,\r\n\"a\":-1.5e+10,\"a\":[ 1 ,{\"b\":[]}, null],\t\"\":{ } } ";
        let expected =
            [("cid", "\"mé\u{9b}\""), ("a", "-1.5e+10"), ("a", "[ 1 ,{\"b\":[]}, null]"), ("", "{ }")];
        assert_eq!(both(json).unwrap(), expected);
        assert_eq!(both("{}").unwrap(), []);
        for json in [
            "",
            "[]",
            "1",
            "{",
            "}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 2}",
            "{\"a\":1}}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":+1}",
            "{\"a\":tru}",
            "{\"a\":\"\t\"}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":\"\\n\"}",
            "{\"\\u0061\":1}",
            "{\"a\":NaN}",
            "{\"a\":1}x",
            "{\"a\" 1}",
        ] {
            assert_eq!(both(json), None, "{json}");
        }
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(both(&nested(DEEPEST - 1)).is_some());
        assert_eq!(both(&nested(DEEPEST)), None);
        // Side by side there may be any number.
        let beside = format!("{{\"a\":[{}{{}}]}}", "[[]],".repeat(3 * DEEPEST));
        assert!(both(&beside).is_some());
    }

    #[test]
    fn no_text_is_read_otherwise_than_serde_reads_it() {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"a\"",
            "\"b\":",
            "{\"c\":",
            "1",
            "0",
            "-",
            ".",
            "e",
            "E+",
            "12.5",
            "true",
            "false",
            "null",
            " ",
            "\n",
            "\u{1}",
            "é",
            "\"é\\\"\"",
            "\\u0041",
            "tru",
            "}}",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut plain = 0;
        for _ in 0..200_000 {
            let mut json = String::from("{");
            for _ in 0..random.usize(1..12) {
                json.push_str(pieces[random.usize(..pieces.len())]);
            }
            json.push('}');
            plain += usize::from(both(&json).is_some());
        }
        assert!(plain > 100, "only {plain} plain objects among them");
    }

    #[test]
    fn a_text_ends_where_its_first_special_byte_is() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let length = random.usize(..40);
            let any: Vec<u8> = (0..length)
                .map(|_| if random.u8(..16) == 0 { random.u8(..) } else { random.u8(0x1f..) })
                .collect();
            let expected = any.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '));
            assert_eq!(length_of_text(&any), expected, "{any:?}");
        }
    }
}
