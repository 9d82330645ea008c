//! The fields of messages as they travel: found without a copy, checked one by one, written in the page's order.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    envelope::Envelope,
    error::{FieldError, Problem, Refused},
};
use crate::{
    json::{ObjectWriter, TooDeep, key, text_of, too_deep},
    tuya::ResultCode,
};

/// A field as found: absent, or JSON text that may be `null`.
#[derive(Clone, Copy, Default)]
pub(super) struct Field<'a>(pub(super) Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

impl<'a> Field<'a> {
    pub(super) fn present(self, name: &str) -> Result<&'a RawValue, FieldError> {
        match self.0 {
            None => Err(FieldError::new(name, Problem::Missing)),
            Some(raw) if raw.get() == "null" => Err(FieldError::new(name, Problem::Null)),
            Some(raw) => Ok(raw),
        }
    }

    pub(super) fn text(self, name: &str) -> Result<String, FieldError> {
        let raw = self.present(name)?;
        text_of(raw.get())
            .map(Cow::into_owned)
            .ok_or_else(|| FieldError::new(name, Problem::Type("a string")))
    }

    pub(super) fn text_not_empty(self, name: &str) -> Result<String, FieldError> {
        let text = self.text(name)?;
        if text.is_empty() { Err(FieldError::new(name, Problem::Empty)) } else { Ok(text) }
    }

    /// An optional text: absent and null are the same.
    pub(super) fn text_or_none(self, name: &str) -> Result<Option<String>, FieldError> {
        match self.0 {
            Some(raw) if raw.get() != "null" => self.text(name).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn integer(self, name: &str) -> Result<i64, FieldError> {
        let raw = self.present(name)?;
        raw.get().parse().map_err(|_| FieldError::new(name, Problem::Type("an integer")))
    }

    /// A data point's id: a string on the wire; a number is accepted, too.
    pub(super) fn id(self, name: &str) -> Result<String, FieldError> {
        let raw = self.present(name)?;
        match raw.get().parse::<u32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => self.text_not_empty(name),
        }
    }

    /// An object's fields. serde would read a struct from an array too, by position; the protocol does not.
    pub(super) fn object<T: Deserialize<'a>>(self, name: &str) -> Result<T, FieldError> {
        if self.present(name)?.get().starts_with('{') {
            self.parse(name, "an object")
        } else {
            Err(FieldError::new(name, Problem::Type("an object")))
        }
    }

    pub(super) fn parse<T: Deserialize<'a>>(
        self,
        name: &str,
        expected: &'static str,
    ) -> Result<T, FieldError> {
        let raw = self.present(name)?;
        serde_json::from_str(raw.get()).map_err(|_| FieldError::new(name, Problem::Type(expected)))
    }
}

#[derive(Default, Deserialize)]
pub(super) struct WireMessage<'a> {
    #[serde(borrow, default)]
    pub(super) t: Field<'a>,
    #[serde(borrow, default)]
    pub(super) cid: Field<'a>,
    #[serde(borrow, default)]
    pub(super) request_id: Field<'a>,
    #[serde(borrow, default)]
    pub(super) param: Field<'a>,
}

/// The fields that any `param` may have; which are required depends on the topic.
#[derive(Default, Deserialize)]
pub(super) struct WireParam<'a> {
    #[serde(borrow, default)]
    pub(super) cid: Field<'a>,
    #[serde(borrow, default)]
    pub(super) id: Field<'a>,
    #[serde(borrow, default)]
    pub(super) value: Field<'a>,
    #[serde(borrow, default)]
    pub(super) status: Field<'a>,
    #[serde(borrow, default)]
    pub(super) code: Field<'a>,
    #[serde(borrow, default)]
    pub(super) msg: Field<'a>,
    #[serde(borrow, default)]
    pub(super) dps: Field<'a>,
}

