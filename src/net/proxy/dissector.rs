//! Decodes one tapped connection from a copy of its bytes.
//!
//! Pure. If a direction cannot be decoded, it is given up; the traffic is not affected. The password of a CONNECT is decoded
//! and dropped.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::BytesMut;

use crate::mqtt::{
    ConnectCode, Direction,
    codec::{Message, Packet, ProtocolVersion, Side},
};

/// An inbox that grew beyond this is freed once it is empty.
const KEPT: usize = 1024;

/// Something that was decoded on a connection.
#[derive(Debug)]
pub enum Observation<'a> {
    /// The client sent CONNECT and was answered, or left before that (`code` is then `None`).
    Connected {
        /// Who it is.
        client: &'a ClientIdentity,
        /// The broker's answer.
        code: Option<ConnectCode>,
    },
    /// A message.
    Message {
        /// Its direction: `Up` is from the client to the broker.
        dir: Direction,
        /// The message.
        message: &'a Message,
    },
    /// An accepted client has left.
    Disconnected {
        /// Which side ended the connection: `Up` is the client.
        dir: Direction,
        /// Who it was.
        client: &'a ClientIdentity,
    },
    /// A direction cannot be decoded from here on; its bytes are still forwarded.
    Lost {
        /// Which one.
        dir: Direction,
        /// The reason, as the end of a sentence.
        why: String,
    },
}

/// The identity that a client claims in its CONNECT.
#[derive(Debug, Default)]
pub struct ClientIdentity {
    /// The client id; empty if the CONNECT could not be decoded.
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
    client: Option<ClientIdentity>,
    version: ProtocolVersion,
    code: Option<ConnectCode>,
    /// Which side ended the connection, once it has ended.
    ended_by: Option<Direction>,
}

#[derive(Debug, Default)]
struct DirectionState {
    inbox: BytesMut,
    is_lost: bool,
}

impl Dissector {
    /// A decoder for packets of at most `max_packet` bytes.
    #[must_use]
    pub fn new(max_packet: usize) -> Self {
        let (up, down) = (DirectionState::default(), DirectionState::default());
        let version = ProtocolVersion::default();
        Self { max_packet, up, down, client: None, version, code: None, ended_by: None }
    }

    /// Decodes the next bytes of a direction.
    pub fn handle_bytes(&mut self, dir: Direction, bytes: &[u8], emit: &mut dyn FnMut(Observation<'_>)) {
        let receiver = match dir {
            Direction::Up => Side::Server,
            Direction::Down => Side::Client,
        };
        let state = self.state(dir);
        if state.is_lost {
            return;
        }
        state.inbox.extend_from_slice(bytes);
        loop {
            let (max_packet, version) = (self.max_packet, self.version);
            let state = self.state(dir);
            match Packet::decode_sharing(&mut state.inbox, receiver, max_packet, version, &mut None) {
                Ok(Some(packet)) => self.take(dir, packet, emit),
                Ok(None) => break,
                Err(why) => {
                    self.lose(dir, format!("tuyagw cannot decode it: {why}"), emit);
                    break;
                }
            }
        }
        let state = self.state(dir);
        if state.inbox.is_empty() && state.inbox.capacity() > KEPT {
            state.inbox = BytesMut::new();
        }
    }

    /// Takes note that one side sends no more; the first to do so has ended the connection.
    pub fn handle_end(&mut self, dir: Direction) {
        self.ended_by.get_or_insert(dir);
    }

    /// Takes note of the connection's end.
    pub fn handle_close(&mut self, emit: &mut dyn FnMut(Observation<'_>)) {
        let Some(client) = self.client.take() else { return };
        match self.code {
            None => emit(Observation::Connected { client: &client, code: None }),
            Some(ConnectCode::ACCEPTED) => {
                emit(Observation::Disconnected {
                    dir: self.ended_by.unwrap_or(Direction::Up),
                    client: &client,
                });
            }
            Some(_) => {}
        }
    }

    fn take(&mut self, dir: Direction, packet: Packet, emit: &mut dyn FnMut(Observation<'_>)) {
        match packet {
            Packet::Publish(message) => emit(Observation::Message { dir, message: &message }),
            Packet::Connect(connect) => {
                let connect = *connect;
                self.version = connect.version;
                self.client
                    .get_or_insert(ClientIdentity { id: connect.client_id, username: connect.username });
            }
            // The upper bit is a bridge's. The packets after the CONNECT are the same in these levels.
            Packet::OtherVersion { level, .. } if matches!(level & 0x7f, 3 | 4) => {
                self.client.get_or_insert_default();
            }
            Packet::OtherVersion { protocol, level, .. } => {
                let why = format!("the client speaks {protocol} level {level}, which tuyagw cannot decode");
                self.lose(Direction::Down, why.clone(), &mut |_| {});
                self.lose(Direction::Up, why, emit);
            }
            Packet::ConnAck { code, .. } => {
                if self.code.is_none() {
                    self.code = Some(code);
                    emit(Observation::Connected {
                        client: self.client.get_or_insert_default(),
                        code: Some(code),
                    });
                }
            }
            Packet::Disconnect => self.handle_end(dir),
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

    fn lose(&mut self, dir: Direction, why: String, emit: &mut dyn FnMut(Observation<'_>)) {
        *self.state(dir) = DirectionState { inbox: BytesMut::new(), is_lost: true };
        emit(Observation::Lost { dir, why });
    }

    fn state(&mut self, dir: Direction) -> &mut DirectionState {
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

    /// The observations, in a few letters each.
    fn told(dissector: &mut Dissector, dir: Direction, bytes: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        dissector.handle_bytes(dir, bytes, &mut |observation| said.push(format!("{observation:?}")));
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
        dissector.handle_end(Direction::Down);
        dissector.handle_end(Direction::Up);
        dissector.handle_close(&mut |observation| said.push(format!("{observation:?}")));
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
            dissector.handle_end(Direction::Up);
            dissector.handle_close(&mut |observation| said.push(format!("{observation:?}")));
            assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
        }
    }
}
