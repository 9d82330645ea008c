//! A small MQTT client that shares no code with the program: bytes by hand, so that both do not misread alike.
#![allow(clippy::cast_possible_truncation, reason = "the lengths are the tests' own")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use md5::{Digest as _, Md5};
use serde_json::Value;

/// Nothing in these tests takes longer unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A running `tuyagw edge`; killed when dropped.
pub struct Edge {
    pub child: Child,
    pub address: String,
    pub stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Edge {
    /// Starts an edge on a free port.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuyagw"));
        command.args(["edge", "--listen", "127.0.0.1:0"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).expect(&line);
        assert_eq!(event["event"], "listening");
        let url = event["broker"].as_str().unwrap();
        let address = url.split_once("://").unwrap().1.to_owned();
        let stdin = child.stdin.take();
        Self { child, address, stdin, stdout: Some(stdout) }
    }

    /// Writes a line to the edge's stdin.
    pub fn type_in(&mut self, line: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line on stdout for which `wanted` is true.
    pub fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.stdout.as_mut().unwrap().read_line(&mut line).unwrap() > 0, "stdout ended");
            let value: Value = serde_json::from_str(&line).expect(&line);
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Closes this end of the edge's stdout.
    pub fn stop_reading(&mut self) {
        self.stdout = None;
    }

    /// Ends the edge with a signal, and gives its status and what was left on stdout.
    pub fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let mut rest = String::new();
        self.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    /// A gateway that has logged in.
    pub fn gateway(&self, id: &str) -> Client {
        let mut client = Client::open(&self.address);
        assert_eq!(client.login(id, "acme", true), 0);
        client
    }

    /// A platform user that has logged in.
    pub fn platform(&self, client_id: &str) -> Client {
        let mut client = Client::open(&self.address);
        assert_eq!(client.login(client_id, "platform", true), 0);
        client
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The password that the page's rule gives.
pub fn password(client_id: &str, username: &str) -> String {
    hex::encode(Md5::digest(format!("{client_id}{username}")))
}

/// A received packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub fn qos(&self) -> u8 {
        self.first >> 1 & 3
    }

    /// The packet id of anything but a PUBLISH.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Topic, packet id and payload of a PUBLISH.
    pub fn publish(&self) -> (String, u16, Vec<u8>) {
        assert_eq!(self.kind(), 3, "{self:?}");
        let length = usize::from(self.id());
        let topic = String::from_utf8(self.body[2..2 + length].to_vec()).unwrap();
        let rest = &self.body[2 + length..];
        if self.qos() == 0 {
            return (topic, 0, rest.to_vec());
        }
        (topic, u16::from_be_bytes([rest[0], rest[1]]), rest[2..].to_vec())
    }
}

/// A packet's bytes.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![first];
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A text with its length in front.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT with everything that can vary.
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<(&'a str, &'a str, u8)>,
}

impl Connect<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = if self.clean { 2 } else { 0 };
        let mut payload = text(self.client_id);
        if let Some((topic, message, qos)) = self.will {
            flags |= 4 | qos << 3;
            payload.extend(text(topic));
            payload.extend(text(message));
        }
        if let Some(username) = self.username {
            flags |= 0x80;
            payload.extend(text(username));
        }
        if let Some(password) = self.password {
            flags |= 0x40;
            payload.extend(text(password));
        }
        packet(0x10, &[b"\0\x04MQTT\x04", &[flags], &self.keep_alive.to_be_bytes(), &payload])
    }
}

pub struct Client {
    pub stream: TcpStream,
    next_id: u16,
}

impl Client {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the edge listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next_id: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` when the edge has closed the connection, be it within a packet.
    pub fn read(&mut self) -> Option<Packet> {
        let mut first = [0];
        match self.stream.read(&mut first) {
            Ok(0) => return None,
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(why) => panic!("nothing came: {why}"),
            Ok(_) => {}
        }
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Packet { first: first[0], body })
    }

    /// The next packet, which must be of a kind.
    pub fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.read().expect("the connection is open");
        assert_eq!(packet.kind(), kind, "{packet:?}");
        packet
    }

    /// Sends CONNECT and gives the return code of the CONNACK.
    pub fn connect(&mut self, connect: &Connect<'_>) -> u8 {
        self.send(&connect.bytes());
        self.expect(2).body[1]
    }

    pub fn login(&mut self, client_id: &str, username: &str, clean: bool) -> u8 {
        let password = password(client_id, username);
        self.connect(&Connect {
            client_id,
            username: Some(username),
            password: Some(&password),
            clean,
            keep_alive: 60,
            will: None,
        })
    }

    pub fn next_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes and gives the SUBACK's codes.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.next_id();
        let mut payload = Vec::new();
        for (filter, qos) in filters {
            payload.extend(text(filter));
            payload.push(*qos);
        }
        self.send(&packet(0x82, &[&id.to_be_bytes(), &payload]));
        let suback = self.expect(9);
        assert_eq!(suback.id(), id);
        suback.body[2..].to_vec()
    }

    /// Sends a PUBLISH and gives its packet id.
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> u16 {
        let id = if qos == 0 { 0 } else { self.next_id() };
        let id_bytes = id.to_be_bytes();
        let id_bytes: &[u8] = if qos == 0 { &[] } else { &id_bytes };
        let first = 0x30 | qos << 1 | u8::from(retain);
        self.send(&packet(first, &[&text(topic), id_bytes, payload.as_bytes()]));
        id
    }

    /// The next message: QoS, topic and payload; QoS 1 is acknowledged. Acknowledgements in between are skipped.
    pub fn message(&mut self) -> (u8, String, Vec<u8>) {
        loop {
            let packet = self.read().expect("the connection is open");
            if packet.kind() == 3 {
                let (topic, id, payload) = packet.publish();
                if packet.qos() == 1 {
                    self.send(&[&[0x40, 2][..], &id.to_be_bytes()].concat());
                }
                return (packet.qos(), topic, payload);
            }
            assert!(matches!(packet.kind(), 4 | 5 | 7 | 13), "{packet:?}");
        }
    }

    /// The next message's payload as JSON.
    pub fn json(&mut self) -> Value {
        serde_json::from_slice(&self.message().2).unwrap()
    }

    /// Pings and waits for the answer: all that was sent before has been dealt with, and nothing else came.
    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        self.expect(13);
    }

    /// As [`Client::ping`], with messages in between.
    pub fn ping_skipping_messages(&mut self, see: impl Fn(&str)) {
        self.send(&[0xc0, 0]);
        loop {
            let packet = self.read().expect("the connection is open");
            match packet.kind() {
                13 => return,
                3 => see(&packet.publish().0),
                _ => {}
            }
        }
    }

    /// Reads on; `false` at the end, however it comes.
    pub fn read_lenient(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 8192]), Ok(read) if read > 0)
    }

    pub fn is_closed(&mut self) -> bool {
        self.read().is_none()
    }
}

/// Runs `tuyagw` to its end.
pub fn tuyagw(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tuyagw"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// Whether a program is installed; says so where it is not, and fails there with `CI` set.
pub fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "CI is set, and {program} is not installed");
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}
