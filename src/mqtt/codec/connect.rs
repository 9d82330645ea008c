//! CONNECT (MQTT 3.1.1, section 3.1), by hand: rumqttc's cannot tell a missing username from an empty one,
//! takes only UTF-8 passwords, and reads level 5 as if it were level 4.
//!
//! MQTT 3.1 is read as well: many clients fall back to it when MQTT 3.1.1 is refused, for whatever reason, and show their
//! user the last refusal only.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    error::{Malformed, TooLarge, malformed},
    header::{FieldReader, PacketType, length_prefix, remaining_length},
    publish::check_name,
    qos::QoS,
    side::Side,
    version::ProtocolVersion,
};

/// The bit of the protocol level by which mosquitto's bridges say that they are bridges.
const BRIDGE: u8 = 0x80;

/// The fields of a CONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// The version of MQTT.
    pub version: ProtocolVersion,
    /// Whether the client is a bridge to another broker, which wants none of its own messages back.
    pub is_bridge: bool,
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
    /// The message that the server publishes when the connection is cut.
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

        let (protocol, level) = self.version.greeting();
        let length = 6 + protocol.len() + fields.iter().map(|(_, bytes)| 2 + bytes.len()).sum::<usize>();
        let mut header = [(PacketType::Connect as u8) << 4, 0, 0, 0, 0];
        let end = remaining_length(&mut header, 1, length);
        out.reserve(end + length);
        out.put_slice(&header[..end]);
        out.put_slice(&length_prefix(protocol.len()));
        out.put_slice(protocol.as_bytes());
        out.put_u8(level | if self.is_bridge { BRIDGE } else { 0 });
        out.put_u8(flags);
        out.put_u16(self.keep_alive);
        for (_, bytes) in fields {
            out.put_slice(&length_prefix(bytes.len()));
            out.put_slice(bytes);
        }
        Ok(())
    }
}

/// A CONNECT as a server receives it.
pub(super) enum ReceivedConnect {
    /// Of MQTT 3.1.1 or 3.1.
    Known(Box<Connect>),
    /// Of another version, read as far as its refusal needs.
    OtherVersion { protocol: String, level: u8, client_id: String, username: Option<String> },
}

/// Reads a CONNECT's body. Another version than MQTT 3.1.1 and 3.1 is no error, because it has an answer.
pub(super) fn decode(body: &[u8]) -> Result<ReceivedConnect, Malformed> {
    let mut fields = FieldReader { kind: PacketType::Connect, rest: body };
    let protocol = fields.text("protocol name")?;
    if !matches!(protocol, "MQTT" | "MQIsdp") {
        return Err(malformed!("CONNECT with the protocol name {protocol:?}"));
    }
    let level = fields.byte("protocol level")?;
    let Some(version) = ProtocolVersion::of(protocol, level & !BRIDGE) else {
        let (client_id, username) = if level == 5 {
            names_of_version_5(&mut fields).unwrap_or_default()
        } else {
            (String::new(), None)
        };
        return Ok(ReceivedConnect::OtherVersion {
            protocol: protocol.to_owned(),
            level,
            client_id,
            username,
        });
    };
    let flags = fields.byte("flags")?;
    let has = |flag| flags & flag != 0;
    // MQTT 3.1 says of this bit only that it is not used.
    if has(RESERVED) && version != ProtocolVersion::V3_1 {
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
        check_name(topic, Side::Server).map_err(|why| malformed!("the will of a CONNECT: {why}"))?;
        let payload = Bytes::copy_from_slice(fields.binary("will payload")?);
        Some(Will { topic: topic.to_owned(), payload, qos: will_qos, retain: has(WILL_RETAIN) })
    } else {
        None
    };
    // In MQTT 3.1 the end of the packet takes precedence over these two flags.
    let has_next = |flag, fields: &FieldReader<'_>| {
        has(flag) && !(version == ProtocolVersion::V3_1 && fields.rest.is_empty())
    };
    let username =
        if has_next(USERNAME, &fields) { Some(name(&mut fields, "username")?.to_owned()) } else { None };
    let password = if has_next(PASSWORD, &fields) {
        Some(Password(Bytes::copy_from_slice(fields.binary("password")?)))
    } else {
        None
    };
    fields.nothing_left()?;
    Ok(ReceivedConnect::Known(Box::new(Connect {
        version,
        is_bridge: level & BRIDGE != 0,
        client_id: client_id.to_owned(),
        clean_session: has(CLEAN_SESSION),
        keep_alive,
        username,
        password,
        will,
    })))
}

/// The client id and username of an MQTT 5 CONNECT (MQTT 5.0, section 3.1), from its flags on: for a record of its refusal.
fn names_of_version_5(fields: &mut FieldReader<'_>) -> Result<(String, Option<String>), Malformed> {
    let flags = fields.byte("flags")?;
    fields.number("keep-alive")?;
    skip_properties(fields)?;
    let client_id = name(fields, "client id")?.to_owned();
    if flags & WILL != 0 {
        skip_properties(fields)?;
        fields.text("will topic")?;
        fields.binary("will payload")?;
    }
    let username = if flags & USERNAME != 0 { Some(name(fields, "username")?.to_owned()) } else { None };
    Ok((client_id, username))
}

/// Skips MQTT 5 properties, which begin with their length in one to four bytes.
fn skip_properties(fields: &mut FieldReader<'_>) -> Result<(), Malformed> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = fields.byte("properties")?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    fields.take(length, "properties").map(drop)
}

/// A text without control characters, which a server may refuse (section 1.5.3) and logs should not meet.
fn name<'b>(fields: &mut FieldReader<'b>, field: &str) -> Result<&'b str, Malformed> {
    let text = fields.text(field)?;
    if text.contains(char::is_control) {
        return Err(malformed!("CONNECT with a control character in its {field}: {text:?}"));
    }
    Ok(text)
}
