//! The pure core on one core, beside serde_json on the same bytes.

use std::{borrow::Cow, hint::black_box, time::Instant};

use bytes::BytesMut;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tuyagw::{
    io::request_ids,
    mqtt::{
        Direction, QoS,
        codec::{Message, Packet, Side},
        matches,
    },
    recording::{Record, RecordPrefix, RewritableFields},
    tuya::product::{Product, ValueEncoding},
    tuya::{Answer, Channel, Envelope, Topics, Uplink},
};

use crate::{
    Options,
    table::{Goal, Table, median},
    traffic::{self, PAYLOAD},
    wire::publish_with_id,
};

/// What serde_json is asked to parse and write without any of our rules.
#[derive(Deserialize, Serialize)]
struct Typed<'a> {
    t: i64,
    request_id: &'a str,
    #[serde(borrow)]
    param: TypedReport<'a>,
}

#[derive(Deserialize, Serialize)]
struct TypedReport<'a> {
    cid: &'a str,
    id: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct TypedAnswer<'a> {
    #[serde(rename = "t")]
    _t: i64,
    #[serde(rename = "request_id")]
    _request_id: &'a str,
    #[serde(borrow, rename = "param")]
    _param: TypedResult<'a>,
}

#[derive(Deserialize)]
struct TypedResult<'a> {
    #[serde(rename = "cid")]
    _cid: &'a str,
    #[serde(rename = "msg")]
    _msg: Cow<'a, str>,
    #[serde(rename = "code")]
    _code: i64,
}

#[derive(Deserialize, Serialize)]
struct TypedRecord<'a> {
    v: u64,
    tst: &'a str,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    mid: u16,
    dir: &'a str,
    kind: &'a str,
    gateway_id: &'a str,
    mono_us: u64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A step that is done over and over, and how many messages each time.
type Step<'a> = (&'static str, usize, Box<dyn FnMut() + 'a>);

/// Packets that are decoded in one go.
const BATCH: usize = 100;

pub fn measure(options: &Options, table: &mut Table) {
    messages(options, table);
    records(options, table);
    packets(options, table);
}

