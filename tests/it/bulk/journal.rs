//! The journal: only the rest is sent again, whatever became of the runs before.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::LazyLock,
    thread,
};

use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::process::PROGRAM;
use crate::site::{Dice, Site, accounted, all_accepted, json_lines, syncs, until};

/// The key of meter mN in a journal of `sync`, as docs/bulk.md says.
fn key(n: u64) -> String {
    hex::encode(Md5::digest(format!("[\"gw1\",\"m{n}\"]\n")))
}

/// The meters, m1 as 0, that a journal holds; a last line without its end does not count.
fn held(text: &str) -> BTreeSet<u64> {
    const MOST: u64 = 20_000;
    static METERS: LazyLock<HashMap<String, u64>> =
        LazyLock::new(|| (0..MOST).map(|n| (key(n + 1), n)).collect());
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let entries = json_lines(whole).into_iter().skip(1);
    entries.map(|entry| METERS[entry["k"].as_str().unwrap()]).collect()
}

/// How many entries a journal has.
fn entries(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("{\"k\":")).count()
}

#[test]
fn journal_skips_accepted_inputs() {
    let mut site = Site::start(&["--fault", "code=2003@0.3", "--seed", "2"]);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal, "--ordered"];
    let mut input = syncs(100);
    input.push_str("nonsense\n");
    let mut missing = 101;
    let mut sent = 0;
    for _ in 0..30 {
        let ended = site.run_with("sync", &args, &input);
        assert_eq!(ended.lines.len(), missing, "{}", ended.stderr);
        sent += missing - 1;
        missing = ended.lines.iter().filter(|line| line["ok"] == false).count();
        if missing == 1 {
            break;
        }
        assert_eq!(ended.code, Some(1).filter(|_| missing > 1).map(|_| 2), "2 beats 1: {}", ended.stderr);
    }
    assert_eq!(missing, 1, "the invalid line");
    assert_eq!(held(&site.read("journal")), (0..100).collect());
    assert_eq!(site.records_of("sync").len(), sent);
}

#[test]
fn properties_are_journalled_one_by_one() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let journal = site.name("journal");
    let input = r#"{"cid":"m1","properties":{"water_flow":1,"valve_open_degree":2,"no_such":3}}"#;
    let args = ["-", "--journal", &journal];
    assert_eq!(site.run_with("report", &args, input).lines.len(), 3);
    assert_eq!(entries(&site.read("journal")), 2);
    // As if a kill had come between the two.
    let text = site.read("journal");
    let whole = text.trim_end().rfind('\n').unwrap() + 1;
    site.write("journal", &text[..whole + 9]);
    let again = site.run_with("report", &args, input);
    assert_eq!(again.lines.len(), 2, "{again:#?}");
    assert!(again.stderr.contains("was not whole"), "{}", again.stderr);
    assert_eq!(site.records_of("report").len(), 3);
}

/// What the edge was asked for, as `cid=value`, since its start.
fn values(site: &mut Site) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let value = |record: &Value| {
        let param = &record["payload"]["param"];
        format!("{}={}", text(&param["cid"]), text(&param["value"]))
    };
    site.records_of("report").iter().map(value).collect()
}

#[test]
fn only_new_or_changed_rows_are_sent() {
    let mut site = Site::start(&[]);
    site.sync(4);
    let journal = site.name("journal");
    let mut expected: Vec<&str> = Vec::new();
    for (input, sent) in [
        ("m1=1 m2=1 m1=2", "m1=1 m2=1 m1=2"),
        ("m1=1 m2=1 m1=2", ""),
        ("m1=1 m2=1 m1=2 m3=1", "m3=1"),
        ("m4=9 m1=1 m2=1 m1=2 m3=1", "m4=9"),
        ("m3=1 m2=1 m1=1 m1=2 m4=9", ""),
        ("m1=1 m2=5 m1=2 m3=1", "m2=5"),
        ("m1=1 m2=5 m1=2 m3=1", ""),
        ("m1=7 m1=1 m1=2", "m1=7 m1=1 m1=2"),
        ("m1=7 m1=1 m1=2", ""),
        ("m1=7 m1=1", ""),
    ] {
        let line = |row: &str| {
            let (cid, value) = row.split_once('=').unwrap();
            format!("{{\"cid\":\"{cid}\",\"code\":\"water_flow\",\"value\":{value}}}\n")
        };
        let text: String = input.split_whitespace().map(line).collect();
        let ended = site.run_with("report", &["-", "--journal", &journal, "--window", "1"], text);
        let count = sent.split_whitespace().count();
        assert_eq!((ended.code, ended.lines.len()), (Some(0), count), "{input}: {ended:#?}");
        expected.extend(sent.split_whitespace());
    }
    assert_eq!(values(&mut site), expected);
}

