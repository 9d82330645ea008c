//! The result line: one JSON object for each input, in the contract's order of keys.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    failure::Kind,
    protocol::{Answer, ResultCode},
};

/// One result; absent fields are left out.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the fields are those of the output's contract, docs/output.md")]
pub struct ResultLine<'a> {
    pub index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    pub op: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a RawValue>,
    /// What kind of failure `error` names; it decides the exit code.
    #[serde(skip)]
    pub kind: Option<Kind>,
}

impl<'a> ResultLine<'a> {
    /// The request was answered.
    #[must_use]
    pub fn answered(answer: &'a Answer, round_trip: Option<Duration>) -> Self {
        let mut line = Self {
            ok: answer.code.is_success(),
            code: Some(answer.code.0),
            msg: Some(&answer.msg),
            rtt_ms: round_trip.map(milliseconds),
            ..Self::default()
        };
        if !line.ok {
            let (meaning, hint) = meaning(answer.code);
            line.meaning = Some(meaning);
            line.hint = Some(hint);
        }
        line
    }

    /// The broker acknowledged the request, or with QoS 0 it was written; nobody answers it.
    #[must_use]
    pub fn delivered(acknowledged: bool, round_trip: Option<Duration>) -> Self {
        Self {
            ok: true,
            confirmed: Some(false),
            acknowledged: (!acknowledged).then_some(false),
            rtt_ms: round_trip.map(milliseconds),
            ..Self::default()
        }
    }

    /// The request was not sent, or not answered.
    #[must_use]
    pub fn failed(kind: Kind, message: &'a str) -> Self {
        Self { error: Some(kind.name()), message: Some(message), kind: Some(kind), ..Self::default() }
    }
}

/// What a refusal's code means and what to do about it.
#[must_use]
pub fn meaning(code: ResultCode) -> (&'static str, &'static str) {
    code.explained().map_or(
        ("The page does not list this code.", "Read the message; the edge's log says more."),
        |known| (known.meaning, known.hint),
    )
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