/// From JSON to values and back.
fn messages(options: &Options, table: &mut Table) {
    let payload = traffic::report("m1", PAYLOAD);
    let payload = payload.as_bytes();
    let reported = Envelope::<Uplink>::decode(Channel::Report, payload).unwrap();
    let typed: Typed<'_> = serde_json::from_slice(payload).unwrap();
    let answer: &[u8] = br#"{"t":1785000000,"request_id":"00000000-0000-4000-8000-000000000000","param":{"cid":"m1","msg":"success","code":0}}"#;
    // The fast path leaves an escape to the slow one.
    let slow = |json: &[u8]| String::from_utf8_lossy(json).replacen("\"cid\"", "\"c\\u0069d\"", 1);
    let (slow_payload, slow_answer) = (slow(payload), slow(answer));
    let product = Product::smart_water_meter();
    let value: &RawValue = serde_json::from_str("12345").unwrap();
    let fit = || {
        let point = product.find(black_box("water_flow")).unwrap();
        point.check(black_box(value.get()), ValueEncoding::Native).unwrap()
    };
    let figures = Figures::of(
        options,
        vec![
            step("encode", || black_box(&reported).encode()),
            step("typed encode", || serde_json::to_vec(black_box(&typed)).unwrap()),
            step("decode", || Envelope::<Uplink>::decode(Channel::Report, black_box(payload)).unwrap()),
            step("typed decode", || serde_json::from_slice::<Typed<'_>>(black_box(payload)).unwrap()),
            step("value", || serde_json::from_slice::<serde_json::Value>(black_box(payload)).unwrap()),
            step("validate", || serde_json::from_slice::<IgnoredAny>(black_box(payload)).unwrap()),
            step("slow decode", || {
                Envelope::<Uplink>::decode(Channel::Report, black_box(slow_payload.as_bytes())).unwrap()
            }),
            step("answer", || Envelope::<Answer>::decode(black_box(answer)).unwrap()),
            step("slow answer", || Envelope::<Answer>::decode(black_box(slow_answer.as_bytes())).unwrap()),
            step("typed answer", || serde_json::from_slice::<TypedAnswer<'_>>(black_box(answer)).unwrap()),
            step("fit", fit),
            step("id", request_ids::request_id),
        ],
    );
    figures.row(table, "encode a report of 219 B", "encode", Some(("serde_json, typed", "typed encode")));
    let decode = "decode a report of 219 B";
    figures.row(table, decode, "decode", Some(("serde_json, typed", "typed decode")));
    figures.row(table, decode, "decode", Some(("serde_json, Value", "value")));
    figures.row(table, decode, "decode", Some(("serde_json, validate only", "validate")));
    figures.row(table, decode, "decode", Some(("slow path", "slow decode")));
    figures.row(table, "decode an answer", "answer", Some(("serde_json, typed", "typed answer")));
    figures.row(table, "decode an answer", "answer", Some(("slow path", "slow answer")));
    figures.row(table, "fit a value to its data point", "fit", None);
    figures.row(table, "request id", "id", None);
    let all = ["encode", "decode", "fit"].map(|name| figures.nanoseconds(name)).iter().sum::<f64>() / 1e3;
    table.add("core", "encode, decode and fit a report", "us", all, None, Goal::AtMost(1.2));
}

/// The lines of a recording.
fn records(options: &Options, table: &mut Table) {
    let (topics, topic) = (Topics::default(), traffic::topic(Channel::Report, "gw1"));
    let record = Record {
        unix_us: 1_785_000_000_123_456,
        topic: Cow::from(topic.as_str()),
        qos: 1,
        retain: false,
        dup: false,
        mid: Some(7),
        dir: Some(Direction::Up),
        channel: Some(Channel::Report),
        gateway_id: Some(Cow::from("gw1")),
        mono_us: Some(123_456),
        payload: Cow::from(traffic::report("m1", PAYLOAD).into_bytes()),
        is_json: false,
        unknown: Vec::new(),
    };
    let mut line = Vec::new();
    record.write(&mut line);
    let typed: TypedRecord<'_> = serde_json::from_slice(&line).unwrap();
    // The fast paths leave a space in a line, and an escape in a message, to the slow ones.
    let slow_line = [b"{ ", &line[1..]].concat();
    let slow_payload = String::from_utf8_lossy(&record.payload).replacen("\"cid\"", "\"c\\u0069d\"", 1);
    let mut prefix = RecordPrefix::default();
    let (mut written, mut typed_written, mut written_after) = (Vec::new(), Vec::new(), Vec::new());
    let figures = Figures::of(
        options,
        vec![
            step("write", || {
                written.clear();
                black_box(&record).write(&mut written);
                written.len()
            }),
            step("write after", || {
                written_after.clear();
                black_box(&record).write_after(&mut written_after, &mut prefix);
                written_after.len()
            }),
            step("typed write", || {
                typed_written.clear();
                serde_json::to_writer(&mut typed_written, black_box(&typed)).unwrap();
                typed_written.len()
            }),
            step("read", || Record::read(black_box(&line), &topics).unwrap().map(|record| record.unix_us)),
            step("typed read", || serde_json::from_slice::<TypedRecord<'_>>(black_box(&line)).unwrap()),
            step("slow read", || {
                Record::read(black_box(&slow_line), &topics).unwrap().map(|record| record.unix_us)
            }),
            step("find", || RewritableFields::of(black_box(&record.payload)).unwrap()),
            step("slow find", || RewritableFields::of(black_box(slow_payload.as_bytes())).unwrap()),
        ],
    );
    figures.row(table, "write a record", "write", Some(("serde_json, typed", "typed write")));
    figures.row(
        table,
        "write a record of the same microsecond",
        "write after",
        Some(("of another", "write")),
    );
    figures.row(table, "read a record", "read", Some(("serde_json, typed", "typed read")));
    figures.row(table, "read a record", "read", Some(("slow path", "slow read")));
    figures.row(table, "find a message's fields to rewrite", "find", Some(("slow path", "slow find")));
}

/// Topics and packets.
fn packets(options: &Options, table: &mut Table) {
    let (topics, topic) = (Topics::default(), traffic::topic(Channel::Report, "gw1"));
    let message = Packet::Publish(Message {
        topic: topic.as_str().into(),
        payload: traffic::report("m1", PAYLOAD).into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        id: Some(7),
    });
    let packets = publish_with_id(2, &topic, 7, traffic::report("m1", PAYLOAD).as_bytes()).repeat(BATCH);
    let (mut outbox, mut inbox) = (BytesMut::new(), BytesMut::new());
    let decode = || {
        inbox.extend_from_slice(&packets);
        while let Some(packet) = Packet::decode(&mut inbox, Side::Server, 1 << 20).unwrap() {
            black_box(&packet);
        }
    };
    let figures = Figures::of(
        options,
        vec![
            step("match", || matches(black_box("gateway_id/+/properties/report"), black_box(&topic))),
            step("channel", || topics.classify(black_box(&topic), b"")),
            step("encode", || {
                outbox.clear();
                black_box(&message).encode(&mut outbox).unwrap();
                outbox.len()
            }),
            ("decode", BATCH, Box::new(decode)),
        ],
    );
    figures.row(table, "match a topic with a filter", "match", None);
    figures.row(table, "find a topic's channel", "channel", None);
    figures.row(table, "encode PUBLISH", "encode", None);
    figures.row(table, "decode PUBLISH", "decode", None);
}

fn step<'a, R>(name: &'static str, mut act: impl FnMut() -> R + 'a) -> Step<'a> {
    let act = move || {
        black_box(act());
    };
    (name, 1, Box::new(act))
}

/// Nanoseconds for each message, by step.
struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    /// The median time of each step, which take turns.
    fn of(options: &Options, mut steps: Vec<Step<'_>>) -> Self {
        let turn = if options.quick { 1e-4 } else { 2e-2 };
        let time = |act: &mut dyn FnMut(), repeats: usize| {
            let start = Instant::now();
            (0..repeats).for_each(|_| act());
            start.elapsed().as_secs_f64()
        };
        // How often each is done in a turn, found by doing it.
        let repeats: Vec<_> = steps
            .iter_mut()
            .map(|(_, _, act)| {
                let mut repeats = 1;
                while time(act, repeats) < turn {
                    repeats *= 2;
                }
                repeats
            })
            .collect();
        let mut figures = vec![Vec::new(); steps.len()];
        for _ in 0..options.rounds(15) {
            for (((_, each, act), repeats), figures) in steps.iter_mut().zip(&repeats).zip(&mut figures) {
                figures.push(time(act, *repeats) * 1e9 / (repeats * *each) as f64);
            }
        }
        Self(steps.iter().zip(figures).map(|((name, _, _), figures)| (*name, median(figures))).collect())
    }

    fn nanoseconds(&self, step: &str) -> f64 {
        self.0.iter().find(|(name, _)| *name == step).unwrap().1
    }

    /// A row in millions of messages in a second.
    fn row(&self, table: &mut Table, workload: &str, step: &str, peer: Option<(&str, &str)>) {
        let rate = |step: &str| 1e3 / self.nanoseconds(step);
        let peer = peer.map(|(words, step)| (words, rate(step)));
        table.add("core", workload, "million/s", rate(step), peer, Goal::None);
    }
}
