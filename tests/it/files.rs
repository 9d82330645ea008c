//! No part of a run destroys the file of another part, whatever subcommand and however the file is named.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
};

use crate::{
    process::{ended, run, tuyagw},
    site::{Site, json_lines, syncs},
};

const RECORD: &str = "{\"v\":1,\"tst\":\"2026-11-22T07:22:00.123456Z\",\"topic\":\"gateway_id/gw1/commands\",\"qos\":1,\
    \"retain\":0,\"payloadlen\":2,\"dir\":\"down\",\"kind\":\"command\",\"mono_us\":1,\"payload\":{}}\n";

/// Runs a command line in a folder and wants it refused, with every file of the folder as it was.
fn refused(folder: &Path, args: &[&str]) {
    let content = || {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = content();
    let ended = run(tuyagw().args(args).current_dir(folder));
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{args:?}: {ended:?}");
    assert!(
        ended.stderr.contains("same file") && ended.stderr.contains("hint:"),
        "{args:?}: {}",
        ended.stderr
    );
    assert_eq!(content(), before, "{args:?}");
}

#[test]
fn a_file_of_the_run_is_never_replaced_or_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("in.jsonl", &syncs(1));
    write("rec.jsonl", RECORD);
    write("devices.jsonl", "{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\n");
    write("model.json", "{\"dps\":[{\"id\":1,\"code\":\"a\",\"type\":\"bool\"}]}");
    write("secret", "secret\n");
    write("ca.pem", "");
    write(
        "config.toml",
        "default-profile = \"a\"\n[profile.a]\npassword-file = \"secret\"\nca-file = \"ca.pem\"\n",
    );
    symlink("in.jsonl", folder.path().join("link")).unwrap();
    fs::hard_link(folder.path().join("rec.jsonl"), folder.path().join("hard")).unwrap();
    let at = ["-b", "127.0.0.1:1", "-g", "gw1", "-u", "acme"];
    let requests: &[(&str, &[&str])] = &[
        ("sync", &["in.jsonl", "--summary", "in.jsonl"]),
        ("sync", &["in.jsonl", "--summary", "./link"]),
        ("sync", &["in.jsonl", "--journal", "link"]),
        ("sync", &["in.jsonl", "--journal", "new", "--summary", "new"]),
        ("sync", &["in.jsonl", "--password-file", "secret", "--summary", "secret"]),
        ("sync", &["in.jsonl", "--ca-file", "ca.pem", "--journal", "ca.pem"]),
        ("sync", &["in.jsonl", "--config", "config.toml", "--summary", "config.toml"]),
        ("sync", &["in.jsonl", "--config", "config.toml", "--summary", "secret"]),
        ("sync", &["in.jsonl", "--config", "config.toml", "--journal", "ca.pem"]),
        ("report", &["in.jsonl", "--summary", "in.jsonl"]),
        ("report", &["in.jsonl", "--model", "model.json", "--summary", "model.json"]),
        ("status", &["in.jsonl", "--summary", "in.jsonl"]),
        ("listen", &["--out", "devices.jsonl", "--devices", "devices.jsonl"]),
        ("listen", &["--out", "model.json", "--model", "model.json"]),
    ];
    for (subcommand, args) in requests {
        refused(folder.path(), &[&[*subcommand], &at[..], args].concat());
    }
    refused(folder.path(), &["command", "-b", "127.0.0.1:1", "in.jsonl", "--summary", "in.jsonl"]);
    let tap = ["tap", "--listen", "127.0.0.1:0", "-b", "127.0.0.1:1"];
    refused(folder.path(), &[&tap[..], &["--out", "rec.jsonl", "--summary", "hard"]].concat());
    refused(
        folder.path(),
        &[&tap[..], &["--tls-cert", "ca.pem", "--tls-key", "secret", "--summary", "secret"]].concat(),
    );
    refused(folder.path(), &["edge", "--listen", "127.0.0.1:0", "--devices", "new", "--out", "new"]);
    refused(folder.path(), &["edge", "--devices", "devices.jsonl", "--out", "devices.jsonl", "--", "true"]);
    refused(folder.path(), &["inspect", "rec.jsonl", "--html", "rec.jsonl"]);
    refused(folder.path(), &["inspect", "rec.jsonl", "--html", "hard"]);
    refused(folder.path(), &["inspect", "rec.jsonl", "--model", "model.json", "--html", "model.json"]);
}

#[test]
fn a_redirected_stream_is_a_file_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.jsonl");
    fs::write(&input, syncs(1)).unwrap();
    let open = || OpenOptions::new().read(true).append(true).open(&input).unwrap();
    let sync = |args: &[&str]| {
        let mut command = tuyagw();
        command.args(["sync", "-b", "127.0.0.1:1", "-g", "gw1", "-u", "acme"]).args(args);
        command.current_dir(folder.path()).stderr(Stdio::piped());
        command
    };
    let name = input.to_str().unwrap();
    for mut command in [
        sync(&["--summary", name]),
        // The run would read its own output, endlessly.
        sync(&[name]),
        sync(&["-", "--journal", name]),
    ] {
        let reads_stdin =
            !command.get_args().any(|arg| arg == name) || command.get_args().any(|arg| arg == "-");
        if reads_stdin {
            command.stdin(open()).stdout(Stdio::piped());
        } else {
            command.stdout(open());
        }
        let ended = ended(command.spawn().unwrap());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("same file"), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(&input).unwrap(), syncs(1));
    }
}

