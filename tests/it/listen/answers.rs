//! Commands and what answers them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};
use tuyagw::io::service_manager;

use super::Listener;
use crate::{
    process::{Ended, ended, run},
    site::{Site, json_lines, until},
    wire::{Client, Kind, password},
};

/// A platform user that receives all answers and sends unchecked commands.
fn platform(site: &Site) -> Client {
    let mut platform = site.platform("watcher");
    assert_eq!(platform.subscribe(&[("gateway_id/gw1/commands/response", 1)]), [1]);
    platform
}

fn order(platform: &mut Client, request_id: &str, cid: &str, value: impl Into<Value>) {
    let param = json!({"id": "18", "value": value.into()});
    let payload = json!({"t": 1, "request_id": request_id, "cid": cid, "param": param}).to_string();
    platform.publish("gateway_id/gw1/commands", &payload, 1, false);
}

/// The next answer: request id and code.
fn answer(platform: &mut Client) -> (String, i64) {
    let answer = platform.json();
    (answer["request_id"].as_str().unwrap().to_owned(), answer["param"]["code"].as_i64().unwrap())
}

fn command(site: &Site, args: &[&str]) -> Ended {
    run(&mut site.command(args))
}

fn code(ended: &Ended) -> (i64, String) {
    let line = ended.line();
    (line["code"].as_i64().unwrap_or(-1), line["msg"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn commands_of_two_platforms_do_not_disturb_each_other() {
    let site = Site::start(&[]);
    site.sync(1);
    let listener = Listener::start(&site, &["--answer", "success", "--no-report-back"]);
    let mut first = site.command(&["-"]);
    let mut first =
        first.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = first.stdin.take().unwrap();
    let mut stdout = BufReader::new(first.stdout.take().unwrap());
    for value in 1..=2 {
        writeln!(stdin, "{{\"cid\":\"m1\",\"id\":\"18\",\"value\":{value}}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("\"code\":0"), "{line}");
        // While it stays: its next answer comes behind these.
        assert_eq!(code(&command(&site, &["--cid", "m1", "valve_open_degree=5"])).0, 0);
    }
    drop(stdin);
    let ended = ended(first);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    listener.end("TERM");
}

#[test]
fn a_fixed_answer_is_for_valid_commands_to_known_devices() {
    let mut site = Site::start(&[]);
    site.sync(2);
    let devices = site.write("mine.jsonl", "{\"cid\":\"m1\"}\n\n{\"cid\":\"m7\",\"product_id\":\"p\"}\n");
    let listener = Listener::start(&site, &["--answer", "success", "--devices", &devices]);
    let mut said = Vec::new();
    for args in [
        ["m1", "valve_open_degree=5"],
        ["m1", "1=5"],
        ["m1", "valve_open_degree=-1"],
        ["m1", "valve_open_degree=\"much\""],
        ["m1", "valve_state=ajar"],
        ["m2", "valve_open_degree=5"],
    ] {
        said.push(code(&command(&site, &["--no-check", "--cid", args[0], args[1]])).0);
    }
    assert_eq!(said, [0, 2002, 1101, 1103, 2002, 2003]);
    assert_eq!(listener.end("TERM").code, Some(143));
    let listener = Listener::start(&site, &["--answer", "2001:asleep", "--no-check"]);
    assert_eq!(code(&command(&site, &["--no-check", "--cid", "m1", "1=5"])), (2001, "asleep".into()));
    assert_eq!(listener.end("INT").code, Some(130));
    let reports: Vec<_> =
        site.records_of("report").iter().map(|record| record["payload"]["param"].clone()).collect();
    assert_eq!(reports, [json!({"cid": "m1", "id": "18", "value": 5})], "only a success is reported back");
}

#[test]
fn no_report_back_sends_no_report() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let listener = Listener::start(&site, &["--answer", "success", "--no-report-back"]);
    assert_eq!(code(&command(&site, &["--cid", "m1", "switch_state=true"])).0, 0);
    listener.end("TERM");
    assert_eq!(site.records_of("report").len(), 0);
}

#[test]
fn output_and_status_of_a_program_make_the_answer() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let script = site.write(
        "exec.sh",
        r#"read -r command
           printf '%s\n' "$command" >> commands.jsonl
           case $command in
             *:1}*) echo done ;;
             *:2}*) exit 3 ;;
             *:3}*) echo '{"code":2001,"msg":"asleep"}' ;;
             *:4}*) echo '{"code":0,"msg":"after all"}'; exit 1 ;;
             *:5}*) echo '{"code":1101}' ;;
             *:6}*) echo $$ > sleeper; exec sleep 600 ;;
             *:7}*) sleep 600 & echo $! > background ;;
             *:8}*) echo '{"msg":"half open"}' ;;
             *:9}*) echo '{"msg":"stuck"}'; exit 1 ;;
             *:10}*) echo '{"code":"2001"}' ;;
             *:11}*) head -c 3000000 /dev/zero | tr '\0' x; [ $? = 0 ] ;;
           esac
        "#,
    );
    let listener =
        Listener::start(&site, &["--kind", "command", "--exec-timeout", "1s", "--exec", "sh", &script]);
    let ask = |value: u32| code(&command(&site, &["--cid", "m1", &format!("valve_open_degree={value}")]));
    assert_eq!(ask(1), (0, "success".into()));
    let (failed, msg) = ask(2);
    assert!(failed == 500 && msg.contains('3'), "{msg}");
    assert_eq!(ask(3), (2001, "asleep".into()));
    assert_eq!(ask(4), (0, "after all".into()));
    assert_eq!(ask(5).0, 1101);
    let (late, msg) = ask(6);
    assert!(late == 500 && msg.contains("1s"), "{late} {msg}");
    let sleeper = site.read("sleeper");
    until("the end of the sleeper", || !std::path::Path::new(&format!("/proc/{}", sleeper.trim())).exists());
    assert_eq!(ask(7).0, 0, "a program that has ended has answered, whoever holds its stdout");
    crate::process::signal(site.read("background").trim().parse().unwrap(), "KILL");
    assert_eq!(ask(8), (0, "half open".into()));
    assert_eq!(ask(9), (500, "stuck".into()));
    let (odd, msg) = ask(10);
    assert!(odd == 500 && msg.contains("no integer"), "{odd} {msg}");
    assert_eq!(ask(11), (0, "success".into()), "much output is no failure");
    let ended = listener.end("TERM");
    let warnings: Vec<_> =
        ended.stderr.lines().filter(|line| line.starts_with("warning: command of m1")).collect();
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    let reports = site.records_of("report").len();
    assert_eq!((json_lines(&site.read("commands.jsonl")).len(), reports), (11, 5));
}

