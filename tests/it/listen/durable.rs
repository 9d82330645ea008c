//! Nothing that was acknowledged is missing from the record, whatever ends the listener.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::Stdio,
    thread,
};

use serde_json::Value;

use super::Listener;
use crate::{
    process::{PROGRAM, ended, run, signal, tuyagw},
    site::{Dice, Site, json_lines, until},
    wire::{Client, Kind},
};

/// A topic that the edge passes on without a word.
const TOPIC: &str = "gateway/in/gw1";

const LISTEN: [&str; 3] = ["--persistent", "--topic", TOPIC];

/// A platform user that sends numbered messages of QoS 1.
struct Sender {
    client: Client,
    next: u64,
}

impl Sender {
    fn new(site: &Site) -> Self {
        let client = site.platform("sender");
        Self { client, next: 0 }
    }

    /// Sends so many more, and waits until the edge has them.
    fn send(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let batch = left.min(100);
            for _ in 0..batch {
                let payload = format!("{{\"n\":{},\"filler\":\"{}\"}}", self.next, "x".repeat(100));
                self.client.publish(TOPIC, &payload, 1, false);
                self.next += 1;
            }
            for _ in 0..batch {
                self.client.expect(Kind::PubAck);
            }
            left -= batch;
        }
    }
}

/// The records of a file; each run that goes on with it has put a line in front that says so.
fn records_of(text: &str) -> Vec<Value> {
    json_lines(text).into_iter().filter(|line| line["event"] != "begin").collect()
}

/// That all of 0 to `count` are there, and more than once only where the repetition says so.
fn complete(records: &[Value], count: u64) -> usize {
    let mut times = BTreeMap::<u64, (u64, u64)>::new();
    for record in records {
        let entry = times.entry(record["payload"]["n"].as_u64().expect("a whole record")).or_default();
        if record["dup"] == 1 { entry.1 += 1 } else { entry.0 += 1 }
    }
    let missing: Vec<_> = (0..count).filter(|n| !times.contains_key(n)).collect();
    assert!(missing.is_empty(), "{} lost: {missing:?}", missing.len());
    let twice: Vec<_> = times.iter().filter(|(_, (fresh, _))| *fresh > 1).collect();
    assert!(twice.is_empty(), "twice without dup: {twice:?}");
    records.len() - times.len()
}

/// The session at the broker, from before the first message.
fn session(site: &Site) {
    assert_eq!(Listener::start(site, &LISTEN).end("TERM").code, Some(143));
}

#[test]
#[ignore = "slow: kills many listeners"]
fn kills_at_random_moments_lose_nothing_of_a_file() {
    const ROUNDS: u64 = 30;
    const EACH: u64 = 667;
    let mut dice = Dice::new();
    let site = Site::start(&[]);
    session(&site);
    let args = [&LISTEN[..], &["--out", "records.jsonl"]].concat();
    let mut sender = Sender::new(&site);
    for round in 0..ROUNDS {
        let mut listener = site.gateway("listen", &args);
        let listener = listener.current_dir(site.path("")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut listener = listener.spawn().unwrap();
        let wait = dice.milliseconds(0, 60);
        if round % 2 == 0 {
            thread::sleep(wait);
            sender.send(EACH);
        } else {
            sender.send(EACH);
            thread::sleep(wait);
        }
        listener.kill().unwrap();
        listener.wait().unwrap();
    }
    let survived = site.read("records.jsonl").lines().count();
    let listener = Listener::start(&site, &args);
    let whole = || {
        let text = site.read("records.jsonl");
        records_of(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
    };
    let numbers = |records: &[Value]| {
        records.iter().map(|record| record["payload"]["n"].as_u64()).collect::<BTreeSet<_>>().len()
    };
    until("all records", || numbers(&whole()) as u64 == ROUNDS * EACH);
    assert_eq!(listener.end("TERM").code, Some(143));
    complete(&records_of(&site.read("records.jsonl")), ROUNDS * EACH);
    assert!(survived > 0, "the listeners that were killed recorded something");
}

#[test]
#[ignore = "slow: kills many listeners"]
fn kills_at_random_moments_lose_nothing_of_a_pipe() {
    const ROUNDS: u64 = 30;
    const EACH: u64 = 667;
    let mut dice = Dice::new();
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    let mut records = Vec::new();
    for round in 0..=ROUNDS {
        let mut listener = site.gateway("listen", &LISTEN);
        let mut listener = listener.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(listener.stdout.take().unwrap());
        if round < ROUNDS {
            let reader = thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).unwrap();
                text
            });
            sender.send(EACH);
            thread::sleep(dice.milliseconds(0, 60));
            listener.kill().unwrap();
            listener.wait().unwrap();
            let text = reader.join().unwrap();
            // What the kill tore was not acknowledged.
            records.extend(json_lines(&text[..text.rfind('\n').map_or(0, |end| end + 1)]));
            continue;
        }
        let mut found: BTreeSet<_> =
            records.iter().map(|record: &Value| record["payload"]["n"].as_u64()).collect();
        while (found.len() as u64) < ROUNDS * EACH {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            records.extend(json_lines(&line));
            found.insert(records.last().unwrap()["payload"]["n"].as_u64());
        }
        signal(listener.id(), "TERM");
        let ended = listener.wait().unwrap();
        assert_eq!(ended.code(), Some(143));
    }
    complete(&records, ROUNDS * EACH);
}