#[test]
fn a_summary_is_written_at_the_end_and_in_one_step() {
    let site = Site::start(&[]);
    let file = site.write("summary.json", "of a former run\n");
    let ended = site.run_with("sync", &["-", "--summary", &file, "--journal", "/dev/full"], syncs(1));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(site.read("summary.json"), "of a former run\n", "a run that did not begin leaves it alone");
    let ended = site.run_with("sync", &["-", "--summary", &file], syncs(3));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(json_lines(&site.read("summary.json"))[0]["accepted"], 3);
    // Beside the results, not over them.
    let results = site.path("results");
    let mut sync = site.gateway("sync", &["--cid", "m1", "--product-id", "p", "--summary", "/dev/stdout"]);
    let status = sync.stdout(fs::File::create(&results).unwrap()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    let lines = json_lines(&site.read("results"));
    assert_eq!((lines.len(), &lines[0]["ok"], &lines[1]["accepted"]), (2, &true.into(), &1.into()));
    assert!(site.run_with("sync", &["-", "--summary", "/dev/null"], syncs(1)).code == Some(0));
}

#[test]
fn a_wrapped_file_is_refused_by_every_option_that_reads_text() {
    let folder = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> =
        "\u{feff}default-profile = \"a\"\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wrapped: [(&str, &[u8], &str); 3] = [
        ("utf16", &utf16, "text in UTF-16"),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc\n", "compressed with gzip"),
        ("zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a ZIP archive"),
    ];
    let at = [("BROKER", "127.0.0.1:1"), ("GATEWAY_ID", "gw1"), ("USERNAME", "acme")];
    let commands: &[&[&str]] = &[
        &["report", "--cid", "m1", "1=1", "--journal"],
        &["report", "--cid", "m1", "1=1", "--config"],
        &["report", "--cid", "m1", "1=1", "--password-file"],
        &["report", "--cid", "m1", "1=1", "--model"],
        &["report", "--cid", "m1", "1=1", "-b", "mqtts://127.0.0.1:1", "--ca-file"],
        &["listen", "--answer", "success", "--devices"],
        &["listen", "--out"],
        &["edge", "--listen", "127.0.0.1:0", "--devices"],
        &["edge", "--listen", "127.0.0.1:0", "--out"],
        &["edge", "--listen", "127.0.0.1:0", "--tls-key", "/dev/null", "--tls-cert"],
        &["tap", "--listen", "127.0.0.1:0", "--tls-key", "/dev/null", "--tls-cert"],
        &["tap", "--listen", "127.0.0.1:0", "--out"],
        &["command", "--cid", "m1", "1=1", "--platform-password-file"],
    ];
    for (name, bytes, what) in wrapped {
        fs::write(folder.path().join(name), bytes).unwrap();
        for args in commands {
            let mut command = tuyagw();
            command.current_dir(folder.path()).args(*args).arg(name);
            command.envs(at.map(|(option, value)| (format!("TUYAGW_{option}"), value)));
            let ended = run(&mut command);
            assert_eq!(ended.code, Some(2), "{args:?} {name}: {}", ended.stderr);
            assert!(ended.stderr.contains(name) && ended.stderr.contains(what), "{args:?}: {}", ended.stderr);
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), bytes, "{args:?}");
        }
    }
}

/// A run that was killed in the middle of a write to `>> FILE`.
#[test]
fn appended_lines_start_a_new_line_after_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("site.jsonl"), RECORD).unwrap();
    for args in [
        &["password", "-g", "gw1", "-u", "acme"][..],
        &["explain", "2003", "--json"],
        &["model", "--json"],
        &["convert", "site.jsonl"],
        &["convert", "--to", "csv", "site.jsonl"],
        &["inspect", "--json", "site.jsonl"],
        &["replay", "--dry-run", "site.jsonl"],
        &["tap", "--listen", "127.0.0.1:0", "-b", "127.0.0.1:1", "--for", "10ms", "--out", "new.jsonl"],
    ] {
        for (before, between) in [("{\"whole\":1}\n", ""), ("{\"tor", "\n")] {
            let file = folder.path().join("results");
            fs::write(&file, before).unwrap();
            let mut command = tuyagw();
            command.current_dir(folder.path()).args(args).stdin(Stdio::null()).stderr(Stdio::null());
            command.stdout(OpenOptions::new().append(true).open(&file).unwrap());
            assert_eq!(command.status().unwrap().code(), Some(0), "{args:?}");
            let text = fs::read_to_string(&file).unwrap();
            let added = text.strip_prefix(before).unwrap();
            let line = added.strip_prefix(between).unwrap_or_else(|| panic!("{args:?}: {text}"));
            assert!(!line.is_empty() && !line.starts_with('\n'), "{args:?}: {text}");
        }
    }
}
