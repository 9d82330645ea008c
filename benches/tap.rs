//! What the recording proxy adds to a message's way, beside a proxy that copies bytes.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use crate::{
    Options,
    generator::Fleet,
    process::{Server, tuyagw},
    table::{Goal, Table, median},
};

pub fn measure(options: &Options, table: &mut Table) {
    let edge = Server::edge();
    let tap = Server::start(|port| {
        let mut command = tuyagw("tap");
        command.args(["-q", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--broker", &format!("127.0.0.1:{}", edge.port)]);
        command
    });
    let ways = [edge.port, tap.port, copying(edge.port)];
    let (mut trips, mut rates) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    let (few, many) = (options.size(2000), options.size(100_000));
    for _ in 0..options.rounds(5) {
        for ((port, trips), rates) in ways.iter().zip(&mut trips).zip(&mut rates) {
            let mut fleet = Fleet::connect(*port, 1);
            fleet.synchronise();
            trips.push(median(fleet.stop_and_wait(few)));
            rates.push(many as f64 / fleet.report(many, 100).as_secs_f64());
        }
    }
    let [direct, tapped, copied] = trips.map(median);
    let [_, tap_rate, copy_rate] = rates.map(median);
    let peer = Some(("copying proxy", copied - direct));
    let goal = Goal::PeerAtMost(1.3);
    table.add("tap", "`tap`, added to a report's round trip, p50", "us", tapped - direct, peer, goal);
    let peer = Some(("copying proxy", copy_rate));
    table.add("tap", "`edge` through `tap`, 1 × 100 in flight, rate", "/s", tap_rate, peer, Goal::None);
}

/// A proxy that copies bytes without decoding them.
fn copying(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            copy(client.try_clone().unwrap(), server.try_clone().unwrap());
            copy(server, client);
        }
    });
    port
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        // The other end may be gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
}
