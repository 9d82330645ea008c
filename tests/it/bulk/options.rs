//! Rate, retries, order, summary and progress.

use serde_json::{Value, json};

use crate::site::{Site, accounted, all_accepted, json_lines, request_ids, syncs};

/// Seconds from the first to the last of the records.
fn span(records: &[Value]) -> f64 {
    let time = |record: &Value| record["mono_us"].as_f64().unwrap() / 1e6;
    time(records.last().unwrap()) - time(&records[0])
}

#[test]
fn a_run_keeps_to_its_rate() {
    let mut site = Site::start(&[]);
    all_accepted(&site.run_with("sync", &["-", "--rate", "100/s"], syncs(150)), 150);
    let span = span(&site.records_of("sync"));
    // 1.49 s; a stall of this machine may move the first record or the last one.
    assert!((1.0..20.0).contains(&span), "{span} s");
}

#[test]
fn a_rate_counts_messages_and_not_inputs() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let properties = r#"{"cid":"m1","properties":{"1":1,"18":2,"4":true,"9":"opened"}}"#;
    let mut input = format!("{properties}\n{properties}\n");
    // Refused inputs do not count; otherwise this would take five minutes.
    input.push_str(&"{\"cid\":\"m1\"}\n".repeat(3000));
    let ended = site.run_with("report", &["-", "--rate", "10/s"], input);
    accounted(&ended, 3008);
    let reports = site.records_of("report");
    assert_eq!(reports.len(), 8);
    let span = span(&reports);
    assert!((0.4..20.0).contains(&span), "{span} s");
}

#[test]
fn inputs_in_the_journal_do_not_use_the_rate() {
    let mut site = Site::start(&[]);
    let journal = site.name("journal");
    let args = ["-", "--journal", &journal];
    all_accepted(&site.run_with("sync", &args, syncs(500)), 500);
    let ended = site.run_with("sync", &[&args[..], &["--rate", "10/s"]].concat(), syncs(502));
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 2), "{}", ended.stderr);
    assert_eq!(site.records_of("sync").len(), 502);
}

#[test]
#[ignore = "slow: waits for rests that double"]
fn a_system_error_is_retried_with_its_request_id() {
    // Pauses double: a request that fails n times takes 0.5 * 2^n seconds.
    let mut site = Site::start(&["--fault", "code=500@0.2", "--seed", "1"]);
    let ended = site.run_with("sync", &["-", "--retries", "20", "--window", "30"], syncs(30));
    all_accepted(&ended, 30);
    let records = site.records_of("sync");
    let sent = request_ids(&records);
    assert_eq!(sent.len(), 30);
    for line in &ended.lines {
        let ids = &sent[line["cid"].as_str().unwrap()];
        assert!(ids.iter().all(|id| *id == line["request_id"]), "{line} {ids:?}");
        assert_eq!(line["attempts"].as_u64().unwrap_or(1), ids.len() as u64, "{line}");
    }
    assert!(records.len() > 30, "a fifth of them failed at first: {}", records.len());
    assert!(ended.stderr.contains("tried again"), "{}", ended.stderr);
}

#[test]
fn a_missing_answer_is_retried_with_its_request_id() {
    let mut site = Site::start(&["--fault", "drop-response@0.3", "--seed", "1"]);
    let args = ["-", "--retries", "20", "--window", "60", "--timeout", "200ms"];
    let ended = site.run_with("sync", &args, syncs(60));
    all_accepted(&ended, 60);
    let sent = request_ids(&site.records_of("sync"));
    let again = sent.values().filter(|ids| ids.len() > 1).count();
    assert!(again > 5, "{again} were sent again");
    for line in &ended.lines {
        let ids = &sent[line["cid"].as_str().unwrap()];
        assert!(ids.iter().all(|id| *id == line["request_id"]), "{line} {ids:?}");
    }
}

#[test]
fn retries_come_to_an_end_and_refusals_are_not_retried() {
    let mut site = Site::start(&["--fault", "code=500"]);
    let ended = site.run_with("sync", &["-", "--retries", "2"], syncs(3));
    accounted(&ended, 3);
    assert_eq!(ended.code, Some(1));
    assert!(ended.lines.iter().all(|line| line["code"] == 500 && line["attempts"] == 3), "{ended:#?}");
    assert_eq!(site.records_of("sync").len(), 9);
    let mut site = Site::start(&["--fault", "code=1101"]);
    let ended = site.run_with("sync", &["-", "--retries", "2"], syncs(3));
    assert!(
        ended.lines.iter().all(|line| line["code"] == 1101 && line.get("attempts").is_none()),
        "{ended:#?}"
    );
    assert_eq!(site.records_of("sync").len(), 3);
}

#[test]
fn ordered_results_stand_in_input_order() {
    let site = Site::start(&["--fault", "delay=150ms@0.3", "--fault", "drop-response@0.02", "--seed", "3"]);
    let mut input = String::new();
    for (n, line) in syncs(600).lines().enumerate() {
        input.push_str(line);
        input.push_str(if n % 50 == 7 { "\nnonsense\n" } else { "\n" });
    }
    let args = ["-", "--window", "100", "--timeout", "400ms"];
    let ended = site.run_with("sync", &[&args[..], &["--ordered"]].concat(), &input);
    accounted(&ended, 612);
    let indexes: Vec<_> = ended.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert!(indexes.is_sorted());
    let lines: Vec<_> = ended.lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (1..=612).collect::<Vec<_>>());
    let of = |error: &str| ended.lines.iter().filter(|line| line["error"] == error).count();
    assert_eq!(of("invalid"), 12);
    assert!(of("timeout") > 0, "the seed drops some");
    // Without it the delayed ones come later.
    let unordered = site.run_with("sync", &args, &input);
    let indexes: Vec<_> = unordered.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert!(!indexes.is_sorted());
}