/// A repeated line sends its message again only as a whole, and each device of a message has its result.
#[test]
fn a_journal_skips_a_message_only_as_a_whole() {
    let site = Site::start(&[]);
    site.sync(2);
    let journal = site.name("reports");
    let input = r#"{"cid":"m1","properties":{"water_flow":1,"valve_state":"opened"}}"#;
    all_accepted(&site.run_with("report", &["-", "--journal", &journal], input), 2);
    let changed = input.replace("opened", "closed");
    let ended = site.run_with("report", &["-", "--journal", &journal], changed);
    let found: Vec<_> = ended.lines.iter().map(|line| (&line["index"], &line["id"])).collect();
    assert_eq!(found, [(&json!(1), &json!("9"))], "{ended:#?}");

    let journal = site.name("statuses");
    let message =
        r#"{"t":1,"request_id":"r1","param":[{"cid":"m1","status":true},{"cid":"m2","status":true}]}"#;
    let args = ["-", "--ordered", "--journal", &journal];
    all_accepted(&site.run_with("status", &args, message), 2);
    assert_eq!(site.run_with("status", &args, message).lines.len(), 0);
    let changed = message.replace(r#""m1","status":true"#, r#""m1","status":false"#);
    for expected in [2, 0] {
        let ended = site.run_with("status", &args, &changed);
        assert_eq!((ended.code, ended.lines.len()), (Some(0), expected), "{ended:#?}");
    }
    // A given request_id is a part of the message.
    assert_eq!(site.run_with("status", &args, changed.replace("r1", "r2")).lines.len(), 2);
}

#[test]
fn journals_of_shards_are_joined_by_cat() {
    let site = Site::start(&[]);
    let input = syncs(10);
    let (first, second) = input.split_at(input.match_indices('\n').nth(4).unwrap().0 + 1);
    for (name, part) in [("a", first), ("b", second)] {
        all_accepted(&site.run_with("sync", &["-", "--journal", &site.name(name)], part), 5);
    }
    let both = site.write("both", site.read("b") + &site.read("a"));
    let ended = site.run_with("sync", &["-", "--journal", &both], syncs(11));
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1), "{ended:#?}");
    assert_eq!(ended.lines[0]["index"], 10);
}