/// A reader such as `head` loses only the records that were already in the pipe.
#[test]
fn a_closed_stdout_loses_no_unwritten_message() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    sender.send(5000);
    let mut records = Vec::new();
    let mut listener = site.gateway("listen", &LISTEN);
    let mut listener = listener.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::with_capacity(4096, listener.stdout.take().unwrap());
    let mut length = 0;
    for _ in 0..100 {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        length = line.len();
        records.extend(json_lines(&line));
    }
    drop(stdout);
    let status = ended(listener);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    let rest = Listener::start(&site, &[&LISTEN[..], &["--for", "2s"]].concat()).ended();
    records.extend(rest.lines);
    let found: BTreeSet<_> = records.iter().map(|record| record["payload"]["n"].as_u64().unwrap()).collect();
    let lost = 5000 - found.len();
    assert!(lost <= (65_536 + 4096) / length + 1, "{lost} lost, of {length} bytes each");
    complete(&records, found.first().copied().unwrap());
}

#[test]
fn a_full_disk_exits_2_and_acknowledges_nothing() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    if Path::new("/dev/full").exists() {
        sender.send(1);
        let mut listener = site.gateway("listen", &LISTEN);
        listener.stdout(File::options().write(true).open("/dev/full").unwrap());
        let ended = ended(listener.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert_eq!(ended.stderr.matches("cannot write to stdout").count(), 1, "{}", ended.stderr);
        let ended = Listener::start(&site, &[&LISTEN[..], &["--out", "/dev/full"]].concat()).ended();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("/dev/full"), "{}", ended.stderr);
    } else {
        sender.send(1);
    }
    sender.send(999);
    // A limit in the middle of a line, about half of what there is to write.
    let mut listener = std::process::Command::new("sh");
    listener.args(["-c", "ulimit -f 200; exec \"$@\"", "sh"]).arg(PROGRAM);
    listener.args(["listen", "-b", &site.broker(), "-g", "gw1", "-u", "acme", "--out", "small.jsonl"]);
    listener.args(LISTEN).env("TUYAGW_CONFIG", "/dev/null").current_dir(site.path(""));
    let listener = listener.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let ended = ended(listener.unwrap());
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("small.jsonl"), "{}", ended.stderr);
    let text = site.read("small.jsonl");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    let rest = Listener::start(&site, &[&LISTEN[..], &["--out", "small.jsonl"]].concat());
    until("the last record", || site.read("small.jsonl").contains("{\"n\":999,"));
    let rest = rest.end("TERM");
    assert_eq!((rest.code, rest.lines.len()), (Some(143), 0), "{}", rest.stderr);
    complete(&records_of(&site.read("small.jsonl")), 1000);
}

#[test]
#[ignore = "slow: waits for files to reach their age"]
fn rotated_files_hold_everything_once_and_in_order() {
    let mut dice = Dice::new();
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    let args = [&LISTEN[..], &["--out", "logs/traffic.jsonl", "--rotate", "20KB"]].concat();
    std::fs::create_dir(site.path("logs")).unwrap();
    for _ in 0..6 {
        let mut listener = Listener::start(&site, &args);
        sender.send(300);
        thread::sleep(dice.milliseconds(0, 100));
        listener.child.kill().unwrap();
        listener.child.wait().unwrap();
    }
    let listener = Listener::start(&site, &[&args[..], &["--for", "2s"]].concat());
    assert_eq!(listener.ended().code, Some(0));
    let files = std::fs::read_dir(site.path("logs")).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    assert!(files.len() > 3, "{files:?}");
    // The present one is the last; the others have their time in their names.
    files.sort_by_key(|name| (name == "traffic.jsonl", name.clone()));
    let text: String = files.iter().map(|name| site.read(&format!("logs/{name}"))).collect();
    let records = records_of(&text);
    complete(&records, 1800);
    let fresh = records.iter().filter(|record| record["dup"] != 1);
    assert!(fresh.map(|record| record["payload"]["n"].as_u64()).is_sorted(), "{files:?}");
}

