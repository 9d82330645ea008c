//! Slow readers and writers, and bounded memory.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::Duration,
};

use crate::{
    process::{PROGRAM, ended},
    site::{Site, syncs, until},
};

fn started(site: &Site, args: &[&str]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut run = site.gateway("sync", args);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = run.stdin.take().unwrap();
    let stdout = BufReader::new(run.stdout.take().unwrap());
    (run, stdin, stdout)
}

/// The most memory that a process has held, in kB.
fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends so many lines through a run that ends with a code, and gives the most memory that it held.
fn memory_of(
    site: &Site,
    lines: usize,
    args: &[&str],
    line: impl Fn(usize) -> String + Sync,
    code: i32,
) -> u64 {
    let (run, mut stdin, mut stdout) = started(site, args);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for chunk in 0..lines / 1000 {
                let chunk = (0..1000).map(|n| line(chunk * 1000 + n));
                stdin.write_all(chunk.collect::<String>().as_bytes()).unwrap();
            }
            stdin
        });
        let mut result = String::new();
        for n in 0..lines {
            result.clear();
            assert!(stdout.read_line(&mut result).unwrap() > 0, "{n} results");
            assert_eq!(result.contains("\"ok\":true"), code == 0, "{result}");
        }
        // It waits for more.
        let peak = peak(run.id());
        drop(writer.join().unwrap());
        assert_eq!(ended(run).code, Some(code));
        peak
    })
}

#[test]
#[ignore = "slow: sends 100,000 lines"]
fn memory_does_not_grow_with_the_input() {
    if !std::path::Path::new("/proc/self/status").exists() {
        return;
    }
    let site = Site::start(&[]);
    let device = |n| format!("{{\"cid\":\"m{n}\",\"product_id\":\"p\"}}\n");
    for args in [&["-", "--window", "100", "--ordered"][..], &["-", "--no-wait", "--window", "100"]] {
        let memory = |lines| memory_of(&site, lines, args, device, 0);
        let (few, many) = (memory(2000), memory(40_000));
        assert!(many <= few + 8 * 1024 && many <= 32 * 1024, "{few} kB, then {many} kB: {args:?}");
    }
}

/// Positions and quotes are kept per row, and dropped with each row, valid or not.
#[test]
#[ignore = "slow: sends 100,000 lines"]
fn memory_does_not_grow_with_invalid_rows() {
    if !std::path::Path::new("/proc/self/status").exists() {
        return;
    }
    let site = Site::start(&[]);
    let filling = "x".repeat(100);
    for fault in ["m,p,,", "\"m\"\"\"m,p", "\"m\"m,\"p\"p"] {
        let row = |n| {
            let header = if n == 0 { "cid,product_id,device_name\n" } else { "" };
            format!("{header}{fault},{filling}\n")
        };
        let memory = |lines| memory_of(&site, lines, &["-", "--format", "csv"], row, 2);
        let (few, many) = (memory(2000), memory(60_000));
        assert!(many <= few + 4 * 1024, "{few} kB, then {many} kB: {fault}");
    }
}

#[test]
#[ignore = "slow: fills a pipe, and waits for its reader"]
fn a_run_continues_after_a_stalled_reader() {
    const LINES: usize = 20_000;
    let site = Site::start(&[]);
    let (run, mut stdin, mut stdout) = started(&site, &["-", "--window", "500", "--keep-alive", "1s"]);
    let writer = thread::spawn(move || stdin.write_all(syncs(LINES).as_bytes()).is_ok());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    // Longer than the broker's patience with a silent client.
    thread::sleep(Duration::from_millis(2500));
    let mut count = 1;
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        assert!(line.contains("\"ok\":true"), "{line}");
        count += 1;
        line.clear();
    }
    assert!(writer.join().unwrap());
    let ended = ended(run);
    assert_eq!((ended.code, count), (Some(0), LINES), "{}", ended.stderr);
    assert!(!ended.stderr.contains("reconnecting"), "{}", ended.stderr);
}

#[test]
fn a_slow_writer_gets_each_result_as_it_comes() {
    let site = Site::start(&[]);
    let (run, mut stdin, mut stdout) = started(&site, &["-", "--ordered"]);
    for n in 0..30 {
        // In two pieces, neither of which is a line.
        write!(stdin, "{{\"cid\":\"m{n}\",").unwrap();
        stdin.flush().unwrap();
        thread::sleep(Duration::from_millis(5));
        writeln!(stdin, "\"product_id\":\"p\"}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"m{n}\"")) && line.contains("\"ok\":true"), "{line}");
    }
    drop(stdin);
    assert_eq!(ended(run).code, Some(0));
}

/// Both ends of one program that writes all before it reads anything, as `tuyagw sync` between two pipes of a
/// script may be used.
#[test]
#[ignore = "slow: sends 100,000 lines"]
fn a_hundred_thousand_lines_at_once_have_a_result_each() {
    const LINES: usize = 100_000;
    let site = Site::start(&[]);
    let (run, mut stdin, mut stdout) = started(&site, &["-", "--no-wait", "--qos", "0", "--window", "1000"]);
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).unwrap();
        text.iter().filter(|byte| **byte == b'\n').count()
    });
    stdin.write_all(syncs(LINES).as_bytes()).unwrap();
    drop(stdin);
    let ended = ended(run);
    assert_eq!((ended.code, reader.join().unwrap()), (Some(0), LINES), "{}", ended.stderr);
}

/// SIGHUP ends a run like SIGTERM, unless it is ignored, as under `nohup`.
#[test]
fn a_hangup_ends_a_run_unless_it_is_ignored() {
    let site = Site::start(&[]);
    for (ignored, code) in [(false, Some(143)), (true, Some(0))] {
        let binary = PROGRAM;
        // The tests themselves may run under `nohup`.
        let disposition = if ignored { "--ignore-signal=HUP" } else { "--default-signal=HUP" };
        let mut run = std::process::Command::new("env");
        run.args([disposition, binary, "sync", "-b", &site.broker(), "-g", "gw1", "-u", "acme"]);
        run.args(["--timeout", "30s", "-"]).env("TUYAGW_CONFIG", "/dev/null");
        let mut run =
            run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = run.stdin.take().unwrap();
        let mut stdout = BufReader::new(run.stdout.take().unwrap());
        let mut line = String::new();
        stdin.write_all(syncs(1).as_bytes()).unwrap();
        stdout.read_line(&mut line).unwrap();
        crate::process::signal(run.id(), "HUP");
        if ignored {
            stdin.write_all(syncs(1).as_bytes()).unwrap();
            stdout.read_line(&mut line).unwrap();
            assert_eq!(line.lines().count(), 2, "{line}");
        } else {
            until("the end", || run.try_wait().unwrap().is_some());
        }
        drop(stdin);
        assert_eq!(ended(run).code, code);
    }
}