#[test]
fn a_summary_adds_up() {
    let site = Site::start(&["--fault", "code=2003@0.3", "--fault", "drop-response@0.1", "--seed", "5"]);
    let file = site.name("summary.json");
    let input = format!("{}nonsense\n", syncs(200));
    let args = ["-", "--summary", &file, "--timeout", "1s", "--window", "200"];
    let ended = site.run_with("sync", &args, input);
    accounted(&ended, 201);
    let summary = &json_lines(&site.read("summary.json"))[0];
    let count = |wanted: &dyn Fn(&Value) -> bool| ended.lines.iter().filter(|line| wanted(line)).count();
    let refused = count(&|line| line["code"] == 2003);
    let accepted = count(&|line| line["ok"] == true);
    assert_eq!(summary["accepted"], accepted);
    assert_eq!(summary["refused"], refused);
    assert_eq!(summary["timed_out"], count(&|line| line["error"] == "timeout"));
    assert_eq!(summary["codes"], json!({"0": accepted, "2003": refused}));
    let zeros = ["failed", "resent", "retried", "skipped"].map(|name| summary[name].as_u64());
    assert_eq!((&summary["done"], &summary["invalid"], zeros), (&json!(201), &json!(1), [Some(0); 4]));
    let mut times: Vec<_> = ended.lines.iter().filter_map(|line| line["rtt_ms"].as_f64()).collect();
    times.sort_by(f64::total_cmp);
    let told = ["p50", "p90", "p99", "max"].map(|name| summary["rtt_ms"][name].as_f64().unwrap());
    assert!(told.is_sorted(), "{told:?}");
    for (percent, told) in [50, 90, 99].into_iter().zip(told) {
        let exact = times[(times.len() * percent / 100).min(times.len() - 1)];
        assert!((0.7..1.4).contains(&(told / exact)), "p{percent}: {told} ms, not {exact} ms");
    }
    assert!((told[3] - times[times.len() - 1]).abs() < 0.01, "{told:?}");
    let duration = summary["duration_ms"].as_f64().unwrap();
    assert!(duration >= 1000.0 && summary["rate"].as_f64().unwrap() <= 201.0, "{summary}");

    // A wrong name is found before anything is sent.
    let ended = site.run_with("sync", &["-", "--summary", "/nonexistent/summary"], syncs(1));
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    assert!(ended.stderr.contains("/nonexistent/summary"), "{}", ended.stderr);
}

#[test]
#[ignore = "slow: waits for progress lines"]
fn progress_can_be_read_by_a_script() {
    let site = Site::start(&["--fault", "delay=1s"]);
    let ended = site.run_with("sync", &["-", "--progress", "json", "--window", "50"], syncs(150));
    all_accepted(&ended, 150);
    let told = json_lines(&ended.stderr);
    let (last, before) = told.split_last().unwrap();
    assert_eq!(
        (&last["event"], &last["done"], &last["accepted"]),
        (&json!("summary"), &json!(150), &json!(150))
    );
    assert!(!before.is_empty() && before.iter().all(|line| line["event"] == "progress"), "{told:?}");
    assert!(before.iter().any(|line| line["in_flight"].as_u64() > Some(0)), "{told:?}");
    let done: Vec<_> = told.iter().map(|line| line["done"].as_u64().unwrap()).collect();
    assert!(done.is_sorted(), "{done:?}");
}

/// Progress lines show that a run is alive while no answer comes for seconds.
#[test]
#[ignore = "slow: waits for progress lines"]
fn progress_is_reported_while_no_answer_comes() {
    let site = Site::start(&["--fault", "drop-response"]);
    let args = ["-", "--progress", "json", "--timeout", "3500ms"];
    let ended = site.run_with("sync", &args, syncs(1));
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert!(json_lines(&ended.stderr).len() >= 3, "{}", ended.stderr);
}

/// Cron and a script see why, though the result lines go elsewhere, and also with -q.
#[test]
fn the_first_failures_are_on_stderr_with_their_lines() {
    let site = Site::start(&["--fault", "code=2003@0.5", "--seed", "3"]);
    let mut input = String::from("nonsense\n{\"cid\":\"m1\"}\n");
    input.push_str(&syncs(60));
    for quiet in [&[][..], &["-q"]] {
        let ended = site.run_with("sync", &[&["-"], quiet].concat(), &input);
        accounted(&ended, 62);
        let failed = ended.lines.iter().filter(|line| line["ok"] == false).count();
        assert!(failed > 20, "the seed refuses about half");
        let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 11, "{}", ended.stderr);
        assert!(errors[0].starts_with("error: line 1: sync: not JSON"), "{}", errors[0]);
        assert!(errors[1].starts_with("error: line 2: sync of m1: product_id"), "{}", errors[1]);
        assert!(errors[2].contains("was refused: 2003"), "{}", errors[2]);
        assert!(errors[10].starts_with(&format!("error: {} more failures", failed - 10)), "{}", errors[10]);
    }
    // The reason for the end is reported once, not for each remaining line.
    let mut sync = crate::process::gateway("sync", "127.0.0.1:1", &["-q", "-"]);
    let ended = crate::process::run_with(&mut sync, input.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(3), 62), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("refused the connection").count(), 1, "{}", ended.stderr);
}