#[test]
fn a_restarted_edge_costs_no_acknowledged_message() {
    let mut site = Site::start(&[]);
    let mut listener = Listener::start(&site, &[&LISTEN[..], &["--out", "records.jsonl"]].concat());
    for round in 1..=3 {
        let mut sender = Sender::new(&site);
        sender.next = (round - 1) * 2000;
        sender.send(2000);
        // The edge keeps no session across a restart, so undelivered messages are lost.
        let last = format!("{{\"n\":{},", round * 2000 - 1);
        until("the records", || site.read("records.jsonl").contains(&last));
        site.kill();
        site.restart();
        let mut said = String::new();
        while !said.contains("listening") {
            assert!(listener.stderr.as_mut().unwrap().read_line(&mut said).unwrap() > 0, "{said}");
        }
    }
    assert_eq!(listener.end("TERM").code, Some(143));
    complete(&records_of(&site.read("records.jsonl")), 6000);
}

/// The last line of a file that a crash left, in each way that it can be torn.
#[test]
fn a_torn_last_line_is_repaired_and_reported() {
    let site = Site::start(&[]);
    let whole = "{\"v\":1,\"topic\":\"a\",\"payload\":{\"n\":0}}\n";
    for (torn, left, says) in [
        ("{\"v\":1,\"to", "", true),
        ("{\"v\":1,\"topic\":\"b\"}", "{\"v\":1,\"topic\":\"b\"}\n", false),
        ("\0\0\0\0", "", true),
    ] {
        let file = site.write("torn.jsonl", format!("{whole}{torn}"));
        let ended = site.run("listen", &["--for", "10ms", "--out", &file]);
        assert_eq!((ended.code, ended.stderr.contains("not whole")), (Some(0), says), "{}", ended.stderr);
        assert_eq!(site.read("torn.jsonl"), format!("{whole}{left}"));
    }
    for foreign in ["no recording", "{a draft", "a\n{\"name\": \"x\", ", "a\0\0", "notes\n\0\0"] {
        let file = site.write("notes.txt", foreign);
        let ended = site.run("listen", &["--for", "10ms", "--out", &file]);
        assert_eq!(ended.code, Some(2), "{foreign:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&file) && ended.stderr.contains("hint:"), "{}", ended.stderr);
        assert_eq!(site.read("notes.txt"), foreign);
    }
}

const DEVICE: &str = "{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\n";
const RECORD: &str =
    "{\"v\":1,\"tst\":\"2026-11-22T07:22:00.123456Z\",\"topic\":\"a\",\"payload\":{\"n\":0}}\n";

/// Records in a registry would be warned of at every start of its edge, and a recording is no registry.
#[test]
fn a_file_of_another_kind_is_refused_and_not_touched() {
    let site = Site::start(&[]);
    let broker = site.broker();
    let listen = ["listen", "-b", &broker, "-g", "gw1", "-u", "acme", "--for", "10ms", "--out"];
    let tap = ["tap", "--listen", "127.0.0.1:0", "-b", &broker, "--for", "10ms", "--out"];
    for (args, content, says) in [
        (&listen[..], DEVICE, "registry"),
        (&tap, DEVICE, "registry"),
        (&["edge", "--listen", "127.0.0.1:0", "--out"], DEVICE, "registry"),
        (&listen, "{\"journal\":2,\"op\":\"sync\"}\n", "journal"),
    ] {
        let file = site.write("file", content);
        let ended = run(tuyagw().args(args).arg(&file));
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says) && ended.stderr.contains(&file), "{}", ended.stderr);
        assert_eq!(site.read("file"), content);
    }
}

