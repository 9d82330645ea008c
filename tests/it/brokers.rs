//! The subcommands through brokers that are not ours, with an edge of a few lines that answers behind them.
//!
//! Without its broker a test says so and passes, except where `CI` is set.

mod edge;
mod mosquitto;
mod others;
mod tls;

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use self::{edge::Edge, mosquitto::Mosquitto, others::Other};
use crate::process::{ended, gateway, reports, run, run_with, tuyagw};

/// Waits until a broker listens.
fn await_port(child: &mut Child, port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().expect("a state").is_none(), "the broker ended");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "slow: starts other people's brokers"]
fn every_subcommand_works_through_mosquitto() {
    let Some(mosquitto) = Mosquitto::open() else { return };
    every_subcommand_works(mosquitto.port, &mosquitto.url());
}

#[test]
#[ignore = "slow: starts other people's brokers"]
fn every_subcommand_works_through_amqtt() {
    let Some(amqtt) = Other::amqtt() else { return };
    every_subcommand_works(amqtt.port, &amqtt.url());
}

#[test]
#[ignore = "slow: starts other people's brokers"]
fn every_subcommand_works_through_aedes() {
    let Some(aedes) = Other::aedes() else { return };
    every_subcommand_works(aedes.port, &aedes.url());
}

fn every_subcommand_works(port: u16, url: &str) {
    let edge = Edge::behind(port);
    for qos in ["0", "1", "2"] {
        let sync = ["--cid", "m1", "--product-id", "p1", "--timeout", "20s", "--qos", qos];
        let ended = run(&mut gateway("sync", url, &sync));
        assert_eq!((ended.code, ended.line()["code"].as_i64()), (Some(0), Some(0)), "{ended:#?}");
        let status =
            run(&mut gateway("status", url, &["--online", "m1,m2", "--timeout", "20s", "--qos", qos]));
        assert_eq!((status.code, status.lines.len()), (Some(0), 2), "{status:#?}");
    }
    let args = ["--cid", "m1", "water_flow=1", "--early", "--timeout", "20s"];
    assert_eq!(run(&mut gateway("report", url, &args)).code, Some(0));

    let ended = run_with(
        &mut gateway("report", url, &["-", "--window", "100", "--timeout", "20s"]),
        reports(2000).as_bytes(),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let cids: BTreeSet<_> = ended.lines.iter().map(|line| line["cid"].to_string()).collect();
    assert_eq!((cids.len(), ended.lines.len()), (2000, 2000));

    let mut command = tuyagw();
    command.args(["command", "-b", url, "-g", "gw1", "--cid", "m1", "valve_open_degree=50"]);
    let ended = run(&mut command);
    assert_eq!((ended.code, ended.line()["code"].as_i64()), (Some(0), Some(0)), "{ended:#?}");

    // Now `listen` answers in the edge's place.
    drop(edge);
    let mut listening = gateway("listen", url, &["--answer", "success", "--no-report-back", "--count", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(listening.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let mut command = tuyagw();
    command.args(["command", "-b", url, "-g", "gw1", "--cid", "m1", "valve_open_degree=50"]);
    let commanded = run(&mut command);
    assert_eq!((commanded.code, commanded.line()["code"].as_i64()), (Some(0), Some(0)), "{commanded:#?}");
    let listened = crate::process::ended(listening);
    assert_eq!(
        (listened.code, listened.line()["kind"].as_str()),
        (Some(0), Some("command")),
        "{listened:#?}"
    );
}

#[test]
#[ignore = "slow: starts other people's brokers"]
fn mosquitto_refuses_a_wrong_login_and_takes_the_derived_one() {
    let Some(mosquitto) = Mosquitto::with_login("gw1", "acme") else { return };
    let url = mosquitto.url();
    let wrong =
        run(&mut gateway("sync", &url, &["--cid", "m1", "--product-id", "p", "--client-id", "other"]));
    assert_eq!((wrong.code, wrong.line()["error"].as_str()), (Some(4), Some("refused")), "{wrong:#?}");
    // The access list lets the user write, and read nothing, which this broker does not say by a SUBACK.
    let mute = run(&mut gateway("sync", &url, &["--cid", "m1", "--product-id", "p"]));
    assert!(matches!(mute.code, Some(4 | 5)), "{mute:#?}");
    let acknowledged = run(&mut gateway("status", &url, &["--online", "m1"]));
    assert_eq!(acknowledged.code, Some(0), "{acknowledged:#?}");
}

#[test]
#[ignore = "slow: starts other people's brokers"]
fn a_restarted_mosquitto_costs_no_line() {
    let Some(mut mosquitto) = Mosquitto::open() else { return };
    let _edge = Edge::behind(mosquitto.port);
    let args = ["-", "--window", "50", "--timeout", "10s"];
    let mut child = gateway("report", &mosquitto.url(), &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut results = Vec::new();
    for third in 0..3 {
        for line in reports(3000).lines().skip(third * 1000).take(1000) {
            writeln!(stdin, "{line}").unwrap();
        }
        if third < 2 {
            // All but the requests in flight are answered. Then the broker is killed, and restarted for the next third.
            results.extend(stdout.by_ref().take(990 + third * 10).map(|line| line.unwrap()));
            mosquitto.restart();
        }
    }
    drop(stdin);
    results.extend(stdout.map(|line| line.unwrap()));
    let ended = ended(child);
    let results: Vec<serde_json::Value> =
        results.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let indexes: BTreeSet<_> = results.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!((indexes.len(), results.len()), (3000, 3000), "{ended:#?}");
    // What mosquitto had acknowledged and not passed on when it was killed is gone with it, and said so.
    let failed: Vec<_> = results.iter().filter(|line| line["ok"] != true).collect();
    assert!(failed.iter().all(|line| line["error"] == "timeout"), "{failed:#?}");
    assert_eq!(ended.code, Some(if failed.is_empty() { 0 } else { 5 }), "{ended:#?}");
    assert!(failed.len() <= 100, "{failed:#?}");
}
