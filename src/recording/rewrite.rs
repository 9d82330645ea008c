//! Replaces the time stamp, the request id and the cids of a message in its own bytes; all other bytes stay as they are.
//!
//! [`RewritableFields::find_fast`] reads plain objects in one pass. Without it `replay` takes 1.2 times the CPU time
//! (docs/performance.md, "Second ways").

use std::{borrow::Cow, fmt, ops::Range, time::Duration};

use serde_json::value::RawValue;

use crate::json::{ObjectMembers, Scanner, push_number, push_text, text_of};

/// The positions of a message's fields that can be replaced, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewritableFields(Vec<(RewritableField, Range<usize>)>);

/// A field that can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RewritableField {
    Time(TimestampStyle),
    RequestId,
    Cid,
}

/// The values that replace those of a message.
pub struct FreshValues<'a> {
    /// The time since the Unix epoch, written in the unit of the `t` that it replaces; `None` keeps that.
    pub t: Option<Duration>,
    /// The request id; `None` keeps the message's.
    pub request_id: Option<&'a str>,
    /// Returns the cid that replaces a cid; `None` keeps it.
    pub cid: &'a dyn Fn(&str) -> Option<&'a str>,
}

impl fmt::Debug for FreshValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh")
            .field("t", &self.t)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl RewritableFields {
    /// Finds the fields of a message; `None` if it is no JSON object.
    ///
    /// `t` and `request_id` are members of the message, cids of the message, of `param`, or of the objects in an array
    /// `param`. A `t` that is neither a whole number nor a string of one is not replaced.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Self::find_fast(payload).or_else(|| Self::find_any(payload))
    }

    /// Finds the fields of a plain object (see [`Scanner`]); `None` for any other message.
    fn find_fast(payload: &[u8]) -> Option<Self> {
        let mut fields = Self(Vec::with_capacity(3));
        Scanner::read(str::from_utf8(payload).ok()?, |name, value| {
            match (name, value.peek()?) {
                ("param", b'{') => return fields.add_cids(payload, value),
                ("param", b'[') => {
                    return value.array(|value| match value.peek()? {
                        b'{' => fields.add_cids(payload, value),
                        _ => value.json().map(drop),
                    });
                }
                _ => {}
            }
            let value = value.json()?;
            let field = match name {
                "t" => unit_of(value).map(RewritableField::Time),
                "request_id" => is_text(value).then_some(RewritableField::RequestId),
                "cid" => is_text(value).then_some(RewritableField::Cid),
                _ => None,
            };
            fields.0.extend(field.map(|field| (field, place(payload, value))));
            Some(())
        })?;
        Some(fields)
    }

    /// Adds the cids of an object that is `param`, or an element of it.
    fn add_cids<'p>(&mut self, payload: &'p [u8], object: &mut Scanner<'p>) -> Option<()> {
        object.object(|name, value| {
            let value = value.json()?;
            if name == "cid" && is_text(value) {
                self.0.push((RewritableField::Cid, place(payload, value)));
            }
            Some(())
        })
    }

    /// Finds the fields of any message.
    fn find_any(payload: &[u8]) -> Option<Self> {
        let message = serde_json::from_slice::<ObjectMembers<'_>>(payload).ok()?;
        let mut fields = Self::default();
        for (name, value) in &message.0 {
            let value = value.get();
            match &**name {
                "t" => fields
                    .0
                    .extend(unit_of(value).map(|unit| (RewritableField::Time(unit), place(payload, value)))),
                "request_id" if is_text(value) => {
                    fields.0.push((RewritableField::RequestId, place(payload, value)));
                }
                "cid" if is_text(value) => fields.0.push((RewritableField::Cid, place(payload, value))),
                "param" => {
                    let objects = match serde_json::from_str::<ObjectMembers<'_>>(value) {
                        Ok(object) => vec![object],
                        Err(_) => serde_json::from_str::<Vec<&RawValue>>(value)
                            .map(|parts| {
                                parts
                                    .iter()
                                    .filter_map(|part| {
                                        serde_json::from_str::<ObjectMembers<'_>>(part.get()).ok()
                                    })
                                    .collect()
                            })
                            .unwrap_or_default(),
                    };
                    for (name, value) in objects.iter().flat_map(|object| &object.0) {
                        if name == "cid" && is_text(value.get()) {
                            fields.0.push((RewritableField::Cid, place(payload, value.get())));
                        }
                    }
                }
                _ => {}
            }
        }
        Some(fields)
    }

    /// The texts of a field in the message.
    fn texts<'p>(&self, field: RewritableField, payload: &'p [u8]) -> impl Iterator<Item = Cow<'p, str>> {
        let places = self.0.iter().filter(move |(kind, _)| *kind == field);
        places.filter_map(move |(_, place)| text_of(str::from_utf8(&payload[place.clone()]).ok()?))
    }

    /// The request id of the message that the fields were found in.
    #[must_use]
    pub fn request_id<'p>(&self, payload: &'p [u8]) -> Option<Cow<'p, str>> {
        self.texts(RewritableField::RequestId, payload).next()
    }

    /// The first cid in the message that the fields were found in.
    #[must_use]
    pub fn cid<'p>(&self, payload: &'p [u8]) -> Option<Cow<'p, str>> {
        self.texts(RewritableField::Cid, payload).next()
    }

    /// Whether the message that the fields were found in names a device.
    #[must_use]
    pub fn has_cid(&self, payload: &[u8], cid: &str) -> bool {
        self.texts(RewritableField::Cid, payload).any(|named| named == cid)
    }

    /// Appends the message that the fields were found in, with fresh values.
    pub fn rewrite(&self, payload: &[u8], fresh: &FreshValues<'_>, out: &mut Vec<u8>) {
        out.reserve(payload.len() + 64);
        let mut done = 0;
        for (field, place) in &self.0 {
            let recorded = &payload[place.clone()];
            out.extend_from_slice(&payload[done..place.start]);
            done = place.end;
            let text = match field {
                RewritableField::Time(unit) => {
                    match fresh.t {
                        Some(now) => unit.write(now, out),
                        None => out.extend_from_slice(recorded),
                    }
                    continue;
                }
                RewritableField::RequestId => fresh.request_id,
                RewritableField::Cid => {
                    let cid = str::from_utf8(recorded).ok().and_then(text_of);
                    cid.and_then(|cid| (fresh.cid)(&cid))
                }
            };
            match text {
                Some(text) => push_text(out, text),
                None => out.extend_from_slice(recorded),
            }
        }
        out.extend_from_slice(&payload[done..]);
    }
}

