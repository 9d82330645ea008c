//! A broker that follows a script, packet by packet, and remembers what it received.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    command::LIMIT,
    wire::{ACCEPTED, PINGRESP, Packet, Publish, puback, pubcomp, publish, pubrec, suback},
};

/// What a broker has received, with the number of the connection.
type Received = Arc<Mutex<Vec<(usize, Packet)>>>;

pub struct FakeBroker {
    pub port: u16,
    received: Received,
    stopping: Arc<AtomicBool>,
    /// Locked while a script runs.
    playing: Arc<Mutex<()>>,
}

impl FakeBroker {
    /// Runs the script for one connection after the other, with the connection's number, from 0. Closes a connection
    /// when its script ends.
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

    /// All received packets, once the script of the current connection has ended.
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
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        Self { stream, buffer: Vec::new(), number, received }
    }

    /// Sends bytes; ignores a closed connection.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends this side; the client's bytes can still be read.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Lets the connection end with RST rather than FIN, once the script ends.
    pub fn reset(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an option");
    }

    /// Reads until the client disconnects, and sends nothing.
    pub fn hold(&mut self) {
        while self.receive().is_some() {}
    }

    /// The next packet; `None` once the client has disconnected.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, length)) = Packet::parse(&self.buffer) {
                self.buffer.drain(..length);
                let entry = (self.number, packet.clone());
                self.received.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                return Some(packet);
            }
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
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

    /// Receives SUBSCRIBE and returns its id; 0 if the client disconnects instead.
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

    /// The next PUBLISH; an empty one if the client disconnects instead.
    pub fn request(&mut self) -> Publish {
        loop {
            match self.receive() {
                Some(Packet::Publish(publish)) => return publish,
                Some(Packet::Ping) => self.send(&PINGRESP),
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
        let mut bytes = if request.qos == 1 { puback(request.id).to_vec() } else { Vec::new() };
        bytes.extend(response(request, code));
        self.send(&bytes);
    }

    /// Grants subscriptions, acknowledges, and answers every request with `code`'s result, until the client disconnects.
    pub fn serve(&mut self, mut code: impl FnMut(&Publish) -> i64) {
        while let Some(packet) = self.receive() {
            match packet {
                Packet::Subscribe { id, filters } => {
                    let granted: Vec<_> = filters.iter().map(|(_, qos)| *qos).collect();
                    self.send(&suback(id, &granted));
                }
                Packet::Publish(request) => {
                    if request.qos == 2 {
                        self.send(&pubrec(request.id));
                    }
                    let code = code(&request);
                    if request.topic.ends_with("/status") {
                        self.send(&puback(request.id));
                    } else {
                        self.answer(&request, code);
                    }
                }
                Packet::Acknowledgement(0x62, id) => self.send(&pubcomp(id)),
                Packet::Ping => self.send(&PINGRESP),
                Packet::Acknowledgement(..) => {}
                Packet::Disconnect => return,
                Packet::Connect { .. } => panic!("a second CONNECT"),
            }
        }
    }
}

/// The answer to a request, as an edge gives it.
pub fn response(request: &Publish, code: i64) -> Vec<u8> {
    response_with(request, &json!({"cid": "m1", "code": code, "msg": "msg"}))
}

pub fn response_with(request: &Publish, param: &Value) -> Vec<u8> {
    let payload = json!({"t": 1, "request_id": request.request_id(), "param": param}).to_string();
    publish(0, &format!("{}/response", request.topic), payload.as_bytes())
}
