//! What one tapped connection says, decoded from a copy of its bytes.
//!
//! Pure. Whatever the bytes are, decoding ends at worst: a direction that cannot be understood is not listened to
//! any further. A password is decoded with its CONNECT and goes nowhere.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::BytesMut;

use crate::mqtt::{
    ConnectCode, Direction,
    codec::{Message, Packet, Side, Version},
};

/// An inbox that grew beyond this is given back once it is empty.
const KEPT: usize = 1024;

/// Something that a connection said.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The client introduced itself and was answered, or left before it was (`code` is then missing).
    Connected {
        /// Who it is.
        client: &'a Client,
        /// The broker's answer.
        code: Option<ConnectCode>,
    },
    /// A message.
    Message {
        /// Which way it travels: `Up` is from the client to the broker.
        dir: Direction,
        /// The message.
        message: &'a Message,
    },
    /// A client that the broker had accepted is gone.
    Disconnected {
        /// From whom the end came.
        dir: Direction,
        /// Who it was.
        client: &'a Client,
    },
    /// A direction cannot be understood from here on; its bytes are forwarded all the same.
    Lost {
        /// Which one.
        dir: Direction,
        /// Why, as the rest of a sentence.
        why: String,
    },
}

/// Who a client says it is.
#[derive(Debug, Default)]
pub struct Client {
    /// The client id; empty where the CONNECT could not be read.
    pub id: String,
    /// The username.
    pub username: Option<String>,
}

/// The decoder of one connection.
#[derive(Debug)]
pub struct Dissector {
    max_packet: usize,
    up: DirectionState,
    down: DirectionState,
    client: Option<Client>,
    version: Version,
    code: Option<ConnectCode>,
    /// Who ended the connection, once somebody has.
    ended_by: Option<Direction>,
}

#[derive(Debug, Default)]
struct DirectionState {
    inbox: BytesMut,
    is_deaf: bool,
}

impl Dissector {
    /// A decoder for packets of at most `max_packet` bytes.
    #[must_use]
    pub fn new(max_packet: usize) -> Self {
        let (up, down) = (DirectionState::default(), DirectionState::default());
        let version = Version::default();
        Self { max_packet, up, down, client: None, version, code: None, ended_by: None }
    }

