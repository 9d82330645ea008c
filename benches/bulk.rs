//! Many reports from a file.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tuyagw::tuya::Channel;

use crate::{
    Options,
    generator::Fleet,
    peers,
    process::{Run, Server, gateway, run},
    sinks::{NullBroker, respond},
    table::{Goal, Table, median},
    traffic::{report, topic},
};

/// Devices that the lines speak of.
const DEVICES: usize = 100;

/// Lines that one mosquitto_pub -l may get: it loses some without a word beyond 65,536 or 20,000, by its version,
/// and takes a fifth of a second however few they are.
const CHUNKS: [usize; 2] = [50_000, 10_000];

pub fn measure(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    unanswered(options, table, &folder);
    through_the_edge(options, table, &folder);
    through_mosquitto(options, table, &folder);
}

/// `--no-wait` to a broker that acknowledges and does nothing else.
fn unanswered(options: &Options, table: &mut Table, folder: &TempDir) {
    let count = options.size(200_000);
    let broker = NullBroker::start();
    let lines = readings(folder, count);
    let peer = Publisher::find(folder, count, &broker);
    let windows = [20, 1000];
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..options.rounds(7) {
        for (window, runs) in windows.iter().zip(&mut ours) {
            let mut command = gateway("report", broker.port);
            command.args(["--no-wait", "--window", &window.to_string()]).arg(&lines);
            runs.push(run(&mut command));
            assert_eq!(broker.taken(), count as u64, "messages that arrived");
        }
        if let Some(publisher) = &peer {
            theirs.push(publisher.run(&broker));
            assert_eq!(broker.taken(), count as u64, "messages of mosquitto_pub that arrived");
        }
    }
    let peer = (!theirs.is_empty()).then(|| Run::medians(&theirs));
    for (window, runs) in windows.iter().zip(&ours) {
        let ours = Run::medians(runs);
        let goals = match window {
            1000 => [Goal::PeerAtLeast(8.0), Goal::AtMost(2.1)],
            _ => [Goal::None; 2],
        };
        let name = "mosquitto_pub -l in lossless chunks";
        let rate = peer.map(|peer| (name, peer.rate(count)));
        let cpu = peer.map(|peer| (name, peer.cpu_us(count)));
        let peak = peer.map(|peer| (name, peer.peak_mib()));
        let what = format!("`report --no-wait --window {window}`, {count} lines to a null broker");
        table.add("bulk", format!("{what}, rate"), "/s", ours.rate(count), rate, goals[0]);
        table.add("bulk", format!("{what}, CPU"), "us a line", ours.cpu_us(count), cpu, goals[1]);
        table.add("bulk", format!("{what}, memory"), "MiB", ours.peak_mib(), peak, Goal::AtMost(16.0));
    }
}

