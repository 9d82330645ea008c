//! The report of a recording as one HTML page, which contains data, script, style and charting library.
//!
//! The data is JSON in which no markup can begin, and the script inserts it as text only. The page's policy allows only the
//! two scripts with its nonce.

use serde::Serialize;

use super::{
    Inspection, RecordingSummary,
    series::{Charts, Series, SeriesPoint},
    timeline::{RoundTripTimes, TrafficBucket},
};
use crate::{
    text::is_unsafe,
    tuya::{Channel, product::DataType},
};

/// uPlot 1.6.32, MIT licence, from <https://github.com/leeoniya/uPlot>.
const UPLOT: &str = include_str!("uplot.min.js");
const UPLOT_STYLE: &str = include_str!("uplot.min.css");
const UPLOT_LICENCE: &str = include_str!("uplot.LICENSE");

/// Returns the page of a recording named `title`. `nonce` is a random word that the recording's authors cannot know.
#[must_use]
pub fn page(inspection: &Inspection, title: &str, nonce: &str) -> String {
    let summary = inspection.summary();
    let data = Data {
        title,
        start_ms: inspection.counters.first.unwrap_or_default() / 1000,
        timeline: timeline(inspection),
        round_trips: round_trips(inspection),
        series: inspection.charts.as_ref().map_or_else(Vec::new, |charts| drawn(inspection, charts)),
        series_left_out: inspection.charts.as_ref().map_or(0, |charts| charts.left_out),
        summary: &summary,
    };
    let data = inert(&serde_json::to_string(&data).unwrap_or_else(|_| "{}".into()));
    let plain = escaped(&super::table(&summary));
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-{nonce}'; \
         style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n\
         <style nonce=\"{nonce}\">{UPLOT_STYLE}\n{}</style>\n</head>\n<body>\n\
         <noscript><pre>{plain}</pre></noscript>\n<div id=\"page\"></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script nonce=\"{nonce}\">/*! uPlot\n{UPLOT_LICENCE}*/\n{UPLOT}</script>\n\
         <script nonce=\"{nonce}\">{}</script>\n</body>\n</html>\n",
        escaped(title),
        include_str!("page.css"),
        include_str!("page.js"),
    )
}

/// The data that the script draws. Times are milliseconds since `start_ms`, which is milliseconds since 1970.
#[derive(Serialize)]
struct Data<'a> {
    title: &'a str,
    start_ms: i64,
    timeline: Lanes,
    round_trips: Vec<Trips>,
    series: Vec<Drawn<'a>>,
    series_left_out: u64,
    summary: &'a RecordingSummary,
}

#[derive(Serialize)]
struct Lanes {
    width_ms: i64,
    t: Vec<i64>,
    kinds: Vec<Lane>,
    refusals: Vec<u32>,
}

#[derive(Serialize)]
struct Lane {
    kind: &'static str,
    counts: Vec<u32>,
}

/// Round trips of one kind of request; in milliseconds.
#[derive(Serialize)]
struct Trips {
    kind: &'static str,
    t: Vec<i64>,
    min: Vec<f64>,
    mean: Vec<f64>,
    max: Vec<f64>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    gateway_id: &'a str,
    cid: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    scale: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    words: &'a [String],
    count: u64,
    misfits: u64,
    last: &'a str,
    t: Vec<i64>,
    v: Vec<f64>,
    /// Empty if no points were merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    min: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    max: Vec<f64>,
}

fn since(inspection: &Inspection, at: i64) -> i64 {
    at.div_euclid(1000) - inspection.counters.first.unwrap_or_default() / 1000
}

fn timeline(inspection: &Inspection) -> Lanes {
    let timeline = &inspection.timeline;
    let kinds = inspection.counters.kinds().map(|(channel, _)| {
        let place = channel.map_or(super::timeline::KINDS - 1, |channel| channel as usize);
        let counts = timeline.buckets().map(|(_, bucket)| bucket.kinds[place]).collect();
        Lane { kind: channel.map_or("other", Channel::kind), counts }
    });
    Lanes {
        width_ms: timeline.width() / 1000,
        t: timeline.buckets().map(|(at, _)| since(inspection, at)).collect(),
        kinds: kinds.collect(),
        refusals: timeline.buckets().map(|(_, bucket)| bucket.refusals).collect(),
    }
}

fn round_trips(inspection: &Inspection) -> Vec<Trips> {
    let requests = Channel::ALL.into_iter().filter(|channel| channel.response().is_some());
    let trips = requests.map(|channel| {
        let times = |bucket: &TrafficBucket| bucket.round_trips[channel as usize];
        let buckets = || inspection.timeline.buckets().filter(|(_, bucket)| times(bucket).count > 0);
        let all = |of: fn(RoundTripTimes) -> f64| buckets().map(|(_, bucket)| of(times(bucket))).collect();
        let half = inspection.timeline.width() / 2;
        Trips {
            kind: channel.kind(),
            t: buckets().map(|(at, _)| since(inspection, at + half)).collect(),
            min: all(|times| milliseconds(times.min)),
            mean: all(|times| milliseconds(times.sum / i64::from(times.count))),
            max: all(|times| milliseconds(times.max)),
        }
    });
    trips.filter(|trips| !trips.t.is_empty()).collect()
}

fn drawn<'a>(inspection: &'a Inspection, charts: &'a Charts) -> Vec<Drawn<'a>> {
    let drawn = charts.series.iter().map(|((device, id), series)| {
        let device = &inspection.counters.devices[device.0 as usize];
        let point = charts.product.find(id);
        let Series { points, words, count, misfits, last, .. } = series;
        let is_merged = points.iter().any(|point| point.min.to_bits() != point.max.to_bits());
        let all = |of: fn(&SeriesPoint) -> f64| points.iter().map(of).collect();
        Drawn {
            gateway_id: &inspection.counters.gateways[device.gateway as usize].id,
            cid: &device.cid,
            id,
            code: point.map(|point| point.code.as_str()),
            name: point.and_then(|point| point.name.as_deref()),
            unit: point.and_then(|point| point.unit.as_deref()),
            scale: match point.map(|point| &point.kind) {
                Some(DataType::Value { scale, .. }) => *scale,
                _ => 0,
            },
            words,
            count: *count,
            misfits: *misfits,
            last,
            t: points.iter().map(|point| since(inspection, point.at)).collect(),
            v: all(|point| point.last),
            min: if is_merged { all(|point| point.min) } else { Vec::new() },
            max: if is_merged { all(|point| point.max) } else { Vec::new() },
        }
    });
    drawn.collect()
}

/// Escapes characters of JSON that begin markup or change the direction of text. They occur only in strings.
fn inert(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '<' || is_unsafe(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Escapes text for HTML, without control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c != '\n' && is_unsafe(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[allow(clippy::cast_precision_loss, reason = "to the microsecond for 285 years")]
fn milliseconds(us: i64) -> f64 {
    us as f64 / 1e3
}
