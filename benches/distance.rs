//! A network in which the other end is far away.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The delay of each direction.
const EACH_WAY: Duration = Duration::from_millis(20);

/// The delay of both directions.
pub const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A port behind which another one of this machine is 20 ms away, for as long as the benchmark lasts.
///
/// TCP's own handshake is with this proxy and takes no time; so what a client sends first is taken as sent a round trip
/// after its connection, as it would have been.
pub fn port(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let established = Instant::now() + ROUND_TRIP;
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            carry(client.try_clone().unwrap(), server.try_clone().unwrap(), established);
            carry(server, client, established);
        }
    });
    port
}

/// Forwards bytes from one end to the other, each piece when it is due, and then the end.
fn carry(mut from: TcpStream, mut to: TcpStream, established: Instant) {
    to.set_nodelay(true).unwrap();
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // The other end may be gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let due = Instant::now().max(established) + EACH_WAY;
            if sender.send((due, bytes[..read].to_vec())).is_err() {
                break;
            }
        }
    });
}
