//! A broker that does what a script says, packet by packet, and remembers what it received. It has its own MQTT
//! bytes on purpose: with the crate's, both ends could share one misreading.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

pub const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

/// No script waits longer than this for bytes; the test has failed long before.
const PATIENCE: Duration = Duration::from_mins(1);

/// A PUBLISH as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
}

impl Publish {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("a payload is JSON")
    }

    pub fn request_id(&self) -> String {
        self.json()["request_id"].as_str().expect("request_id").to_owned()
    }
}

/// A packet as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect {
        client_id: String,
        flags: u8,
        keep_alive: u16,
        username: Option<String>,
        password: Option<String>,
    },
    Publish(Publish),
    Subscribe {
        id: u16,
        filters: Vec<(String, u8)>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: the first byte, and the packet id.
    Acknowledgement(u8, u16),
    Ping,
    Disconnect,
}

/// What a broker has received, with the number of the connection.
type Received = Arc<Mutex<Vec<(usize, Packet)>>>;

pub struct FakeBroker {
    pub port: u16,
    received: Received,
    stopping: Arc<AtomicBool>,
    /// Locked while a script plays.
    playing: Arc<Mutex<()>>,
}

impl FakeBroker {
    /// Plays the script for one connection after the other; it is told the connection's number, from 0. A
    /// connection is closed when its script ends.
    pub fn start(mut script: impl FnMut(usize, &mut Peer) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let received = Received::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let playing = Arc::new(Mutex::new(()));
        let (log, stop, play) = (Arc::clone(&received), Arc::clone(&stopping), Arc::clone(&playing));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut peer = Peer::new(stream.expect("a connection"), number, Arc::clone(&log));
                let _playing = play.lock();
                script(number, &mut peer);
            }
        });
        Self { port, received, stopping, playing }
    }

    /// A broker that answers every request with 0.
    pub fn kind() -> Self {
        Self::start(|_, peer| {
            peer.log_in();
            peer.serve(|_| 0);
        })
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that was received, once the script of the present connection has come to its end.
    pub fn received(&self) -> Vec<(usize, Packet)> {
        let _idle = self.playing.lock();
        self.received_so_far()
    }

    pub fn received_so_far(&self) -> Vec<(usize, Packet)> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn publishes(&self) -> Vec<(usize, Publish)> {
        let publish = |(number, packet)| match packet {
            Packet::Publish(publish) => Some((number, publish)),
            _ => None,
        };
        self.received().into_iter().filter_map(publish).collect()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The other side of one connection.
pub struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    received: Received,
}

impl Peer {
    pub fn new(stream: TcpStream, number: usize, received: Received) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { stream, buffer: Vec::new(), number, received }
    }

    /// Sends bytes; a client that has gone does not mind.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends this side; what the client still sends can be read.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Lets the connection end with RST rather than FIN, once the script ends.
    pub fn reset(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an option");
    }

    /// Reads until the client goes, and says nothing.
    pub fn hold(&mut self) {
        while self.receive().is_some() {}
    }

    /// The next packet; `None` once the client has gone.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                let entry = (self.number, packet.clone());
                self.received.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                return Some(packet);
            }
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Receives CONNECT and accepts it.
    pub fn log_in(&mut self) {
        self.expect_connect();
        self.send(&ACCEPTED);
    }

    pub fn expect_connect(&mut self) {
        let first = self.receive();
        assert!(matches!(first, None | Some(Packet::Connect { .. })), "{first:?}");
    }

    /// Receives SUBSCRIBE and gives its id; 0 where the client goes instead.
    pub fn expect_subscribe(&mut self) -> u16 {
        match self.receive() {
            Some(Packet::Subscribe { id, .. }) => id,
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    /// Accepts CONNECT and SUBSCRIBE.
    pub fn set_out(&mut self) {
        self.log_in();
        let id = self.expect_subscribe();
        self.send(&suback(id, &[1]));
    }

    /// The next PUBLISH; an empty one where the client goes instead.
    pub fn request(&mut self) -> Publish {
        loop {
            match self.receive() {
                Some(Packet::Publish(publish)) => return publish,
                Some(Packet::Ping) => self.send(&[0xd0, 0]),
                Some(Packet::Acknowledgement(..)) => {}
                None => {
                    let payload = br#"{"request_id":"gone","param":{}}"#.to_vec();
                    let topic = String::from("gone");
                    return Publish { topic, payload, qos: 0, id: 0, dup: false, retain: false };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Acknowledges a PUBLISH and answers it.
    pub fn answer(&mut self, request: &Publish, code: i64) {
        let mut bytes = if request.qos == 1 { puback(request.id) } else { Vec::new() };
        bytes.extend(response(request, code));
        self.send(&bytes);
    }

    /// Behaves: grants, acknowledges, answers every request with the code that `code` gives, until the client goes.
    pub fn serve(&mut self, mut code: impl FnMut(&Publish) -> i64) {
        while let Some(packet) = self.receive() {
            match packet {
                Packet::Subscribe { id, filters } => {
                    let granted: Vec<_> = filters.iter().map(|(_, qos)| *qos).collect();
                    self.send(&suback(id, &granted));
                }
                Packet::Publish(request) => {
                    if request.qos == 2 {
                        self.send(&[&[0x50, 2], &request.id.to_be_bytes()[..]].concat());
                    }
                    let code = code(&request);
                    if request.topic.ends_with("/status") {
                        self.send(&puback(request.id));
                    } else {
                        self.answer(&request, code);
                    }
                }
                Packet::Acknowledgement(0x62, id) => self.send(&[&[0x70, 2], &id.to_be_bytes()[..]].concat()),
                Packet::Ping => self.send(&[0xd0, 0]),
                Packet::Acknowledgement(..) => {}
                Packet::Disconnect => return,
                Packet::Connect { .. } => panic!("a second CONNECT"),
            }
        }
    }
}

pub fn puback(id: u16) -> Vec<u8> {
    [&[0x40, 2], &id.to_be_bytes()[..]].concat()
}

pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes()[..], codes].concat())
}

/// A PUBLISH of QoS 0; `flags` are the low four bits of the first byte.
pub fn publish(flags: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with_id(flags, topic, None, payload)
}

pub fn publish_with_id(flags: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = length(topic.len()).to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

/// The answer to a request, as an edge gives it.
pub fn response(request: &Publish, code: i64) -> Vec<u8> {
    response_with(request, &json!({"cid": "m1", "code": code, "msg": "msg"}))
}

pub fn response_with(request: &Publish, param: &Value) -> Vec<u8> {
    let payload = json!({"t": 1, "request_id": request.request_id(), "param": param}).to_string();
    publish(0, &format!("{}/response", request.topic), payload.as_bytes())
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("below 65,536").to_be_bytes()
}

/// The first byte of the packet at the front, its body, and its whole length; `None` while it is not whole.
pub fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    Some((first, bytes.get(at..at + length)?, at + length))
}

/// Reads one packet of a client; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (first, body, length) = frame(bytes)?;
    let mut body = Body(body);
    let packet = match first {
        0x10 => {
            assert_eq!((body.text().as_str(), body.byte()), ("MQTT", 4));
            let flags = body.byte();
            let keep_alive = body.number();
            let client_id = body.text();
            let username = (flags & 0x80 != 0).then(|| body.text());
            let password = (flags & 0x40 != 0).then(|| body.text());
            Packet::Connect { client_id, flags, keep_alive, username, password }
        }
        0x30..=0x3f => Packet::Publish(parse_publish(first, std::mem::take(&mut body.0))),
        0x82 => {
            let id = body.number();
            let mut filters = Vec::new();
            while !body.0.is_empty() {
                filters.push((body.text(), body.byte()));
            }
            Packet::Subscribe { id, filters }
        }
        0x40 | 0x50 | 0x62 | 0x70 => Packet::Acknowledgement(first, body.number()),
        0xc0 => Packet::Ping,
        0xe0 => Packet::Disconnect,
        other => panic!("the client sent a packet that begins with {other:#04x}"),
    };
    assert!(body.0.is_empty(), "{packet:?} and {:?}", body.0);
    Some((packet, length))
}

/// Reads the body of a PUBLISH.
pub fn parse_publish(first: u8, body: &[u8]) -> Publish {
    let mut body = Body(body);
    let qos = first >> 1 & 3;
    let topic = body.text();
    let id = if qos > 0 { body.number() } else { 0 };
    let (dup, retain) = (first & 8 != 0, first & 1 != 0);
    Publish { topic, payload: body.0.to_vec(), qos, id, dup, retain }
}

struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u16 {
        let bytes = self.take(2);
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    fn text(&mut self) -> String {
        let length = self.number().into();
        String::from_utf8(self.take(length).to_vec()).expect("UTF-8")
    }
}
