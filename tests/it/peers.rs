//! Other people's MQTT clients as gateways at `tuyagw edge`: each does a gateway's whole job by a program of its own.
//!
//! A client that is not installed skips its test, which says so; with `CI` set, those that `.ci/run` installs must be
//! there. The others run wherever their library is found (DEVELOPERS.md says how).
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::edge::wire::Edge;

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(name)
}

/// Whether a command runs and succeeds.
fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
}

fn skip(what: &str) {
    println!("skipped: {what} is not installed");
}

/// Runs a client's program against a fresh edge.
fn works_with_the_edge(command: &mut Command) {
    let edge = Edge::start(&["--username", "acme"]);
    let port = edge.address.rsplit_once(':').unwrap().1;
    let output = command.arg(port).stdin(Stdio::null()).output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("done"), "{said}\n{complained}");
}

/// Either major version of paho-mqtt, wherever it is: the system's Python has one, and that of a virtual environment the
/// other.
#[test]
fn paho_of_python_is_a_gateway() {
    let mut pythons = vec![PathBuf::from("python3"), PathBuf::from("/usr/bin/python3")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    pythons.extend(std::env::split_paths(&path).map(|folder| folder.join("python3")));
    let mut versions = BTreeMap::new();
    for python in pythons {
        let asked =
            Command::new(&python).args(["-c", "import paho.mqtt; print(paho.mqtt.__version__)"]).output();
        if let Some(said) = asked.ok().and_then(|asked| String::from_utf8(asked.stdout).ok())
            && let Some((major, _)) = said.split_once('.')
        {
            versions.entry(major.to_owned()).or_insert(python);
        }
    }
    for major in ["1", "2"] {
        match versions.get(major) {
            Some(python) => {
                works_with_the_edge(Command::new(python).args(["-W", "ignore"]).arg(program("gateway.py")));
            }
            None if std::env::var_os("CI").is_some() => {
                panic!("CI is set, and paho-mqtt {major} of Python is not installed")
            }
            None => skip(&format!("paho-mqtt {major} of Python")),
        }
    }
}

#[test]
fn mqtt_js_is_a_gateway() {
    // Where Debian's node-mqtt lies; `NODE_PATH` names any other place.
    let path = std::env::var("NODE_PATH").unwrap_or_else(|_| "/usr/share/nodejs".to_owned());
    if !succeeds(Command::new("node").args(["-e", "require('mqtt')"]).env("NODE_PATH", &path)) {
        return skip("mqtt.js");
    }
    works_with_the_edge(Command::new("node").arg(program("gateway.js")).env("NODE_PATH", &path));
}

#[test]
fn paho_of_go_gets_its_own_message_back() {
    // Where Debian's golang-github-eclipse-paho.mqtt.golang-dev lies; `GOPATH` names any other place.
    let path = std::env::var("GOPATH").unwrap_or_else(|_| "/usr/share/gocode".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let gateway = folder.path().join("gateway");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&gateway).arg(program("gateway.go"));
    build.env("GO111MODULE", "off").env("GOPATH", &path).env("GOCACHE", folder.path().join("cache"));
    if !succeeds(&mut build) {
        return skip("Go, or its paho.mqtt.golang,");
    }
    works_with_the_edge(&mut Command::new(gateway));
}
