//! One report with its answer: connect, ask, be answered, leave.

use tuyagw::protocol::Channel;

use crate::{
    Options, peers,
    process::{Run, Server, gateway, run, run_briefly},
    table::{Goal, Table},
    wire::{report, topic},
};

pub fn measure(options: &Options, table: &mut Table) {
    let edge = Server::edge();
    run(gateway("sync", edge.port).args(["--cid", "m1", "--product-id", "p1"]));
    let plain = || {
        let mut command = gateway("report", edge.port);
        command.args(["--cid", "m1", "water_flow=12345"]);
        command
    };
    let mut ours = plain();
    let mut early = plain();
    early.arg("--early");
    // One that fails would be quick, so each is seen to succeed first.
    run(&mut plain());
    let mut theirs = peers::find("mosquitto_rr").map(|program| {
        let mut command = peers::client(&program, edge.port);
        command.args(["-t", &topic(Channel::Report, "gw1"), "-e", &topic(Channel::ReportResponse, "gw1")]);
        command.args(["-W", "5", "-m", &report("m1", 0)]);
        run(&mut command);
        command
    });
    let (mut our_runs, mut early_runs, mut their_runs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds(200) {
        our_runs.push(run_briefly(&mut ours));
        early_runs.push(run_briefly(&mut early));
        their_runs.extend(theirs.as_mut().map(run_briefly));
    }
    let peer = (!their_runs.is_empty()).then(|| Run::medians(&their_runs));
    for (name, runs) in [("`report`", our_runs), ("`report --early`", early_runs)] {
        let ours = Run::medians(&runs);
        let wall = peer.map(|peer| ("mosquitto_rr", peer.wall_ms()));
        let cpu = peer.map(|peer| ("mosquitto_rr", peer.cpu_ms()));
        let what = format!("{name}, answered by the edge");
        table.add("one-shot", format!("{what}, wall"), "ms", ours.wall_ms(), wall, Goal::PeerAtMost(0.6));
        table.add("one-shot", format!("{what}, CPU"), "ms", ours.cpu_ms(), cpu, Goal::PeerAtMost(0.6));
    }
}
