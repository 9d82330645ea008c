//! `tap` as a process, between the subcommands and the real edge, and between sockets that a test holds.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener},
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tuyagw::tuya::derive_password;

use super::{
    process::{LIMIT, PROGRAM, Service, ended, gateway, reports, run, run_with, tuyagw},
    wire,
};

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect()
}

/// The kinds of records in their order, with the way each went.
fn kinds(records: &[Value]) -> Vec<String> {
    let word = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    records.iter().map(|record| word(record, "dir") + " " + &word(record, "kind")).collect()
}

#[test]
fn traffic_passes_and_both_directions_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let [out, summary] = ["tap.jsonl", "summary.json"].map(|name| folder.path().join(name));
    let edge = Service::edge(&[]);
    let tap =
        Service::tap(&edge.url, &["--out", out.to_str().unwrap(), "--summary", summary.to_str().unwrap()]);
    let sync = run(&mut gateway("sync", &tap.url, &["--cid", "m1", "--product-id", "p"]));
    assert_eq!(sync.code, Some(0), "{sync:?}");
    let report = run(&mut gateway("report", &tap.url, &["--cid", "m9", "water_flow=12345"]));
    assert_eq!((report.code, &report.line()["code"]), (Some(1), &Value::from(2003)), "{report:?}");
    let ended = tap.end("TERM");
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(
        ended.lines.is_empty() && ended.stderr.contains("report: 1 sent, 1 answered, 0 open"),
        "{ended:?}"
    );

    let found = records(&out);
    let expected = [
        "up connect",
        "up sync",
        "down sync.response",
        "up disconnect",
        "up connect",
        "up report",
        "down report.response",
        "up disconnect",
    ];
    assert_eq!(kinds(&found), expected);
    assert_eq!(
        (&found[0]["client_id"], &found[0]["username"], &found[0]["code"]),
        (&"gw1".into(), &"acme".into(), &0.into())
    );
    assert_eq!(found[6]["payload"]["param"]["code"], 2003);
    // The edge has seen the same payloads.
    let at_edge = edge.end("INT").lines;
    for kind in ["sync", "report", "sync.response", "report.response"] {
        let payload = |all: &[Value]| all.iter().find(|r| r["kind"] == kind).unwrap()["payload"].clone();
        assert_eq!(payload(&found), payload(&at_edge), "{kind}");
    }
    let password = derive_password("gw1", "acme");
    for text in [fs::read_to_string(&out).unwrap(), fs::read_to_string(&summary).unwrap(), ended.stderr] {
        assert!(!text.contains(password.expose()), "{text}");
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert_eq!(summary["codes"][1]["devices"][0]["cid"], "m9", "{summary}");
    let inspected = run(tuyagw().arg("inspect").arg(&out));
    assert_eq!(inspected.line(), &summary, "what a tap sums up is what inspect finds");
}

#[test]
fn a_burst_of_reports_is_recorded_to_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tap.jsonl");
    let edge = Service::edge(&[]);
    let tap = Service::tap(&edge.url, &["--out", out.to_str().unwrap()]);
    let count = 2000;
    let input = reports(count);
    let sent = run_with(&mut gateway("report", &tap.url, &["-"]), input.as_bytes());
    assert_eq!(sent.lines.len(), count);
    let ended = tap.end("TERM");
    let summary = run(tuyagw().arg("inspect").arg(&out));
    let trips = &summary.line()["round_trips"][0];
    assert_eq!((&trips["requests"], &trips["answered"]), (&count.into(), &count.into()), "{ended:?}");
}

#[test]
fn tls_works_on_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into(), "localhost".into()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let tls = ["--tls-cert", certificate, "--tls-key", key];
    let edge = Service::edge(&tls);
    assert!(edge.url.starts_with("mqtts://"));
    for (args, ca) in [(&tls[..], &["--ca-file", certificate][..]), (&[], &[])] {
        let tap = Service::tap(&edge.url, &[args, &["--ca-file", certificate]].concat());
        let sync = run(&mut gateway("sync", &tap.url, &[&["--cid", "m1", "--product-id", "p"], ca].concat()));
        assert_eq!(sync.code, Some(0), "{sync:?}");
        let ended = tap.end("TERM");
        let expected = ["up connect", "up sync", "down sync.response", "up disconnect"];
        assert_eq!(kinds(&ended.lines), expected, "{ended:?}");
    }
    // An untrusted certificate ends that connection, not the tap.
    let tap = Service::tap(&edge.url, &["--connect-timeout", "5s"]);
    assert_eq!(tap.dial().read(&mut [0]).unwrap(), 0);
    let ended = tap.end("TERM");
    assert!(ended.stderr.contains("TLS with") && ended.code == Some(143), "{ended:?}");
}

