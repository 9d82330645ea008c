//! `model` as a process: its output and exit codes.

use std::{io::pipe, process::Output};

use super::process::tuyagw;

fn model(args: &[&str]) -> Output {
    let mut command = tuyagw();
    command.arg("model").args(args).output().expect("the binary runs")
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_pipe_gets_the_water_meter_as_json() {
    let product = json(&model(&[]));
    assert_eq!(product["dps"].as_array().unwrap().len(), 18);
    assert_eq!(product["dps"][0]["code"], "water_flow");
    assert_eq!(product["dps"][0]["scale"], 3);
    let two = json(&model(&["18", "valve_state"]));
    assert_eq!(two["dps"][0]["id"], "9");
    assert_eq!(two["dps"][1]["code"], "valve_open_degree");
}

#[test]
fn printed_models_are_read_back() {
    let first = model(&["--model", "tests/models/thing-model.json"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("product.json");
    std::fs::write(&file, &first.stdout).unwrap();
    let second = model(&["--json", "--model", file.to_str().unwrap()]);
    assert_eq!(json(&first), json(&second));
}

#[test]
fn ids_are_given_on_the_command_line() {
    let file = "tests/models/specification-without-ids.json";
    let product = json(&model(&["--model", file, "--dp-map", "switch_1=1,countdown_1=9,cur_power=19"]));
    assert_eq!(product["dps"][2]["id"], "19");
}

#[test]
fn model_errors_name_file_and_path() {
    for (args, expected) in [
        (&["--model", "no/such.json"][..], "no/such.json"),
        (&["--model", "tests/models/pasted-issue.json"], "pasted-issue.json: line 3, column 17: "),
        (&["--model", "tests/models/property-snapshot.json"], "--dp-map water_use_data=1,valve=13"),
        (&["--model", "tests/models/specification-without-ids.json"], "--dp-map switch_1=ID"),
        (&["valve"], "no data point `valve`"),
        (&["--dp-map", "a=1"], "--model"),
    ] {
        let output = model(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_closed_stdout_is_no_error() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = tuyagw();
    let output = command.arg("model").stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
