//! What goes wrong around an agent: none runs, it is killed, its socket is left over, its clients misbehave.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{fs::symlink, net::UnixStream},
    process::Stdio,
    thread,
};

use serde_json::Value;

use super::{AgentSite, comparable};
use crate::{
    process::{LIMIT, ended, reports, run, signal, tuyagw, until},
    site::{accounted, all_accepted, request_ids, syncs},
    wire::{self, Connect},
};

/// How many gateways have connected to the edge.
fn connects(site: &mut AgentSite) -> usize {
    site.site.records_of("connect").len()
}

/// CONNECT of a local program, which names itself only.
fn local_connect(client_id: &str) -> Vec<u8> {
    Connect { username: None, password: None, ..Connect::new(client_id, "") }.bytes()
}

/// A program on the socket, with its CONNACK read.
fn local(site: &AgentSite, client_id: &str) -> UnixStream {
    let mut stream = UnixStream::connect(site.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&local_connect(client_id)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, wire::ACCEPTED);
    stream
}

#[test]
fn without_an_agent_programs_connect_directly() {
    let site = AgentSite::without_agent(&[], &[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
    all_accepted(&site.run_with("report", &["-", "--agent", "auto"], reports(2)), 2);
    all_accepted(&site.run_with("report", &["-", "--agent", "never"], reports(2)), 2);
    assert_eq!(site.status().code, Some(2));
    assert_eq!(site.control("stop", &[]).code, Some(2));
}

#[test]
fn an_agent_that_is_required_and_absent_is_exit_3() {
    let mut site = AgentSite::without_agent(&[], &[]);
    let absent = site.name("absent.sock");
    for agent in ["require", &absent] {
        let ended = site.run("report", &["--agent", agent, "--cid", "m1", "water_flow=1"]);
        assert_eq!(ended.code, Some(3), "{agent}: {}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
    }
    let mut command = site.program("report", &["--cid", "m1", "water_flow=1"]);
    assert_eq!(run(command.env("TUYAGW_AGENT", "require")).code, Some(3));
    assert_eq!(connects(&mut site), 0, "the edge was dialled");
}

#[test]
fn an_agent_without_an_edge_is_exit_3_and_the_edge_is_never_dialled() {
    let mut site = AgentSite::start(&[]);
    site.site.kill();
    site.wait_status("the loss is known", |status| status["connected"] == false);
    let status = site.status();
    assert_eq!(status.code, Some(3));
    assert_ne!(status.line()["reason"], "", "{status:?}");
    // A listener in the place of the edge would be dialled by the agent as well: count nothing, but refuse all.
    for op in ["sync", "report", "status"] {
        let args: &[&str] = match op {
            "sync" => &["--cid", "m1", "--product-id", "p"],
            "report" => &["--cid", "m1", "water_flow=1"],
            _ => &["--online", "m1"],
        };
        let ended = site.run(op, args);
        assert_eq!(ended.code, Some(3), "{op}: {}", ended.stderr);
        assert!(ended.stderr.contains("agent"), "{op}: {}", ended.stderr);
    }
    site.site.restart();
    site.wait_connected();
    all_accepted(&site.run_with("sync", &["-"], syncs(1)), 1);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert_eq!(connects(&mut site), 2, "only the agent connects");
}

#[test]
fn an_agent_of_another_username_is_exit_2() {
    let site = AgentSite::start(&[]);
    let other = || {
        let mut command = site.isolated(tuyagw());
        command.args(["report", "-b", &site.site.broker(), "-g", "gw1", "-u", "other", "--cid", "m1", "1=1"]);
        run(&mut command)
    };
    let refused = other();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("acme"), "{}", refused.stderr);
    assert_eq!(site.status().line()["reconnects"], 0);
}

#[test]
fn a_socket_that_a_killed_agent_left_is_passed_over() {
    let mut site = AgentSite::start(&[]);
    let socket = site.socket();
    site.kill();
    assert!(socket.exists());
    all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
    assert_eq!(site.status().code, Some(2));
    let required = site.run("report", &["--agent", "require", "--cid", "m1", "water_flow=1"]);
    assert_eq!(required.code, Some(3), "{}", required.stderr);
    site.launch();
    site.wait_connected();
    all_accepted(&site.run_with("report", &["-", "--agent", "require"], reports(2)), 2);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert!(!socket.exists(), "an orderly end removes the socket");
    assert!(socket.with_extension("lock").exists(), "the lock outlives it");
    all_accepted(&site.run_with("report", &["-"], reports(2)), 2);
}

#[test]
fn a_lock_without_a_socket_is_waited_for_and_then_exit_3() {
    let mut site = AgentSite::start(&[]);
    let lock = site.lock();
    assert_eq!(site.end("TERM").code(), Some(0));
    let held = File::options().write(true).open(&lock).unwrap();
    held.try_lock().unwrap();
    let refused = site.run("report", &["--connect-timeout", "1s", "--cid", "m1", "water_flow=1"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    // One that answers within the time is used.
    let elsewhere = site.name("elsewhere.sock");
    site.args = vec!["--socket".into(), elsewhere.clone()];
    site.launch();
    let control = ["--json", "--socket", &elsewhere];
    until("the agent is connected", || site.control("status", &control).code == Some(0));
    let mut waiting = site.program("sync", &["--cid", "m1", "--product-id", "p"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    symlink(&elsewhere, lock.with_extension("sock")).unwrap();
    all_accepted(&ended(waiting), 1);
    assert_eq!(site.control("status", &control).line()["codes"]["0"], 1, "it went through the agent");
}

#[test]
fn a_second_agent_is_exit_2() {
    let site = AgentSite::start(&[]);
    let ended = run(&mut site.agent_command());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("another agent"), "{}", ended.stderr);
    assert_eq!(site.status().code, Some(0), "the first one goes on");
    assert_eq!(site.status().line()["reconnects"], 0, "it was not pushed off");
}

#[test]
fn every_line_ends_once_although_the_agent_is_killed_and_restarted() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-", "--window", "500"], syncs(2000)), 2000);
    let input = site.site.write("input.jsonl", reports(2000));
    let out = site.path("results.jsonl");
    let mut command = site.program("report", &[&input, "--rate", "1000/s"]);
    let child = command.stdout(File::create(&out).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    for reached in [200, 800] {
        until("results", || super::read(&out).lines().count() > reached);
        site.kill();
        site.launch();
    }
    let mut ended = ended(child);
    ended.lines = crate::process::json_lines(&super::read(&out));
    all_accepted(&ended, 2000);
    site.wait_connected();
    assert_eq!(site.end("TERM").code(), Some(0));
    let connected: Vec<_> = site.site.records_of("connect");
    assert_eq!(connected.len(), 3, "a run that began through an agent stays with agents");
}

#[test]
fn every_line_is_answered_although_the_edge_is_restarted() {
    let registry = tempfile::tempdir().unwrap();
    let devices = registry.path().join("registry.jsonl");
    let mut site = AgentSite::with_edge(&["--devices", devices.to_str().unwrap()], &[]);
    all_accepted(&site.run_with("sync", &["-", "--window", "500"], syncs(2000)), 2000);
    let input = site.site.write("input.jsonl", reports(2000));
    let out = site.path("results.jsonl");
    let mut command = site.program("report", &[&input, "--rate", "1000/s"]);
    let child = command.stdout(File::create(&out).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    for reached in [200, 800] {
        until("results", || super::read(&out).lines().count() > reached);
        site.site.kill();
        site.site.restart();
    }
    let mut ended = ended(child);
    ended.lines = crate::process::json_lines(&super::read(&out));
    all_accepted(&ended, 2000);
    site.wait_connected();
    assert_eq!(site.status().line()["reconnects"], 2);
    assert_eq!(site.end("TERM").code(), Some(0));
    // An edge that is killed may lose its last records.
    let sent = request_ids(&site.site.records_of("report"));
    for (cid, ids) in sent {
        let first = &ids[0];
        assert!(ids.iter().all(|id| id == first), "{cid} was sent with several request ids");
    }
}

#[test]
fn programs_whose_agent_is_stopped_end_with_a_result_for_each_line() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-", "--window", "500"], syncs(100)), 100);
    let mut command = site.program("report", &["-", "--timeout", "1s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(reports(50).as_bytes()).unwrap();
    site.wait_status("the reports are answered", |status| status["codes"]["0"] == 150);
    let stopped = site.control("stop", &[]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert_eq!(site.ended().code(), Some(0));
    stdin.write_all(reports(50).as_bytes()).unwrap();
    drop(stdin);
    let ended = ended(child);
    accounted(&ended, 100);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let accepted = ended.lines.iter().filter(|line| line["ok"] == true).count();
    assert_eq!(accepted, 50);
    assert_eq!(connects(&mut site), 1, "it never connects past the agent");
}

#[test]
fn an_answer_after_its_program_has_gone_is_logged() {
    let mut site = AgentSite::with_edge(&["--fault", "delay=2s"], &[]);
    let mut command = site.program("sync", &["--cid", "m1", "--product-id", "p"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    site.wait_status("the sync is open", |status| status["queue"] == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the late answer is logged", || {
        site.stderr().contains("came after its program had gone, on gateway_id/gw1/devices/sync/response")
    });
    assert_eq!(site.status().line()["queue"], 0);
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn garbage_on_the_socket_disturbs_nobody() {
    let site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(10)), 10);
    let connect = local_connect("x");
    let forbidden = wire::publish_with_id(2, "gateway_id/other/properties/report", 1, b"{}");
    let garbage: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 1000],
        &[0xff; 1000],
        b"\x10\xff\xff\xff\xff",
        b"",
        &connect[..5],
        &[&connect[..], &connect].concat(),
        &[&connect[..], b"\x30\xff\xff\xff\x7f"].concat(),
        &[&connect[..], &[0xff; 100]].concat(),
        &[&connect[..], &forbidden].concat(),
        &[&connect[..], &wire::publish(0, "gateway_id/gw1/properties/report", b"\xff\x00{")].concat(),
        &[&connect[..], &wire::publish(0, "$agent/answer", b"")].concat(),
        &[&connect[..], &wire::publish(0, "$agent/queue/gateway_id/gw1/properties/report", b"{}")].concat(),
        &[&connect[..], &wire::publish(0, "gateway_id/gw1/commands", b"{}")].concat(),
    ];
    for bytes in garbage {
        for shutdown in [false, true] {
            let mut stream = UnixStream::connect(site.socket()).unwrap();
            // It may be closed on us at any time.
            let _ = stream.write_all(bytes);
            if shutdown {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        all_accepted(&site.run_with("report", &["-"], reports(10)), 10);
    }
    let status = site.status();
    assert_eq!((status.code, &status.line()["reconnects"]), (Some(0), &Value::from(0)), "{status:?}");
}

#[test]
fn a_client_that_never_reads_delays_nobody() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(10)), 10);
    let mut deaf = local(&site, "deaf");
    deaf.write_all(&wire::subscribe(1, &[("gateway_id/gw1/#", 1)])).unwrap();
    // It also asks, and takes no answer.
    for id in 2..200 {
        let payload = format!("{{\"t\":1,\"request_id\":\"r{id}\",\"cid\":\"m1\",\"param\":{{}}}}");
        deaf.write_all(&wire::publish_with_id(2, "gateway_id/gw1/devices/status", id, payload.as_bytes()))
            .unwrap();
    }
    for _ in 0..5 {
        all_accepted(&site.run_with("report", &["-", "--window", "1000"], reports(10).repeat(200)), 2000);
    }
    assert_eq!(site.status().code, Some(0));
    drop(deaf);
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn two_hundred_programs_are_served() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-"], syncs(1)), 1);
    let programs: Vec<_> = (0..200).map(|n| local(&site, &format!("p{n}"))).collect();
    site.wait_status("all are counted", |status| status["clients"] == 201);
    let payload = |n: usize| {
        format!("{{\"t\":1,\"request_id\":\"r{n}\",\"param\":{{\"cid\":\"m1\",\"id\":\"1\",\"value\":{n}}}}}")
    };
    for (n, mut program) in programs.iter().enumerate() {
        let subscribe = wire::subscribe(1, &[("gateway_id/gw1/properties/report/response", 1)]);
        let report = wire::publish_with_id(2, "gateway_id/gw1/properties/report", 2, payload(n).as_bytes());
        program.write_all(&[subscribe, report].concat()).unwrap();
    }
    for (n, mut program) in programs.iter().enumerate() {
        // Others' answers may come before its own request is there; its own comes after.
        let own = format!("\"r{n}\"");
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&bytes).contains(&own) {
            let read = program.read(&mut chunk).unwrap();
            assert!(read > 0, "program {n} was disconnected");
            bytes.extend_from_slice(&chunk[..read]);
        }
    }
    drop(programs);
    site.wait_status("they have gone", |status| status["clients"] == 1);
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn programs_that_vanish_in_the_middle_leave_nothing_open() {
    let mut site = AgentSite::start(&[]);
    all_accepted(&site.run_with("sync", &["-", "--window", "500"], syncs(1000)), 1000);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut command = site.program("report", &["-", "--window", "500"]);
                    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                    let mut child = command.spawn().unwrap();
                    child.stdin.take().unwrap().write_all(reports(500).as_bytes()).unwrap();
                    let mut first = [0];
                    let _ = child.stdout.as_mut().unwrap().read(&mut first);
                    signal(child.id(), "KILL");
                    child.wait().unwrap();
                }
            });
        }
        let steady = site.run_with("report", &["-"], reports(1000));
        all_accepted(&steady, 1000);
    });
    site.wait_status("nothing is open", |status| status["queue"] == 0 && status["clients"] == 1);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert!(fs::metadata(site.path("agent.err")).unwrap().len() < 1 << 20, "the log is bounded");
}

#[test]
fn a_refused_login_is_exit_3_with_its_reason() {
    let mut site = AgentSite::without_agent(&["--username", "other"], &[]);
    site.launch();
    site.wait_status("the refusal is known", |status| status["reason"] != "");
    let ended = site.run("report", &["--cid", "m1", "water_flow=1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let reason = site.status().line()["reason"].as_str().unwrap().to_owned();
    assert!(ended.stderr.contains(&reason), "{reason:?} is not in {}", ended.stderr);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert!(comparable(&site.status()).is_empty());
}
