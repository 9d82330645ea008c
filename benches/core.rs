//! The pure core on one core, beside serde_json on the same bytes.

use std::{borrow::Cow, hint::black_box, time::Instant};

use bytes::BytesMut;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tuyagw::{
    mqtt::{
        QoS,
        packet::{End, Message, Packet},
    },
    product::{Product, ValueEncoding},
    protocol::{Answer, Channel, Direction, Envelope, Topics, Uplink, matches},
    record::Record,
};

use crate::{
    Options,
    table::{Goal, Table, median},
    wire::{self, PAYLOAD},
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

/// A step that is done over and over.
type Step<'a> = Box<dyn FnMut() + 'a>;

/// Packets that are decoded in one go.
const BATCH: usize = 100;

pub fn measure(options: &Options, table: &mut Table) {
    let payload = wire::report("m1", PAYLOAD);
    let payload = payload.as_bytes();
    let reported = Envelope::<Uplink>::decode(Channel::Report, payload).unwrap();
    let typed: Typed<'_> = serde_json::from_slice(payload).unwrap();
    let answer =
        br#"{"t":1785000000,"request_id":"00000000-0000-4000-8000-000000000000","param":{"cid":"m1","msg":"success","code":0}}"#;
    let product = Product::smart_water_meter();
    let value: &RawValue = serde_json::from_str("12345").unwrap();
    let topics = Topics::default();
    let topic = wire::topic(Channel::Report, "gw1");
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
        payload: Cow::from(payload),
        unknown: Vec::new(),
    };
    let mut line = Vec::new();
    record.write(&mut line);
    let typed_record: TypedRecord<'_> = serde_json::from_slice(&line).unwrap();
    let message = Packet::Publish(Message {
        topic: topic.clone(),
        payload: payload.to_vec().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        id: Some(7),
    });
    let packets = wire::encode(&message).repeat(BATCH);
    let (mut written, mut typed_written) = (Vec::new(), Vec::new());
    let (mut outbox, mut inbox) = (BytesMut::new(), BytesMut::new());
    let mut steps: Vec<(&str, usize, Step<'_>)> = vec![
        ("encode", 1, Box::new(|| drop(black_box(black_box(&reported).encode())))),
        ("typed encode", 1, Box::new(|| drop(black_box(serde_json::to_vec(black_box(&typed)).unwrap())))),
        (
            "decode",
            1,
            Box::new(|| {
                drop(black_box(Envelope::<Uplink>::decode(Channel::Report, black_box(payload)).unwrap()))
            }),
        ),
        (
            "typed decode",
            1,
            Box::new(|| {
                black_box(serde_json::from_slice::<Typed<'_>>(black_box(payload)).unwrap());
            }),
        ),
        (
            "value",
            1,
            Box::new(|| {
                drop(black_box(serde_json::from_slice::<serde_json::Value>(black_box(payload)).unwrap()))
            }),
        ),
        (
            "validate",
            1,
            Box::new(|| {
                black_box(serde_json::from_slice::<IgnoredAny>(black_box(payload)).unwrap());
            }),
        ),
        ("answer", 1, Box::new(|| drop(black_box(Envelope::<Answer>::decode(black_box(answer)).unwrap())))),
        (
            "typed answer",
            1,
            Box::new(|| {
                drop(black_box(serde_json::from_slice::<TypedAnswer<'_>>(black_box(answer)).unwrap()))
            }),
        ),
        (
            "fit",
            1,
            Box::new(|| {
                let point = product.find(black_box("water_flow")).unwrap();
                drop(black_box(point.check(black_box(value), ValueEncoding::Native).unwrap()));
            }),
        ),
        (
            "record write",
            1,
            Box::new(|| {
                written.clear();
                black_box(&record).write(&mut written);
                black_box(&written);
            }),
        ),
        (
            "typed record write",
            1,
            Box::new(|| {
                typed_written.clear();
                serde_json::to_writer(&mut typed_written, black_box(&typed_record)).unwrap();
                black_box(&typed_written);
            }),
        ),
        (
            "record read",
            1,
            Box::new(|| {
                black_box(Record::read(black_box(&line), &topics).unwrap());
            }),
        ),
        (
            "typed record read",
            1,
            Box::new(|| {
                black_box(serde_json::from_slice::<TypedRecord<'_>>(black_box(&line)).unwrap());
            }),
        ),
        (
            "match",
            1,
            Box::new(|| {
                black_box(matches(black_box("gateway_id/+/properties/report"), black_box(&topic)));
            }),
        ),
        (
            "parse topic",
            1,
            Box::new(|| {
                black_box(topics.parse(black_box(&topic)));
            }),
        ),
        (
            "packet encode",
            1,
            Box::new(|| {
                outbox.clear();
                black_box(&message).encode(&mut outbox).unwrap();
                black_box(&outbox);
            }),
        ),
        (
            "packet decode",
            BATCH,
            Box::new(|| {
                inbox.extend_from_slice(&packets);
                while let Some(packet) = Packet::decode(&mut inbox, End::Server, 1 << 20).unwrap() {
                    black_box(&packet);
                }
            }),
        ),
    ];
    let times = nanoseconds(options, &mut steps);
    let of = |name: &str| times.iter().find(|(known, _)| *known == name).unwrap().1;
    // Nanoseconds to millions in a second.
    let rate = |name: &str| 1e3 / of(name);
    let mut row = |workload: &str, step: &str, peer: Option<(&str, &str)>| {
        let peer = peer.map(|(words, step)| (words, rate(step)));
        table.add("core", workload, "million/s", rate(step), peer, Goal::None);
    };
    row("encode a report of 219 B", "encode", Some(("serde_json, typed", "typed encode")));
    row("decode a report of 219 B", "decode", Some(("serde_json, typed", "typed decode")));
    row("decode a report of 219 B", "decode", Some(("serde_json, Value", "value")));
    row("decode a report of 219 B", "decode", Some(("serde_json, validate only", "validate")));
    row("decode an answer", "answer", Some(("serde_json, typed", "typed answer")));
    row("fit a value to its data point", "fit", None);
    row("write a record", "record write", Some(("serde_json, typed", "typed record write")));
    row("read a record", "record read", Some(("serde_json, typed", "typed record read")));
    row("match a topic with a filter", "match", None);
    row("find a topic's channel", "parse topic", None);
    row("encode PUBLISH", "packet encode", None);
    row("decode PUBLISH", "packet decode", None);
    let all = (of("encode") + of("decode") + of("fit")) / 1e3;
    table.add("core", "encode, decode and fit a report", "us", all, None, Goal::AtMost(1.2));
}

/// The median time of each step, which take turns.
fn nanoseconds<'n>(options: &Options, steps: &mut [(&'n str, usize, Step<'_>)]) -> Vec<(&'n str, f64)> {
    let turn = if options.quick { 1e-4 } else { 2e-2 };
    let time = |step: &mut Step<'_>, repeats: usize| {
        let start = Instant::now();
        (0..repeats).for_each(|_| step());
        start.elapsed().as_secs_f64()
    };
    // How often each is done in a turn, found by doing it.
    let repeats: Vec<_> = steps
        .iter_mut()
        .map(|(_, _, step)| {
            let mut repeats = 1;
            while time(step, repeats) < turn {
                repeats *= 2;
            }
            repeats
        })
        .collect();
    let mut figures = vec![Vec::new(); steps.len()];
    for _ in 0..options.rounds(15) {
        for (((_, each, step), repeats), figures) in steps.iter_mut().zip(&repeats).zip(&mut figures) {
            figures.push(time(step, *repeats) * 1e9 / (repeats * *each) as f64);
        }
    }
    steps.iter().zip(figures).map(|((name, _, _), figures)| (*name, median(figures))).collect()
}
