//! Messages on their way into a file.

use tempfile::TempDir;

use crate::{
    Options, peers,
    process::{Run, gateway, run, stdout_to},
    sinks::Fountain,
    table::{Goal, Table},
    traffic::PAYLOAD,
};

/// Messages that a sender with a limit leaves unacknowledged.
const WINDOW: u16 = 1000;

pub fn measure(options: &Options, table: &mut Table) {
    let folder = TempDir::new().unwrap();
    let count = options.size(200_000);
    let limited = Fountain::start(count, WINDOW);
    let unlimited = Fountain::start(count, u16::MAX);
    let peer = peers::find("mosquitto_sub");
    let (mut ours, mut synced, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds(5) {
        let file = folder.path().join("records.jsonl");
        let mut command = gateway("listen", limited.port);
        command.args(["--all", "--count", &count.to_string()]).stdout(stdout_to(&file));
        ours.push(run(&mut command));
        assert_eq!(lines_of(&file), count, "records on stdout");

        let out = folder.path().join(format!("out-{round}.jsonl"));
        let mut command = gateway("listen", unlimited.port);
        command.args(["--all", "--count", &count.to_string(), "--out"]).arg(&out);
        synced.push(run(&mut command));
        assert_eq!(lines_of(&out), count, "records of --out");

        if let Some(program) = &peer {
            let mut command = peers::client(program, limited.port);
            command.args(["-t", "gateway_id/gw1/#", "-F", "%J", "-C", &count.to_string()]);
            theirs.push(run(command.stdout(stdout_to(&file))));
            assert_eq!(lines_of(&file), count, "lines of mosquitto_sub");
        }
    }
    let peer = (!theirs.is_empty()).then(|| Run::medians(&theirs));
    let rate = peer.map(|peer| ("mosquitto_sub -F %J", peer.rate(count)));
    let cpu = peer.map(|peer| ("mosquitto_sub -F %J", peer.cpu_us(count)));
    let peak = peer.map(|peer| ("mosquitto_sub -F %J", peer.peak_mib()));
    let plain = Run::medians(&ours);
    let what = format!("`listen > FILE`, {count} messages of {PAYLOAD} B, {WINDOW} unacknowledged");
    table.add("listen", format!("{what}, rate"), "/s", plain.rate(count), rate, Goal::AtLeast(500_000.0));
    table.add("listen", format!("{what}, CPU"), "us a message", plain.cpu_us(count), cpu, Goal::AtMost(1.8));
    table.add("listen", format!("{what}, memory"), "MiB", plain.peak_mib(), peak, Goal::AtMost(4.0));
    let synced = Run::medians(&synced);
    let what = format!("`listen --out FILE`, synced before it acknowledges, {count} messages");
    table.add("listen", format!("{what}, rate"), "/s", synced.rate(count), rate, Goal::AtLeast(200_000.0));
    table.add("listen", format!("{what}, CPU"), "us a message", synced.cpu_us(count), cpu, Goal::None);
}

fn lines_of(file: &std::path::Path) -> usize {
    std::fs::read(file).unwrap().iter().filter(|byte| **byte == b'\n').count()
}
