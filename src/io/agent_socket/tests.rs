use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn find_in(folder: &Path) -> Result<AgentPresence, String> {
    find(&[folder.to_owned()], "a").map_err(|failure| failure.message)
}

#[test]
fn no_socket_and_no_lock_is_absent() {
    let folder = folder();
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Absent));
    assert_eq!(find_in(&folder.path().join("missing")), Ok(AgentPresence::Absent));
}

#[test]
fn a_bound_socket_is_present_until_it_is_dropped() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let socket = AgentSocket::bind(Some(&path), "", None).unwrap();
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Present(path.clone())));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    drop(socket);
    assert!(!path.exists() && path.with_extension("lock").exists());
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Absent));
}

#[test]
fn a_second_agent_is_refused_and_disturbs_nothing() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let _first = AgentSocket::bind(Some(&path), "", None).unwrap();
    let second = AgentSocket::bind(Some(&path), "", None).unwrap_err();
    assert!(second.message.contains("another agent runs"), "{}", second.message);
    assert_eq!(second.kind.exit(), crate::error::Exit::USAGE);
    assert!(path.exists());
}

#[test]
fn a_socket_that_was_left_over_is_absent_and_replaced() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Absent));
    let _socket = AgentSocket::bind(Some(&path), "", None).unwrap();
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Present(path)));
}

#[test]
fn a_held_lock_without_a_socket_is_present() {
    let folder = folder();
    let lock = File::create(folder.path().join("a.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Present(folder.path().join("a.sock"))));
}

#[test]
fn a_socket_that_a_service_manager_holds_is_present() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Present(path)));
}

#[test]
fn an_activated_socket_is_linked_by_its_name() {
    let folder = folder();
    let activated = folder.path().join("profile.sock");
    let listener = UnixListener::bind(&activated).unwrap();
    let socket = AgentSocket::activated(listener.try_clone().unwrap(), "a").unwrap();
    assert_eq!(fs::read_link(folder.path().join("a.sock")).unwrap(), Path::new("profile.sock"));
    assert_eq!(find_in(folder.path()), Ok(AgentPresence::Present(folder.path().join("a.sock"))));
    drop(socket);
    assert!(activated.exists() && !folder.path().join("a.sock").exists());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = folder();
    let _socket = AgentSocket::bind(Some(&folder.path().join("a.sock")), "", None).unwrap();
    let open = folder.path();
    fs::set_permissions(open, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(check_folder(open).unwrap_err().contains("its mode is 770"));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(open, &link).unwrap();
    assert!(check_folder(&link).unwrap_err().contains("is not a folder"));
    assert!(check_folder(Path::new("/proc/self/missing")).is_err());
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let folder = folder();
    let victim = folder.path().join("victim");
    std::os::unix::fs::symlink(&victim, folder.path().join("a.lock")).unwrap();
    let failure = AgentSocket::bind(Some(&folder.path().join("a.sock")), "", None).unwrap_err();
    assert!(failure.message.contains("a.lock"), "{}", failure.message);
    assert!(!victim.exists());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_refused() {
    let folder = folder();
    let path = folder.path().join("x".repeat(100)).with_extension("sock");
    let failure = AgentSocket::bind(Some(&path), "", None).unwrap_err();
    assert!(failure.message.contains("expected 107 at most"), "{}", failure.message);
}
