//! A gateway and an edge in two network namespaces, joined by a virtual cable. A pulled cable drops packets without FIN or
//! RST, as networks in the field do.
//!
//! If `ip netns add` fails, without root for example, a test says so and passes.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{Ended, ended, gateway, reports, tuyagw},
    site::{accounted, all_accepted, json_lines, request_ids, syncs, until},
};

/// The edge's address, and an unused one of the same network.
const EDGE: &str = "10.9.0.1:21883";
const NOBODY: &str = "10.9.0.77:21883";

/// The end of a cable.
#[derive(Clone, Copy, Debug)]
enum End {
    Gateway,
    Edge,
}

/// Two namespaces of a test's own, each with an interface `wire` to the other; all ends with the value.
struct Cable {
    names: [String; 2],
}

impl Cable {
    fn lay() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = |end| format!("tuyagw-{}-{number}-{end}", std::process::id());
        let cable = Self { names: ["gateway", "edge"].map(name) };
        for name in &cable.names {
            let added = Command::new("ip").args(["netns", "add", name]).stdin(Stdio::null()).output();
            if !added.is_ok_and(|added| added.status.success()) {
                println!("skipped: `ip netns add` does not work here");
                return None;
            }
        }
        let [gateway, edge] = &cable.names;
        let wire =
            ["link", "add", "wire", "netns", gateway, "type", "veth", "peer", "name", "wire", "netns", edge];
        succeed(Command::new("ip").args(wire));
        for (end, address) in [(End::Gateway, "10.9.0.2/24"), (End::Edge, "10.9.0.1/24")] {
            cable.ip(end, &["link", "set", "lo", "up"]);
            cable.ip(end, &["address", "add", address, "dev", "wire"]);
            cable.up(end);
        }
        Some(cable)
    }

    fn name(&self, end: End) -> &str {
        &self.names[end as usize]
    }

    fn ip(&self, end: End, args: &[&str]) {
        succeed(Command::new("ip").args(["-n", self.name(end)]).args(args));
    }

    fn up(&self, end: End) {
        self.ip(end, &["link", "set", "wire", "up"]);
    }

    fn down(&self, end: End) {
        self.ip(end, &["link", "set", "wire", "down"]);
    }

    /// Makes both ends send to a hardware address that no interface has.
    fn misdirect(&self) {
        for (end, other) in [(End::Gateway, "10.9.0.1"), (End::Edge, "10.9.0.2")] {
            let nowhere = ["lladdr", "02:00:00:00:00:77", "nud", "permanent"];
            self.ip(end, &[&["neigh", "replace", other, "dev", "wire"][..], &nowhere].concat());
        }
    }

    /// Makes both ends look up the other's hardware address again.
    fn redirect(&self) {
        for (end, other) in [(End::Gateway, "10.9.0.1"), (End::Edge, "10.9.0.2")] {
            self.ip(end, &["neigh", "delete", other, "dev", "wire"]);
        }
    }

    /// Starts a command at one end, its output in files.
    fn start(&self, end: End, command: &Command) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut within = Command::new("ip");
        within.args(["netns", "exec", self.name(end)]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        let file = |name| File::create(folder.path().join(name)).unwrap();
        within.stdin(Stdio::piped()).stdout(file("stdout")).stderr(file("stderr"));
        Running { child: within.spawn().unwrap(), folder }
    }

    /// An edge that knows meters m1 to mN.
    fn edge(&self, count: usize, args: &[&str]) -> Running {
        let edge = self.start(End::Edge, tuyagw().args(["edge", "--listen", EDGE]).args(args));
        until("an edge", || !edge.stdout().is_empty());
        let mut sync = self.gateway("sync", &["-", "--window", "500"]);
        sync.write(&syncs(count));
        all_accepted(&sync.ended(), count);
        edge
    }

    /// A subcommand of gateway gw1; it finds a silence out in 1.5 seconds, and is patient otherwise.
    fn gateway(&self, subcommand: &str, args: &[&str]) -> Running {
        let mut args = args.to_vec();
        for (option, value) in [("--keep-alive", "1s"), ("--timeout", "40s")] {
            if !args.contains(&option) {
                args.extend([option, value]);
            }
        }
        self.start(End::Gateway, &gateway(subcommand, EDGE, &args))
    }

    /// A bulk report of meters m1 to mN, a part of which has been answered, and whose rest is still to come.
    fn begun(&self, args: &[&str]) -> Running {
        let args = [&["-", "--window", "100"], args].concat();
        let mut report = self.gateway("report", &args);
        report.write(&reports(BEGUN));
        until("a result", || report.stdout().lines().count() > BEGUN / 2);
        report
    }
}