#[test]
fn a_vanished_program_is_answered_with_500() {
    let site = Site::start(&[]);
    site.sync(1);
    let script = site.write("gone.sh", "#!/bin/sh\n");
    assert!(Command::new("chmod").args(["+x", &script]).status().unwrap().success());
    let listener = Listener::start(&site, &["--exec", &script]);
    fs::remove_file(&script).unwrap();
    let (failed, msg) = code(&command(&site, &["--cid", "m1", "switch_state=true"]));
    assert!(failed == 500 && msg.contains("gone.sh"), "{failed} {msg}");
    assert_eq!(listener.end("TERM").code, Some(143));
}

/// Arguments reach the program as they are; secrets do not.
#[test]
fn no_shell_reads_the_arguments_and_no_secret_reaches_the_program() {
    let site = Site::start(&[]);
    site.sync(1);
    let secret = password("gw1", "acme");
    let script = site.write("exec.sh", "env > environment; printf '%s\\n' \"$@\" > arguments");
    let env =
        [("TUYAGW_PASSWORD", secret.as_str()), ("TUYAGW_PLATFORM_PASSWORD", "hidden"), ("KEPT", "kept")];
    // A program must not speak to the service manager in the name of the service that starts it.
    let env: Vec<_> =
        env.into_iter().chain(service_manager::VARIABLES.map(|name| (name, "/hidden"))).collect();
    let args = ["--exec", "sh", &script, "$HOME; *", "-x", "--", "--count", "1"];
    let listener = Listener::start_with(&site, &env, &args, Stdio::null());
    assert_eq!(code(&command(&site, &["--cid", "m1", "switch_state=true"])).0, 0);
    listener.end("TERM");
    assert_eq!(site.read("arguments"), "$HOME; *\n-x\n--count\n1\n");
    let environment = site.read("environment");
    assert!(environment.contains("KEPT=kept") && !environment.contains(&secret), "{environment}");
    assert!(!environment.contains("hidden") && !environment.contains("TUYAGW_PASSWORD"), "{environment}");
}

