//! The result line: one JSON object for each input, in the contract's order of keys.

use std::time::Duration;

use crate::{
    error::FailureKind,
    json::{ObjectWriter, key, push_json, push_number},
    tuya::{Answer, ResultCode},
};

/// One result; absent fields are left out.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the output's contract, docs/output.md")]
pub struct ResultLine<'a> {
    pub index: u64,
    pub line: Option<u64>,
    pub op: &'a str,
    pub gateway_id: Option<&'a str>,
    pub cid: Option<&'a str>,
    pub id: Option<&'a str>,
    pub status: Option<bool>,
    pub request_id: Option<&'a str>,
    pub ok: bool,
    pub confirmed: Option<bool>,
    pub queued: Option<bool>,
    pub acknowledged: Option<bool>,
    pub code: Option<i64>,
    pub msg: Option<&'a str>,
    pub error: Option<&'static str>,
    pub field: Option<&'a str>,
    pub message: Option<&'a str>,
    pub sent: Option<bool>,
    pub meaning: Option<&'static str>,
    pub hint: Option<&'static str>,
    pub attempts: Option<u32>,
    /// The round-trip time, written as `rtt_ms` in milliseconds.
    pub round_trip: Option<Duration>,
    /// The input's JSON text.
    pub input: Option<&'a str>,
    /// What kind of failure `error` names; it decides the exit code.
    pub kind: Option<FailureKind>,
}

impl<'a> ResultLine<'a> {
    /// A line for an answered request.
    #[must_use]
    pub fn answered(answer: &'a Answer, round_trip: Option<Duration>) -> Self {
        let mut line = Self {
            ok: answer.code.is_success(),
            code: Some(answer.code.0),
            msg: Some(&answer.msg),
            round_trip,
            ..Self::default()
        };
        if !line.ok {
            let (meaning, hint) = meaning(answer.code);
            line.meaning = Some(meaning);
            line.hint = Some(hint);
        }
        line
    }

    /// A line for a request that the broker acknowledged, or with QoS 0 for one that was written; there is no answer.
    #[must_use]
    pub fn delivered(acknowledged: bool, round_trip: Option<Duration>) -> Self {
        Self {
            ok: true,
            confirmed: Some(false),
            acknowledged: (!acknowledged).then_some(false),
            round_trip,
            ..Self::default()
        }
    }

    /// Appends the line, newline included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        object.number(key!(index), self.index);
        if let Some(line) = self.line {
            object.number(key!(line), line);
        }
        object.text(key!(op), self.op);
        object.optional_text(key!(gateway_id), self.gateway_id);
        object.optional_text(key!(cid), self.cid);
        object.optional_text(key!(id), self.id);
        if let Some(status) = self.status {
            object.flag(key!(status), status);
        }
        object.optional_text(key!(request_id), self.request_id);
        object.flag(key!(ok), self.ok);
        for (key, flag) in [
            (key!(confirmed), self.confirmed),
            (key!(queued), self.queued),
            (key!(acknowledged), self.acknowledged),
        ] {
            if let Some(flag) = flag {
                object.flag(key, flag);
            }
        }
        if let Some(code) = self.code {
            object.integer(key!(code), code);
        }
        object.optional_text(key!(msg), self.msg);
        object.optional_text(key!(error), self.error);
        object.optional_text(key!(field), self.field);
        object.optional_text(key!(message), self.message);
        if let Some(sent) = self.sent {
            object.flag(key!(sent), sent);
        }
        object.optional_text(key!(meaning), self.meaning);
        object.optional_text(key!(hint), self.hint);
        if let Some(attempts) = self.attempts {
            object.number(key!(attempts), attempts.into());
        }
        if let Some(round_trip) = self.round_trip {
            object.value(key!(rtt_ms), |out| push_milliseconds(out, round_trip));
        }
        if let Some(input) = self.input {
            object.value(key!(input), |out| push_json(out, input));
        }
        object.end();
        out.push(b'\n');
    }

    /// A line for a request that was not sent, or not answered.
    #[must_use]
    pub fn failed(kind: FailureKind, message: &'a str) -> Self {
        Self { error: Some(kind.name()), message: Some(message), kind: Some(kind), ..Self::default() }
    }
}

/// Returns the meaning of a refusal's code, and what to do about it.
#[must_use]
pub fn meaning(code: ResultCode) -> (&'static str, &'static str) {
    code.explained().map_or(
        ("The page does not list this code.", "Read the message; the edge's log says more."),
        |known| (known.meaning, known.hint),
    )
}

/// Appends a duration in milliseconds with up to three decimal places.
fn push_milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(out, microseconds / 1000);
    let fraction = microseconds % 1000;
    // Keep one decimal, so that readers infer a float.
    let mut digits = [b'.', b'0', b'0', b'0'];
    for (digit, place) in digits[1..].iter_mut().zip([100, 10, 1]) {
        *digit += u8::try_from(fraction / place % 10).unwrap_or(0);
    }
    let zeros = digits[2..].iter().rev().take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(&digits[..digits.len() - zeros]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_up_to_three_decimal_places() {
        for (microseconds, text) in [
            (0, "0.0"),
            (7, "0.007"),
            (120, "0.12"),
            (1000, "1.0"),
            (1_830, "1.83"),
            (12_000_050, "12000.05"),
        ] {
            let mut out = Vec::new();
            push_milliseconds(&mut out, Duration::from_micros(microseconds));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
