//! `edge -- PROGRAM`: the program ends with the edge, however that ends, and shares its terminal.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::run_quietly;
use crate::process::{PROGRAM, ended, is_installed, run, signal, tuyagw, until};

/// A program with a child of its own; both write down their ids and would go on for long.
const FAMILY: &str = "sleep 60 & echo $! > child; echo $$ > parent; mv parent program; wait";

/// The id that a program wrote down.
fn id(folder: &Path, name: &str) -> u32 {
    let file = folder.join(name);
    until(name, || file.exists());
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

fn is_alive(id: u32) -> bool {
    // A zombie, which in a container may have no reaper, is dead.
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn until_ready(child: &mut Child) {
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
}

#[test]
fn a_failed_recording_ends_the_program_and_its_descendants() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("tuyagw sync -q --cid m1 --product-id p > synced; {FAMILY}");
    // `setsid`, so that a developer's terminal is not the program's.
    let ended = run(Command::new("setsid")
        .args(["--wait", PROGRAM, "edge", "--out", "/dev/full", "--", "sh", "-c"])
        .arg(format!("({script}) & wait"))
        .current_dir(&folder));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let told: Vec<&str> = ended.stderr.lines().collect();
    // The program's own words may stand between.
    let place = |text: &str| told.iter().position(|line| line.starts_with(text));
    let places = (place("warning: the edge cannot go on"), place("error: cannot write /dev/full"));
    assert!(matches!(places, (Some(before), Some(after)) if before < after), "{told:?}");
    for name in ["child", "program"] {
        if folder.path().join(name).exists() {
            assert!(!is_alive(id(folder.path(), name)), "{name} goes on");
        }
    }
}

/// A limit on file sizes is as good as a full disk.
#[test]
fn a_full_disk_for_the_registry_ends_the_program_and_loses_no_answered_device() {
    let folder = tempfile::tempdir().unwrap();
    let device = |n| format!("{{\"cid\":\"m{n}\",\"product_id\":\"p\"}}\n");
    let devices = (0..200).map(device).collect::<Vec<_>>().concat();
    fs::write(folder.path().join("devices.jsonl"), devices).unwrap();
    // The limit is the edge's alone: results go through `cat`.
    let script = "tuyagw sync -q --no-reconnect devices.jsonl 2>/dev/null | cat; sleep 60";
    let mut command = Command::new("setsid");
    let limited = "ulimit -S -f 8; exec \"$0\" edge --devices fleet.jsonl -- sh -c \"$1\"";
    command.args(["--wait", "sh", "-c", limited, PROGRAM, script]);
    let ended = run(command.current_dir(&folder));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("error: cannot write fleet.jsonl"), "{}", ended.stderr);
    let known = fs::read_to_string(folder.path().join("fleet.jsonl")).unwrap();
    let answered = ended.lines.iter().filter(|line| line["ok"] == true);
    for line in answered {
        let cid = format!("\"cid\":{}", line["cid"]);
        assert!(known.contains(&cid), "{cid} was answered with 0");
    }
}

#[test]
fn a_killed_edge_ends_the_program_and_its_descendants() {
    let folder = tempfile::tempdir().unwrap();
    // Without a terminal, so that the program has a group of its own.
    let mut setsid = Command::new("setsid")
        .args(["--wait", PROGRAM, "edge", "--", "sh", "-c", FAMILY])
        .current_dir(&folder)
        .spawn()
        .unwrap();
    let (program, descendant) = (id(folder.path(), "program"), id(folder.path(), "child"));
    assert!(is_alive(program) && is_alive(descendant));
    let status = fs::read_to_string(format!("/proc/{program}/stat")).unwrap();
    let edge = status.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    signal(edge, "KILL");
    setsid.wait().unwrap();
    until("the end of the program", || !is_alive(program));
    until("the end of its child", || !is_alive(descendant));
}

#[test]
fn a_stopped_program_acts_on_a_signal() {
    let mut child = tuyagw()
        .args([
            "edge",
            "--",
            "sh",
            "-c",
            "trap 'exit 9' TERM; echo $$ > id; echo ready; kill -STOP $$; sleep 60",
        ])
        .current_dir(tempfile::tempdir().unwrap().keep())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until_ready(&mut child);
    signal(child.id(), "TERM");
    let code = ended(child).code;
    // The shell may have been signalled before it stopped itself.
    assert!(matches!(code, Some(9 | 143)), "{code:?}");
}

#[test]
#[ignore = "slow: a program that ignores SIGTERM has 5 s"]
fn a_program_that_ignores_sigterm_is_killed() {
    let mut command = tuyagw();
    command.args(["edge", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_ready(&mut child);
    signal(child.id(), "TERM");
    assert_eq!(ended(child).code, Some(137));
}

#[test]
fn a_missing_program_exits_2() {
    let ended = run(tuyagw().args(["edge", "--listen", "127.0.0.1:0", "--"]));
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0));
    assert!(ended.stderr.contains("no PROGRAM follows --"), "{}", ended.stderr);
}

