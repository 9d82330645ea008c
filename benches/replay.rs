//! A recording sent again: in its own time, and as fast as it goes.

use std::{
    borrow::Cow,
    fs,
    io::Write as _,
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tuyagw::{mqtt::Direction, recording::Record, tuya::Channel};

use crate::{
    Options,
    process::{Run, gateway, run},
    sinks::NullBroker,
    table::{Goal, Table, median},
    traffic::{PAYLOAD, Template, USERNAME, connect, report, topic},
};

/// Between messages of the recording.
const GAP: Duration = Duration::from_millis(1);

pub fn measure(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    let broker = NullBroker::start();
    timing(options, table, folder.path(), &broker);
    fastest(options, table, folder.path(), &broker);
}

/// How far each message is off its schedule, beside a loop that sleeps and writes.
fn timing(options: &Options, table: &mut Table, folder: &Path, broker: &NullBroker) {
    let count = options.size(10_000);
    let file = recording(folder, count);
    let (mut ours, mut limits, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds(3) {
        broker.taken();
        runs.push(run(gateway("replay", broker.port).arg(&file)));
        ours.push(Lateness::of(&broker.moments(), count));
        sleep_and_write(broker.port, count);
        limits.push(Lateness::of(&broker.moments(), count));
    }
    let of = |all: &[Lateness], figure: fn(&Lateness) -> f64| median(all.iter().map(figure).collect());
    let what = format!("`replay`, {count} messages at 1,000/s");
    let peer = Some(("sleep and write", of(&limits, |late| late.middle)));
    let middle = of(&ours, |late| late.middle);
    table.add("replay", format!("{what}, late by, p50"), "ms", middle, peer, Goal::PeerAtMost(1.2));
    let peer = Some(("sleep and write", of(&limits, |late| late.drift)));
    table.add(
        "replay",
        format!("{what}, drift"),
        "ms",
        of(&ours, |late| late.drift),
        peer,
        Goal::AtMost(5.0),
    );
    let cpu = Run::medians(&runs).cpu_us(count);
    table.add("replay", format!("{what}, CPU"), "us a message", cpu, None, Goal::AtMost(95.0));
}

fn fastest(options: &Options, table: &mut Table, folder: &Path, broker: &NullBroker) {
    let count = options.size(200_000);
    let file = recording(folder, count);
    let mut replay = gateway("replay", broker.port);
    replay.args(["--speed", "max"]).arg(&file);
    let readings = folder.join("readings.jsonl");
    let line = |n| format!("{{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":{n}}}\n");
    fs::write(&readings, (0..count).map(line).collect::<String>()).unwrap();
    let mut bulk = gateway("report", broker.port);
    bulk.args(["--no-wait", "--window", "1000"]).arg(readings);
    let (mut ours, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds(5) {
        broker.taken();
        ours.push(run(&mut replay));
        assert_eq!(broker.taken(), count as u64, "replayed messages that arrived");
        reports.push(run(&mut bulk));
    }
    let (ours, reports) = (Run::medians(&ours), Run::medians(&reports));
    let what = format!("`replay --speed max`, {count} messages");
    let peer = Some(("report --no-wait --window 1000", reports.rate(count)));
    table.add("replay", format!("{what}, rate"), "/s", ours.rate(count), peer, Goal::PeerAtLeast(0.8));
    let peer = Some(("report --no-wait --window 1000", reports.cpu_us(count)));
    table.add("replay", format!("{what}, CPU"), "us a message", ours.cpu_us(count), peer, Goal::None);
}

/// How late messages came, in milliseconds after the schedule that begins with the most punctual one.
struct Lateness {
    middle: f64,
    /// How much later the last tenth was than the first.
    drift: f64,
}

impl Lateness {
    fn of(moments: &[Instant], count: usize) -> Self {
        assert_eq!(moments.len(), count, "messages that arrived");
        let late = |(n, moment): (usize, &Instant)| {
            (moment.duration_since(moments[0]).as_secs_f64() - n as f64 * GAP.as_secs_f64()) * 1e3
        };
        let late: Vec<_> = moments.iter().enumerate().map(late).collect();
        let first = late.iter().copied().fold(f64::INFINITY, f64::min);
        let tenth = count.div_ceil(10);
        let (begin, end) = (median(late[..tenth].to_vec()), median(late[count - tenth..].to_vec()));
        Self { middle: median(late) - first, drift: (end - begin).abs() }
    }
}

/// The least that keeps a schedule.
fn sleep_and_write(port: u16, count: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&connect("gw1", USERNAME).bytes()).unwrap();
    let mut template = Template::new(&topic(Channel::Report, "gw1"), &report("m1", PAYLOAD));
    let (start, mut out) = (Instant::now(), Vec::new());
    for n in 0..count {
        thread::sleep((GAP * n as u32).saturating_sub(start.elapsed()));
        out.clear();
        template.write(&mut out, (n % 65_535) as u16 + 1, n as u64);
        stream.write_all(&out).unwrap();
    }
    // The last ones are still to be read at the other end.
    thread::sleep(Duration::from_millis(50));
}

/// A recording of reports, a millisecond apart.
fn recording(folder: &Path, count: usize) -> std::path::PathBuf {
    let (topic, payload) = (topic(Channel::Report, "gw1"), report("m1", PAYLOAD));
    let mut lines = Vec::new();
    for n in 0..count as u64 {
        let us = n * 1000;
        let record = Record {
            unix_us: 1_785_000_000_000_000 + us.cast_signed(),
            topic: Cow::from(topic.as_str()),
            qos: 1,
            retain: false,
            dup: false,
            mid: Some((n % 65_535) as u16 + 1),
            dir: Some(Direction::Up),
            channel: Some(Channel::Report),
            gateway_id: Some(Cow::from("gw1")),
            mono_us: Some(us),
            payload: Cow::from(payload.as_bytes()),
            is_json: false,
            unknown: Vec::new(),
        };
        record.write(&mut lines);
    }
    let path = folder.join(format!("recording-{count}.jsonl"));
    fs::write(&path, lines).unwrap();
    path
}
