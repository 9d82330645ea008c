//! A proxy between client and edge that breaks connections at given bytes: closed, reset, stalled, half-closed, slow.
#![allow(clippy::print_stdout, reason = "a seed repeats a run")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;

use crate::{
    process::{Service, gateway, reports, run, run_with},
    site::syncs,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Reset,
    /// Both sockets stay open, and nothing more passes.
    Stall,
    /// The direction ends; the other goes on.
    HalfClose,
}

/// How the proxy treats one direction of a connection.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// After how many bytes it ends, and how; `None` if it does not end.
    end: Option<(usize, End)>,
    /// How much is forwarded at once, and how long after it came.
    chunk: usize,
    delay: Duration,
}

const CLEAN: Way = Way { end: None, chunk: 1 << 16, delay: Duration::ZERO };

fn ends(after: usize, end: End) -> Way {
    Way { end: Some((after, end)), ..CLEAN }
}

struct Chaos {
    port: u16,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

impl Chaos {
    /// A proxy to the edge; `plan` gives a connection's way up and its way down, by its number.
    fn start(edge: &Service, mut plan: impl FnMut(usize) -> [Way; 2] + Send + 'static) -> Self {
        let target = edge.url.split_once("://").unwrap().1.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&connections), Arc::clone(&stopping));
        thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let [up, down] = plan(count.fetch_add(1, Ordering::SeqCst));
                // An edge that has gone closes the connection.
                let Ok(edge) = TcpStream::connect(&target) else { continue };
                let link = Arc::new(Link::new(client.unwrap(), edge));
                let other = Arc::clone(&link);
                thread::spawn(move || link.pump(&link.client, &link.edge, up));
                thread::spawn(move || other.pump(&other.edge, &other.client, down));
            }
        });
        Self { port, connections, stopping }
    }

    fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One connection; its sockets close once both directions have let go of it.
struct Link {
    client: TcpStream,
    edge: TcpStream,
    is_over: AtomicBool,
    is_stalled: AtomicBool,
}

