//! The journal: only the rest is sent again, whatever became of the runs before.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use crate::site::{Dice, Site, accounted, all_accepted, json_lines, syncs, until};

/// The indexes that a journal holds; a last line without its end does not count.
fn held(text: &str) -> BTreeSet<u64> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    json_lines(whole).iter().skip(1).map(|entry| entry["index"].as_u64().unwrap()).collect()
}

#[test]
fn only_the_rest_is_sent() {
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
    assert_eq!(held(&site.read("journal")).len(), 2);
    // As if a kill had come between the two.
    let text = site.read("journal");
    let whole = text.trim_end().rfind('\n').unwrap() + 1;
    site.write("journal", &text[..whole + 9]);
    let again = site.run_with("report", &args, input);
    assert_eq!(again.lines.len(), 2, "{again:#?}");
    assert!(again.stderr.contains("was not whole"), "{}", again.stderr);
    assert_eq!(site.records_of("report").len(), 3);
}

#[test]
fn changed_input_is_refused() {
    let mut site = Site::start(&[]);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal];
    all_accepted(&site.run_with("sync", &args, syncs(10)), 10);
    let changed = syncs(12).replace("m4\"", "other\"");
    let ended = site.run_with("sync", &args, changed);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("changed") && ended.stderr.contains("journal"), "{}", ended.stderr);
    assert_eq!(ended.lines[0]["index"], 3, "{ended:#?}");
    // What the journal holds is done, whatever stands before it.
    assert!(ended.lines.iter().skip(1).all(|line| line["index"].as_u64() >= Some(10)), "{ended:#?}");
    assert_eq!(site.records_of("sync").len(), 10);
}

/// Feeding the line in again sends what it speaks of and nothing else, and each device of a message has its line.
#[test]
fn changed_input_is_told_line_by_line() {
    let site = Site::start(&[]);
    site.sync(2);
    let journal = site.name("reports");
    let input = r#"{"cid":"m1","properties":{"water_flow":1,"valve_state":"opened"}}"#;
    all_accepted(&site.run_with("report", &["-", "--journal", &journal], input), 2);
    let ended = site.run_with("report", &["-", "--journal", &journal], input.replace("m1", "m2"));
    let found: Vec<_> =
        ended.lines.iter().map(|line| (&line["cid"], &line["id"], &line["input"]["code"])).collect();
    let (m2, json) = (json!("m2"), |text: &str| json!(text));
    assert_eq!(found, [(&m2, &json("1"), &json("water_flow")), (&m2, &json("9"), &json("valve_state"))]);

    let journal = site.name("statuses");
    let message =
        r#"{"t":1,"request_id":"r1","param":[{"cid":"m1","status":true},{"cid":"m2","status":true}]}"#;
    all_accepted(&site.run_with("status", &["-", "--journal", &journal], message), 2);
    let changed = message.replace(r#""m1","status":true"#, r#""m1","status":false"#);
    let ended = site.run_with("status", &["-", "--ordered", "--journal", &journal], changed);
    let found: Vec<_> = ended.lines.iter().map(|line| (&line["index"], &line["cid"])).collect();
    assert_eq!(found, [(&json!(0), &json!("m1")), (&json!(1), &json!("m2"))], "{ended:#?}");
}

#[test]
fn a_journal_is_one_run_s_at_a_time() {
    let site = Site::start(&[]);
    let journal = site.write("journal", "");
    let held = OpenOptions::new().append(true).open(&journal).unwrap();
    held.lock().unwrap();
    let ended = site.run_with("sync", &["-", "--journal", &journal], syncs(1));
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    assert!(ended.stderr.contains("in use by another program"), "{}", ended.stderr);
}

#[test]
fn another_file_is_refused_and_not_touched() {
    let site = Site::start(&[]);
    let other = r#"{"journal":1,"op":"report","gateway_id":"gw1"}"#.to_owned() + "\n";
    let elsewhere = r#"{"journal":1,"op":"sync","gateway_id":"gw2"}"#.to_owned() + "\n";
    let newer = r#"{"journal":2,"op":"sync","gateway_id":"gw1"}"#.to_owned() + "\n";
    for (text, says) in [
        (other.as_str(), "the journal of `report`"),
        (&elsewhere, "gw2"),
        (&newer, "not of this run"),
        ("{\"cid\":\"m1\",\"product_id\":\"p\"}\n{\"cid\":\"m2\",\"prod", "not a journal"),
        ("cid,product_id\nm1,p", "not a journal"),
        ("{\"cid\":\"m1\"", "not a journal"),
    ] {
        let journal = site.write("journal", text);
        let ended = site.run_with("sync", &["-", "--journal", &journal], syncs(1));
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{text:?} {ended:#?}");
        assert!(ended.stderr.contains(says) && ended.stderr.contains(&journal), "{}", ended.stderr);
        assert_eq!(site.read("journal"), text);
    }
    // A crash while the journal was begun.
    for torn in ["", "{\"journal\":1,\"op\":\"sy"] {
        let journal = site.write("journal", torn);
        all_accepted(&site.run_with("sync", &["-", "--journal", &journal], syncs(2)), 2);
        assert_eq!(held(&site.read("journal")).len(), 2);
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_2_and_named() {
    if OpenOptions::new().write(true).open("/dev/full").is_err() {
        return;
    }
    let site = Site::start(&[]);
    let ended = site.run_with("sync", &["-", "--journal", "/dev/full"], syncs(500));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("/dev/full"), "{}", ended.stderr);
}

#[test]
fn what_a_journal_holds_is_not_reported_as_failed() {
    let mut site = Site::start(&[]);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal, "--connect-timeout", "1s"];
    all_accepted(&site.run_with("sync", &args, syncs(5)), 5);
    site.kill();
    // One line to dial for, which stands before those that are done.
    let text = site.read("journal").replace("\"index\":0,", "\"index\":9,");
    let rest: Vec<_> = text.lines().filter(|line| !line.contains(":9,")).collect();
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
