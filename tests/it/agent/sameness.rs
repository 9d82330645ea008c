//! Through the agent, programs do what they do without it.

use std::thread;

use serde_json::Value;

use super::{AgentSite, comparable};
use crate::{
    process::{Ended, reports},
    site::{accounted, all_accepted, syncs},
};

/// Runs the same input directly, and through an agent, at one edge. What the edge knows is set before.
fn both(edge: &[&str], runs: &[(&str, &[&str], String)]) -> (AgentSite, Vec<(Ended, Ended)>) {
    let mut site = AgentSite::without_agent(edge, &[]);
    if edge.is_empty() {
        site.site.sync(5);
    }
    let direct: Vec<_> = runs.iter().map(|(op, args, input)| site.run_with(op, args, input)).collect();
    site.launch();
    site.wait_connected();
    let agents = runs
        .iter()
        .map(|(op, args, input)| site.run_with(op, &[&["--agent", "require"][..], args].concat(), input));
    let both = direct.into_iter().zip(agents.collect::<Vec<_>>()).collect();
    (site, both)
}

/// A good input, a device that does not exist, a bad value, a line that is no JSON, and a good one again.
fn mixed() -> String {
    [
        r#"{"cid":"m1","code":"water_flow","value":1}"#,
        r#"{"cid":"stranger","code":"water_flow","value":2}"#,
        r#"{"cid":"m2","code":"water_flow","value":"much"}"#,
        r#"{"cid":"m2","code":"water_flow""#,
        r#"{"cid":"m3","properties":{"water_flow":3,"valve_state":"opened"}}"#,
        r#"{"cid":"m3","code":"switch_state","value":true}"#,
        "",
    ]
    .join("\n")
}

#[test]
fn results_and_exit_codes_are_those_of_the_direct_way() {
    let statuses = "{\"cid\":\"m1\",\"status\":true}\n{\"cid\":\"m2\",\"status\":false}\n{\"cid\":7}\n";
    let bad_syncs =
        "{\"cid\":\"m1\",\"product_id\":\"p\"}\n{\"cid\":\"\",\"product_id\":\"p\"}\n{\"cid\":\"x\"}\n";
    let none = String::new;
    let runs: &[(&str, &[&str], String)] = &[
        ("report", &["-"], mixed()),
        ("report", &["-", "--window", "1"], mixed()),
        ("report", &["-", "--ordered"], mixed()),
        ("report", &["-", "--retries", "2"], mixed()),
        ("report", &["-", "--no-wait"], mixed()),
        ("report", &["-", "--no-check"], mixed()),
        ("report", &["-", "--qos", "0"], mixed()),
        ("report", &["-", "--qos", "2"], mixed()),
        ("report", &["--cid", "m1", "water_flow=12345", "valve_state=opened"], none()),
        ("report", &["--cid", "stranger", "water_flow=1"], none()),
        ("report", &["--cid", "m1", "water_flow=much"], none()),
        ("report", &["-", "--ordered"], reports(5)),
        ("sync", &["-"], syncs(50)),
        ("sync", &["-"], bad_syncs.into()),
        ("sync", &["--cid", "m9", "--product-id", "p9", "--device-name", "n"], none()),
        ("status", &["-"], statuses.into()),
        ("status", &["--online", "m1,m2", "--offline", "m3"], none()),
    ];
    let (site, ends) = both(&[], runs);
    for ((op, args, _), (direct, agent)) in runs.iter().zip(ends) {
        assert_eq!(agent.code, direct.code, "{op} {args:?}: {}", agent.stderr);
        assert_eq!(comparable(&agent), comparable(&direct), "{op} {args:?}");
        let indexes =
            |ended: &Ended| ended.lines.iter().map(|line| line["index"].as_u64()).collect::<Vec<_>>();
        if args.contains(&"--ordered") || args.contains(&"1") {
            assert_eq!(indexes(&agent), indexes(&direct), "{op} {args:?}");
        }
    }
    let status = site.status();
    assert_eq!(
        (status.code, &status.line()["reconnects"]),
        (Some(0), &Value::from(0)),
        "nothing pushed it off"
    );
}

