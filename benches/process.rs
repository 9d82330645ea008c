//! Whole processes: how long they take, and how much of a core.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::TimeValLike as _,
};

use crate::{
    command::{LIMIT, PROGRAM, isolated},
    table::median,
    traffic::USERNAME,
};

/// What a process cost.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From before it was started until it was waited for.
    pub wall: Duration,
    /// User and system time of all its threads and of the processes it waited for.
    pub cpu: Duration,
    /// The largest resident size seen, in bytes; a process that lives for a few milliseconds is not seen.
    pub peak: u64,
}

impl Run {
    /// The medians of several runs, each figure by itself.
    pub fn medians(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            wall: Duration::from_secs_f64(of(|run| run.wall.as_secs_f64())),
            cpu: Duration::from_secs_f64(of(|run| run.cpu.as_secs_f64())),
            peak: of(|run| run.peak as f64) as u64,
        }
    }

    pub fn wall_ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }

    pub fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }

    /// Things done in a second of wall-clock time.
    pub fn rate(&self, count: usize) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of a core for each thing.
    pub fn cpu_us(&self, count: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count as f64
    }

    pub fn peak_mib(&self) -> f64 {
        self.peak as f64 / f64::from(1 << 20)
    }
}

impl std::ops::Add for Run {
    type Output = Self;

    /// One process after the other.
    fn add(self, next: Self) -> Self {
        Self { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, peak: self.peak.max(next.peak) }
    }
}

/// The program as it was built for this benchmark, without the developer's settings.
pub fn tuyagw(subcommand: &str) -> Command {
    let mut command = isolated(Command::new(PROGRAM));
    command.arg(subcommand).stdout(Stdio::null());
    command
}

/// tuyagw as the gateway gw1 of a broker on this machine.
pub fn gateway(subcommand: &str, port: u16) -> Command {
    gateway_of(&format!("127.0.0.1:{port}"), subcommand)
}

/// tuyagw as the gateway gw1 of a broker, as `--broker` names it.
pub fn gateway_of(broker: &str, subcommand: &str) -> Command {
    let mut command = tuyagw(subcommand);
    command.args(["-q", "-b", broker, "-g", "gw1", "-u", USERNAME]);
    command
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Run {
    let before = children();
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let peak = Peak::watch(child.id());
    let status = child.wait().unwrap();
    let wall = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    Run { wall, cpu: children().saturating_sub(before), peak: peak.end() }
}

/// Runs a command whose start is all that is measured: nothing watches it, and its exit status says nothing.
pub fn run_briefly(command: &mut Command) -> Run {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let before = children();
    let start = Instant::now();
    command.status().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    Run { wall: start.elapsed(), cpu: children().saturating_sub(before), peak: 0 }
}

/// The largest resident size of a short process in bytes, measured by `time`; `None` without that program.
pub fn peak_of(command: &Command) -> Option<u64> {
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-f", "%M"]).arg(command.get_program()).args(command.get_args()).stdout(Stdio::null());
    let output = timed.output().ok()?;
    let kib: u64 = String::from_utf8_lossy(&output.stderr).lines().last()?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A process that serves others until it is stopped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// An edge whose records go to the null device.
    pub fn edge() -> Self {
        Self::start(|port| {
            let mut command = tuyagw("edge");
            command.args(["-q", "--listen", &format!("127.0.0.1:{port}")]);
            command
        })
    }

    /// Starts a command on a free port, and waits until it accepts connections.
    pub fn start(command: impl FnOnce(u16) -> Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child =
            command(port).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < LIMIT, "nothing listens on {port}");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, port }
    }

    /// Microseconds of user and system time so far, in the kernel's steps of a hundredth of a second.
    pub fn cpu_us(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 * 1e4
    }

    /// The resident size in bytes.
    pub fn resident(&self) -> u64 {
        status(self.child.id(), "VmRSS:").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file for the stdout of a process.
pub fn stdout_to(path: &std::path::Path) -> Stdio {
    File::create(path).unwrap().into()
}

/// Ten thousand connections need as many files, at both ends.
pub fn raise_file_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// User and system time of all children that were waited for.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(us.unsigned_abs())
}

/// A size out of /proc/PID/status, in bytes.
fn status(process: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix(field))?.trim().trim_end_matches(" kB").parse::<u64>();
    kib.ok().map(|kib| kib << 10)
}

/// Polls a process's peak of memory until it ends, because wait4's figure includes its parent's.
struct Peak {
    ended: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    watcher: thread::JoinHandle<()>,
}

impl Peak {
    fn watch(process: u32) -> Self {
        let (ended, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (its_end, seen) = (Arc::clone(&ended), Arc::clone(&most));
        let watcher = thread::spawn(move || {
            let mut pause = Duration::from_millis(2);
            while !its_end.load(Ordering::Relaxed) {
                if let Some(bytes) = status(process, "VmHWM:") {
                    seen.store(bytes, Ordering::Relaxed);
                }
                thread::park_timeout(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        });
        Self { ended, most, watcher }
    }

    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.watcher.thread().unpark();
        self.watcher.join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}
