//! Peers in this process: a broker that accepts everything, a broker that sends messages at full speed, and a platform
//! behind a broker.

use std::{
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use tuyagw::tuya::Channel;

use crate::{
    traffic::{Inbox, PAYLOAD, Template, client, filters, report, topic},
    wire::{ACCEPTED, PINGRESP, puback, split_publish},
};

/// Accepts every login and subscription and acknowledges every message; nothing goes anywhere.
#[derive(Debug)]
pub struct NullBroker {
    pub port: u16,
    taken: Arc<AtomicU64>,
    moments: Arc<Mutex<Vec<Instant>>>,
}

impl NullBroker {
    pub fn start() -> Self {
        let (taken, moments) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, log) = (Arc::clone(&taken), Arc::clone(&moments));
        let port = serve(move |stream| take(stream, &count, &log));
        Self { port, taken, moments }
    }

    /// How many messages have come since this was last asked.
    pub fn taken(&self) -> u64 {
        self.moments.lock().unwrap().clear();
        self.taken.swap(0, Ordering::SeqCst)
    }

    /// When each message came that has come since this was last asked.
    pub fn moments(&self) -> Vec<Instant> {
        self.taken.store(0, Ordering::SeqCst);
        std::mem::take(&mut self.moments.lock().unwrap())
    }
}

fn take(mut stream: TcpStream, taken: &AtomicU64, moments: &Mutex<Vec<Instant>>) -> io::Result<()> {
    let (mut inbox, mut out) = (Inbox::new(1 << 18), Vec::with_capacity(1 << 16));
    while inbox.fill(&mut stream)? > 0 {
        let (now, mut messages) = (Instant::now(), 0);
        while let Some((first, body)) = inbox.next() {
            if first & 0xf0 == 0x30 {
                messages += 1;
                if first & 0x06 != 0 {
                    let (_, id, _) = split_publish(first, body);
                    out.extend_from_slice(&puback(id));
                }
            } else {
                greet(first, body, &mut out);
            }
        }
        taken.fetch_add(messages, Ordering::SeqCst);
        moments.lock().unwrap().extend(std::iter::repeat_n(now, messages as usize));
        stream.write_all(&out)?;
        out.clear();
    }
    Ok(())
}

/// Sends messages of the usual size to every subscriber, as fast as it can.
#[derive(Debug)]
pub struct Fountain {
    pub port: u16,
}

impl Fountain {
    /// Sends `count` messages to each client, with at most `window` unacknowledged.
    pub fn start(count: usize, window: u16) -> Self {
        Self { port: serve(move |stream| pour(stream, count, window)) }
    }
}

fn pour(mut stream: TcpStream, count: usize, window: u16) -> io::Result<()> {
    let (mut inbox, mut out) = (Inbox::new(1 << 16), Vec::new());
    let mut subscribed = false;
    while !subscribed {
        if inbox.fill(&mut stream)? == 0 {
            return Ok(());
        }
        while let Some((first, body)) = inbox.next() {
            subscribed |= first == 0x82;
            greet(first, body, &mut out);
        }
        stream.write_all(&out)?;
        out.clear();
    }
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (writer, counter) = (thread::current(), Arc::clone(&acknowledged));
    let mut reader = stream.try_clone()?;
    let reading = thread::spawn(move || {
        while inbox.fill(&mut reader).is_ok_and(|read| read > 0) {
            let mut acknowledgements = 0;
            while let Some((first, _)) = inbox.next() {
                acknowledgements += u64::from(first == 0x40);
            }
            counter.fetch_add(acknowledgements, Ordering::SeqCst);
            writer.unpark();
        }
        // The writer must not wait for the window of a closed connection.
        counter.store(u64::MAX / 2, Ordering::SeqCst);
        writer.unpark();
    });
    let mut template = Template::new(&topic(Channel::Report, "gw1"), &report("m1", PAYLOAD));
    let mut sent = 0;
    while sent < count {
        let room = acknowledged.load(Ordering::SeqCst) + u64::from(window) - sent as u64;
        if room == 0 {
            thread::park();
            continue;
        }
        for _ in 0..room.min((count - sent) as u64).min(256) {
            template.write(&mut out, (sent % usize::from(window)) as u16 + 1, sent as u64);
            sent += 1;
        }
        stream.write_all(&out)?;
        out.clear();
    }
    // The client ends the connection, having had all it asked for.
    let _ = reading.join();
    Ok(())
}

/// A platform behind a broker that has none: answers every report with success.
pub fn respond(port: u16) {
    let reports = topic(Channel::Report, "GW").replace("GW", "+");
    let stream = client(port, "platform-1", "platform", &[reports]);
    thread::spawn(move || {
        // The broker ends this by going away.
        let _ = answer(stream);
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let (mut inbox, mut out, mut next) = (Inbox::new(1 << 18), Vec::new(), 1);
    while inbox.fill(&mut stream)? > 0 {
        while let Some((first, body)) = inbox.next() {
            if first & 0xf0 != 0x30 {
                continue;
            }
            let (topic, id, payload) = split_publish(first, body);
            out.extend_from_slice(&puback(id));
            let (request_id, cid) = (text(payload, "request_id"), text(payload, "cid"));
            let response = format!("{}/response", str::from_utf8(topic).unwrap());
            let payload = format!(
                "{{\"t\":1785000000,\"request_id\":\"{request_id}\",\"param\":{{\"cid\":\"{cid}\",\"msg\":\"success\",\"code\":0}}}}"
            );
            Template::new(&response, &payload).write(&mut out, next, 0);
            next = next.checked_add(1).unwrap_or(1);
        }
        stream.write_all(&out)?;
        out.clear();
    }
    Ok(())
}

/// A text field of a message that was written by this benchmark or by tuyagw, without escapes.
fn text<'p>(payload: &'p [u8], key: &str) -> &'p str {
    let payload = str::from_utf8(payload).unwrap();
    let (_, rest) = payload.split_once(&format!("\"{key}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

/// Answers packets other than PUBLISH.
fn greet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    match first {
        0x10 => out.extend_from_slice(&ACCEPTED),
        0x82 => {
            let count = filters(body);
            out.extend_from_slice(&[0x90, 2 + count as u8, body[0], body[1]]);
            out.extend(std::iter::repeat_n(1, count));
        }
        0xa2 => out.extend_from_slice(&[0xb0, 2, body[0], body[1]]),
        0xc0 => out.extend_from_slice(&PINGRESP),
        _ => {}
    }
}

/// Serves each connection in a thread of its own, for as long as the benchmark runs.
fn serve(connection: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, connection) = (stream.unwrap(), connection.clone());
            stream.set_nodelay(true).unwrap();
            // A closed connection is no error here; messages are counted elsewhere.
            thread::spawn(move || connection(stream));
        }
    });
    port
}