/// How much of a bulk report is sent before something happens, and how much in all.
const BEGUN: usize = 1000;
const ALL: usize = 3000;

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.names {
            if let Ok(running) = Command::new("ip").args(["netns", "pids", name]).output() {
                for id in String::from_utf8_lossy(&running.stdout).lines() {
                    let _ = Command::new("kill").args(["-s", "KILL", id]).status();
                }
            }
            let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
        }
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program at one end of the cable.
struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// The whole lines printed so far.
    fn stdout(&self) -> String {
        let text = self.read("stdout");
        text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned()
    }

    /// Waits until it has said this on stderr so many times.
    fn says(&self, count: usize, what: &str) {
        until(what, || self.read("stderr").matches(what).count() >= count);
    }

    /// Waits for a record.
    fn records(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        until(what, || json_lines(&self.stdout()).iter().any(&wanted));
    }

    /// How many segments its end has had to send again.
    fn segments_sent_again(&self) -> u64 {
        let counters = fs::read_to_string(format!("/proc/{}/net/snmp", self.child.id())).unwrap();
        let mut rows = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let mut counts = names.split(' ').zip(values.split(' '));
        counts.find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
    }

    fn write(&mut self, input: &str) {
        // A program that reads no further is no failure of the test.
        let _ = self.child.stdin.as_mut().unwrap().write_all(input.as_bytes());
    }

    /// Writes what [`Cable::begun`] has left of the reports.
    fn write_the_rest(&mut self) {
        let all = reports(ALL);
        self.write(&all[reports(BEGUN).len()..]);
    }

    /// Ends its input and waits for its end.
    fn ended(self) -> Ended {
        let mut end = ended(self.child);
        (end.lines, end.stderr) = (
            json_lines(&fs::read_to_string(self.folder.path().join("stdout")).unwrap()),
            fs::read_to_string(self.folder.path().join("stderr")).unwrap(),
        );
        end
    }
}

