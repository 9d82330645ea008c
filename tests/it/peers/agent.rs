//! Other people's MQTT clients as local programs of `tuyagw agent`, over its Unix socket.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{places, program, pythons};
use crate::process::{
    Service, ended, gateway, is_installed, is_present, json_lines, missing, run, signal, tuyagw, until,
};

/// An edge that knows meter m1, and an agent of gateway gw1 that is connected to it.
struct ServedSocket {
    edge: Service,
    agent: Option<Child>,
    folder: tempfile::TempDir,
}

impl ServedSocket {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let edge = Service::edge(&["--username", "acme"]);
        let socket = folder.path().join("a.sock");
        let agent = gateway("agent", &edge.url, &[])
            .args([OsStr::new("--socket"), socket.as_os_str(), OsStr::new("--spool")])
            .arg(folder.path().join("spool"))
            .arg("--spool-results")
            .arg(folder.path().join("results"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = Self { edge, agent: Some(agent), folder };
        until("the agent is connected", || served.status()["connected"] == true);
        let sync = run(served.gateway("sync").args(["--cid", "m1", "--product-id", "p1"]));
        assert_eq!(sync.code, Some(0), "{sync:?}");
        served
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("a.sock")
    }

    /// A subcommand of ours, through the agent.
    fn gateway(&self, subcommand: &str) -> Command {
        let mut command = gateway(subcommand, &self.edge.url, &[]);
        command.arg("--agent").arg(self.socket());
        command
    }

    /// What `agent status` prints; null while the agent does not answer.
    fn status(&self) -> Value {
        let mut command = tuyagw();
        command.args(["agent", "status", "--json", "-b", &self.edge.url, "-g", "gw1", "--socket"]);
        let output = command.arg(self.socket()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Runs a client's program, which reports a value of m1 and waits for its own answer.
    fn answers(&self, client: &mut Command) {
        let output = client.arg(self.socket()).args(["gw1", "m1"]).stdin(Stdio::null()).output().unwrap();
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("done"), "{said}\n{complained}");
    }

    /// Ends the agent.
    fn end(mut self) {
        let agent = self.agent.take().unwrap();
        signal(agent.id(), "TERM");
        let ended = ended(agent);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

impl Drop for ServedSocket {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

/// A client of mosquitto that knows Unix sockets, which came with version 2.
fn mosquitto(name: &str, socket: &Path) -> Option<Command> {
    if !is_installed(name) {
        return None;
    }
    let help = Command::new(name).arg("--help").output().unwrap();
    if !String::from_utf8_lossy(&help.stdout).contains("--unix") {
        missing(&format!("a {name} with --unix"));
        return None;
    }
    let mut command = Command::new(name);
    command.arg("--unix").arg(socket).args(["-q", "1"]);
    Some(command)
}

#[test]
fn mosquitto_observes_and_reports_through_an_agent() {
    let served = ServedSocket::open();
    let socket = served.socket();
    let (Some(mut observer), Some(mut reporter), Some(mut queuer)) = (
        mosquitto("mosquitto_sub", &socket),
        mosquitto("mosquitto_pub", &socket),
        mosquitto("mosquitto_pub", &socket),
    ) else {
        return;
    };
    let traffic = served.folder.path().join("traffic");
    let topics = ["-t", "gateway_id/gw1/#", "-t", "$agent/status"];
    let observer = observer
        .args(["-i", "observer", "-C", "6", "-W", "50"])
        .args(topics)
        .stdout(fs::File::create(&traffic).unwrap())
        .spawn()
        .unwrap();
    let heard = || json_lines(&fs::read_to_string(&traffic).unwrap());
    // The retained status comes with the subscription.
    until("mosquitto_sub listens", || !fs::read_to_string(&traffic).unwrap().is_empty());
    let report = |request_id: &str, value: i64| json!({"t": 1, "request_id": request_id, "param": {"cid": "m1", "id": "1", "value": value}});
    let publish = |command: &mut Command, topic: &str, message: &Value| {
        let status = command.args(["-t", topic, "-m", &message.to_string()]).status().unwrap();
        assert!(status.success(), "{topic}: {status}");
    };
    publish(&mut reporter, "gateway_id/gw1/properties/report", &report("r1", 1));
    until("the answer is observed", || heard().len() == 3);
    publish(&mut queuer, "$agent/queue/gateway_id/gw1/properties/report", &report("r2", 2));
    let results = served.folder.path().join("results");
    until("the queued report is answered", || {
        fs::read_to_string(&results).is_ok_and(|text| !text.is_empty())
    });
    let ours = run(served.gateway("report").args(["--cid", "m1", "water_flow=3"]));
    assert_eq!(ours.code, Some(0), "{ours:?}");
    assert_eq!(ended_quietly(observer), Some(0), "{:?}", heard());

    let heard = heard();
    assert_eq!(heard[0]["gateway_id"], "gw1", "{heard:?}");
    assert_eq!(heard[1], report("r1", 1));
    let answers: Vec<_> = heard.iter().filter(|message| message["param"]["code"] == 0).collect();
    let ids: Vec<_> = answers.iter().map(|answer| answer["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r1", "r2", ours.line()["request_id"].as_str().unwrap()], "{heard:?}");
    let result = &json_lines(&fs::read_to_string(&results).unwrap())[0];
    assert_eq!(
        (&result["ok"], &result["request_id"], &result["code"]),
        (&json!(true), &json!("r2"), &json!(0))
    );
    served.end();
}

/// The exit code of a program whose output goes elsewhere.
fn ended_quietly(mut child: Child) -> Option<i32> {
    until("it ends", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

/// The transport came with version 2.1.
#[test]
fn paho_of_python_reports_through_an_agent() {
    let Some(python) = pythons().remove("2") else {
        missing("paho-mqtt 2 of Python");
        return;
    };
    let served = ServedSocket::open();
    served.answers(Command::new(python).arg(program("agent_client.py")));
    served.end();
}

#[test]
fn mqtt_js_reports_through_an_agent() {
    let path = places("NODE_PATH", "/usr/share/nodejs");
    if !is_present("mqtt.js", Command::new("node").args(["-e", "require('mqtt')"]).env("NODE_PATH", &path)) {
        return;
    }
    let served = ServedSocket::open();
    served.answers(Command::new("node").arg(program("agent_client.js")).env("NODE_PATH", &path));
    served.end();
}
