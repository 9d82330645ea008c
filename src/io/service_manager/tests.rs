use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::error::Exit;

/// A service manager's notify socket at a path.
fn notify_socket(folder: &Path) -> (UnixDatagram, ServiceManager) {
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    (socket, ServiceManager::new(Some(path.into()), None).unwrap())
}

fn received(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn each_state_is_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, manager) = notify_socket(folder.path());
    manager.ready().unwrap();
    manager.status("connected to mqtt://edge:21883").unwrap();
    manager.feed_watchdog().unwrap();
    manager.stopping().unwrap();
    assert_eq!(received(&socket), "READY=1");
    assert_eq!(received(&socket), "STATUS=connected to mqtt://edge:21883");
    assert_eq!(received(&socket), "WATCHDOG=1");
    assert_eq!(received(&socket), "STOPPING=1");
}

#[test]
fn a_reload_says_when_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, manager) = notify_socket(folder.path());
    let now = || {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    };
    let before = now();
    manager.reloading().unwrap();
    let message = received(&socket);
    let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!((before..=now()).contains(&time), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_socket_is_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("tuyagw-notify-{}", process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = ServiceManager::new(Some(format!("@{name}").into()), None).unwrap();
    manager.ready().unwrap();
    assert_eq!(received(&socket), "READY=1");
}

#[test]
fn a_status_is_one_line_of_bounded_length() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, manager) = notify_socket(folder.path());
    manager.status("refused\nMAINPID=1").unwrap();
    manager.status(&"ü".repeat(3000)).unwrap();
    assert_eq!(received(&socket), "STATUS=refused\\u{a}MAINPID=1");
    assert_eq!(received(&socket), format!("STATUS={}", "ü".repeat(LONGEST_STATUS / 2)));
}

#[test]
fn without_a_service_manager_nothing_is_said() {
    for address in [None, Some("".into())] {
        let manager = ServiceManager::new(address, Some(Duration::from_secs(1))).unwrap();
        manager.ready().unwrap();
        manager.reloading().unwrap();
        assert_eq!(manager.watchdog(), None);
    }
}

#[test]
fn a_service_manager_that_has_gone_is_an_error_and_may_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, manager) = notify_socket(folder.path());
    drop(socket);
    let failure = manager.ready().unwrap_err();
    assert!(failure.message.starts_with("cannot notify the service manager: "), "{}", failure.message);
    std::fs::remove_file(folder.path().join("notify")).unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.ready().unwrap();
    assert_eq!(received(&socket), "READY=1");
}

#[test]
fn a_service_manager_that_does_not_read_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_socket, manager) = notify_socket(folder.path());
    let is_full = (0..1_000_000).any(|_| manager.feed_watchdog().is_err());
    assert!(is_full);
}

#[test]
fn an_address_that_is_none_is_refused() {
    for wrong in ["notify", "vsock:2:9999", &"/x".repeat(100)] {
        let failure = ServiceManager::new(Some(wrong.into()), None).unwrap_err();
        assert!(failure.message.starts_with("NOTIFY_SOCKET "), "{}", failure.message);
        // The unit does not restart a service that ends with this.
        assert_eq!(failure.kind.exit(), Exit::USAGE);
    }
}

#[test]
fn the_watchdog_is_fed_twice_as_often_as_it_looks() {
    let seconds = |n| Some(Duration::from_secs(n));
    for (microseconds, process, expected) in [
        (Some("30000000"), Some("7"), seconds(15)),
        (Some("30000000"), None, seconds(15)),
        (Some("30000000"), Some("8"), None),
        (Some("30000000"), Some(""), None),
        (Some("0"), None, None),
        (Some("soon"), None, None),
        (Some(""), None, None),
        (None, Some("7"), None),
    ] {
        assert_eq!(watchdog_interval(microseconds, process, 7), expected, "{microseconds:?} {process:?}");
    }
    // Never 0, which would feed it without pause.
    assert_eq!(watchdog_interval(Some("1"), None, 7), Some(Duration::from_micros(1)));
}

/// The role of this test's program, as a process that a service manager starts.
const ROLE: &str = "SERVICE_MANAGER_TEST_ROLE";

/// Starts this test binary for one test, as a service manager does: with `socket` as descriptor 3 and its own process id in
/// LISTEN_PID. The variables of a test process cannot be changed without `unsafe` code.
fn activate(test: &str, socket: impl Into<Stdio>, variables: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec 3<&0 </dev/null; {variables} exec \"$@\""))
        .arg("sh")
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("{}::{test}", module_path!().split_once("::").unwrap().1), "--nocapture"])
        .env(ROLE, "service")
        .stdin(socket);
    command
}

#[test]
fn an_activated_socket_is_taken_and_not_passed_on() {
    if env::var_os(ROLE).is_some() {
        let listener = activated_socket().unwrap().expect("a socket");
        let (mut stream, _) = listener.accept().unwrap();
        // The shell has its own process id, and shows what it has inherited.
        let variables = Command::new("sh").args(["-c", "echo $LISTEN_FDS; : <&3"]).output().unwrap();
        stream.write_all(&variables.stdout).unwrap();
        writeln!(stream, "inherits it: {}", variables.status.success()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = std::os::fd::OwnedFd::from(listener);
    let mut service =
        activate("an_activated_socket_is_taken_and_not_passed_on", socket, "LISTEN_PID=$$ LISTEN_FDS=1")
            .spawn()
            .unwrap();
    let mut said = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut said).unwrap();
    assert!(service.wait().unwrap().success());
    assert_eq!(said, "\ninherits it: false\n");
}

#[test]
fn sockets_of_another_process_or_of_another_kind_are_not_taken() {
    if let Some(expected) = env::var_os(ROLE) {
        let found = match activated_socket() {
            Ok(None) => "none".to_owned(),
            Ok(Some(_)) => "taken".to_owned(),
            Err(failure) => failure.message,
        };
        assert!(found.contains(expected.to_str().unwrap()), "{found}");
        return;
    }
    for (variables, expected) in [
        ("LISTEN_PID=1 LISTEN_FDS=1", "none"),
        ("LISTEN_FDS=1", "none"),
        ("LISTEN_PID=$$", "none"),
        ("LISTEN_PID=$$ LISTEN_FDS=0", "none"),
        ("LISTEN_PID=$$ LISTEN_FDS=2", "passed 2 sockets, expected one"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "fd 3 is not a valid unix stream socket"),
    ] {
        let socket = std::os::fd::OwnedFd::from(UnixDatagram::unbound().unwrap());
        let test = "sockets_of_another_process_or_of_another_kind_are_not_taken";
        let output = activate(test, socket, variables).env(ROLE, expected).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{variables}: {said}");
    }
}