#[test]
fn a_journal_is_locked_by_one_run() {
    let site = Site::start(&[]);
    let journal = site.write("journal", "");
    let held = OpenOptions::new().append(true).open(&journal).unwrap();
    held.lock().unwrap();
    let ended = site.run_with("sync", &["-", "--journal", &journal], syncs(1));
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    assert!(ended.stderr.contains("in use by another program"), "{}", ended.stderr);
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_not_touched() {
    let site = Site::start(&[]);
    let own = site.write("own", "");
    all_accepted(&site.run_with("sync", &["-", "--journal", &own], syncs(1)), 1);
    let head = site.read("own").lines().next().unwrap().to_owned() + "\n";
    let with = |from: &str, to: &str| {
        assert!(head.contains(from), "{head}");
        head.replace(from, to)
    };
    let first = "{\"journal\":1,\"op\":\"sync\",\"gateway_id\":\"gw1\"}\n{\"index\":0,\"hash\":\"00\"}\n";
    for (text, says) in [
        (with("\"sync\"", "\"report\""), "the journal of `report`"),
        (with("\"gw1\"", "\"gw2\""), "gw2"),
        (with("\"gw1\"", "null"), "none"),
        (with("mqtt://127.0.0.1:", "mqtt://edge.example:1"), "--journal-any-broker"),
        (with("\"s\"", "\"ms\""), "t-unit \"ms\""),
        (with("devices/sync", "other"), "topics"),
        (with("\"journal\":2", "\"journal\":3"), "newer"),
        (head.clone() + &with("\"gw1\"", "\"gw2\""), "line 2"),
        (head.clone() + "{\"k\":\"00\",\"h\":\"00\"}\n", "line 2"),
        (first.to_owned(), "version 1"),
        ("{\"cid\":\"m1\",\"product_id\":\"p\"}\n{\"cid\":\"m2\",\"prod".to_owned(), "not a journal"),
        ("cid,product_id\nm1,p".to_owned(), "not a journal"),
        ("{\"cid\":\"m1\"".to_owned(), "not a journal"),
    ] {
        let journal = site.write("journal", &text);
        let ended = site.run_with("sync", &["-", "--journal", &journal], syncs(1));
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{text:?} {ended:#?}");
        let stderr = &ended.stderr;
        assert!(stderr.contains(says) && stderr.contains(&journal) && stderr.contains("hint:"), "{stderr}");
        assert_eq!(site.read("journal"), text);
    }
    // A crash while the journal was begun.
    for torn in ["", "{\"jour", "{\"journal\":1,\"op\":\"sy", "{\"journal\":2,\"op\":\"sy"] {
        let journal = site.write("journal", torn);
        all_accepted(&site.run_with("sync", &["-", "--journal", &journal], syncs(2)), 2);
        assert_eq!(entries(&site.read("journal")), 2);
    }
}

/// What the rehearsal at an emulator accepted is no reason to send the real edge nothing.
#[test]
fn a_journal_of_another_broker_is_refused_by_default() {
    let [rehearsal, real] = [Site::start(&[]), Site::start(&[])];
    let journal = rehearsal.name("journal");
    let args = ["-", "--journal", &journal];
    all_accepted(&rehearsal.run_with("sync", &args, syncs(2)), 2);
    let refused = real.run_with("sync", &args, syncs(3));
    assert_eq!((refused.code, refused.lines.len()), (Some(2), 0), "{refused:#?}");
    assert!(
        refused.stderr.contains(&rehearsal.broker()) && refused.stderr.contains(&real.broker()),
        "{refused:?}"
    );
    let any = [&args[..], &["--journal-any-broker"]].concat();
    let ended = real.run_with("sync", &any, syncs(3));
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1), "{ended:#?}");
    // The entry stands below a head that names its broker.
    let lines = json_lines(&rehearsal.read("journal"));
    assert!(lines[3]["broker"].as_str().unwrap().ends_with(&real.broker()) && lines[4]["k"].is_string());
    assert_eq!(rehearsal.run_with("sync", &args, syncs(3)).code, Some(2));
}