impl Link {
    fn new(client: TcpStream, edge: TcpStream) -> Self {
        for stream in [&client, &edge] {
            stream.set_nodelay(true).unwrap();
            // How soon one direction notices what became of the other.
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        }
        Self { client, edge, is_over: AtomicBool::new(false), is_stalled: AtomicBool::new(false) }
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, way: Way) {
        let mut left = way.end.map_or(usize::MAX, |(after, _)| after);
        let mut is_open = true;
        let mut bytes = vec![0; way.chunk];
        while !self.is_over.load(Ordering::SeqCst) {
            if left == 0 && is_open {
                is_open = false;
                match way.end {
                    Some((_, End::Close)) => break,
                    Some((_, End::Reset)) => {
                        for stream in [from, to] {
                            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                        }
                        break;
                    }
                    Some((_, End::HalfClose)) => drop(to.shutdown(Shutdown::Write)),
                    Some((_, End::Stall)) => self.is_stalled.store(true, Ordering::SeqCst),
                    None => {}
                }
            }
            let length = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => length.min(left),
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            thread::sleep(way.delay);
            if is_open && !self.is_stalled.load(Ordering::SeqCst) && to.write_all(&bytes[..length]).is_err() {
                break;
            }
            left -= length;
        }
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn edge() -> Service {
    let edge = Service::edge(&[]);
    let devices = syncs(1000);
    let args = ["-", "--window", "500", "--timeout", "20s", "--connect-timeout", "20s"];
    let synced = run_with(&mut gateway("sync", &edge.url, &args), devices.as_bytes());
    assert_eq!(synced.code, Some(0), "{}", synced.stderr);
    edge
}

fn chosen(dice: &mut Rng, number: usize) -> [Way; 2] {
    let mut ways = [CLEAN; 2];
    for way in &mut ways {
        (way.chunk, way.delay) = *dice
            .choice(&[(1 << 16, 0), (1 << 16, 5), (1000, 1), (7, 0)])
            .map(|(chunk, delay)| (*chunk, Duration::from_millis(*delay)))
            .as_ref()
            .unwrap();
    }
    // The later ones pass, and of five that follow each other some last for more than a few answers.
    if number < 15 {
        let least = if number.is_multiple_of(3) { 20_000 } else { 0 };
        let end = *dice.choice(&[End::Close, End::Reset, End::Stall, End::HalfClose]).unwrap();
        ways[dice.usize(..2)].end = Some((dice.usize(least..40_000), end));
    }
    ways
}

/// `CHAOS_SEED` repeats a run.
#[test]
#[ignore = "slow: cuts connections over and over"]
fn cuts_at_random_places_lose_nothing() {
    let seed = std::env::var("CHAOS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CHAOS_SEED={seed} repeats this run");
    let edge = edge();
    let mut dice = Rng::with_seed(seed);
    // Connection 0 logs in: whatever breaks the first attempt is final.
    let proxy = Chaos::start(&edge, move |number| match number {
        0 => [CLEAN, ends(20_000, End::Close)],
        _ => chosen(&mut dice, number),
    });
    let args = ["-", "--window", "50", "--keep-alive", "1s", "--timeout", "50s", "--connect-timeout", "20s"];
    let ended = run_with(&mut gateway("report", &proxy.url(), &args), reports(1000).as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let indexes: BTreeSet<_> = ended.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!((ended.lines.len(), indexes.len()), (1000, 1000), "{}", ended.stderr);
    assert!(proxy.connections() > 2, "{}", ended.stderr);
    // Resent messages are equal to the first ones.
    let mut ids = BTreeMap::<String, BTreeSet<String>>::new();
    for record in edge.end("TERM").lines.iter().filter(|record| record["kind"] == "report") {
        let payload = &record["payload"];
        let cid = payload["param"]["cid"].to_string();
        ids.entry(cid).or_default().insert(payload["request_id"].to_string());
    }
    assert_eq!(ids.len(), 1000);
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
}

/// A first connection without CONNACK is final; after it, the request is sent again and answered.
#[test]
#[ignore = "slow: cuts connections over and over"]
fn a_cut_in_any_phase_loses_nothing() {
    let edge = edge();
    let runs = |down: bool, places: &[usize], end: End, expected: &dyn Fn(usize) -> i32| {
        for &place in places {
            let proxy = Chaos::start(&edge, move |number| match number {
                0 if down => [CLEAN, ends(place, end)],
                0 => [ends(place, end), CLEAN],
                _ => [CLEAN; 2],
            });
            let args = ["--cid", "m1", "water_flow=1", "--timeout", "20s", "--connect-timeout", "20s"];
            let ended = run(&mut gateway("report", &proxy.url(), &args));
            let way = if down { "down" } else { "up" };
            assert_eq!(ended.code, Some(expected(place)), "{end:?} after {place} bytes {way}: {ended:#?}");
            assert_eq!(ended.line()["ok"], expected(place) == 0);
        }
    };
    // CONNACK, SUBACK, PUBACK, and the answer's first bytes and more.
    for end in [End::Close, End::Reset, End::HalfClose] {
        let places = [0, 1, 3, 4, 5, 8, 9, 11, 13, 14, 20, 60, 100];
        runs(true, &places, end, &|place| if place < 4 { 3 } else { 0 });
    }
    // CONNECT, and SUBSCRIBE and PUBLISH once it is accepted.
    let connect = 2 + 10 + (2 + "gw1".len()) + (2 + "acme".len()) + (2 + 32);
    let places = [0, 1, 30, connect - 1, connect + 1, connect + 20, connect + 60, connect + 100];
    for end in [End::Close, End::Reset] {
        runs(false, &places, end, &|place| if place < connect { 3 } else { 0 });
    }
}
