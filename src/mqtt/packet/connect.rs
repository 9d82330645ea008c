//! CONNECT (MQTT 3.1.1, section 3.1), by hand: rumqttc's cannot tell a missing username from an empty one,
//! takes only UTF-8 passwords, and reads level 5 as if it were level 4.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    End, Malformed, Packet, QoS, TooLarge,
    frame::{Fields, Kind, length_prefix, remaining_length},
    malformed,
    publish::check_name,
};
use crate::protocol::Secret;

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// The client id; may be empty.
    pub client_id: String,
    /// Whether nothing of a former session is wanted, and nothing shall be kept of this one.
    pub clean_session: bool,
    /// The keep-alive interval in seconds; 0 switches it off.
    pub keep_alive: u16,
    /// The username; a missing one differs from an empty one.
    pub username: Option<String>,
    /// The password; MQTT allows none without a username, so one without is sent with an empty username.
    pub password: Option<Password>,
    /// What the server shall publish when the connection is cut.
    pub will: Option<Will>,
}

/// The message that a server publishes when a client's connection is cut (section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The topic name.
    pub topic: String,
    /// The payload, at most 65,535 bytes.
    pub payload: Bytes,
    /// The quality of service it is published with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

/// A password as it travels: any bytes. Its `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Bytes);

impl Password {
    /// Wraps a password's bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for the check of a login.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Secret> for Password {
    fn from(secret: &Secret) -> Self {
        Self(Bytes::copy_from_slice(secret.expose().as_bytes()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN_SESSION: u8 = 0x02;
const RESERVED: u8 = 0x01;

impl Connect {
    /// Appends the packet; nothing is written when a field is longer than MQTT's 65,535 bytes.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), TooLarge> {
        let mut flags = 0;
        let mut fields: Vec<(&str, &[u8])> = vec![("client id", self.client_id.as_bytes())];
        if self.clean_session {
            flags |= CLEAN_SESSION;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3 | if will.retain { WILL_RETAIN } else { 0 };
            fields.extend([("will topic", will.topic.as_bytes()), ("will payload", &will.payload)]);
        }
        if self.username.is_some() || self.password.is_some() {
            flags |= USERNAME;
            fields.push(("username", self.username.as_deref().unwrap_or_default().as_bytes()));
        }
        if let Some(password) = &self.password {
            flags |= PASSWORD;
            fields.push(("password", password.expose()));
        }
        if let Some((name, bytes)) = fields.iter().find(|(_, bytes)| bytes.len() > usize::from(u16::MAX)) {
            return Err(TooLarge(format!("a {name} of {} bytes; at most 65,535 are possible", bytes.len())));
        }

        let length = 10 + fields.iter().map(|(_, bytes)| 2 + bytes.len()).sum::<usize>();
        let mut header = [(Kind::Connect as u8) << 4, 0, 0, 0, 0];
        let end = remaining_length(&mut header, 1, length);
        out.reserve(end + length);
        out.put_slice(&header[..end]);
        out.put_slice(b"\0\x04MQTT\x04");
        out.put_u8(flags);
        out.put_u16(self.keep_alive);
        for (_, bytes) in fields {
            out.put_slice(&length_prefix(bytes.len()));
            out.put_slice(bytes);
        }
        Ok(())
    }
}

/// Reads a CONNECT's body. A protocol version that is not MQTT 3.1.1 is no error, because it has an answer.
pub(super) fn decode(body: &[u8]) -> Result<Packet, Malformed> {
    let mut fields = Fields { kind: Kind::Connect, rest: body };
    let protocol = fields.text("protocol name")?;
    if !matches!(protocol, "MQTT" | "MQIsdp") {
        return Err(malformed!("CONNECT with the protocol name {protocol:?}"));
    }
    let level = fields.byte("protocol level")?;
    if (protocol, level) != ("MQTT", 4) {
        // What follows has another version's layout; a bridge's level 0x84 is no version of its clients.
        return Ok(Packet::OtherVersion { protocol: protocol.to_owned(), level });
    }
    let flags = fields.byte("flags")?;
    let has = |flag| flags & flag != 0;
    if has(RESERVED) {
        return Err(malformed!("CONNECT with its reserved flag set"));
    }
    if !has(WILL) && has(WILL_QOS | WILL_RETAIN) {
        return Err(malformed!("CONNECT with will QoS or will retain, but without a will"));
    }
    if has(PASSWORD) && !has(USERNAME) {
        return Err(malformed!("CONNECT with a password, but without a username"));
    }
    let Some(will_qos) = QoS::from_number((flags & WILL_QOS) >> 3) else {
        return Err(malformed!("CONNECT with will QoS 3"));
    };
    let keep_alive = fields.number("keep-alive")?;
    let client_id = name(&mut fields, "client id")?;
    let will = if has(WILL) {
        let topic = fields.text("will topic")?;
        check_name(topic, End::Server).map_err(|why| malformed!("the will of a CONNECT: {why}"))?;
        let payload = Bytes::copy_from_slice(fields.binary("will payload")?);
        Some(Will { topic: topic.to_owned(), payload, qos: will_qos, retain: has(WILL_RETAIN) })
    } else {
        None
    };
    let username = if has(USERNAME) { Some(name(&mut fields, "username")?.to_owned()) } else { None };
    let password =
        if has(PASSWORD) { Some(Password(Bytes::copy_from_slice(fields.binary("password")?))) } else { None };
    fields.nothing_left()?;
    Ok(Packet::Connect(Box::new(Connect {
        client_id: client_id.to_owned(),
        clean_session: has(CLEAN_SESSION),
        keep_alive,
        username,
        password,
        will,
    })))
}

/// A text without control characters, which a server may refuse (section 1.5.3) and logs should not meet.
fn name<'b>(fields: &mut Fields<'b>, field: &str) -> Result<&'b str, Malformed> {
    let text = fields.text(field)?;
    if text.contains(char::is_control) {
        return Err(malformed!("CONNECT with a control character in its {field}: {text:?}"));
    }
    Ok(text)
}
