//! The source of a setting: flag, then environment, then profile, then default; and the errors of bad ones.

use std::{fs, path::Path, process::Command};

use crate::{
    fake_broker::FakeBroker,
    process::{Ended, run, run_with, tuyagw},
    wire::Packet,
};

/// CONNECT as a broker saw it.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    client_id: String,
    keep_alive: u16,
    username: Option<String>,
    password: Option<String>,
}

fn login(broker: &FakeBroker) -> Login {
    match broker.received().into_iter().rev().find_map(|(_, packet)| match packet {
        Packet::Connect { client_id, keep_alive, username, password, .. } => {
            Some(Login { client_id, keep_alive, username, password })
        }
        _ => None,
    }) {
        Some(login) => login,
        None => panic!("nobody connected"),
    }
}

fn report(args: &[&str], settings: impl FnOnce(&mut Command)) -> Ended {
    let mut command = tuyagw();
    command.args(["report", "--cid", "m1", "1=1"]).args(args);
    settings(&mut command);
    run(&mut command)
}

fn profile(folder: &Path, text: &str) -> String {
    let path = folder.join("config.toml");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_flag_overrides_environment_then_profile_then_default() {
    let broker = FakeBroker::kind();
    let folder = tempfile::tempdir().unwrap();
    let config = profile(
        folder.path(),
        &format!(
            "default-profile = \"site\"\n[profile.site]\nbroker = \"{}\"\ngateway-id = \"gw-p\"\n\
             username = \"profile\"\nkeep-alive = \"11s\"\n[profile.other]\nbroker = \"{}\"\n\
             gateway-id = \"gw-o\"\n",
            broker.url(),
            broker.url()
        ),
    );
    let of = |client_id: &str, keep_alive, username: Option<&str>| {
        let password =
            username.map(|username| tuyagw::tuya::derive_password(client_id, username).expose().to_owned());
        Login { client_id: client_id.into(), keep_alive, username: username.map(Into::into), password }
    };
    let seen = |args: &[&str], environment: &[(&str, &str)]| {
        let ended = report(args, |command| {
            command.env("TUYAGW_CONFIG", &config).envs(environment.iter().copied());
        });
        assert_eq!(ended.code, Some(0), "{args:?} {environment:?}: {ended:#?}");
        login(&broker)
    };
    assert_eq!(seen(&[], &[]), of("gw-p", 11, Some("profile")));
    assert_eq!(seen(&[], &[("TUYAGW_PROFILE", "other")]), of("gw-o", 60, None));
    assert_eq!(seen(&["--profile", "site"], &[("TUYAGW_PROFILE", "other")]), of("gw-p", 11, Some("profile")));
    let environment = [("TUYAGW_USERNAME", "env"), ("TUYAGW_GATEWAY_ID", "gw-e")];
    assert_eq!(seen(&[], &environment), of("gw-e", 11, Some("env")));
    let args = ["-u", "flag", "-g", "gw-f", "--keep-alive", "12s"];
    assert_eq!(seen(&args, &environment), of("gw-f", 12, Some("flag")));
    let other_id = seen(&["--client-id", "me"], &[("TUYAGW_CLIENT_ID", "env")]);
    assert_eq!(other_id, of("me", 11, Some("profile")));
}

#[test]
fn the_password_comes_from_flag_environment_or_profile_and_is_never_shown() {
    let broker = FakeBroker::start(|_, peer| {
        peer.expect_connect();
        peer.send(&[0x20, 2, 0, 4]);
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let (flag, env) = (write("flag", "s3cret-flag\n"), write("env", "s3cret-file-env\r\n"));
    write("profile", "s3cret-profile");
    let config = profile(
        folder.path(),
        &format!(
            "default-profile = \"p\"\n[profile.p]\nbroker = \"{}\"\ngateway-id = \"gw1\"\nusername = \"acme\"\n\
             password-file = \"profile\"\n",
            broker.url()
        ),
    );
    let direct = [("TUYAGW_PASSWORD", "s3cret-env")];
    let file = [("TUYAGW_PASSWORD_FILE", env.as_str()), direct[0]];
    for (args, environment, expected) in [
        (&[][..], &[][..], "s3cret-profile"),
        (&[], &direct[..], "s3cret-env"),
        (&[], &file[..], "s3cret-file-env"),
        (&["--password-file", flag.as_str()], &file[..], "s3cret-flag"),
    ] {
        let ended = report(args, |command| {
            command.env("TUYAGW_CONFIG", &config).envs(environment.iter().copied());
        });
        assert_eq!(ended.code, Some(4), "{ended:#?}");
        assert_eq!(login(&broker).password.as_deref(), Some(expected));
        assert!(!format!("{ended:?}").contains("s3cret"), "{ended:#?}");
    }
}

#[test]
fn the_platform_never_logs_in_as_the_gateway() {
    let broker = FakeBroker::kind();
    let mut command = tuyagw();
    command
        .args(["command", "-b", &broker.url(), "-g", "gw1", "--cid", "m1", "valve_open_degree=50"])
        .env("TUYAGW_CLIENT_ID", "gw1")
        .env("TUYAGW_USERNAME", "acme")
        .env("TUYAGW_PASSWORD", "s3cret");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let login = login(&broker);
    assert_eq!(login.username.as_deref(), Some("platform"));
    assert!(login.client_id.starts_with("tuyagw-"), "{login:?}");
    let derived = tuyagw::tuya::derive_password(&login.client_id, "platform");
    assert_eq!(login.password.as_deref(), Some(derived.expose()));
}

#[test]
fn topics_are_overridden_by_the_profile() {
    let broker = FakeBroker::kind();
    let folder = tempfile::tempdir().unwrap();
    let text =
        "[topics]\nreport = \"v2/{gateway_id}/up\"\nreport-response = \"v2/{gateway_id}/up/response\"\n";
    let config = profile(folder.path(), text);
    let args = ["-b", &broker.url(), "-g", "gw1", "--config", &config];
    let ended = report(&args, |_| {});
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(broker.publishes()[0].1.topic, "v2/gw1/up");
}

#[test]
fn a_bad_configuration_exits_2_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    for (text, says) in [
        ("[profile.p]\nbroker = 7\n", "line 2"),
        ("[profile.p]\n\nkeep-alive = \"soon\"\n", "line 3"),
        ("[profile.p]\nkeep-alive = \"1500ms\"\n", "line 2"),
        ("[profile.p]\nqos = 3\n", "line 2"),
        ("[profile.p]\nmax-packet = 10\n", "line 2"),
        ("[profile.p]\npassword = \"s3cret\"\n", "password-file"),
        ("[profile.p]\nfrobnicate = 1\n", "frobnicate"),
        ("[profile.p\n", "line 1"),
        ("[profile.q]\n", "no profile \"p\""),
        ("[profile.p]\n[topics]\nrepotr = \"x\"\n", "line 3: unknown topic `repotr`"),
        (
            "[profile.p]\n\nbroker = \"ftp://x\"\n",
            "line 3: broker: expected mqtt or mqtts as scheme; got \"ftp\"",
        ),
        ("[profile.p]\ngateway-id = \"a/b\"\n", "line 2: a gateway id"),
        ("[profile.p]\n[topics]\nreport = \"a/#\"\n", "report"),
        ("[profile.p]\npassword-file = \"none\"\n", "none"),
    ] {
        let config = profile(folder.path(), text);
        let ended = report(&["-b", "localhost:1", "-g", "g", "-u", "u", "--profile", "p"], |command| {
            command.env("TUYAGW_CONFIG", &config);
        });
        assert_eq!(ended.code, Some(2), "{text}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{text}: {}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
        assert!(ended.lines.is_empty());
        if !text.contains("password-file") {
            assert!(ended.stderr.contains("config.toml"), "{text}: {}", ended.stderr);
        }
    }
}

#[test]
fn the_system_s_file_is_read_if_the_user_has_none() {
    let broker = FakeBroker::kind();
    let folder = tempfile::tempdir().unwrap();
    let text = |id: &str| format!("[profile.p]\nbroker = \"{}\"\ngateway-id = \"{id}\"\n", broker.url());
    let system = profile(folder.path(), &text("system"));
    let user = folder.path().join("user/tuyagw");
    let report_as = |system: &str| {
        report(&["--profile", "p"], |command| {
            command
                .env_remove("TUYAGW_CONFIG")
                .env("TUYAGW_SYSTEM_CONFIG", system)
                .env("XDG_CONFIG_HOME", folder.path().join("user"));
        })
    };
    assert_eq!(report_as(&system).code, Some(0));
    assert_eq!(login(&broker).client_id, "system");
    let ended = report_as("/no/such/file");
    assert!(
        ended.code == Some(2)
            && ended.stderr.contains("user/tuyagw/config.toml and /no/such/file do not exist"),
        "{ended:#?}"
    );
    fs::create_dir_all(&user).unwrap();
    profile(&user, &text("user"));
    assert_eq!(report_as(&system).code, Some(0));
    assert_eq!(login(&broker).client_id, "user");
    // The user's file replaces the system's: profiles of the two are not mixed.
    profile(&user, "[profile.q]\n");
    let ended = report_as(&system);
    assert!(ended.code == Some(2) && ended.stderr.contains("has no profile \"p\""), "{ended:#?}");
}

/// Scripts and containers say "nothing" that way.
#[test]
fn an_empty_environment_variable_is_ignored() {
    let broker = FakeBroker::kind();
    let ended = report(&["-b", &broker.url(), "-g", "gw1"], |command| {
        for name in [
            "BROKER",
            "GATEWAY_ID",
            "CLIENT_ID",
            "USERNAME",
            "PASSWORD",
            "PASSWORD_FILE",
            "CA_FILE",
            "TIMEOUT",
            "TLS_SERVER_NAME",
            "PROFILE",
            "CONFIG",
        ] {
            command.env(format!("TUYAGW_{name}"), "");
        }
    });
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let login = login(&broker);
    assert_eq!((login.client_id.as_str(), login.username), ("gw1", None));
    let ended = report(&["-g", "gw1"], |command| {
        command.env("TUYAGW_BROKER", "");
    });
    assert!(ended.code == Some(2) && ended.stderr.contains("no broker is given"), "{ended:#?}");
}

#[test]
fn a_bad_setting_exits_2_before_connecting() {
    for args in [
        &["-b", "localhost:1"][..],
        &["-g", "gw1"],
        &["-b", "http://localhost", "-g", "gw1"],
        &["-b", "mqtt://me:s3cret@localhost", "-g", "gw1"],
        &["-b", "localhost:1", "-g", "a/b"],
        &["-b", "localhost:1", "-g", "+"],
        &["-b", "localhost:1", "-g", ""],
        &["-b", "localhost:1", "-g", "gw1", "--keep-alive", "70000s"],
        &["-b", "localhost:1", "-g", "gw1", "--timeout", "9999999999h"],
        &["-b", "mqtts://localhost:1", "-g", "gw1", "--ca-file", "no/such.pem"],
        &["-b", "mqtts://localhost:1", "-g", "gw1", "--tls-server-name", "a b"],
        &["-b", "localhost:1", "-g", "gw1", "--password-file", "no/such"],
        &["-b", "localhost:1", "-g", "gw1", "--password-file", "/dev/null"],
        &["-b", "localhost:1", "-g", "gw1", "--profile", "p"],
    ] {
        let ended = report(args, |_| {});
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:#?}");
        assert!(ended.lines.is_empty(), "{args:?}: {ended:#?}");
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
        assert!(ended.stderr.contains("error"), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn quiet_leaves_only_errors() {
    let broker = FakeBroker::kind();
    let ended = report(&["2=1", "-q", "-b", &broker.url(), "-g", "gw1"], |_| {});
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
}

/// The person who names an authority expects encryption, and would send the password in the clear.
#[test]
fn tls_settings_without_mqtts_exit_2_and_name_their_source() {
    let broker = FakeBroker::kind();
    let folder = tempfile::tempdir().unwrap();
    let config = profile(folder.path(), "[profile.p]\nca-file = \"ca.pem\"\ntls-insecure = false\n");
    let address = ["-b", &broker.url(), "-g", "gw1"];
    for (args, variable, says) in [
        (&["--ca-file", "ca.pem"][..], None, "error: --ca-file is for TLS"),
        (&["--tls-server-name", "edge"], None, "error: --tls-server-name is for TLS"),
        (&["--tls-insecure"], None, "error: --tls-insecure is for TLS"),
        (&[], Some("CA_FILE"), "error: --ca-file (from TUYAGW_CA_FILE) is for TLS"),
        (&[], Some("TLS_SERVER_NAME"), "error: --tls-server-name (from TUYAGW_TLS_SERVER_NAME) is for TLS"),
        (&["--profile", "p", "--config", &config], None, "error: --ca-file (ca-file in "),
    ] {
        let args = [&address, args].concat();
        let ended = report(&args, |command| {
            if let Some(variable) = variable {
                command.env(format!("TUYAGW_{variable}"), "edge");
            }
        });
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{args:?}: {ended:#?}");
        assert!(ended.stderr.contains(says) && ended.stderr.contains("Write mqtts://"), "{ended:#?}");
        if variable.is_none() {
            let tap = ["tap", "--listen", "127.0.0.1:0", "-b", &broker.url()];
            let tapped = run(tuyagw().args(tap).args(&args[address.len()..]));
            assert!(tapped.code == Some(2) && tapped.stderr.contains(says), "{tapped:#?}");
        }
    }
    assert!(broker.received().is_empty());
}

#[test]
fn a_login_with_invisible_characters_exits_2_before_connecting() {
    let folder = tempfile::tempdir().unwrap();
    let config = profile(
        folder.path(),
        "[profile.user]\nusername = \"acme\\r\"\n[profile.client]\nclient-id = \" gw1\"\n\
         [profile.gateway]\ngateway-id = \"gw1 \"\n",
    );
    let place = ["-b", "127.0.0.1:1", "--config", &config];
    let variables = |name: &'static str| {
        move |command: &mut Command| {
            command.env(name, "acme\r");
        }
    };
    let none = |_: &mut Command| {};
    for (args, set, says) in [
        (
            &["-g", "gw1", "-u", "acme\r"][..],
            &none as &dyn Fn(&mut Command),
            r#"--username: "acme\r" must not contain"#,
        ),
        (&["-g", "gw1", "-u", "acme\n"], &none, r"--username"),
        (&["-g", "gw1", "-u", " acme"], &none, r#"--username: " acme" must not begin or end with ' '"#),
        (&["-g", "gw1", "--client-id", "gw1\u{a0}"], &none, r"--client-id"),
        (&["-g", "gw1"], &variables("TUYAGW_USERNAME"), r#"--username (from TUYAGW_USERNAME): "acme\r""#),
        (&["-g", "gw1"], &variables("TUYAGW_CLIENT_ID"), "--client-id (from TUYAGW_CLIENT_ID)"),
        (&["-u", "acme"], &variables("TUYAGW_GATEWAY_ID"), "--gateway-id (from TUYAGW_GATEWAY_ID)"),
        (
            &["-g", "gw1", "-u", "u"],
            &variables("TUYAGW_PASSWORD"),
            r"TUYAGW_PASSWORD: the password must not contain",
        ),
        (&["-g", "gw1", "--profile", "user"], &none, "--username (username in "),
        (&["-g", "gw1", "--profile", "client"], &none, "--client-id (client-id in "),
        (&["--profile", "gateway"], &none, "--gateway-id (gateway-id in "),
    ] {
        let ended = report(&[&place, args].concat(), set);
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{args:?}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{args:?}: {says}: {}", ended.stderr);
    }
}

#[test]
fn a_password_file_of_windows_is_read_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let broker = FakeBroker::kind();
    let args = ["-b", &broker.url(), "-g", "gw1", "-u", "acme", "--password-file", file.to_str().unwrap()];
    fs::write(&file, "\u{feff}s3cret\r\n").unwrap();
    assert_eq!(report(&args, |_| {}).code, Some(0));
    assert_eq!(login(&broker).password.as_deref(), Some("s3cret"));
    for text in ["s3cret\r\nmore\r\n", "", "\r\n"] {
        fs::write(&file, text).unwrap();
        let ended = report(&args, |_| {});
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
        assert!(
            !ended.stderr.contains("s3cret") && ended.stderr.contains("--password-file"),
            "{}",
            ended.stderr
        );
    }
}

/// As the shell's `<(…)` gives it: its bytes are there once.
#[test]
fn a_configuration_from_a_pipe_is_read_once() {
    let broker = FakeBroker::kind();
    let told = format!(
        "default-profile = \"p\"\n[profile.p]\nbroker = \"{}\"\ngateway-id = \"gw1\"\n",
        broker.url()
    );
    let args = ["replay", "--config", "/dev/stdin", "--from", "2020-01-01T00:00:00Z", "/dev/null"];
    let replayed = run_with(tuyagw().args(args), told.as_bytes());
    assert!(!replayed.stderr.contains("no broker is given"), "{}", replayed.stderr);
    let args = ["report", "--config", "/dev/stdin", "--cid", "m1", "1=1"];
    assert_eq!(run_with(tuyagw().args(args), told.as_bytes()).code, Some(0));
    let wrong = run_with(tuyagw().args(args), b"# one\n# two\n[profile.p]\nqos = 7\n");
    assert!(wrong.code == Some(2) && wrong.stderr.contains("/dev/stdin, line 4: "), "{wrong:#?}");
}

#[test]
fn a_ca_file_without_line_breaks_exits_2_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one-line.pem");
    let text = rcgen::generate_simple_self_signed(["edge".to_owned()]).unwrap().cert.pem();
    fs::write(&file, text.replace('\n', "")).unwrap();
    let file = file.to_str().unwrap();
    let ended = report(&["-q", "-b", "mqtts://127.0.0.1:1", "-g", "gw1", "--ca-file", file], |_| {});
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    let said = format!(
        "error: --ca-file: {file} has lost its line breaks: the certificate must begin on a line of its own\n"
    );
    assert!(ended.stderr.starts_with(&said), "{}", ended.stderr);
    assert!(ended.stderr.len() - file.len() < 200, "{}", ended.stderr);
}