    /// Takes bytes that travelled one way, and tells what they say.
    pub fn hear(&mut self, dir: Direction, bytes: &[u8], tell: &mut dyn FnMut(Heard<'_>)) {
        let receiver = match dir {
            Direction::Up => Side::Server,
            Direction::Down => Side::Client,
        };
        let ear = self.ear(dir);
        if ear.is_deaf {
            return;
        }
        ear.inbox.extend_from_slice(bytes);
        loop {
            let (max_packet, version) = (self.max_packet, self.version);
            let ear = self.ear(dir);
            match Packet::decode_sharing(&mut ear.inbox, receiver, max_packet, version, &mut None) {
                Ok(Some(packet)) => self.take(dir, packet, tell),
                Ok(None) => break,
                Err(why) => {
                    self.lose(dir, format!("it holds what tuyagw cannot decode: {why}"), tell);
                    break;
                }
            }
        }
        let ear = self.ear(dir);
        if ear.inbox.is_empty() && ear.inbox.capacity() > KEPT {
            ear.inbox = BytesMut::new();
        }
    }

    /// Notes that one side sends no more; the first to do so has ended the connection.
    pub fn ended(&mut self, dir: Direction) {
        self.ended_by.get_or_insert(dir);
    }

    /// Tells what the end of the connection means.
    pub fn close(&mut self, tell: &mut dyn FnMut(Heard<'_>)) {
        let Some(client) = self.client.take() else { return };
        match self.code {
            None => tell(Heard::Connected { client: &client, code: None }),
            Some(ConnectCode::ACCEPTED) => {
                tell(Heard::Disconnected { dir: self.ended_by.unwrap_or(Direction::Up), client: &client });
            }
            Some(_) => {}
        }
    }

    fn take(&mut self, dir: Direction, packet: Packet, tell: &mut dyn FnMut(Heard<'_>)) {
        match packet {
            Packet::Publish(message) => tell(Heard::Message { dir, message: &message }),
            Packet::Connect(connect) => {
                let connect = *connect;
                self.version = connect.version;
                self.client.get_or_insert(Client { id: connect.client_id, username: connect.username });
            }
            // The upper bit is a bridge's; what follows the CONNECT of these levels is alike.
            Packet::OtherVersion { level, .. } if matches!(level & 0x7f, 3 | 4) => {
                self.client.get_or_insert_default();
            }
            Packet::OtherVersion { protocol, level, .. } => {
                let why = format!("the client speaks {protocol} level {level}, which tuyagw cannot decode");
                self.lose(Direction::Down, why.clone(), &mut |_| {});
                self.lose(Direction::Up, why, tell);
            }
            Packet::ConnAck { code, .. } => {
                if self.code.is_none() {
                    self.code = Some(code);
                    tell(Heard::Connected { client: self.client.get_or_insert_default(), code: Some(code) });
                }
            }
            Packet::Disconnect => self.ended(dir),
            Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe { .. }
            | Packet::SubAck { .. }
            | Packet::Unsubscribe { .. }
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp => {}
        }
    }

    fn lose(&mut self, dir: Direction, why: String, tell: &mut dyn FnMut(Heard<'_>)) {
        *self.ear(dir) = DirectionState { inbox: BytesMut::new(), is_deaf: true };
        tell(Heard::Lost { dir, why });
    }

    fn ear(&mut self, dir: Direction) -> &mut DirectionState {
        match dir {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mqtt::codec::{Connect, Password, QoS},
        tuya::Secret,
    };

    fn encoded(packets: &[Packet]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.encode(&mut bytes).unwrap();
        }
        bytes
    }

    fn message(topic: &str) -> Packet {
        Packet::Publish(Message {
            topic: topic.into(),
            payload: "{}".into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            id: Some(7),
        })
    }

    fn connect() -> Packet {
        Packet::Connect(Box::new(Connect {
            client_id: "gw1".into(),
            username: Some("acme".into()),
            password: Some(Password::from(&Secret::new("hunter2"))),
            ..Connect::default()
        }))
    }

    /// What was heard, in a few letters each.
    fn told(dissector: &mut Dissector, dir: Direction, bytes: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        dissector.hear(dir, bytes, &mut |heard| said.push(format!("{heard:?}")));
        said
    }

    #[test]
    fn a_login_a_message_each_way_and_the_end_are_told_byte_by_byte() {
        let mut dissector = Dissector::new(1024);
        let mut said = Vec::new();
        let up = encoded(&[connect(), message("a"), Packet::PingReq]);
        let down = encoded(&[
            Packet::ConnAck { session_present: false, code: ConnectCode::ACCEPTED },
            message("b"),
            Packet::PubAck(7),
        ]);
        for byte in up {
            said.extend(told(&mut dissector, Direction::Up, &[byte]));
        }
        for byte in down {
            said.extend(told(&mut dissector, Direction::Down, &[byte]));
        }
        dissector.ended(Direction::Down);
        dissector.ended(Direction::Up);
        dissector.close(&mut |heard| said.push(format!("{heard:?}")));
        let expected = ["topic: \"a\"", "Connected", "topic: \"b\"", "Disconnected { dir: Down"];
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(said[1].contains("id: \"gw1\", username: Some(\"acme\")"), "{}", said[1]);
    }

    #[test]
    fn a_malformed_packet_silences_its_direction_only() {
        let mut dissector = Dissector::new(64);
        let said = told(&mut dissector, Direction::Up, b"GET / HTTP/1.1\r\n");
        assert!(said.len() == 1 && said[0].contains("Lost { dir: Up"), "{said:?}");
        assert!(told(&mut dissector, Direction::Up, &encoded(&[connect()])).is_empty());
        assert_eq!(told(&mut dissector, Direction::Down, &encoded(&[message("b")])).len(), 1);
        let large = encoded(&[message(&"t".repeat(100))]);
        assert!(told(&mut dissector, Direction::Down, &large[..4])[0].contains("at most 64"));
    }

    #[test]
    fn other_versions_are_said_once_unless_only_their_connect_differs() {
        let five = b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0";
        let mut dissector = Dissector::new(1024);
        let said = told(&mut dissector, Direction::Up, five);
        assert!(said.len() == 1 && said[0].contains("level 5"), "{said:?}");
        assert!(told(&mut dissector, Direction::Down, &encoded(&[message("b")])).is_empty());
        let three = b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x3c\0\0";
        let mut dissector = Dissector::new(1024);
        assert!(told(&mut dissector, Direction::Up, three).is_empty());
        assert_eq!(told(&mut dissector, Direction::Down, &encoded(&[message("b")])).len(), 1);
    }

    #[test]
    fn a_client_that_was_never_answered_or_was_refused_does_not_disconnect() {
        for (answer, expected) in [(None, "code: None"), (Some(ConnectCode(5)), "code: Some(ConnectCode(5))")]
        {
            let mut dissector = Dissector::new(1024);
            let mut said = told(&mut dissector, Direction::Up, &encoded(&[connect()]));
            if let Some(code) = answer {
                let connack = encoded(&[Packet::ConnAck { session_present: false, code }]);
                said.extend(told(&mut dissector, Direction::Down, &connack));
            }
            dissector.ended(Direction::Up);
            dissector.close(&mut |heard| said.push(format!("{heard:?}")));
            assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
        }
    }
}
