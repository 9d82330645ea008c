//! The figures: as a Markdown table for people, as JSON for programs.

use std::{fmt, fs, path::Path, process::Command};

use serde_json::json;

/// What a figure must reach, by tuyagw's own aims.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Nothing was set.
    None,
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so many times the peer's figure.
    PeerAtMost(f64),
    /// At least so many times the peer's figure.
    PeerAtLeast(f64),
}

impl Goal {
    fn words(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("≤ {}", number(limit)),
            Self::AtLeast(limit) => format!("≥ {}", number(limit)),
            Self::PeerAtMost(times) => format!("≤ {times} × peer"),
            Self::PeerAtLeast(times) => format!("≥ {times} × peer"),
        }
    }

    fn met(self, ours: f64, peer: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(limit) => Some(ours <= limit),
            Self::AtLeast(limit) => Some(ours >= limit),
            Self::PeerAtMost(times) => peer.map(|peer| ours <= times * peer),
            Self::PeerAtLeast(times) => peer.map(|peer| ours >= times * peer),
        }
    }
}

/// One figure.
#[derive(Debug)]
struct Row {
    theme: &'static str,
    workload: String,
    unit: &'static str,
    ours: f64,
    peer: Option<(String, f64)>,
    goal: Goal,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure, with the peer's if there is one.
    pub fn add(
        &mut self,
        theme: &'static str,
        workload: impl Into<String>,
        unit: &'static str,
        ours: f64,
        peer: Option<(&str, f64)>,
        goal: Goal,
    ) {
        let peer = peer.map(|(name, figure)| (name.to_owned(), figure));
        self.rows.push(Row { theme, workload: workload.into(), unit, ours, peer, goal });
    }

    /// Writes `target/bench.json`.
    pub fn save(&self, quick: bool) {
        let rows = self.rows.iter().map(|row| {
            let (peer, figure) = row.peer.clone().unzip();
            json!({
                "theme": row.theme, "workload": row.workload, "unit": row.unit, "tuyagw": row.ours,
                "peer": peer, "peer_figure": figure, "ratio": figure.map(|figure| row.ours / figure),
                "target": row.goal.words(), "met": row.goal.met(row.ours, figure),
            })
        });
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
        let run = json!({
            "version": env!("CARGO_PKG_VERSION"), "quick": quick, "optimised": !cfg!(debug_assertions),
            "cores": cores(), "load": load(), "peers": peers(), "rows": rows.collect::<Vec<_>>(),
        });
        fs::write(&file, format!("{run:#}\n")).unwrap();
        eprintln!("written to target/bench.json");
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cores, load {}; {}\n", cores(), load(), peers().join(", "))?;
        writeln!(f, "| workload | unit | tuyagw | peer | ratio | target |")?;
        writeln!(f, "| --- | --- | ---: | ---: | ---: | --- |")?;
        for row in &self.rows {
            let figure = row.peer.as_ref().map(|(_, figure)| *figure);
            let peer = row
                .peer
                .as_ref()
                .map(|(name, figure)| format!("{name}: {}", number(*figure)))
                .unwrap_or_default();
            let ratio = figure.map(|figure| format!("{:.2}", row.ours / figure)).unwrap_or_default();
            let met = match row.goal.met(row.ours, figure) {
                None => "",
                Some(true) => " (met)",
                Some(false) => " (missed)",
            };
            let Row { workload, unit, ours, goal, .. } = row;
            writeln!(
                f,
                "| {workload} | {unit} | {} | {peer} | {ratio} | {}{met} |",
                number(*ours),
                goal.words()
            )?;
        }
        Ok(())
    }
}

/// The middle of several figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Three digits that mean something, with commas between thousands.
fn number(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => {
            let digits = format!("{figure:.0}");
            let groups: Vec<_> =
                digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
            groups.join(",")
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The machine's load average of the last minute, which says how far a figure can be trusted.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The peers that are installed, with their versions.
fn peers() -> Vec<String> {
    let versions = [("mosquitto", "-h"), ("mosquitto_sub", "--help")];
    let version = |(program, option): (&str, &str)| {
        let output = Command::new(program).arg(option).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find(|line| line.starts_with(program) && line.contains("version"))?;
        Some(format!("{program} {}", version.split("version ").nth(1)?.split(' ').next()?))
    };
    versions.into_iter().filter_map(version).collect()
}
