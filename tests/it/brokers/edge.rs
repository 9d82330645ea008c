//! The platform's end behind a broker, in a few lines.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;

use crate::wire::{Connect, Publish, frame, publish, subscribe};

/// Answers every request that comes through a broker with 0, and every command in the gateway's place.
pub struct Edge {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Edge {
    /// Is there once it returns, and again whenever the broker comes back.
    pub fn behind(port: u16) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let stop = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                    answer_all(stream, &stop, &ready);
                } else {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        is_ready.recv().expect("the edge is subscribed");
        Self { stopping, thread: Some(thread) }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_all(mut stream: TcpStream, stop: &AtomicBool, ready: &mpsc::Sender<()>) {
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let connect =
        Connect { client_id: "edge", username: None, password: None, clean: true, keep_alive: 0, will: None };
    let filters = ["devices/sync", "properties/report", "commands"];
    let filters = filters.map(|end| (format!("gateway_id/+/{end}"), 0));
    let hello = [connect.bytes(), subscribe(1, &filters)].concat();
    if stream.write_all(&hello).is_err() {
        return;
    }
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
            Err(why)
                if matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
            Err(_) => return,
        }
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some((first, body, length)) = frame(&buffer[at..]) {
            match first {
                0x90 => drop(ready.send(())),
                0x30 => {
                    let request = Publish::parse(first, body);
                    let message = request.json();
                    let answer = json!({
                        "t": 1,
                        "request_id": message["request_id"],
                        "cid": message["cid"],
                        "param": {"cid": message["param"]["cid"], "code": 0, "msg": "success"},
                    });
                    let topic = format!("{}/response", request.topic);
                    answers.extend(publish(0, &topic, answer.to_string().as_bytes()));
                }
                _ => {}
            }
            at += length;
        }
        buffer.drain(..at);
        if stream.write_all(&answers).is_err() {
            return;
        }
    }
}
