//! The vendor's samples speak on two topics only: the whole flow over them, by a profile.

use std::process::Stdio;

use super::Listener;
use crate::{
    process::{Ended, run, run_with, tuyagw},
    site::Site,
};

const PROFILE: &str = r#"
default-profile = "sample"

[profile.sample]
gateway-id = "gw1"
username = "acme"

[profile.sample.topics]
"sync" = "gateway/out/{gateway_id}"
"report" = "gateway/out/{gateway_id}"
"status" = "gateway/out/{gateway_id}"
"command-response" = "gateway/out/{gateway_id}"
"sync-response" = "gateway/in/{gateway_id}"
"report-response" = "gateway/in/{gateway_id}"
"command" = "gateway/in/{gateway_id}"
"#;

/// The other end of the samples' topics: answers each uplink with 0, by a gateway's own tools.
fn platform(site: &Site) -> std::thread::JoinHandle<()> {
    let mut client = site.platform("sample");
    assert_eq!(client.subscribe(&[("gateway/out/gw1", 1)]), [1]);
    std::thread::spawn(move || {
        loop {
            let uplink = client.json();
            if uplink["param"]["code"].is_i64() {
                continue;
            }
            if uplink["param"].is_array() {
                return;
            }
            let answer = serde_json::json!({
                "t": 1, "request_id": uplink["request_id"],
                "param": {"cid": uplink["param"]["cid"], "code": 0, "msg": "success"}
            });
            client.publish("gateway/in/gw1", &answer.to_string(), 1, false);
        }
    })
}

#[test]
fn the_whole_flow_works_over_the_sample_topics() {
    let site = Site::start(&[]);
    let config = site.write("config.toml", PROFILE);
    let with = |subcommand: &str, args: &[&str]| {
        let mut command = tuyagw();
        command.args([subcommand, "--config", &config, "-b", &site.broker(), "--timeout", "20s"]).args(args);
        command
    };
    let flow = platform(&site);
    let accepted =
        |ended: &Ended| assert_eq!((ended.code, &ended.line()["ok"]), (Some(0), &true.into()), "{ended:#?}");
    accepted(&run(&mut with("sync", &["--cid", "m1", "--product-id", "p"])));
    accepted(&run(&mut with("report", &["--cid", "m1", "water_flow=5"])));
    let out = site.path("heard.jsonl");
    for args in [&["--answer", "success"][..], &["--answer", "success", "--all"]] {
        let mut listener = with("listen", args);
        let listener = listener.stdout(std::fs::File::create(&out).unwrap());
        let mut child = listener.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut listener = Listener {
            child,
            out: out.clone(),
            said: String::new(),
            stderr: Some(std::io::BufReader::new(stderr)),
        };
        let mut said = String::new();
        std::io::BufRead::read_line(listener.stderr.as_mut().unwrap(), &mut said).unwrap();
        accepted(&run(&mut with("command", &["--cid", "m1", "valve_open_degree=5"])));
        // The command, and the answer to the report-back.
        listener.wait(2, |line| line["topic"] == "gateway/in/gw1");
        let ended = listener.end("TERM");
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
        let kinds: Vec<_> = ended
            .lines
            .iter()
            .filter(|line| line["dir"] == "down")
            .map(|line| line["kind"].as_str().unwrap())
            .collect();
        // Answers to a sync and to a report look alike: on one topic the first of the two is the name of both.
        assert_eq!(kinds, ["command", "sync.response"], "{ended:#?}");
    }
    let status = run_with(&mut with("status", &["-"]), b"{\"cid\":\"m1\",\"status\":true}");
    accepted(&status);
    flow.join().unwrap();
}