impl<'a> WireMessage<'a> {
    /// Reads the envelope, then calls `body` for the rest; an error carries the readable fields.
    pub(super) fn decode<B>(
        payload: &'a [u8],
        body: impl FnOnce(&Self) -> Result<B, FieldError>,
    ) -> Result<Envelope<B>, Refused> {
        if let Some(found) = too_deep(payload) {
            return Err(Self::refuse_depth(payload, found));
        }
        let wire: Self = Self::read(payload).map_err(|problem| Refused {
            request_id: None,
            cid: None,
            error: FieldError::new("", problem),
        })?;
        wire.envelope(body).map_err(|error| Refused {
            request_id: wire.request_id.text("request_id").ok(),
            cid: wire.named_cid(),
            error,
        })
    }

    /// Refuses a message that is nested too deep, without reading the deep member or the rest: the members before it identify
    /// the message.
    pub(super) fn refuse_depth(payload: &[u8], found: TooDeep) -> Refused {
        let before = [payload.get(..found.before).unwrap_or_default(), b"}"].concat();
        let wire: WireMessage<'_> = serde_json::from_slice(&before).unwrap_or_default();
        let member = payload.get(found.before + 1..).unwrap_or_default();
        let key = serde_json::Deserializer::from_slice(member).into_iter::<String>().next();
        let field = key.and_then(Result::ok).unwrap_or_default();
        let error = FieldError::new(field, Problem::Type("JSON of at most 100 levels"));
        Refused { request_id: wire.request_id.text("request_id").ok(), cid: wire.named_cid(), error }
    }

    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Problem> {
        if payload.trim_ascii_start().first() == Some(&b'{') {
            serde_json::from_slice(payload).map_err(|why| not_a_message(payload, &why))
        } else {
            Err(match serde_json::from_slice::<&RawValue>(payload) {
                Ok(_) => Problem::Type("an object"),
                Err(why) => Problem::NotJson(why.to_string()),
            })
        }
    }

    pub(super) fn envelope<B>(
        &self,
        body: impl FnOnce(&Self) -> Result<B, FieldError>,
    ) -> Result<Envelope<B>, FieldError> {
        let request_id = self.request_id.text_not_empty("request_id")?;
        let t = match self.t.0 {
            None => 0,
            Some(_) => self.t.integer("t")?,
        };
        Ok(Envelope { t, request_id, body: body(self)? })
    }

    pub(super) fn required_t(&self) -> Result<(), FieldError> {
        self.t.integer("t").map(drop)
    }

    pub(super) fn param(&self) -> Result<WireParam<'a>, FieldError> {
        self.param.object("param")
    }

    pub(super) fn named_cid(&self) -> Option<String> {
        self.cid.text("cid").ok().or_else(|| self.param().ok()?.cid.text("param.cid").ok())
    }
}

pub(super) fn not_a_message(payload: &[u8], why: &serde_json::Error) -> Problem {
    match serde_json::from_slice::<&RawValue>(payload) {
        Ok(_) if why.is_data() => Problem::Type("an object without duplicate fields"),
        _ => Problem::NotJson(why.to_string()),
    }
}

pub(super) fn encode(
    t: i64,
    request_id: &str,
    cid: Option<&str>,
    push_param: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    write(&mut bytes, t, request_id, cid, push_param);
    bytes
}

pub(super) fn write(
    out: &mut Vec<u8>,
    t: i64,
    request_id: &str,
    cid: Option<&str>,
    push_param: impl FnOnce(&mut Vec<u8>),
) {
    let mut message = ObjectWriter::new(out);
    message.integer(key!(t), t);
    message.optional_text(key!(cid), cid);
    message.text(key!(request_id), request_id);
    message.value(key!(param), push_param);
    message.end();
}

pub(super) fn push_answer(out: &mut Vec<u8>, cid: Option<&str>, msg: &str, code: ResultCode) {
    let mut answer = ObjectWriter::new(out);
    answer.optional_text(key!(cid), cid);
    answer.text(key!(msg), msg);
    answer.integer(key!(code), code.0);
    answer.end();
}

pub(super) fn push_array<T>(out: &mut Vec<u8>, elements: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, element) in elements.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push(out, element);
    }
    out.push(b']');
}