#[test]
fn a_journal_depends_on_options_that_change_the_bytes() {
    let site = Site::start(&[]);
    site.sync(1);
    let model =
        site.write("model.json", r#"{"dps":[{"id":1,"code":"water_flow","type":"value","min":0,"max":9}]}"#);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal];
    let input = r#"{"cid":"m1","id":"1","value":1}"#;
    all_accepted(&site.run_with("report", &args, input), 1);
    for (option, says) in [
        (&["--value-encoding", "string"][..], "value-encoding"),
        (&["--no-check"], "no-check"),
        (&["--t-unit", "ms"], "t-unit"),
        (&["--model", &model], "model"),
    ] {
        let ended = site.run_with("report", &[&args[..], option].concat(), input);
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{option:?} {ended:#?}");
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    // How fast and how often is not.
    let ended = site.run_with("report", &[&args[..], &["--window", "5", "--retries", "2"]].concat(), input);
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:#?}");
}

/// With unread result lines, a kill after the answers: the next run prints a line for each input that lacks one.
#[test]
fn a_journal_entry_follows_its_written_result_line() {
    const LINES: usize = 4000;
    let site = Site::start(&[]);
    let (input, journal) = (site.write("input.jsonl", syncs(LINES)), site.name("journal"));
    let args = [&input, "--journal", &journal, "--window", "300"];
    let mut run = site.gateway("sync", &args);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Far more was accepted than the pipe holds.
    until("the answers", || site.read("traffic.jsonl").matches("\"kind\":\"sync.response\"").count() >= 2000);
    run.kill().unwrap();
    let mut text = String::new();
    run.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    run.wait().unwrap();
    let again = site.run("sync", &args);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let line = |line: &Value| line["index"].as_u64().unwrap();
    let mut told: BTreeSet<_> = json_lines(&text).iter().map(line).collect();
    assert!(told.len() < 2000, "the pipe holds {} lines", told.len());
    told.extend(again.lines.iter().map(line));
    assert_eq!(told.len(), LINES);
    // After the reader has closed the pipe, there is nothing to wait for.
    let gone = site.name("gone");
    let mut run = site.gateway("sync", &[&input, "--journal", &gone, "--window", "300"]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(run.stdout.take());
    assert!(run.wait().unwrap().success());
    assert_eq!(entries(&site.read("gone")), LINES);
}

/// As on a full disk: the failure is reported once, and unread inputs have their result lines, too.
#[test]
fn a_full_journal_leaves_every_input_with_a_result() {
    const LINES: usize = 4000;
    let site = Site::start(&[]);
    let (input, journal) = (site.write("input.jsonl", syncs(LINES)), site.name("journal"));
    let mut run = Command::new("sh");
    run.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh"]).arg(PROGRAM);
    run.args(["sync", "-b", &site.broker(), "-g", "gw1", "-u", "acme", &input, "--journal", &journal]);
    run.env("TUYAGW_CONFIG", "/dev/null").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = crate::process::ended(run.spawn().unwrap());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    accounted(&ended, LINES);
    assert_eq!(ended.stderr.matches("cannot write").count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("sent once more by the next run").count(), 1, "{}", ended.stderr);
    // The next run sends only the inputs that the journal lacks.
    let held = entries(&site.read("journal"));
    let again = site.run("sync", &[&input, "--journal", &journal]);
    assert_eq!((again.code, again.lines.len()), (Some(0), LINES - held), "{}", again.stderr);
}

#[test]
fn an_unwritable_journal_exits_2_and_is_named() {
    if OpenOptions::new().write(true).open("/dev/full").is_err() {
        return;
    }
    let site = Site::start(&[]);
    let ended = site.run_with("sync", &["-", "--journal", "/dev/full"], syncs(500));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("/dev/full"), "{}", ended.stderr);
}

#[test]
fn inputs_in_the_journal_are_not_reported_as_failed() {
    let mut site = Site::start(&[]);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal, "--connect-timeout", "1s"];
    all_accepted(&site.run_with("sync", &args, syncs(5)), 5);
    site.kill();
    // One line to dial for, which stands before those that are done.
    let text = site.read("journal");
    let rest: Vec<_> = text.lines().filter(|line| !line.contains(&key(1))).collect();
    site.write("journal", rest.join("\n") + "\n");
    let ended = site.run_with("sync", &args, syncs(6));
    let failed: Vec<_> = ended.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!((ended.code, failed), (Some(3), vec![0, 5]), "{ended:#?}");
}

/// Killed at random moments, again and again, then once more: every device is accepted, and none is sent again
/// that the journal held.
#[test]
#[ignore = "slow: kills many runs"]
fn kills_at_random_moments_lose_and_repeat_nothing() {
    const LINES: usize = 20_000;
    let mut dice = Dice::new();
    let mut site = Site::start(&[]);
    let (input, journal) = (site.write("input.jsonl", syncs(LINES)), site.name("journal"));
    let args = [&input, "--journal", &journal, "--window", "300"];
    let mut held_before = Vec::new();
    for _ in 0..15 {
        held_before.push(held(&site.read("journal")));
        let mut run = site.gateway("sync", &args);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Once, so that a busy machine does not make nothing of all of them.
        until("an entry", || held_before.len() > 1 || !held(&site.read("journal")).is_empty());
        thread::sleep(dice.milliseconds(20, 300));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let last = held(&site.read("journal"));
    let progress: Vec<_> = held_before.iter().map(BTreeSet::len).collect();
    assert!(!last.is_empty() && progress.is_sorted(), "{progress:?}");
    held_before.push(last.clone());
    all_done(&site, &args, &last, LINES);
    let mut round = 0;
    let mut accepted = BTreeSet::new();
    for record in site.records() {
        let cid = || record["payload"]["param"]["cid"].as_str().unwrap()[1..].parse::<u64>().unwrap() - 1;
        match record["kind"].as_str() {
            Some("connect") => round += 1,
            Some("sync") => {
                // A run that was killed before it connected has no record, and what held then holds later.
                let known: &BTreeSet<u64> = &held_before[round - 1];
                assert!(!known.contains(&cid()), "m{} is sent again in round {round}", cid() + 1);
            }
            Some("sync.response") if record["payload"]["param"]["code"] == 0 => drop(accepted.insert(cid())),
            _ => {}
        }
    }
    assert_eq!(accepted.len(), LINES);
}

/// The last run sends exactly what the journal does not hold.
fn all_done(site: &Site, args: &[&str], held_before: &BTreeSet<u64>, lines: usize) {
    let ended = site.run("sync", args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let done: BTreeSet<_> = ended.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert!(done.is_disjoint(held_before));
    assert_eq!(done.len() + held_before.len(), lines);
    assert_eq!(held(&site.read("journal")).len(), lines);
}

/// Both ends die in turns; the edge's registry and the journal agree in the end.
#[test]
#[ignore = "slow: kills many runs"]
fn kills_of_both_ends_lose_nothing() {
    const LINES: usize = 20_000;
    let mut dice = Dice::new();
    let mut site = Site::start(&["--devices", "devices.jsonl"]);
    let (input, journal) = (site.write("input.jsonl", syncs(LINES)), site.name("journal"));
    let args = [&input, "--journal", &journal, "--window", "300"];
    for _ in 0..4 {
        let mut run: Command = site.gateway("sync", &args);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(dice.milliseconds(50, 300));
        site.kill();
        site.restart();
        thread::sleep(dice.milliseconds(50, 400));
        run.kill().unwrap();
        run.wait().unwrap();
        let registered = registered(&site);
        let lost =
            held(&site.read("journal")).into_iter().find(|n| !registered.contains(&format!("m{}", n + 1)));
        assert_eq!(lost, None, "accepted by the journal, unknown to the edge");
    }
    let before = held(&site.read("journal"));
    all_done(&site, &args, &before, LINES);
    assert_eq!(registered(&site).len(), LINES);
}

fn registered(site: &Site) -> BTreeSet<String> {
    let text = fs::read_to_string(site.path("devices.jsonl")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    json_lines(whole).iter().map(|device| device["cid"].as_str().unwrap().to_owned()).collect()
}

/// A run that goes on after a failure, with lines of every kind in the journal's way.
#[test]
fn a_journal_grows_over_runs_of_growing_input() {
    let site = Site::start(&[]);
    let journal = site.name("journal");
    let mut file = OpenOptions::new().create(true).append(true).open(site.path("input.jsonl")).unwrap();
    for n in 0..5 {
        writeln!(file, "{}", json!({"cid": format!("m{n}"), "product_id": "p"})).unwrap();
        let ended = site.run("sync", &[&site.name("input.jsonl"), "--journal", &journal]);
        let lines: Vec<&Value> = ended.lines.iter().map(|line| &line["index"]).collect();
        assert_eq!((ended.code, lines), (Some(0), vec![&json!(n)]), "{ended:#?}");
    }
    accounted(&site.run_with("sync", &["-"], ""), 0);
}