#[test]
fn long_options_behind_a_program_are_listen_s_own() {
    let site = Site::start(&[]);
    site.sync(1);
    let listener = Listener::start(&site, &["--exec", "true", "-v", "--kind", "command", "--count=1"]);
    assert_eq!(code(&command(&site, &["--cid", "m1", "switch_state=true"])).0, 0);
    let ended = listener.ended();
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1), "{ended:#?}");
}

#[test]
fn one_device_s_commands_run_in_order_and_different_devices_concurrently() {
    let mut site = Site::start(&[]);
    site.sync(2);
    // The first command of each device waits for the other device's.
    let script = site.write(
        "exec.sh",
        r#"command=$(cat)
           cid=$(printf '%s' "$command" | grep -o '"cid":"m.' | grep -o 'm.$')
           value=$(printf '%s' "$command" | grep -o '"value":.' | grep -o '.$')
           echo "begin $cid $value" >> log
           [ "$value" = 0 ] && until [ "$(grep -c 'begin .. 0' log)" = 2 ]; do sleep 0.01; done
           echo "end $cid $value" >> log
        "#,
    );
    let listener = Listener::start(&site, &["--exec-timeout", "40s", "--exec", "sh", &script]);
    let mut platform = platform(&site);
    for value in 0..4 {
        for cid in ["m1", "m2"] {
            order(&mut platform, &format!("{cid}-{value}"), cid, value);
        }
    }
    let mut answers: Vec<_> = (0..8).map(|_| answer(&mut platform)).collect();
    for cid in ["m1", "m2"] {
        let of: Vec<_> =
            answers.iter().filter(|(id, _)| id.starts_with(cid)).map(|(id, _)| id.clone()).collect();
        assert_eq!(of, (0..4).map(|n| format!("{cid}-{n}")).collect::<Vec<_>>());
        let log = site.read("log");
        let of: Vec<_> = log.lines().filter(|line| line.contains(cid)).collect();
        let expected = (0..4).flat_map(|n| [format!("begin {cid} {n}"), format!("end {cid} {n}")]);
        assert_eq!(of, expected.collect::<Vec<_>>());
    }
    answers.retain(|(_, code)| *code == 0);
    assert_eq!(answers.len(), 8);
    listener.end("TERM");
    assert_eq!(site.records_of("report").len(), 8);
}

#[test]
fn a_repeated_command_is_executed_once_and_answered_alike() {
    let site = Site::start(&[]);
    site.sync(1);
    let script = site.write(
        "exec.sh",
        "echo run >> log; until [ -e go ]; do sleep 0.01; done; echo '{\"code\":7,\"msg\":\"seven\"}'",
    );
    let listener =
        Listener::start(&site, &["--kind", "command", "--exec-timeout", "40s", "--exec", "sh", &script]);
    let mut platform = platform(&site);
    for _ in 0..3 {
        order(&mut platform, "same", "m1", 5);
    }
    listener.wait(3, |line| line["kind"] == "command");
    site.write("go", "");
    for _ in 0..3 {
        assert_eq!(answer(&mut platform), ("same".into(), 7));
    }
    // And once more, after it has been done.
    order(&mut platform, "same", "m1", 5);
    assert_eq!(answer(&mut platform), ("same".into(), 7));
    assert_eq!(site.read("log"), "run\n");
    listener.end("TERM");
}