#[test]
fn a_continued_file_marks_where_the_run_begins() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    let file = site.name("records.jsonl");
    let args = [&LISTEN[..], &["--out", &file, "--count", "1"]].concat();
    for _ in 0..3 {
        sender.send(1);
        assert_eq!(Listener::start(&site, &args).ended().code, Some(0));
    }
    let lines = json_lines(&site.read("records.jsonl"));
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str()).collect();
    assert_eq!(events, [None, Some("begin"), None, Some("begin"), None]);
    assert!(lines[1]["tst"].as_str() <= lines[2]["tst"].as_str() && lines[1]["v"] == 1, "{}", lines[1]);
    complete(&records_of(&site.read("records.jsonl")), 3);
}

/// The age of a file is that of its first record, however often the listener is started anew.
#[test]
fn a_file_is_rotated_by_age_across_short_runs() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    std::fs::create_dir(site.path("logs")).unwrap();
    site.write("logs/traffic.jsonl", RECORD);
    let file = site.name("logs/traffic.jsonl");
    for (age, files) in [("100000h", 1), ("1h", 2), ("1h", 2)] {
        sender.send(1);
        let args = [&LISTEN[..], &["--out", &file, "--rotate", age, "--count", "1"]].concat();
        assert_eq!(Listener::start(&site, &args).ended().code, Some(0));
        assert_eq!(std::fs::read_dir(site.path("logs")).unwrap().count(), files, "{age}");
    }
}

/// As logrotate does: a file that is gone need not be rotated, and no record is lost.
#[test]
fn a_moved_file_is_created_again() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    let file = site.name("heard.jsonl");
    let listener = Listener::start(&site, &[&LISTEN[..], &["--out", &file, "--rotate", "1KB"]].concat());
    let mut moved: Vec<String> = Vec::new();
    for round in 0..3_u64 {
        sender.send(20);
        let last = format!("{{\"n\":{},", sender.next - 1);
        until("the records", || {
            site.read("heard.jsonl").contains(&last)
                || moved.iter().any(|name| site.read(name).contains(&last))
        });
        let name = format!("moved-{round}");
        // It may have been put aside by itself a moment ago, after its last record.
        if std::fs::rename(&file, site.path(&name)).is_ok() {
            moved.push(name);
        }
        // What another program puts there is not ours to move.
        if round == 1 {
            site.write("heard.jsonl", "");
        }
    }
    sender.send(20);
    let last = format!("{{\"n\":{},", sender.next - 1);
    until("the records", || site.read("heard.jsonl").contains(&last));
    assert_eq!(listener.end("TERM").code, Some(143));
    let names = std::fs::read_dir(site.path("")).unwrap().map(|file| file.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let names = names.filter(|name| name.starts_with("moved") || name.starts_with("heard"));
    let text: String = names.map(|name| site.read(&name)).collect();
    complete(&records_of(&text), 80);
}

/// Opening a FIFO blocks until it has a reader. A signal ends the wait; a late reader gets the records of the meantime.
#[test]
fn a_signal_ends_a_listener_on_an_unread_fifo() {
    let site = Site::start(&[]);
    session(&site);
    let fifo = site.name("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let args = [&LISTEN[..], &["--out", &fifo]].concat();
    assert_eq!(Listener::start(&site, &args).end("TERM").code, Some(143));
    let mut sender = Sender::new(&site);
    let listener = Listener::start(&site, &args);
    sender.send(5);
    let mut reader = BufReader::new(File::open(&fifo).unwrap());
    let mut text = String::new();
    for _ in 0..5 {
        reader.read_line(&mut text).unwrap();
    }
    complete(&json_lines(&text), 5);
    assert_eq!(listener.end("TERM").code, Some(143));
}

/// What another end has left torn at the end of a file that stdout is appended to is fused with nothing.
#[test]
fn appended_stdout_starts_a_new_line_after_a_torn_one() {
    let site = Site::start(&[]);
    session(&site);
    let mut sender = Sender::new(&site);
    for (before, between) in [(RECORD.to_owned(), ""), (RECORD.to_owned() + "{\"v\":1,\"ts", "\n")] {
        let file = site.write("records.jsonl", &before);
        sender.send(1);
        let mut listener = site.gateway("listen", &[&LISTEN[..], &["--count", "1"]].concat());
        listener.stdout(File::options().append(true).open(&file).unwrap());
        let ended = ended(listener.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let text = site.read("records.jsonl");
        let added = text.strip_prefix(&(before + between)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(json_lines(added).len(), 1);
    }
}