/// A server that sends back all that it gets, for each connection, and closes when its client does.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

#[test]
fn random_bytes_and_a_half_close_pass_unchanged() {
    let tap = Service::tap(&echo(), &[]);
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(1..300_000)];
        random.fill(&mut bytes);
        let mut stream = tap.dial();
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.clone();
        thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back == bytes, "seed {seed}: {} bytes back of {}", back.len(), bytes.len());
    }
    let ended = tap.end("INT");
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("the client's traffic is forwarded, but no longer recorded"), "{ended:?}");
}

#[test]
fn an_unread_side_slows_the_other_and_loses_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let tap = Service::tap(&server.local_addr().unwrap().to_string(), &[]);
    let mut client = tap.dial();
    let (mut far, _) = server.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // One PUBLISH that never ends, as far as the tap can tell.
    let chunk = vec![7; 64 * 1024];
    let mut written = 0;
    while let Ok(n) = client.write(&chunk) {
        written += n;
        assert!(written < 64 << 20, "somebody takes it all");
    }
    client.shutdown(Shutdown::Write).unwrap();
    far.set_read_timeout(Some(LIMIT)).unwrap();
    let mut arrived = Vec::new();
    far.read_to_end(&mut arrived).unwrap();
    assert_eq!(arrived.len(), written);
    assert!(arrived.iter().all(|byte| *byte == 7));
}

#[test]
fn an_unreachable_broker_closes_only_the_new_client() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tap = Service::tap(&unused.to_string(), &[]);
    for _ in 0..2 {
        assert_eq!(tap.dial().read(&mut [0]).unwrap(), 0, "closed without a word");
    }
    let server = TcpListener::bind(unused).unwrap();
    let _client = tap.dial();
    server.accept().unwrap();
    let ended = tap.end("TERM");
    let warnings = ended.stderr.matches("closed, because the broker is out of reach").count();
    assert_eq!((ended.code, warnings), (Some(143), 2), "{ended:?}");
}

#[test]
fn a_cut_by_the_broker_is_recorded_as_its_disconnect() {
    let mut edge = Service::edge(&[]);
    let mut tap = Service::tap(&edge.url, &[]);
    let mut listen = gateway("listen", &tap.url, &["--no-reconnect"]);
    let child = listen.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    tap.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
    assert!(line.contains("\"kind\":\"connect\""), "{line}");
    edge.kill();
    assert_eq!(ended(child).code, Some(3));
    let ended = tap.end("TERM");
    assert_eq!(kinds(&ended.lines), ["down disconnect"], "{ended:?}");
}