/// A retained command is stale: `listen` records it and does not execute it.
#[test]
fn a_retained_command_is_not_executed() {
    let site = Site::start(&[]);
    site.sync(1);
    let mut platform = platform(&site);
    let payload = json!({"t": 1, "request_id": "old", "cid": "m1", "param": {"id": "18", "value": 1}});
    platform.publish("gateway_id/gw1/commands", &payload.to_string(), 1, true);
    platform.expect(Kind::PubAck);
    let listener = Listener::start(&site, &["--answer", "success"]);
    let shown = listener.wait(1, |line| line["kind"] == "command");
    assert_eq!(shown[0]["retain"], 1);
    order(&mut platform, "new", "m1", 2);
    assert_eq!(answer(&mut platform), ("new".into(), 0));
    let ended = listener.end("TERM");
    assert!(ended.stderr.contains("retained"), "{}", ended.stderr);
}

/// `listen` acknowledges a command after its answer, so the broker redelivers an interrupted command.
#[test]
fn a_command_interrupted_by_a_kill_comes_again() {
    let site = Site::start(&[]);
    site.sync(1);
    let script = site.write("exec.sh", "echo run >> log; [ -e go ] || sleep 600");
    let args = ["--persistent", "--exec", "sh", &script];
    let mut listener = Listener::start(&site, &args);
    let mut platform = platform(&site);
    order(&mut platform, "r1", "m1", 5);
    until("the program", || !site.read("log").is_empty());
    listener.child.kill().unwrap();
    listener.child.wait().unwrap();
    site.write("go", "");
    let listener = Listener::start(&site, &args);
    assert_eq!(answer(&mut platform), ("r1".into(), 0));
    assert_eq!(site.read("log"), "run\nrun\n");
    assert_eq!(listener.wait(1, |line| line["kind"] == "command")[0]["dup"], 1, "{:?}", listener.lines());
    listener.end("TERM");
}

/// Platforms may count their request ids for each device, or begin anew.
#[test]
fn commands_that_share_a_request_id_are_each_executed() {
    let site = Site::start(&[]);
    site.sync(2);
    let executed = site.name("executed");
    let script = format!("cat >> {executed}; echo >> {executed}");
    let args = ["--no-report-back", "--exec", "sh", "-c", &script];
    let listener = Listener::start(&site, &args);
    let mut platform = platform(&site);
    for (cid, value) in [("m1", 10), ("m2", 20), ("m1", 30), ("m2", 20)] {
        order(&mut platform, "1", cid, value);
        let answer = platform.json();
        assert_eq!((&answer["cid"], &answer["request_id"]), (&json!(cid), &json!("1")), "{answer}");
        assert_eq!(answer["param"]["code"], 0, "{answer}");
    }
    listener.end("TERM");
    let values: Vec<_> =
        json_lines(&site.read("executed")).iter().map(|line| line["param"]["value"].clone()).collect();
    assert_eq!(values, [10, 20, 30]);
}

/// `listen --stdin < FIFO`, as a service has it: each job writes when it has something to say.
#[test]
fn every_writer_of_a_named_pipe_is_read() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uplinks");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let report = |value: u64| {
        let path = path.clone();
        thread::spawn(move || {
            let line = json!({"op": "report", "cid": "m1", "id": "1", "value": value});
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all(line.to_string().as_bytes())
                .unwrap();
        })
    };
    let first = report(1);
    let stdin = fs::File::open(&path).unwrap();
    let listener = Listener::start_with(&site, &[], &["--stdin", "--kind", "command"], stdin.into());
    first.join().unwrap();
    for value in 1..=4 {
        if value > 1 {
            report(value).join().unwrap();
        }
        listener.wait(1, |line| line["ok"] == true && line["index"] == value - 1);
    }
    assert_eq!(listener.end("TERM").code, Some(143));
    let reported = site.records().into_iter().filter(|record| record["kind"] == "report");
    let values: Vec<_> = reported.map(|record| record["payload"]["param"]["value"].clone()).collect();
    assert_eq!(values, [1, 2, 3, 4]);
}
