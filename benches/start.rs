//! What a process costs that does next to nothing, and how large it is.

use std::{fs, process::Command};

use crate::{
    Options,
    command::PROGRAM,
    peers,
    process::{Run, peak_of, run_briefly, tuyagw},
    table::{Goal, Table},
};

pub fn measure(options: &Options, table: &mut Table) {
    let mut contestants: Vec<(&str, Command)> = vec![
        ("--version", {
            let mut command = tuyagw("--version");
            command.env_remove("TUYAGW_CONFIG");
            command
        }),
        ("password", {
            let mut command = tuyagw("password");
            command.args(["-g", "gw001", "-u", "acme"]);
            command
        }),
        ("true", Command::new("true")),
        ("printf \\| md5sum", {
            let mut command = Command::new("sh");
            command.args(["-c", "printf gw001acme | md5sum"]);
            command
        }),
    ];
    if let Some(program) = peers::find("mosquitto_pub") {
        let mut command = Command::new(program);
        command.arg("--help");
        contestants.push(("mosquitto_pub --help", command));
    }
    let mut runs = vec![Vec::new(); contestants.len()];
    for _ in 0..options.rounds(200) {
        for ((_, command), runs) in contestants.iter_mut().zip(&mut runs) {
            runs.push(run_briefly(command));
        }
    }
    let medians: Vec<_> = runs.iter().map(|runs| Run::medians(runs)).collect();
    let of = |name: &str| contestants.iter().position(|(known, _)| *known == name).map(|at| medians[at]);
    // A Rust program of clap and md5 alone takes 0.42 of mosquitto_pub --help, and 0.45 of the shell's pipe.
    for (workload, peer, goal) in [
        ("--version", "true", Goal::None),
        ("password", "mosquitto_pub --help", Goal::PeerAtMost(0.5)),
        ("password", "printf \\| md5sum", Goal::PeerAtMost(0.55)),
    ] {
        let Some(ours) = of(workload) else { continue };
        let theirs = of(peer);
        let wall = theirs.map(|run| (peer, run.wall_ms()));
        let cpu = theirs.map(|run| (peer, run.cpu_ms()));
        table.add("start", format!("`tuyagw {workload}`, wall"), "ms", ours.wall_ms(), wall, goal);
        table.add("start", format!("`tuyagw {workload}`, CPU"), "ms", ours.cpu_ms(), cpu, Goal::None);
    }
    let size = fs::metadata(PROGRAM).unwrap().len();
    table.add("start", "binary", "MB", size as f64 / 1e6, None, Goal::AtMost(6.0));
    let peer = contestants.last().and_then(|(name, command)| Some((*name, peak_of(command)? as f64 / 1e6)));
    if let Some(peak) = peak_of(&contestants[1].1) {
        table.add("start", "`tuyagw password`, memory", "MB", peak as f64 / 1e6, peer, Goal::AtMost(4.0));
    }
}
