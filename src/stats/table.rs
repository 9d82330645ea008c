//! A recording's figures as text for a terminal of 80 columns.

use super::RecordingSummary;

/// The largest number of lines of a list; the rest is counted.
const LINES: usize = 20;

/// The longest id that is printed in full.
const ID: usize = 24;

/// Formats the figures as text. It may hold control characters of ids, which the caller must escape.
#[must_use]
pub fn table(summary: &RecordingSummary) -> String {
    let mut text = String::new();
    let RecordingSummary { records, payload_bytes, span_s, .. } = summary;
    let (Some(first), Some(last)) = (&summary.first, &summary.last) else {
        text.push_str("no records\n");
        left_out(&mut text, summary);
        return text;
    };
    text.push_str(&format!(
        "{} in {} ({} of payload)\n",
        count(*records, "record"),
        span(*span_s),
        bytes(*payload_bytes)
    ));
    text.push_str(&format!("from {} to {}\n", short(first), short(last)));
    if summary.parts > 1 {
        text.push_str(&format!("{} parts: the recorder was started again\n", summary.parts));
    }
    left_out(&mut text, summary);
    kinds(&mut text, summary);
    round_trips(&mut text, summary);
    refusals(&mut text, summary);
    unanswered(&mut text, summary);
    devices(&mut text, summary);
    rest(&mut text, summary);
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn left_out(text: &mut String, summary: &RecordingSummary) {
    let left_out = &summary.left_out;
    if left_out.records > 0 {
        text.push_str(&format!("{} left out by the recorder itself\n", count(left_out.records, "record")));
    }
    if let (Some(line), Some(why)) = (left_out.first_bad_line, &left_out.why) {
        let lines = count(left_out.bad_lines, "line");
        text.push_str(&format!("{lines} passed over; line {line} {why}\n"));
    }
}

fn kinds(text: &mut String, summary: &RecordingSummary) {
    text.push_str("\nKIND               DIR    RECORDS     PAYLOAD  MALFORMED\n");
    for kind in &summary.kinds {
        text.push_str(&format!(
            "{:<18} {:<4} {:>9}  {:>10}  {:>9}\n",
            kind.kind,
            kind.dir.unwrap_or(""),
            kind.records,
            bytes(kind.payload_bytes),
            none_is_blank(kind.malformed),
        ));
    }
}

fn round_trips(text: &mut String, summary: &RecordingSummary) {
    if summary.round_trips.is_empty() {
        return;
    }
    text.push_str("\nREQUEST       SENT  ANSWERED   OPEN     P50 ms    P90 ms    P99 ms    MAX ms\n");
    for kind in &summary.round_trips {
        let ms = |time: Option<f64>| time.map_or_else(String::new, |time| format!("{time:.3}"));
        text.push_str(&format!(
            "{:<8} {:>9} {:>9} {:>6}  {:>9} {:>9} {:>9} {:>9}\n",
            kind.kind,
            kind.requests,
            kind.answered,
            none_is_blank(kind.unanswered),
            ms(kind.p50_ms),
            ms(kind.p90_ms),
            ms(kind.p99_ms),
            ms(kind.max_ms),
        ));
    }
}

fn refusals(text: &mut String, summary: &RecordingSummary) {
    let mut refusals: Vec<_> = summary.codes.iter().filter(|code| code.code != 0).collect();
    if refusals.is_empty() {
        return;
    }
    refusals.sort_by_key(|code| std::cmp::Reverse(code.count));
    text.push_str("\nREFUSED                 CODE      COUNT  MEANING\n");
    for code in refusals {
        text.push_str(&format!(
            "{:<20} {:>7} {:>10}  {}\n",
            code.kind,
            code.code,
            code.count,
            cut(code.name.unwrap_or(""), 38)
        ));
        let devices = code.devices.iter().filter(|device| !device.cid.is_empty());
        list(text, &devices.map(|device| cut(&device.cid, ID)).collect::<Vec<_>>());
    }
}

fn unanswered(text: &mut String, summary: &RecordingSummary) {
    if summary.unanswered_count == 0 {
        return;
    }
    text.push_str(&format!("\nWITHOUT AN ANSWER ({})\n", summary.unanswered_count));
    for request in summary.unanswered.iter().take(LINES) {
        text.push_str(&format!(
            "{}  {:<8} {:<16} {}\n",
            short(&request.tst).get(11..).unwrap_or(""),
            request.kind,
            cut(&request.cid, 16),
            cut(&request.request_id, 36)
        ));
    }
    more(text, summary.unanswered_count, LINES);
}

fn devices(text: &mut String, summary: &RecordingSummary) {
    if summary.gateways.len() > 1 {
        text.push_str("\nGATEWAY                     RECORDS     PAYLOAD   DEVICES\n");
        let mut gateways: Vec<_> = summary.gateways.iter().collect();
        gateways.sort_by_key(|gateway| std::cmp::Reverse(gateway.records));
        for gateway in gateways.iter().take(LINES) {
            let id = if gateway.gateway_id.is_empty() { "(none)" } else { &gateway.gateway_id };
            text.push_str(&format!(
                "{:<24} {:>10}  {:>10} {:>9}\n",
                cut(id, ID),
                gateway.records,
                bytes(gateway.payload_bytes),
                gateway.devices
            ));
        }
        more(text, gateways.len() as u64, LINES);
    }
    if summary.devices.is_empty() {
        return;
    }
    text.push_str("\nDEVICE                   ONLINE SYNCS  REPORTS COMMANDS STATUS REFUSED OPEN\n");
    let mut devices: Vec<_> = summary.devices.iter().collect();
    // Devices with failures come first.
    devices.sort_by_key(|d| std::cmp::Reverse((d.refused + d.unanswered, d.reports + d.syncs + d.commands)));
    for device in devices.iter().take(LINES) {
        text.push_str(&format!(
            "{:<24} {:<6} {:>5} {:>8} {:>8} {:>6} {:>7} {:>4}\n",
            cut(&device.cid, ID),
            device.online.map_or("", |online| if online { "yes" } else { "no" }),
            none_is_blank(device.syncs),
            none_is_blank(device.reports),
            none_is_blank(device.commands),
            none_is_blank(device.statuses),
            none_is_blank(device.refused),
            none_is_blank(device.unanswered),
        ));
    }
    more(text, devices.len() as u64, LINES);
}

fn rest(text: &mut String, summary: &RecordingSummary) {
    if !summary.gaps.is_empty() {
        text.push_str("\nLONGEST SILENCE\n");
        for gap in &summary.gaps {
            text.push_str(&format!("{:>12}  from {}\n", span(gap.seconds), short(&gap.from)));
        }
    }
    let duplicates = &summary.duplicates;
    if duplicates.dup_flag + duplicates.requests + duplicates.answers > 0 {
        text.push_str(&format!(
            "\nSENT AGAIN   {} with DUP, {}, {}\n",
            duplicates.dup_flag,
            count(duplicates.requests, "request"),
            count(duplicates.answers, "answer")
        ));
    }
    let connections = &summary.connections;
    if connections.connects > 0 {
        text.push_str(&format!(
            "\nCONNECTIONS  {}, {}",
            count(connections.connects, "connect"),
            count(connections.disconnects, "disconnect")
        ));
        for (code, times) in &connections.refused {
            text.push_str(&format!(", {times} refused with CONNACK {code}"));
        }
        text.push('\n');
    }
}

/// Formats names in indented lines of at most 80 columns.
fn list(text: &mut String, names: &[String]) {
    let mut column = 0;
    for name in names.iter().take(3 * LINES) {
        let width = name.chars().count() + 2;
        if column == 0 || column + width > 80 {
            text.push_str(if column == 0 { "    " } else { "\n    " });
            column = 4;
        }
        text.push_str(name);
        text.push_str("  ");
        column += width;
    }
    if !names.is_empty() {
        text.push('\n');
        more(text, names.len() as u64, 3 * LINES);
    }
}

fn more(text: &mut String, all: u64, shown: usize) {
    if let Some(more @ 1..) = all.checked_sub(shown as u64) {
        text.push_str(&format!("    and {more} more (--json lists them)\n"));
    }
}

fn none_is_blank(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Formats a time stamp without `T`, to the millisecond.
fn short(moment: &str) -> String {
    moment.get(..23).unwrap_or(moment).replace('T', " ")
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for people"
)]
fn span(seconds: f64) -> String {
    // The page rounds in the same way.
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 1.0 => format!("{:.0} ms", seconds.max(0.0) * 1e3),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        ..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn bytes(number: u64) -> String {
    match number {
        0..10_000 => format!("{number} B"),
        10_000..10_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        _ => format!("{:.1} MB", number as f64 / 1e6),
    }
}
