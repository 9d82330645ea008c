//! `listen` against scripted brokers. Its connection is the same code as the other subcommands'.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    sync::mpsc,
};

use serde_json::{Value, json};

use super::Case;
use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{Ended, PROGRAM, ended, gateway, run, signal, tuyagw},
    wire::{Packet, puback, publish, publish_with_id, suback},
};

const TOPIC: &str = "gateway_id/gw1/commands";
const GOOD: &str = r#"{"t":1,"cid":"m1","request_id":"c1","param":{"id":"4","value":true}}"#;

/// Sends bytes once the subscriptions are granted.
fn heard(peer: &mut Peer, bytes: &[u8]) {
    peer.log_in();
    let id = peer.expect_subscribe();
    peer.send(&suback(id, &[1, 1, 1]));
    peer.send(bytes);
    peer.serve(|_| 0);
}

fn command(peer: &mut Peer, payload: &str) {
    heard(peer, &publish_with_id(2, TOPIC, 9, payload.as_bytes()));
}

const ONE: &[&str] = &["--answer", "success", "--count", "1", "--for", "20s"];

pub fn refused() -> Vec<Case> {
    vec![
        Case::listen("never sends SUBACK", 5, "0 records", |_, peer| {
            peer.log_in();
            peer.hold();
        })
        .says("no SUBACK in 1s"),
        Case::listen("sends SUBACK 0x80 for one of the topics", 4, "0 records", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 0x80, 1]));
            peer.hold();
        })
        .says("(SUBACK 0x80)"),
        Case::listen("sends DISCONNECT", 6, "0 records", |_, peer| heard(peer, &[0xe0, 0]))
            .says("DISCONNECT"),
        Case::listen("sends a topic that is not UTF-8", 6, "0 records", |_, peer| {
            heard(peer, b"\x30\x04\0\x02a\xff");
        }),
        Case::listen("sends nothing while `--for` lasts", 5, "0 records", |_, peer| heard(peer, &[]))
            .args(&["--count", "1", "--for", "500ms"]),
        Case::listen("never answers the report of a new value", 0, "1 record", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 1, 1]));
            peer.send(&publish_with_id(2, TOPIC, 9, GOOD.as_bytes()));
            while let Some(packet) = peer.receive() {
                if let Packet::Publish(publish) = packet {
                    peer.send(&puback(publish.id));
                }
            }
        })
        .args(&["--answer", "success", "--for", "300ms", "--timeout", "1h"])
        .says("listening ended before the answer came"),
    ]
}

pub fn commands() -> Vec<Case> {
    vec![
        Case::listen("a command without cid", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"request_id":"c1","param":{"id":"4","value":true}}"#);
        })
        .args(ONE),
        Case::listen("a command without `request_id`", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"cid":"m1","param":{"id":"4","value":true}}"#);
        })
        .args(ONE)
        .says("request_id is missing"),
        Case::listen("a command without `param`", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"cid":"m1","request_id":"c1"}"#);
        })
        .args(ONE),
        Case::listen("a command that is not JSON, with escape sequences", 0, "1 record", |_, peer| {
            command(peer, "\x1b[2J\u{202e}");
        })
        .args(ONE)
        .says("nothing is answered"),
        Case::listen("brackets 20,000 deep", 0, "1 record", |_, peer| command(peer, &"[".repeat(20_000)))
            .args(ONE),
        Case::listen("an empty, retained message", 0, "1 record", |_, peer| {
            heard(peer, &publish(1, TOPIC, b""));
        })
        .args(ONE),
        Case::listen("a command twice", 0, "2 records", |_, peer| {
            let twice = [9, 10].map(|id| publish_with_id(2, TOPIC, id, GOOD.as_bytes()));
            heard(peer, &twice.concat());
        })
        .args(&["--answer", "success", "--count", "2", "--for", "20s"]),
        Case::listen("1,000 commands at once", 0, "1000 records", |_, peer| {
            let flood = (1..=1000).map(|id: u16| {
                let payload = GOOD.replace("c1", &format!("c{id}"));
                publish_with_id(2, TOPIC, id, payload.as_bytes())
            });
            heard(peer, &flood.collect::<Vec<_>>().concat());
        })
        .args(&["--answer", "success", "--count", "1000", "--for", "20s"]),
    ]
}