#[test]
fn time_outs_and_retries_are_those_of_the_direct_way() {
    let runs: &[(&str, &[&str], String)] = &[
        ("report", &["-", "--timeout", "1s"], reports(5)),
        ("report", &["-", "--timeout", "1s", "--retries", "1"], reports(5)),
    ];
    let (_, ends) = both(&["--fault", "drop-response"], runs);
    for (direct, agent) in ends {
        assert_eq!((direct.code, agent.code), (Some(5), Some(5)), "{}", agent.stderr);
        assert_eq!(comparable(&agent), comparable(&direct));
    }
}

#[test]
fn a_journal_of_the_direct_way_is_continued_through_the_agent() {
    let mut site = AgentSite::without_agent(&[], &[]);
    site.site.sync(20);
    let journal = site.name("journal.jsonl");
    let args = ["-", "--journal", &journal];
    let direct = site.run_with("report", &args, reports(10));
    all_accepted(&direct, 10);
    site.launch();
    site.wait_connected();
    let agent = site.run_with("report", &args, reports(20));
    assert_eq!(agent.code, Some(0), "{}", agent.stderr);
    let sent: Vec<_> = agent.lines.iter().map(|line| line["cid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent, (11..=20).map(|n| format!("m{n}")).collect::<Vec<_>>());
    let again = site.run_with("report", &args, reports(20));
    assert_eq!((again.code, again.lines.len()), (Some(0), 0), "{}", again.stderr);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert_eq!(site.site.records_of("report").len(), 20);
}

#[test]
fn ten_thousand_lines_are_answered_in_their_order() {
    let mut site = AgentSite::start(&[]);
    let ended = site.run_with("sync", &["-", "--window", "500", "--ordered"], syncs(10_000));
    all_accepted(&ended, 10_000);
    let in_order = ended.lines.iter().zip(1..).all(|(line, n)| line["cid"] == format!("m{n}"));
    assert!(in_order, "the results are not in the order of the input");
    let ended = site.run_with("report", &["-", "--window", "1000"], reports(10_000));
    all_accepted(&ended, 10_000);
    assert_eq!(site.end("TERM").code(), Some(0));
    assert_eq!(site.site.records_of("report").len(), 10_000, "nothing is sent twice");
}

#[test]
fn twenty_programs_at_once_get_their_own_answers() {
    let site = AgentSite::start(&[]);
    let ended = site.run_with("sync", &["-"], syncs(10));
    all_accepted(&ended, 10);
    thread::scope(|scope| {
        for program in 0..20 {
            let site = &site;
            scope.spawn(move || {
                // Every other line is of a device that does not exist, so that answers differ.
                let line = |n| {
                    let cid = if n % 2 == 0 { "m1".to_owned() } else { format!("stranger-{program}-{n}") };
                    format!("{{\"cid\":{cid:?},\"code\":\"water_flow\",\"value\":{n}}}\n")
                };
                let input = (0..200).map(line).collect::<Vec<_>>().concat();
                let ended = site.run_with("report", &["-"], input);
                accounted(&ended, 200);
                assert_eq!(ended.code, Some(1), "{}", ended.stderr);
                for line in &ended.lines {
                    let is_stranger = line["index"].as_u64().unwrap() % 2 == 1;
                    assert_eq!(line["code"], if is_stranger { 2003 } else { 0 }, "{line}");
                }
                assert_eq!(ended.stderr.matches("warning").count(), 0, "{}", ended.stderr);
            });
        }
    });
    let status = site.status();
    assert_eq!(status.line()["codes"]["0"], 10 + 20 * 100, "{status:?}");
    assert_eq!((&status.line()["queue"], &status.line()["clients"]), (&0.into(), &1.into()), "{status:?}");
}
