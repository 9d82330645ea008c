//! `edge --devices`: a device that was synchronised is in the file that has the name, whatever happens to the file.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{report, run_quietly, sync, topic};
use crate::process::{PROGRAM, Service, gateway, is_installed, run, run_with, signal, tuyagw};

/// The cids in a registry's file, and where each was said to be.
fn devices(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let device = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        (text("cid"), text("install_location"))
    };
    text.lines().map(device).collect()
}

fn cids(file: &Path) -> Vec<String> {
    devices(file).into_iter().map(|(cid, _)| cid).collect()
}

#[test]
fn a_replaced_or_removed_registry_is_written_anew_before_a_sync_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let edge = Service::edge(&["--devices", file.to_str().unwrap()]);
    let sync = |cid: &str| {
        let ended = run(&mut gateway("sync", &edge.url, &["--cid", cid, "--product-id", "p1"]));
        assert_eq!((ended.code, &ended.line()["code"]), (Some(0), &0.into()), "{ended:?}");
    };
    sync("m1");
    // What `sed -i` does.
    let edited = fs::read_to_string(&file).unwrap().replace("p1", "p2");
    fs::write(folder.path().join("edited"), edited).unwrap();
    fs::rename(folder.path().join("edited"), &file).unwrap();
    sync("m2");
    assert_eq!(cids(&file), ["m1", "m2"]);
    fs::remove_file(&file).unwrap();
    sync("m3");
    assert_eq!(cids(&file), ["m1", "m2", "m3"]);
    fs::write(&file, "").unwrap();
    sync("m3");
    assert_eq!(cids(&file), ["m1", "m2", "m3"], "an unchanged device, too");
    // Nothing is left to be done at the end, so that a kill costs nothing.
    signal(edge.id(), "KILL");
    let again = run(tuyagw().args(["edge", "--devices", file.to_str().unwrap(), "--", "true"]));
    assert!(again.stderr.contains("3 devices are known"), "{}", again.stderr);
}

#[test]
fn a_registry_removed_during_a_program_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "tuyagw sync -q --cid m1 --product-id p; rm fleet.jsonl; tuyagw sync -q --cid m2 --product-id p";
    let ended = run(tuyagw()
        .args(["edge", "--devices", "fleet.jsonl", "--", "sh", "-c", script])
        .current_dir(&folder));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("warning: fleet.jsonl was removed by another program"), "{}", ended.stderr);
    assert_eq!(cids(&folder.path().join("fleet.jsonl")), ["m1", "m2"]);
}

#[test]
fn a_registry_whose_folder_is_gone_ends_the_edge_without_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let script = "tuyagw sync -q --cid m1 --product-id p; rm -r sub; tuyagw sync -q --no-reconnect --cid m2 --product-id p";
    fs::create_dir(folder.path().join("sub")).unwrap();
    let ended = run(tuyagw()
        .args(["edge", "--devices", "sub/fleet.jsonl", "--", "sh", "-c", script])
        .current_dir(&folder));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("error: cannot write sub/fleet.jsonl"), "{}", ended.stderr);
    assert!(ended.lines.iter().all(|line| line["cid"] != "m2" || line["ok"] == false), "{ended:?}");
}

#[test]
fn a_repeated_sync_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let edge = Service::edge(&["--devices", file.to_str().unwrap()]);
    let message = |hall: u8| {
        format!(
            r#"{{"t":1,"request_id":"v{hall}","param":{{"cid":"m1","product_id":"p","install_location":"Hall {hall}"}}}}"#
        )
    };
    for hall in [1, 2, 1] {
        let ended = run_with(&mut gateway("sync", &edge.url, &[]), message(hall).as_bytes());
        assert_eq!(ended.line()["code"], 0, "{ended:?}");
        assert_eq!(devices(&file).last().unwrap().1, format!("Hall {hall}"));
    }
}

#[test]
fn a_pipe_as_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ended = run(tuyagw().args(["edge", "--listen", "127.0.0.1:0", "--devices", fifo.to_str().unwrap()]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("it is not a regular file"), "{}", ended.stderr);
}

/// A new name is on the disk only once its folder is synced.
#[test]
fn the_folder_of_a_new_registry_is_synced() {
    let can_trace = is_installed("strace")
        && Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !can_trace {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o", "trace", PROGRAM, "edge"])
        .args(["--devices", "fleet.jsonl", "--", "true"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(folder.path().join("trace")).unwrap();
    let synced = format!("<{}>)", folder.path().canonicalize().unwrap().display());
    assert!(trace.lines().any(|line| line.contains("fsync(") && line.contains(&synced)), "{trace}");
}

#[test]
fn an_answered_device_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let path = file.to_str().unwrap();
    let mut edge = Service::edge(&["--devices", path]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/devices/sync/response", 0)]);
    for n in 0..500 {
        gateway.publish(&topic("gw1", "devices/sync"), &sync(&format!("m{n}")), 1, false);
    }
    let mut answered = Vec::new();
    for _ in 0..200 {
        let answer = gateway.json();
        assert_eq!(answer["param"]["code"], 0);
        answered.push(answer["param"]["cid"].as_str().unwrap().to_owned());
    }
    edge.kill();
    let kept = fs::read_to_string(&file).unwrap();
    for cid in &answered {
        assert!(kept.contains(&format!("\"cid\":\"{cid}\"")), "{cid} was answered and is not kept");
    }
    // A torn last line, as a power cut leaves it.
    fs::write(&file, format!("{kept}{{\"gateway_id\":\"gw1\",\"ci")).unwrap();
    let edge = Service::edge(&["--devices", path]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/properties/report/response", 0)]);
    gateway.publish(&topic("gw1", "properties/report"), &report(&answered[199], "1", &json!(1)), 0, false);
    assert_eq!(gateway.json()["param"]["code"], 0);
    assert!(fs::read_to_string(&file).unwrap().ends_with("}\n"), "the torn line is gone");
    assert_eq!(mode(&file), 0o600);
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_that_is_no_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[profile.x]\nbroker = 1\n").unwrap();
    let output = run_quietly(&["edge", "--listen", "127.0.0.1:0", "--devices", file.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("config.toml") && stderr.contains("line 1"), "{stderr}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "[profile.x]\nbroker = 1\n");
}

#[test]
fn a_registry_belongs_to_one_edge() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let path = file.to_str().unwrap();
    let _first = Service::edge(&["--devices", path]);
    for (path, reason) in [(path, "another program"), ("/dev/null", "regular file")] {
        let output = run_quietly(&["edge", "--listen", "127.0.0.1:0", "--devices", path]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(path) && stderr.contains(reason), "{stderr}");
    }
}
