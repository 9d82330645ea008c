//! One report with its answer: connect, ask, be answered, leave.

use std::fs;

use tempfile::TempDir;
use tuyagw::tuya::Channel;

use crate::{
    Options, distance, peers,
    process::{Run, Server, gateway, gateway_of, run, run_briefly, tuyagw},
    table::{Goal, Table},
    traffic::{report, topic},
};

const THEME: &str = "one-shot";

pub fn measure(options: &Options, table: &mut Table) {
    let edge = Server::edge();
    let near = Contest::between(edge.port, None, options.rounds(200));
    for (name, ours) in [("`report`", near.plain), ("`report --early`", near.early)] {
        let what = format!("{name}, answered by the edge");
        let goal = Goal::PeerAtMost(0.6);
        table.add(THEME, format!("{what}, wall"), "ms", ours.wall_ms(), near.peer(Run::wall_ms), goal);
        table.add(THEME, format!("{what}, CPU"), "ms", ours.cpu_ms(), near.peer(Run::cpu_ms), goal);
    }
    let far = Contest::between(distance::port(edge.port), None, options.rounds(20));
    let what = "answered from 20 ms away, TCP's round trip included";
    for (name, ours, goal) in [("`report`", far.plain, 3.2), ("`report --early`", far.early, 2.2)] {
        let (ours, peer) = (round_trips(&ours), far.peer(round_trips));
        table.add(THEME, format!("{name}, {what}"), "round trips", ours, peer, Goal::AtMost(goal));
    }
    over_tls(options, table);
}

fn over_tls(options: &Options, table: &mut Table) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = file(&folder, "cert.pem", &made.cert.pem());
    let key = file(&folder, "key.pem", &made.signing_key.serialize_pem());
    let edge = Server::start(|port| {
        let mut command = tuyagw("edge");
        command.args(["-q", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--tls-cert", &certificate, "--tls-key", &key]);
        command
    });
    let near = Contest::between(edge.port, Some(&certificate), options.rounds(100));
    let (wall, cpu) = (near.plain.wall_ms(), near.plain.cpu_ms());
    let what = "`report` over TLS, answered by the edge";
    table.add(THEME, format!("{what}, wall"), "ms", wall, near.peer(Run::wall_ms), Goal::None);
    table.add(THEME, format!("{what}, CPU"), "ms", cpu, near.peer(Run::cpu_ms), Goal::PeerAtMost(0.5));
    let far = Contest::between(distance::port(edge.port), Some(&certificate), options.rounds(20));
    let what = "`report` over TLS, answered from 20 ms away, TCP's round trip included";
    let (ours, peer) = (round_trips(&far.plain), far.peer(round_trips));
    table.add(THEME, what, "round trips", ours, peer, Goal::AtMost(4.0));
}

/// The medians of all contestants, who took turns.
struct Contest {
    plain: Run,
    early: Run,
    theirs: Option<Run>,
}

impl Contest {
    /// Reports to an edge's port, over TLS if there is a certificate to trust.
    fn between(port: u16, certificate: Option<&str>, rounds: usize) -> Self {
        let as_gateway = |subcommand: &str| match certificate {
            None => gateway(subcommand, port),
            Some(file) => {
                let mut command = gateway_of(&format!("mqtts://127.0.0.1:{port}"), subcommand);
                command.args(["--ca-file", file]);
                command
            }
        };
        let report_with = |more: &[&str]| {
            let mut command = as_gateway("report");
            command.args(["--cid", "m1", "water_flow=12345"]).args(more);
            command
        };
        let (mut plain, mut early) = (report_with(&[]), report_with(&["--early"]));
        let mut peer = peers::find("mosquitto_rr").map(|program| {
            let mut command = peers::client(&program, port);
            command.args([
                "-t",
                &topic(Channel::Report, "gw1"),
                "-e",
                &topic(Channel::ReportResponse, "gw1"),
            ]);
            command.args(["-W", "5", "-m", &report("m1", 0)]);
            command.args(certificate.iter().flat_map(|file| ["--cafile", file]));
            command
        });
        run(as_gateway("sync").args(["--cid", "m1", "--product-id", "p1"]));
        // A failure would be fast, so each must succeed once first.
        run(&mut report_with(&[]));
        run(&mut report_with(&["--early"]));
        if let Some(peer) = &mut peer {
            run(peer);
        }
        let (mut plain_runs, mut early_runs, mut their_runs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            plain_runs.push(run_briefly(&mut plain));
            early_runs.push(run_briefly(&mut early));
            their_runs.extend(peer.as_mut().map(run_briefly));
        }
        Self {
            plain: Run::medians(&plain_runs),
            early: Run::medians(&early_runs),
            theirs: (!their_runs.is_empty()).then(|| Run::medians(&their_runs)),
        }
    }

    fn peer(&self, figure: fn(&Run) -> f64) -> Option<(&'static str, f64)> {
        self.theirs.as_ref().map(|run| ("mosquitto_rr", figure(run)))
    }
}

fn round_trips(run: &Run) -> f64 {
    run.wall.as_secs_f64() / distance::ROUND_TRIP.as_secs_f64()
}

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