/// That the edge has seen every meter's report, under one `request_id` however often it came.
fn keeps_its_ids(edge: &Running) {
    let records: Vec<_> =
        json_lines(&edge.stdout()).into_iter().filter(|record| record["kind"] == "report").collect();
    let ids = request_ids(&records);
    assert_eq!(ids.len(), ALL);
    let differs = ids.iter().find(|(_, ids)| ids.iter().any(|id| *id != ids[0]));
    assert_eq!(differs, None);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_pulled_cable_costs_no_line() {
    for end in [End::Gateway, End::Edge] {
        let Some(cable) = Cable::lay() else { return };
        let edge = cable.edge(ALL, &[]);
        let mut report = cable.begun(&[]);
        cable.down(end);
        report.write_the_rest();
        report.says(1, "has been silent for 1.5 times the keep-alive; reconnecting");
        // An attempt in the dark, too.
        report.says(2, "reconnecting");
        cable.up(end);
        all_accepted(&report.ended(), ALL);
        keeps_its_ids(&edge);
    }
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn no_reconnect_exits_on_a_silent_connection() {
    let Some(cable) = Cable::lay() else { return };
    let _edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&["--no-reconnect"]);
    cable.down(End::Edge);
    report.write_the_rest();
    let ended = report.ended();
    accounted(&ended, ALL);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("has been silent for 1.5 times the keep-alive"), "{}", ended.stderr);
    let unknown = ended.lines.iter().find(|line| line["ok"] != true && line["error"] != "connection");
    assert_eq!(unknown, None);
    cable.up(End::Edge);

    let listen = cable.gateway("listen", &["--no-reconnect"]);
    listen.says(1, "listening");
    cable.down(End::Edge);
    let ended = listen.ended();
    assert_eq!((ended.code, ended.lines.len()), (Some(3), 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("has been silent for 1.5 times the keep-alive"), "{}", ended.stderr);
}

/// TCP mends a short cut by itself. Packets vanish between the two ends here, as behind a switch: if an interface were
/// down, its own kernel would keep packets back and count nothing as sent again.
#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_cut_shorter_than_the_keep_alive_costs_no_connection() {
    let Some(cable) = Cable::lay() else { return };
    let edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&["--keep-alive", "60s"]);
    // The cut may fall when all requests have arrived and only answers are on their way: then the edge alone sends again.
    let before = report.segments_sent_again() + edge.segments_sent_again();
    cable.misdirect();
    report.write_the_rest();
    until("a segment that is sent again", || {
        report.segments_sent_again() + edge.segments_sent_again() > before
    });
    cable.redirect();
    let ended = report.ended();
    all_accepted(&ended, ALL);
    assert!(!ended.stderr.contains("reconnecting"), "{}", ended.stderr);
    keeps_its_ids(&edge);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_time_out_shorter_than_the_keep_alive_ends_a_run_during_an_outage() {
    let Some(cable) = Cable::lay() else { return };
    let _edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&["--keep-alive", "60s", "--timeout", "1s"]);
    cable.down(End::Edge);
    report.write_the_rest();
    let ended = report.ended();
    accounted(&ended, ALL);
    // How much the socket takes that the cable does not is the kernel's.
    assert!(matches!(ended.code, Some(3 | 5)), "{:?} {}", ended.code, ended.stderr);
    let errors = ["timeout", "connection"];
    let other = ended.lines.iter().find(|line| {
        line["ok"] != true && !line["error"].as_str().is_some_and(|error| errors.contains(&error))
    });
    assert_eq!(other, None);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_command_given_during_an_outage_is_answered_after_it() {
    let Some(cable) = Cable::lay() else { return };
    let edge = cable.edge(1, &["--command-timeout", "40s"]);
    let command = |value: &str| {
        let mut command = tuyagw();
        command.args(["command", "-b", EDGE, "-g", "gw1", "--timeout", "40s", "--cid", "m1", value]);
        cable.start(End::Edge, &command)
    };
    let args = ["--persistent", "--answer", "success", "--no-report-back", "--count", "3"];
    let listen = cable.gateway("listen", &args);
    listen.says(1, "listening");
    all_accepted(&command("valve_open_degree=1").ended(), 1);
    cable.down(End::Edge);
    listen.says(1, "has been silent for 1.5 times the keep-alive; reconnecting");
    let waiting = command("valve_open_degree=2");
    edge.records("the command", |record| {
        record["kind"] == "command" && record["payload"]["param"]["value"] == 2
    });
    cable.up(End::Edge);
    all_accepted(&waiting.ended(), 1);
    all_accepted(&command("valve_open_degree=3").ended(), 1);
    let ended = listen.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let values: Vec<_> =
        ended.lines.iter().map(|record| record["payload"]["param"]["value"].as_i64().unwrap()).collect();
    assert_eq!(values, [1, 2, 3], "{}", ended.stderr);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn the_edge_publishes_the_will_of_an_unreachable_gateway() {
    let Some(cable) = Cable::lay() else { return };
    let edge = cable.edge(1, &[]);
    let says = |edge: &Running, is_online: bool, count: usize| {
        until("a status", || {
            let is_it = |record: &&Value| {
                record["kind"] == "status" && record["payload"]["param"][0]["status"] == is_online
            };
            json_lines(&edge.stdout()).iter().filter(is_it).count() >= count
        });
    };
    let status = cable.gateway("status", &["--online", "m1", "--every", "1s", "--offline-on-exit"]);
    says(&edge, true, 1);
    cable.down(End::Gateway);
    says(&edge, false, 1);
    cable.up(End::Gateway);
    status.says(1, "reconnecting");
    let before = edge.stdout().matches("\"status\":true").count();
    says(&edge, true, before + 1);
    crate::process::signal(status.child.id(), "TERM");
    assert_eq!(status.ended().code, Some(143));
    says(&edge, false, 2);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_gateway_continues_after_its_address_changes() {
    let Some(cable) = Cable::lay() else { return };
    let edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&[]);
    cable.ip(End::Gateway, &["address", "delete", "10.9.0.2/24", "dev", "wire"]);
    report.write_the_rest();
    report.says(1, "reconnecting");
    cable.ip(End::Gateway, &["address", "add", "10.9.0.3/24", "dev", "wire"]);
    all_accepted(&report.ended(), ALL);
    keeps_its_ids(&edge);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn an_unreachable_network_exits_3() {
    let Some(cable) = Cable::lay() else { return };
    let fails = |broker: &str, expected: &[&str]| {
        let args = ["--cid", "m1", "water_flow=1"];
        let ended = cable.start(End::Gateway, &gateway("report", broker, &args)).ended();
        assert_eq!((ended.code, ended.line()["error"].as_str()), (Some(3), Some("connection")), "{ended:#?}");
        assert!(expected.iter().any(|expected| ended.stderr.contains(expected)), "{}", ended.stderr);
    };
    // The kernel gives a neighbour up after some seconds, which may be before our time is over.
    let silence = ["did not answer in 2s", "No route to host"];
    fails(NOBODY, &silence);
    cable.down(End::Edge);
    fails(EDGE, &silence);
    cable.down(End::Gateway);
    fails(EDGE, &["Network is unreachable"]);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_small_mtu_costs_no_line() {
    let Some(cable) = Cable::lay() else { return };
    for end in [End::Gateway, End::Edge] {
        cable.ip(end, &["link", "set", "wire", "mtu", "128"]);
    }
    let edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&[]);
    report.write_the_rest();
    all_accepted(&report.ended(), ALL);
    keeps_its_ids(&edge);
    let mut status = cable.gateway("status", &["-"]);
    for n in 1..=ALL {
        status.write(&format!("{{\"cid\":\"m{n}\",\"status\":true}}\n"));
    }
    all_accepted(&status.ended(), ALL);
}

/// The two sides have agreed on a size that no longer passes, and no router says so: pings would, reports do not.
#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn a_path_that_drops_large_packets_is_abandoned() {
    let Some(cable) = Cable::lay() else { return };
    // Else the cable takes what the kernel has not cut up yet, of any size.
    cable.ip(End::Gateway, &["link", "set", "wire", "gso_max_segs", "1"]);
    let edge = cable.edge(ALL, &[]);
    let mut report = cable.begun(&[]);
    cable.ip(End::Edge, &["link", "set", "wire", "mtu", "400"]);
    report.write_the_rest();
    // Either end may be the first to find the other silent.
    report.says(1, "reconnecting");
    all_accepted(&report.ended(), ALL);
    keeps_its_ids(&edge);
}

#[test]
#[ignore = "slow: cuts a network, and waits until both ends notice"]
fn packet_loss_costs_no_line() {
    let Some(cable) = Cable::lay() else { return };
    let edge = cable.edge(ALL, &[]);
    if !cable.loses_packets() {
        return;
    }
    let mut report = cable.begun(&[]);
    report.write_the_rest();
    all_accepted(&report.ended(), ALL);
    keeps_its_ids(&edge);
}

impl Cable {
    /// Makes both ends lose packets, and where the kernel can, delay, repeat and reorder them.
    fn loses_packets(&self) -> bool {
        let works = |command: &mut Command| {
            command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        };
        let netem = "qdisc add dev wire root netem delay 5ms 2ms loss 5% duplicate 2% reorder 10%";
        let nft = "table inet loss { chain input { type filter hook input priority 0; numgen random mod 100 < 5 drop; }; }";
        [End::Gateway, End::Edge].into_iter().all(|end| {
            let name = self.name(end);
            if works(Command::new("tc").args(["-n", name]).args(netem.split(' '))) {
                return true;
            }
            println!("skipped: delay, repetition and reordering, for which `tc` knows no netem here");
            let is_filtered = works(Command::new("ip").args(["netns", "exec", name, "nft", nft]));
            if !is_filtered {
                println!("skipped: loss, for which neither netem nor nftables is here");
            }
            is_filtered
        })
    }
}

/// RFC 8305: the client uses the first address of a name that answers.
#[test]
#[ignore = "slow: makes network namespaces"]
fn a_dead_address_of_a_broker_keeps_no_gateway_from_the_other() {
    let Some(cable) = Cable::lay() else { return };
    let _edge = cable.edge(1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    // The resolver prefers the address nearer to our own, which is unused.
    fs::write(&hosts, "10.9.0.3 edge-two\n10.9.0.1 edge-two\n").unwrap();
    let with_hosts = |subcommand: &str, broker: &str| {
        let report = gateway(subcommand, broker, &["--cid", "m1", "water_flow=1"]);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(&hosts);
        command.arg(report.get_program()).args(report.get_args()).env("TUYAGW_CONFIG", "/dev/null");
        cable.start(End::Gateway, &command).ended()
    };
    all_accepted(&with_hosts("report", "edge-two:21883"), 1);
    let refused = with_hosts("report", "edge-two:1");
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    for address in ["10.9.0.3:1", "10.9.0.1:1"] {
        assert!(refused.stderr.contains(address), "{}", refused.stderr);
    }
}
