//! Other people's MQTT clients as gateways at `tuyagw edge`: each does a gateway's whole job by a program of its own.
//!
//! A client that is not installed skips its test, which says so; with `CI` set, those that `.ci/run` installs must be
//! there.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod agent;
mod rumqttc_client;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::process::{Service, is_present, missing, run_with, succeeds, tuyagw};

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(name)
}

/// The search path in a variable, and one more folder.
fn places(variable: &str, more: &str) -> OsString {
    let named = std::env::var_os(variable).unwrap_or_default();
    let named = std::env::split_paths(&named).filter(|place| !place.as_os_str().is_empty());
    std::env::join_paths(named.chain([more.into()])).unwrap()
}

/// Runs a client's program against a fresh edge.
fn works_with_the_edge(command: &mut Command) {
    let edge = Service::edge(&["--username", "acme"]);
    let port = edge.port();
    let output = command.arg(port).stdin(Stdio::null()).output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("done"), "{said}\n{complained}");
}

/// Pythons with paho-mqtt, by its major version, wherever they are: the system's Python has one, and that of a virtual
/// environment the other.
fn pythons() -> BTreeMap<String, PathBuf> {
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
    versions
}

/// Either major version of paho-mqtt has an API of its own.
#[test]
#[ignore = "slow: runs other people's client libraries"]
fn paho_of_python_is_a_gateway() {
    let versions = pythons();
    for major in ["1", "2"] {
        match versions.get(major) {
            Some(python) => {
                works_with_the_edge(Command::new(python).args(["-W", "ignore"]).arg(program("gateway.py")));
            }
            None => missing(&format!("paho-mqtt {major} of Python")),
        }
    }
}

/// `NODE_PATH` leads to mqtt.js, besides the path of Debian's node-mqtt.
#[test]
#[ignore = "slow: runs other people's client libraries"]
fn mqtt_js_is_a_gateway() {
    let path = places("NODE_PATH", "/usr/share/nodejs");
    if !is_present("mqtt.js", Command::new("node").args(["-e", "require('mqtt')"]).env("NODE_PATH", &path)) {
        return;
    }
    works_with_the_edge(Command::new("node").arg(program("gateway.js")).env("NODE_PATH", &path));
}

/// Builds the program of Go's library. `GOPATH` says where that is, besides the place of Debian's package.
fn gateway_in_go(folder: &Path) -> Option<PathBuf> {
    let gateway = folder.join("gateway");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&gateway).arg(program("gateway.go"));
    // Nothing is fetched, and only the first build is more than a link.
    build.env("GO111MODULE", "off").env("GOPATH", places("GOPATH", "/usr/share/gocode"));
    build.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build"));
    build.env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    is_present("Go, or its paho.mqtt.golang,", &mut build).then_some(gateway)
}

#[test]
#[ignore = "slow: runs other people's client libraries"]
fn paho_of_go_gets_its_own_message_back() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(gateway) = gateway_in_go(folder.path()) {
        works_with_the_edge(&mut Command::new(gateway));
    }
}

/// It tries MQTT 3.1 after a refusal of MQTT 3.1.1, and shows the last answer only.
#[test]
#[ignore = "slow: runs other people's client libraries"]
fn paho_of_go_sees_the_return_code_of_its_wrong_password() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gateway) = gateway_in_go(folder.path()) else { return };
    for (args, expected) in [
        (&["--username", "acme"][..], "bad user name or password"),
        (&["--username", "other"], "not authorized"),
        (&["--fault", "connack=3"], "server unavailable"),
    ] {
        let edge = Service::edge(args);
        let port = edge.port();
        let output = Command::new(&gateway).args([port, "wrong"]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(output.status.success() && said.contains(expected), "{args:?}: {said} {output:?}");
    }
}

/// Java's digest of the same bytes is our password; its compiler is too large to be asked for.
#[test]
#[ignore = "slow: runs other people's client libraries"]
fn java_derives_the_same_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let mut compile = Command::new("javac");
    compile.args(["-encoding", "UTF-8", "-d"]).arg(folder.path()).arg(program("Passwords.java"));
    if !succeeds(&mut compile) {
        println!("skipped: javac is not installed");
        return;
    }
    // Digests that begin with zeros, and letters of two, three and four bytes, are among them.
    let foreign = ["z\u{e4}hler", "\u{6c34}\u{8868}", "\u{1f6b0}"].map(String::from);
    let (mut pairs, mut input) = (String::new(), String::new());
    for name in (0..1000).map(|n| format!("gw{n}")).chain(foreign) {
        writeln!(pairs, "{name}acme").unwrap();
        writeln!(input, "{}", serde_json::json!({"client_id": name, "username": "acme"})).unwrap();
    }
    let ours = run_with(tuyagw().arg("password"), input.as_bytes());
    assert_eq!((ours.code, ours.lines.len()), (Some(0), 1003), "{}", ours.stderr);
    let file = folder.path().join("pairs");
    std::fs::write(&file, pairs).unwrap();
    let output =
        Command::new("java").arg("-cp").arg(folder.path()).arg("Passwords").arg(&file).output().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert!(theirs.lines().any(|password| password.starts_with("00")));
    let ours: Vec<_> = ours.lines.iter().map(|line| line["password"].as_str().unwrap()).collect();
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ours);
}