/// Starts a subcommand that lasts, waits until it has said this, and ends it by SIGTERM; gives how it ended.
fn run_until(subcommand: &str, broker: &FakeBroker, args: &[&str], said: impl Fn(&str) -> bool) -> Ended {
    let mut command = gateway(subcommand, &broker.url(), args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !said(&text) {
        assert!(stderr.read_line(&mut text).unwrap() > 0, "it ended: {text}");
    }
    signal(child.id(), "TERM");
    let mut end = ended(child);
    stderr.read_to_string(&mut text).unwrap();
    end.stderr = text;
    end
}

/// A recorder has nothing better to do than to wait for the end of a rivalry or of an edge that restarts over and over.
#[test]
#[ignore = "slow: waits for five backoffs, twice"]
fn listen_and_rounds_warn_of_fruitless_connections_and_go_on() {
    let status = &["--every", "1s", "--online", "m1"][..];
    for (subcommand, args) in [("listen", &[][..]), ("status", status)] {
        let broker = FakeBroker::start(|_, peer| peer.log_in());
        let ended = run_until(subcommand, &broker, args, |said| said.contains("reconnecting in 30.0 s"));
        assert_eq!(ended.code, Some(143), "{}", ended.stderr);
        let lost: Vec<_> = ended.stderr.lines().filter(|line| line.contains("reconnecting in")).collect();
        assert_eq!(lost.len(), 5, "{}", ended.stderr);
        for said in
            ["lost 5 times in a row without progress, within ", "another client using the client id \"gw1\""]
        {
            assert!(lost[4].contains(said) && !lost[3].contains(said), "{}", ended.stderr);
        }
    }
}

/// Nine connections, each with one command and then its end: an arriving message is progress for a listener.
#[test]
fn an_arriving_message_is_progress_for_a_listener() {
    let broker = FakeBroker::start(|number, peer| {
        peer.log_in();
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1, 1, 1]));
        if number > 8 {
            return peer.hold();
        }
        peer.send(&publish_with_id(2, TOPIC, 9, GOOD.as_bytes()));
        peer.receive();
    });
    let ended = run_until("listen", &broker, &[], |said| said.matches("reconnecting in 0.1 s").count() == 9);
    assert_eq!((ended.code, ended.lines.len()), (Some(143), 9), "{}", ended.stderr);
    assert!(!ended.stderr.contains("in a row"), "{}", ended.stderr);
}

/// The first subscription must be granted in time; a broker that has granted it once may be slow at another time.
#[test]
fn a_listener_without_a_second_suback_goes_on() {
    let broker = FakeBroker::start(|number, peer| {
        peer.log_in();
        let id = peer.expect_subscribe();
        match number {
            0 => peer.send(&suback(id, &[1, 1, 1])),
            1 => peer.hold(),
            _ => {
                peer.send(&suback(id, &[1, 1, 1]));
                peer.hold();
            }
        }
    });
    let ended =
        run_until("listen", &broker, &["--timeout", "200ms"], |said| said.matches("listening").count() == 2);
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert!(ended.stderr.contains("sent no SUBACK in 200ms; reconnecting"), "{}", ended.stderr);
}

/// A platform waits seconds for an answer, not the hour that a thousand commands before it would take.
#[test]
fn commands_beyond_a_thousand_waiting_are_answered_busy() {
    let (answered, answers) = mpsc::channel::<Value>();
    let broker = FakeBroker::start(move |_, peer| {
        peer.log_in();
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1, 1, 1]));
        for n in 0..1101 {
            let request_id = format!("r{n}");
            let command =
                json!({"t": 1, "cid": "m1", "request_id": request_id, "param": {"id": "4", "value": true}});
            peer.send(&publish(0, TOPIC, command.to_string().as_bytes()));
        }
        while let Some(packet) = peer.receive() {
            if let Packet::Publish(answer) = packet {
                peer.send(&puback(answer.id));
                let _ = answered.send(answer.json());
            }
        }
    });
    let args = ["--exec-timeout", "1h", "--exec", "sleep", "3600"];
    let mut command = gateway("listen", &broker.url(), &args[..2]);
    let mut child = command.args(&args[2..]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let refused: Vec<_> = answers.iter().take(100).collect();
    for (n, answer) in refused.iter().enumerate() {
        assert_eq!(
            (&answer["request_id"], &answer["param"]["code"]),
            (&json!(format!("r{}", n + 1001)), &json!(500))
        );
        assert!(answer["param"]["msg"].as_str().unwrap().starts_with("busy"), "{answer}");
    }
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn an_unrunnable_program_exits_2_before_connecting() {
    for (program, says) in [
        ("./nofile", "No such file"),
        ("/", "is a folder"),
        (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "chmod +x"),
    ] {
        let ended =
            run(tuyagw().args(["listen", "-b", "127.0.0.1:1", "-g", "gw1", "-u", "u", "--exec", program]));
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
        assert!(ended.stderr.contains("error: --exec: ") && ended.stderr.contains(says), "{ended:#?}");
    }
}

/// A shell's script starts in the background what Ctrl-C is not meant for.
#[test]
fn an_ignored_sigint_ends_nothing() {
    let (wanted, is_wanted) = mpsc::channel::<()>();
    let broker = FakeBroker::start(move |_, peer| {
        peer.log_in();
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1, 1, 1]));
        let _ = is_wanted.recv();
        peer.send(&publish(0, TOPIC, GOOD.as_bytes()));
        peer.hold();
    });
    // A shell's background has SIGQUIT ignored as well; there SIGINT counts.
    let mut command = Command::new("env");
    command.args(["--default-signal=QUIT", "--ignore-signal=INT"]).arg(PROGRAM);
    command.args(["listen", "-b", &broker.url(), "-g", "gw1", "-u", "acme", "--count", "1"]);
    command.env("TUYAGW_CONFIG", "/dev/null").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    signal(child.id(), "INT");
    wanted.send(()).unwrap();
    let ended = ended(child);
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1), "{ended:#?}");
}