/// Every answer matched, tuyagw at both ends.
fn through_the_edge(options: &Options, table: &mut Table, folder: &TempDir) {
    let count = options.size(200_000);
    let lines = readings(folder, count);
    let (mut rates, mut client, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds(5) {
        let edge = Server::edge();
        run(gateway("sync", edge.port).arg(devices(folder)));
        let before = edge.cpu_us();
        let run = run(gateway("report", edge.port).args(["--window", "1000"]).arg(&lines));
        let edge = (edge.cpu_us() - before) / count as f64;
        rates.push(run.rate(count));
        client.push(run.cpu_us(count));
        both.push(run.cpu_us(count) + edge);
    }
    let what = format!("`report --window 1000`, {count} lines answered by `tuyagw edge`");
    table.add("bulk", format!("{what}, rate"), "/s", median(rates), None, Goal::AtLeast(200_000.0));
    table.add("bulk", format!("{what}, CPU of both"), "us a line", median(both), None, Goal::AtMost(3.0));
    table.add("bulk", format!("{what}, CPU of `report`"), "us a line", median(client), None, Goal::None);
}

/// Every answer matched, through a broker that is not ours; the limit is a loop of raw sockets that does the same.
fn through_mosquitto(options: &Options, table: &mut Table, folder: &TempDir) {
    let count = options.size(50_000);
    let lines = readings(folder, count);
    let Some(broker) = peers::mosquitto(folder) else { return };
    respond(broker.port);
    let mut loops = Vec::new();
    if let Some(program) = peers::find("mosquitto_rr") {
        let mut command = peers::client(&program, broker.port);
        command.args(["-t", &topic(Channel::Report, "gw1"), "-e", &topic(Channel::ReportResponse, "gw1")]);
        command.args(["-W", "5", "-m", &report("m1", 0)]);
        loops = (0..options.size(200)).map(|_| run(&mut command)).collect();
    }
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds(5) {
        ours.push(run(gateway("report", broker.port).args(["--window", "1000"]).arg(&lines)));
        let limit = Fleet::connect(broker.port, 1).report(count, 1000);
        limits.push(count as f64 / limit.as_secs_f64());
    }
    let ours = Run::medians(&ours);
    let limit = Some(("raw sockets", median(limits)));
    let what = format!("`report --window 1000`, {count} lines answered through mosquitto");
    table.add("bulk", format!("{what}, rate"), "/s", ours.rate(count), limit, Goal::PeerAtLeast(0.9));
    let peer = (!loops.is_empty()).then(|| Run::medians(&loops));
    let rate = peer.map(|peer| ("mosquitto_rr, once a line", peer.rate(1)));
    let cpu = peer.map(|peer| ("mosquitto_rr, once a line", peer.cpu_us(1)));
    table.add("bulk", format!("{what}, rate"), "/s", ours.rate(count), rate, Goal::None);
    table.add("bulk", format!("{what}, CPU"), "us a line", ours.cpu_us(count), cpu, Goal::None);
}

/// Time and memory from a thousand lines to a million: the one grows with the lines, the other does not.
pub fn growth(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    let edge = Server::edge();
    run(gateway("sync", edge.port).arg(devices(&folder)));
    for power in 3..=if options.quick { 4 } else { 6 } {
        let count = 10_usize.pow(power);
        let lines = readings(&folder, count);
        let report = || run(gateway("report", edge.port).args(["--window", "1000"]).arg(&lines));
        let runs: Vec<_> = (0..options.rounds(3)).map(|_| report()).collect();
        let run = Run::medians(&runs);
        let what = format!("`report`, 10^{power} lines answered");
        table.add("growth", format!("{what}, wall"), "ms", run.wall_ms(), None, Goal::None);
        table.add("growth", format!("{what}, CPU"), "us a line", run.cpu_us(count), None, Goal::None);
        table.add("growth", format!("{what}, memory"), "MiB", run.peak_mib(), None, Goal::AtMost(16.0));
    }
}

/// Input lines for `report`.
fn readings(folder: &TempDir, count: usize) -> PathBuf {
    write(folder.path(), &format!("readings-{count}.jsonl"), |file| {
        for n in 0..count {
            writeln!(file, "{{\"cid\":\"m{}\",\"code\":\"water_flow\",\"value\":{n}}}", n % DEVICES + 1)
                .unwrap();
        }
    })
}

/// Input lines for `sync`.
fn devices(folder: &TempDir) -> PathBuf {
    write(folder.path(), "devices.jsonl", |file| {
        for n in 1..=DEVICES {
            writeln!(file, "{{\"cid\":\"m{n}\",\"product_id\":\"p1\"}}").unwrap();
        }
    })
}

/// mosquitto_pub -l with the messages themselves, in files that it does not lose lines of.
struct Publisher {
    program: PathBuf,
    chunks: Vec<PathBuf>,
}

impl Publisher {
    fn find(folder: &TempDir, count: usize, broker: &NullBroker) -> Option<Self> {
        let program = peers::find("mosquitto_pub")?;
        let lossless = CHUNKS.into_iter().find_map(|size| {
            let chunks =
                (0..count).step_by(size).map(|first| whole_messages(folder, first, size.min(count - first)));
            let publisher = Self { program: program.clone(), chunks: chunks.collect() };
            publisher.run(broker);
            (broker.taken() == count as u64).then_some(publisher)
        });
        Some(lossless.expect("mosquitto_pub loses lines of the smallest chunk"))
    }

    fn run(&self, broker: &NullBroker) -> Run {
        let publish = |chunk: &PathBuf| {
            let mut command = peers::client(&self.program, broker.port);
            command.args(["-l", "-t", &topic(Channel::Report, "gw1")]);
            run(command.stdin(File::open(chunk).unwrap()))
        };
        self.chunks.iter().map(publish).reduce(|one, next| one + next).unwrap()
    }
}

/// Messages as they are on the wire, a line each.
fn whole_messages(folder: &TempDir, first: usize, count: usize) -> PathBuf {
    write(folder.path(), &format!("messages-{first}-{count}.jsonl"), |file| {
        for n in first..first + count {
            writeln!(file, "{}", report(&format!("m{}", n % DEVICES + 1), 0)).unwrap();
        }
    })
}

fn write(folder: &Path, name: &str, lines: impl FnOnce(&mut BufWriter<File>)) -> PathBuf {
    let path = folder.join(name);
    if !path.exists() {
        let mut file = BufWriter::new(File::create(&path).unwrap());
        lines(&mut file);
        file.flush().unwrap();
        assert!(fs::metadata(&path).unwrap().len() > 0);
    }
    path
}
