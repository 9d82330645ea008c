//! The agent's spool by itself: how fast it takes and gives entries, how quickly a full one opens, and what it takes of memory.
//!
//! Each figure is of a process of its own, this program again, because memory that was freed once still counts.

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tuyagw::{
    io::spool::{Spool, SpoolOptions},
    spool::{SpoolEntry, SpoolKind},
};

use crate::{
    Options,
    table::{Goal, Table, median},
    traffic::{PAYLOAD, report},
};

/// The variable that makes this program do one thing with a spool: `fill`, `open` or `drain`, the number of entries, the folder.
const TASK: &str = "TUYAGW_BENCH_SPOOL";

/// The devices of the gateway.
const DEVICES: usize = 10_000;

/// So many entries are appended by a process that ends without closing its spool.
const KILLED: usize = 10_000;

/// How many entries are given and unfinished, as the agent's `--window`.
const IN_FLIGHT: usize = 256;

pub fn measure(options: &Options, table: &mut Table) {
    for exponent in [3, 5, 7] {
        let count = options.size(10_usize.pow(exponent));
        let folder = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let of = |task: &str| again(task, count, folder.path());
        let (append, append_memory) = of("fill");
        let opens: Vec<_> = (0..options.rounds(11)).map(|_| of("open")).collect();
        let open = median(opens.iter().map(|(time, _)| time * 1e3).collect());
        let _ = again("kill", KILLED, folder.path());
        let (open_killed, _) = again("open", count, folder.path());
        let (drain, drain_memory) = again("drain", count + KILLED, folder.path());
        let memory = append_memory.max(drain_memory) / 1e6;
        let rate = |count: usize, seconds: f64| count as f64 / seconds;
        table.add("spool", format!("{count} entries, append"), "/s", rate(count, append), None, Goal::None);
        table.add(
            "spool",
            format!("{count} entries, open to first entry"),
            "ms",
            open,
            None,
            Goal::AtMost(20.0),
        );
        let killed = open_killed * 1e3;
        table.add("spool", format!("{count} entries, open after a kill"), "ms", killed, None, Goal::None);
        table.add(
            "spool",
            format!("{count} entries, drain"),
            "/s",
            rate(count + KILLED, drain),
            None,
            Goal::None,
        );
        table.add("spool", format!("{count} entries, memory"), "MB", memory, None, Goal::AtMost(32.0));
    }
}

/// Does one task, if this process is there for one.
pub fn is_task() -> bool {
    env::var(TASK).inspect(|task| run(task)).is_ok()
}

/// Runs this program for one task; its seconds and its largest resident size.
fn again(task: &str, count: usize, folder: &Path) -> (f64, f64) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg("spool").env(TASK, format!("{task} {count} {}", folder.display()));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("spool: ")).unwrap();
    let (seconds, memory) = line.split_once(' ').unwrap();
    (seconds.parse().unwrap(), memory.parse().unwrap())
}

fn run(task: &str) {
    let [task, count, folder] = task.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let (count, folder) = (count.parse().unwrap(), Path::new(folder));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let time = runtime.block_on(async {
        let begun = Instant::now();
        let (mut spool, warnings) = Spool::open(folder, SpoolOptions { max_bytes: 1 << 40 }).unwrap();
        assert_eq!(warnings, [""; 0]);
        match task {
            "fill" | "kill" => {
                fill(&mut spool, count).await;
                if task == "kill" {
                    println!("spool: 0 0");
                    std::process::abort();
                }
                begun.elapsed()
            }
            "open" => {
                while spool.poll_next().is_none() {
                    spool.changed().await;
                }
                begun.elapsed()
            }
            _ => drain(&mut spool, count, begun).await,
        }
    });
    println!("spool: {} {}", time.as_secs_f64(), largest_size());
}

/// Appends reports, a thousand of them unacknowledged.
async fn fill(spool: &mut Spool, count: usize) {
    let (mut appended, mut stored) = (0, 0);
    while stored < count {
        while appended < count && appended - stored < 1000 {
            let cid = format!("meter-{:06}", appended % DEVICES);
            let entry = SpoolEntry {
                kind: SpoolKind::Report,
                topic: "gateway_id/gw1/devices/report".into(),
                payload: report(&cid, PAYLOAD).into(),
                devices: vec![cid.into()],
                request_id: format!("5b2f4a0e-0000-4000-8000-{appended:012}").into(),
                given: 1_785_000_000_000_000,
            };
            spool.append(entry).unwrap();
            appended += 1;
        }
        spool.changed().await;
        while let Some(commit) = spool.poll_commit() {
            commit.outcome.as_ref().unwrap();
            stored += commit.count() as usize;
        }
    }
}

/// Gives all entries, as to an edge that answers at once.
async fn drain(spool: &mut Spool, count: usize, begun: Instant) -> Duration {
    let mut given = Vec::new();
    for done in 0..count {
        loop {
            match spool.poll_next() {
                Some(entry) => given.push(entry.id),
                None if given.is_empty() => spool.changed().await,
                None => break,
            }
            if given.len() >= IN_FLIGHT {
                break;
            }
        }
        if done % 1000 == 0 {
            black_box(spool.holds(&format!("meter-{:06}", done / 1000)));
            black_box(spool.holds(&format!("other-{done}")));
        }
        spool.finish(given.swap_remove(done % given.len()));
    }
    assert!(spool.is_empty());
    begun.elapsed()
}

/// The largest resident size of this process, in bytes.
fn largest_size() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