#[test]
fn an_edge_on_all_addresses_warns_and_gives_its_program_a_usable_one() {
    let mut hosts = vec![("0.0.0.0", "127.0.0.1")];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.push(("[::]", "[::1]"));
    }
    for (listen, expected) in hosts {
        let script = "echo \"{\\\"url\\\":\\\"$TUYAGW_BROKER\\\"}\"; tuyagw sync -q --cid m1 --product-id p";
        let ended =
            run(tuyagw().args(["edge", "--listen", &format!("{listen}:0"), "--", "sh", "-c", script]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let url = ended.lines[0]["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("mqtt://{expected}:")), "{url}");
        assert!(ended.stderr.contains("can be reached from other machines"), "{}", ended.stderr);
    }
}

#[test]
fn a_username_of_both_kinds_is_refused() {
    for args in
        [&["--username", "platform"][..], &["--username", "a", "--username", "b", "--platform-username", "b"]]
    {
        let ended = run(tuyagw().args(["edge", "--listen", "127.0.0.1:0"]).args(args).args(["--", "true"]));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("--platform-username"), "{}", ended.stderr);
    }
}

/// What a terminal's user types, and what must have appeared before.
const TERMINAL: &str = r#"
import os, pty, select, signal, sys, time
signal.alarm(60)
def play(script, *turns):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", script])
    seen = b""
    for expected, typed in turns:
        end = time.time() + 20
        while expected not in seen:
            ready = select.select([fd], [], [], max(0, end - time.time()))[0]
            if not ready: sys.exit("no %r in %r" % (expected, seen))
            try: seen += os.read(fd, 4096)
            except OSError: sys.exit("ended without %r: %r" % (expected, seen))
        os.write(fd, typed)
    while True:
        try: more = os.read(fd, 4096)
        except OSError: break
        if not more: break
        seen += more
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen

edge = "echo piped | exec tuyagw edge -- sh -c "
code, seen = play(edge + "'read x; echo got $x; stty -echo </dev/tty; echo ask; read y </dev/tty; echo got $y'", (b"ask", b"blue\n"))
assert code == 0 and b"got piped" in seen and b"got blue" in seen, (code, seen)
# The keyboard's SIGINT comes once, to the program and to the edge, which waits for the program.
code, seen = play("trap : INT; tuyagw edge -- sh -c 'trap \"echo once; exit 5\" INT; echo ready; while :; do sleep 0.05; done'; echo code $?", (b"ready", b"\x03"))
assert seen.count(b"once") == 1 and b"code 5" in seen, (code, seen)
# A signal from elsewhere comes as well.
code, seen = play("set -m; tuyagw edge -- sh -c 'trap \"echo told; exit 6\" INT; echo ready; while :; do sleep 0.05; done' & sleep 0.3; until kill -INT $!; do sleep 0.1; done; wait $!; echo code $?", (b"code 6", b""))
assert b"told" in seen, (code, seen)
# Ctrl-Z stops both, and fg goes on with both.
code, seen = play("set -m; tuyagw edge -- sh -c 'trap \"echo resumed; exit 7\" CONT; echo ready; while :; do sleep 0.05; done'; until ps -eo stat=,args= | grep -q '^T[^ ]* *sh -c trap.*[e]cho resumed'; do sleep 0.05; done; fg; echo code $?", (b"ready", b"\x1a"))
assert b"resumed" in seen and b"code 7" in seen, (code, seen)
"#;

#[test]
fn a_program_shares_the_terminal_and_its_signals() {
    if !is_installed("python3") {
        return;
    }
    let folder = Path::new(PROGRAM).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(folder.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let played = Command::new("python3").args(["-c", TERMINAL]).env("PATH", path.unwrap()).output().unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
}

#[test]
fn a_program_gets_the_edge_s_address_and_sets_the_status() {
    let run = |script: &str| {
        tuyagw()
            .args(["edge", "--", "sh", "-c", script])
            .env_remove("TUYAGW_CONFIG")
            .env("TUYAGW_PROFILE", "none")
            .env("TUYAGW_PASSWORD", "secret")
            .output()
            .unwrap()
    };
    let output = run("env | grep ^TUYAGW_ | sort; command -v tuyagw; exit 7");
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("TUYAGW_BROKER=mqtt://127.0.0.1:"), "{text}");
    assert_eq!(
        lines[1..5],
        [
            "TUYAGW_CONFIG=/dev/null",
            "TUYAGW_GATEWAY_ID=gw001",
            "TUYAGW_PLATFORM_USERNAME=platform",
            "TUYAGW_USERNAME=acme"
        ]
    );
    assert_eq!(lines[5], PROGRAM);
    assert_eq!(lines.len(), 6);
    assert_eq!(run("kill -9 $$").status.code(), Some(137));
    assert_eq!(run("cat >/dev/null && echo ok").stdout, b"ok\n");
    assert_eq!(run_quietly(&["edge", "--", "no-such-program"]).status.code(), Some(127));
    assert_eq!(run("tuyagw sync --cid m1 --product-id p1").status.code(), Some(0));
    assert_eq!(run("tuyagw report --cid m1 water_flow=1").status.code(), Some(1));
}

#[test]
fn a_signal_reaches_the_program() {
    let mut child = tuyagw()
        .args(["edge", "--", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(9));
}