/// The position of a part of a message, which borrows from it.
fn place(message: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - message.as_ptr() as usize;
    start..start + part.len()
}

fn is_text(json: &str) -> bool {
    text_of(json).is_some()
}

/// How a `t` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimestampStyle {
    is_quoted: bool,
    is_milliseconds: bool,
}

impl TimestampStyle {
    fn write(self, now: Duration, out: &mut Vec<u8>) {
        let number = if self.is_milliseconds {
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
        } else {
            now.as_secs()
        };
        let quote = if self.is_quoted { "\"" } else { "" };
        out.extend_from_slice(quote.as_bytes());
        push_number(out, number);
        out.extend_from_slice(quote.as_bytes());
    }
}

fn unit_of(value: &str) -> Option<TimestampStyle> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let number: i64 = inner.unwrap_or(value).parse().ok()?;
    // As seconds this is the year 5138, as milliseconds 1973.
    Some(TimestampStyle { is_quoted: inner.is_some(), is_milliseconds: number >= 100_000_000_000 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_789);

    fn rewritten(payload: &str) -> String {
        let cid = |cid: &str| (cid == "m\"1").then_some("n\\1");
        let fresh = FreshValues { t: Some(NOW), request_id: Some("new"), cid: &cid };
        let fields = RewritableFields::of(payload.as_bytes()).expect(payload);
        let mut out = Vec::new();
        fields.rewrite(payload.as_bytes(), &fresh, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_fresh_values_change() {
        for (payload, expected) in [
            (
                r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1.10}}"#,
                r#"{"t":1700000000,"request_id":"new","param":{"cid":"m1","id":"1","value":1.10}}"#,
            ),
            (
                "{ \"request_id\" : \"\\u0000\\\"}\" ,\n\t\"t\" : 1600000000123 , \"x\":12345678901234567890 }\n",
                "{ \"request_id\" : \"new\" ,\n\t\"t\" : 1700000000789 , \"x\":12345678901234567890 }\n",
            ),
            // Keys may be written with escapes, values may look like keys, and inner ones are not meant.
            (
                r#"{"\u0074":"1","param":{"t":1,"request_id":"r","cid":"m\"1"},"y":"\"t\":5"}"#,
                r#"{"\u0074":"1700000000","param":{"t":1,"request_id":"r","cid":"n\\1"},"y":"\"t\":5"}"#,
            ),
            (
                r#"{"cid":"m\u00221","t":0,"t":2,"param":[{"cid":"m\"1"},{"cid":"é"},7,{"cid":"m\"1","cid":3}]}"#,
                r#"{"cid":"n\\1","t":1700000000,"t":1700000000,"param":[{"cid":"n\\1"},{"cid":"é"},7,{"cid":"n\\1","cid":3}]}"#,
            ),
            // What is not a time, an id or a cid stays.
            (
                r#"{"t":1.5,"request_id":7,"cid":null,"param":"m\"1"}"#,
                r#"{"t":1.5,"request_id":7,"cid":null,"param":"m\"1"}"#,
            ),
            (r#"{"t":1e3,"t":"now","t":{},"t":-5}"#, r#"{"t":1e3,"t":"now","t":{},"t":1700000000}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(rewritten(payload), expected);
        }
    }

    #[test]
    fn other_values_than_objects_have_no_fields_and_depth_does_no_harm() {
        for payload in
            [&b""[..], b"1", b"[{\"t\":1}]", b"{\"t\":1", b"{\"t\":1}x", b"{\"t\":\"\xff\"}", b"\0"]
        {
            assert_eq!(RewritableFields::of(payload), None);
        }
        let deep = format!("{{\"t\":1,\"param\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(rewritten(&deep), deep.replace("\"t\":1", "\"t\":1700000000"));
    }

    #[test]
    fn nothing_fresh_changes_nothing() {
        let payload = br#"{"t":1,"request_id":"r","cid":"c"}"#;
        let fields = RewritableFields::of(payload).unwrap();
        let named = (fields.request_id(payload), fields.cid(payload));
        assert_eq!(named, (Some("r".into()), Some("c".into())));
        let mut out = Vec::new();
        fields.rewrite(payload, &FreshValues { t: None, request_id: None, cid: &|_| None }, &mut out);
        assert_eq!(out, payload);
    }

    #[test]
    fn the_fast_path_finds_what_the_slow_path_finds() {
        let names = ["t", "request_id", "cid", "param", "x", "", "\\u0074", "\\ud800", "c\\u0069d", "é"];
        let values = [
            "1",
            "-0",
            "01",
            "1.5",
            "1e3",
            "1700000000000",
            "null",
            "nul",
            "true",
            "\"\"",
            "\"r\"",
            "\"12\"",
            "\"+5\"",
            "\"a\\u0022\"",
            "\"\\ud800\"",
            "\"é\"",
            "\"a",
            "[]",
            "{}",
            "[1,]",
            "[\"cid\"]",
            "{\"cid\":\"m\"}",
            "[{\"cid\":\"m\",\"cid\":\"n\"},7,[{\"cid\":1}],{\"cid\":{\"cid\":\"m\"}}]",
            "{\"t\":1,\"request_id\":\"r\"}",
            "{ \"a\" : [ { \"cid\" : \"m\" } ] , \"cid\" : \"n\" }",
            "{\"cid\"}",
            "\t1",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut fast = 0;
        for n in 0..60_000 {
            let mut payload = String::from("{");
            for member in 0..random.u8(0..6) {
                let space =
                    ["", "", "", " ", "  ", "\n"].map(|space| (random.u8(..), space)).into_iter().max();
                let space = space.map_or("", |(_, space)| space);
                let comma = if member == 0 { "" } else { "," };
                let (name, value) =
                    (names[random.usize(..names.len())], values[random.usize(..values.len())]);
                payload.push_str(&format!("{comma}{space}\"{name}\"{space}:{space}{value}{space}"));
            }
            payload.push_str(["}", "}", "}", "} ", "}}", ""][random.usize(..6)]);
            let mut payload = payload.into_bytes();
            if n % 3 == 0 {
                let at = random.usize(..payload.len());
                payload[at] = [b'"', b'}', b',', 0xff, b'\\', b'0', random.u8(..)][random.usize(..7)];
            }
            if let Some(fields) = RewritableFields::find_fast(&payload) {
                fast += 1;
                assert_eq!(RewritableFields::find_any(&payload), Some(fields), "{}", payload.escape_ascii());
            }
        }
        assert!(fast > 2_000, "{fast}");
    }
}
