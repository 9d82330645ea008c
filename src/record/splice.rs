//! Fresh time stamps, request ids and cids in a message's own bytes; all other bytes stay as they are.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{borrow::Cow, fmt, ops::Range, time::Duration};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::json::{push_text, text_of};

/// Where the parts of a message stand that can be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    t: Vec<Range<usize>>,
    request_ids: Vec<(Range<usize>, String)>,
    cids: Vec<(Range<usize>, String)>,
}

/// What is put in.
pub struct Fresh<'a> {
    /// The time since 1970, given in the unit of the `t` that it replaces; `None` keeps that.
    pub t: Option<Duration>,
    /// The request id; `None` keeps the message's.
    pub request_id: Option<&'a str>,
    /// The new cid of a cid that has one.
    pub cid: &'a dyn Fn(&str) -> Option<&'a str>,
}

impl fmt::Debug for Fresh<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh")
            .field("t", &self.t)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl Splice {
    /// Looks a message through; `None` where it is no JSON object.
    ///
    /// `t` and `request_id` stand in the message itself, cids there, in `param`, or in the objects of an array
    /// `param`. A `t` that is neither a whole number nor a string of one is not taken for one.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        let message = Object::read(str::from_utf8(payload).ok()?)?;
        let place = |value: &str| {
            let start = value.as_ptr() as usize - payload.as_ptr() as usize;
            start..start + value.len()
        };
        let mut splice = Self::default();
        let text = |value: &str| text_of(value).map(Cow::into_owned);
        for (name, value) in &message.0 {
            let value = value.get();
            match &**name {
                "t" if unit_of(value).is_some() => splice.t.push(place(value)),
                "request_id" => splice.request_ids.extend(text(value).map(|id| (place(value), id))),
                "cid" => splice.cids.extend(text(value).map(|cid| (place(value), cid))),
                "param" => {
                    let objects = match Object::read(value) {
                        Some(object) => vec![object],
                        None => serde_json::from_str::<Vec<&RawValue>>(value)
                            .map(|parts| parts.iter().filter_map(|part| Object::read(part.get())).collect())
                            .unwrap_or_default(),
                    };
                    for (name, value) in objects.iter().flat_map(|object| &object.0) {
                        if name == "cid" {
                            splice.cids.extend(text(value.get()).map(|cid| (place(value.get()), cid)));
                        }
                    }
                }
                _ => {}
            }
        }
        Some(splice)
    }

    /// The message's request id.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_ids.first().map(|(_, id)| id.as_str())
    }

    /// The first device that the message names.
    #[must_use]
    pub fn cid(&self) -> Option<&str> {
        self.cids.first().map(|(_, cid)| cid.as_str())
    }

    /// Whether the message names a device.
    #[must_use]
    pub fn speaks_of(&self, cid: &str) -> bool {
        self.cids.iter().any(|(_, named)| named == cid)
    }

    /// The message with what is fresh; `payload` is the one that was looked through.
    #[must_use]
    pub fn apply(&self, payload: &[u8], fresh: &Fresh<'_>) -> Vec<u8> {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        if let Some(now) = fresh.t {
            edits.extend(self.t.iter().filter_map(|place| {
                let unit = unit_of(str::from_utf8(&payload[place.clone()]).ok()?)?;
                Some((place.clone(), unit.write(now)))
            }));
        }
        if let Some(id) = fresh.request_id {
            edits.extend(self.request_ids.iter().map(|(place, _)| (place.clone(), quoted(id))));
        }
        edits.extend(
            self.cids.iter().filter_map(|(place, cid)| Some((place.clone(), quoted((fresh.cid)(cid)?)))),
        );
        edits.sort_unstable_by_key(|(place, _)| place.start);
        let mut spliced = Vec::with_capacity(payload.len() + 64);
        let mut done = 0;
        for (place, text) in edits {
            spliced.extend_from_slice(&payload[done..place.start]);
            spliced.extend_from_slice(text.as_bytes());
            done = place.end;
        }
        spliced.extend_from_slice(&payload[done..]);
        spliced
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    push_text(&mut quoted, text);
    String::from_utf8(quoted).unwrap_or_default()
}

/// How a `t` is written.
#[derive(Clone, Copy)]
struct Unit {
    is_quoted: bool,
    is_milliseconds: bool,
}

impl Unit {
    fn write(self, now: Duration) -> String {
        let number = if self.is_milliseconds { now.as_millis() } else { u128::from(now.as_secs()) };
        if self.is_quoted { format!("\"{number}\"") } else { number.to_string() }
    }
}

fn unit_of(value: &str) -> Option<Unit> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let number: i64 = inner.unwrap_or(value).parse().ok()?;
    // As seconds, this would be the year 5138; as milliseconds, it was 1973.
    Some(Unit { is_quoted: inner.is_some(), is_milliseconds: number >= 100_000_000_000 })
}

/// An object's fields in their order, whose values lie where they lie in the text.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Fields;
        impl<'de> de::Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_789);

    fn spliced(payload: &str) -> String {
        let cid = |cid: &str| (cid == "m\"1").then_some("n\\1");
        let fresh = Fresh { t: Some(NOW), request_id: Some("new"), cid: &cid };
        let splice = Splice::of(payload.as_bytes()).expect(payload);
        String::from_utf8(splice.apply(payload.as_bytes(), &fresh)).unwrap()
    }

    #[test]
    fn only_what_is_fresh_changes() {
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
            assert_eq!(spliced(payload), expected);
        }
    }

    #[test]
    fn what_is_no_object_has_nothing_to_replace_and_depth_does_no_harm() {
        for payload in
            [&b""[..], b"1", b"[{\"t\":1}]", b"{\"t\":1", b"{\"t\":1}x", b"{\"t\":\"\xff\"}", b"\0"]
        {
            assert_eq!(Splice::of(payload), None);
        }
        let deep = format!("{{\"t\":1,\"param\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(spliced(&deep), deep.replace("\"t\":1", "\"t\":1700000000"));
    }

    #[test]
    fn nothing_fresh_changes_nothing() {
        let payload = br#"{"t":1,"request_id":"r","cid":"c"}"#;
        let splice = Splice::of(payload).unwrap();
        assert_eq!((splice.request_id(), splice.cid()), (Some("r"), Some("c")));
        assert_eq!(splice.apply(payload, &Fresh { t: None, request_id: None, cid: &|_| None }), payload);
    }
}