#[test]
fn traffic_goes_on_after_a_failed_recording() {
    let edge = Service::edge(&[]);
    let sync = |tap: &Service, cid: &str| {
        let ended = run(&mut gateway("sync", &tap.url, &["--cid", cid, "--product-id", "p"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    let full = Service::tap(&edge.url, &["--out", "/dev/full"]);
    sync(&full, "m1");
    sync(&full, "m2");
    let ended = full.end("TERM");
    assert!(ended.stderr.contains("/dev/full") && ended.stderr.contains("the traffic goes on"), "{ended:?}");
    assert_eq!(ended.code, Some(2), "{ended:?}");

    let mut gone = Service::tap(&edge.url, &[]);
    drop(gone.stdout.take());
    sync(&gone, "m3");
    sync(&gone, "m4");
    let ended = gone.end("TERM");
    assert!(ended.stderr.contains("the reader of stdout went away"), "{ended:?}");
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_tap_refuses_bad_arguments_and_ends_after_its_time() {
    let ended = run(tuyagw().args("tap --listen 127.0.0.1:0 --broker 127.0.0.1:1 --for 50ms".split(' ')));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let public = run(tuyagw().args("tap --listen 0.0.0.0:0 --broker 127.0.0.1:1 --for 50ms".split(' ')));
    assert!(public.stderr.contains("other machines"), "{public:?}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, code, expected) in [
        (vec!["--listen", &taken, "--broker", "edge"], 2, "cannot listen on"),
        (vec!["--listen", "nonsense", "--broker", "edge"], 2, "HOST:PORT"),
        (vec!["--listen", "127.0.0.1:0"], 2, "no broker"),
        (vec!["--listen", "127.0.0.1:0", "--broker", "a:b@c"], 2, "does not belong in the URL"),
        (vec!["--listen", "127.0.0.1:0", "--broker", "edge", "--out", "/no/such/file"], 2, "/no/such/file"),
        (vec!["--listen", "127.0.0.1:0", "--broker", "edge", "--summary", "/no/such"], 2, "/no/such"),
        (vec!["--listen", "127.0.0.1:0", "--broker", "edge", "--out", "site.gz"], 2, "are not compressed"),
    ] {
        let ended = run(tuyagw().arg("tap").args(args));
        assert!(ended.code == Some(code) && ended.stderr.contains(expected), "{expected}: {ended:?}");
    }
}

/// A PUBLISH of QoS 0.
fn publish(payload: &[u8]) -> Vec<u8> {
    wire::publish(0, "gateway_id/gw1/elsewhere", payload)
}

#[test]
#[ignore = "slow: fills the buffers of a tap"]
fn unread_records_are_left_out_and_counted() {
    let mut tap = Service::tap(&echo(), &[]);
    let mut stream = tap.dial();
    let mut pass = |count: usize, size: usize| {
        let packet = publish(format!("\"{}\"", "a".repeat(size - 2)).as_bytes());
        let mut back = vec![0; packet.len()];
        for _ in 0..count {
            stream.write_all(&packet).unwrap();
            stream.read_exact(&mut back).unwrap();
            assert!(back == packet);
        }
    };
    // Each is recorded twice, once for each way: 48 MB, for which there is no room.
    pass(48, 500_000);
    let mut stdout = tap.stdout.take().unwrap();
    let (mut records, mut left_out) = (0, 0);
    let mut line = String::new();
    // Reading makes room again; the next record says how many are missing before it.
    while left_out == 0 {
        pass(1, 10);
        line.clear();
        stdout.read_line(&mut line).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap();
        if value["event"] == "left-out" {
            left_out += value["records"].as_u64().unwrap();
        } else {
            assert_eq!(value["topic"], "gateway_id/gw1/elsewhere");
            records += 1;
        }
    }
    assert!(records > 60 && left_out > 10, "{records} records, {left_out} left out");
    tap.stdout = Some(stdout);
    let ended = tap.end("TERM");
    assert_eq!(ended.code, Some(2), "what is missing makes the recording a partial one: {}", ended.stderr);
    assert!(ended.stderr.contains("records are missing in the recording"), "{}", ended.stderr);
}

#[test]
#[ignore = "slow: kills many taps"]
fn a_killed_tap_leaves_a_file_that_can_be_continued() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("site.jsonl");
    let args = ["--out", out.to_str().unwrap()];
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = far.local_addr().unwrap().to_string();
    let packet = |round: usize, n: usize| {
        publish(format!("{round:03} {n:06} {}", "x".repeat(120 + n % 600)).as_bytes())
    };
    let (rounds, count) = (12, 6000);
    for round in 0..rounds {
        let mut tap = Service::tap(&address, &args);
        let recorded = fs::metadata(&out).unwrap().len();
        let mut client = tap.dial();
        let (mut server, _) = far.accept().unwrap();
        let stream: Vec<u8> = (0..count).flat_map(|n| packet(round, n)).collect();
        let sent = stream.clone();
        let writer = thread::spawn(move || drop(client.write_all(&sent)));
        let until = random.usize(1..stream.len());
        let mut arrived = vec![0; until];
        server.read_exact(&mut arrived).unwrap();
        // Bytes are recorded a moment after they were forwarded. Every fourth round waits for that before the kill.
        while round % 4 == 0 && fs::metadata(&out).unwrap().len() <= recorded {
            thread::yield_now();
        }
        tap.kill();
        // Bytes in flight may still come, and then the end, or a reset.
        let _ = server.read_to_end(&mut arrived);
        assert!(stream.starts_with(&arrived), "seed {seed}, round {round}: not what the client sent");
        drop(server);
        writer.join().unwrap();
    }
    // A machine that loses power tears a line, too.
    let file = fs::OpenOptions::new().write(true).open(&out).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    let said = Service::tap(&address, &args).end("TERM");
    assert!(said.stderr.contains("was not whole"), "{said:?}");
    // Of each round the file holds the beginning, without a gap and nothing twice.
    let mut next = vec![0; rounds];
    for record in records(&out).iter().filter(|record| record["topic"].is_string()) {
        let payload = BASE64_STANDARD.decode(record["payload_b64"].as_str().unwrap()).unwrap();
        let text = String::from_utf8(payload).unwrap();
        let (round, n): (usize, usize) = (text[..3].parse().unwrap(), text[4..10].parse().unwrap());
        assert_eq!(n, next[round], "seed {seed}, round {round}");
        next[round] += 1;
    }
    assert!(next.iter().any(|n| *n > 0), "seed {seed}: {next:?}");
}

#[test]
fn a_restarted_broker_is_reached_again() {
    let folder = tempfile::tempdir().unwrap();
    let devices = folder.path().join("devices.jsonl");
    let devices = ["--devices", devices.to_str().unwrap()];
    let mut edge = Service::edge(&devices);
    let tap = Service::tap(&edge.url, &["--out", folder.path().join("site.jsonl").to_str().unwrap()]);
    let sync = run(&mut gateway("sync", &tap.url, &["--cid", "m1", "--product-id", "p"]));
    assert_eq!(sync.code, Some(0), "{sync:?}");
    let mut report = gateway("report", &tap.url, &["--timeout", "20s", "-"]);
    report.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut report = report.spawn().unwrap();
    let mut input = report.stdin.take().unwrap();
    let mut results = BufReader::new(report.stdout.take().unwrap());
    for restarts in [true, false] {
        for n in 0..20 {
            writeln!(input, "{{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":{n}}}").unwrap();
        }
        for _ in 0..20 {
            let mut line = String::new();
            results.read_line(&mut line).unwrap();
            assert!(line.contains("\"ok\":true"), "{line}");
        }
        if restarts {
            edge.kill();
            let address = edge.address().to_owned();
            edge = Service::start(tuyagw().args(["edge", "--listen", &address]).args(devices));
        }
    }
    drop(input);
    assert_eq!(ended(report).code, Some(0));
    let ended = tap.end("TERM");
    assert!(
        ended.code == Some(143) && ended.stderr.contains("report: 40 sent, 40 answered, 0 open"),
        "{ended:?}"
    );
}

/// Records that the writer held when the disk was full count as much as those that came later.
#[test]
fn records_lost_by_a_failed_write_are_counted() {
    let edge = Service::edge(&[]);
    let folder = tempfile::tempdir().unwrap();
    let [out, summary] = ["out.jsonl", "summary.json"].map(|name| folder.path().join(name));
    let mut tap = std::process::Command::new("sh");
    tap.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh"]).arg(PROGRAM);
    tap.args(["tap", "--listen", "127.0.0.1:0", "-b", &edge.url, "--out"])
        .arg(&out)
        .arg("--summary")
        .arg(&summary);
    let tap = Service::start(tap.env("TUYAGW_CONFIG", "/dev/null"));
    // Of one device, so that the summary is short. It was never synchronised.
    let reports = "{\"cid\":\"m1\",\"id\":\"1\",\"value\":1}\n".repeat(300);
    let ended = run_with(&mut gateway("report", &tap.url, &["-", "--timeout", "20s"]), reports.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(1), 300), "{}", ended.stderr);
    let ended = tap.end("TERM");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let written = fs::read_to_string(&out).unwrap().lines().count();
    // A connect, 300 reports, their answers, and a disconnect.
    let missing = 602 - written;
    assert!(written > 50 && missing > 50, "{written} are written");
    assert!(ended.stderr.contains(&format!("{missing} records are missing")), "{missing}: {}", ended.stderr);
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert_eq!(summary["left_out"]["records"], missing, "{summary}");
}
