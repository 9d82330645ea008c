//! The fourteen packets of MQTT 3.1.1, read strictly and written exactly. The only module that names rumqttc.
//!
//! The fixed header, CONNECT, CONNACK, PUBLISH and PUBACK are read and written here: the first four because
//! rumqttc's codec accepts what the standard refuses or cannot say what a test of brokers must, the last two
//! because they are nearly all of the traffic. The others go through `rumqttc::mqttbytes::v4`, after the fixed
//! header has been checked and before the rest is. Pure: it allocates nothing for a packet above the limit.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use rumqttc::mqttbytes::{self as codec, v4};

use super::{
    connect::{self, Connect, ReceivedConnect},
    error::{Malformed, TooLarge, malformed},
    header::{self, FieldReader, Header, MAX_REMAINING, PacketType},
    message::{Message, Publish},
    publish,
    qos::{QoS, SubscribeCode},
    side::Side,
    version::ProtocolVersion,
};
use crate::mqtt::{codes::ConnectCode, topic::check_filter};

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT of MQTT 3.1.1 or 3.1.
    Connect(Box<Connect>),
    /// CONNECT of another version, such as MQTT 5 (`MQTT` 5); its answer is CONNACK 1. It can only be received.
    OtherVersion {
        /// `MQTT` or `MQIsdp`.
        protocol: String,
        /// The protocol level.
        level: u8,
        /// The client id, as far as the version's layout is known; otherwise empty.
        client_id: String,
        /// The username, likewise.
        username: Option<String>,
    },
    /// CONNACK.
    ConnAck {
        /// Whether the server has kept a former session.
        session_present: bool,
        /// The return code; MQTT 3.1.1 defines 0 to 5.
        code: ConnectCode,
    },
    /// PUBLISH.
    Publish(Message),
    /// PUBACK of a packet id.
    PubAck(u16),
    /// PUBREC of a packet id.
    PubRec(u16),
    /// PUBREL of a packet id.
    PubRel(u16),
    /// PUBCOMP of a packet id.
    PubComp(u16),
    /// SUBSCRIBE.
    Subscribe {
        /// The packet id.
        id: u16,
        /// The filters with the quality of service asked for; at least one.
        filters: Vec<(String, QoS)>,
    },
    /// SUBACK.
    SubAck {
        /// The packet id.
        id: u16,
        /// A code for each filter, in their order.
        codes: Vec<SubscribeCode>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// The packet id.
        id: u16,
        /// The filters; at least one.
        filters: Vec<String>,
    },
    /// UNSUBACK of a packet id.
    UnsubAck(u16),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect,
}

impl Packet {
    /// Takes the next packet, which `to` received, off the inbox; `None` while it is not whole.
    ///
    /// `max_packet` counts the whole packet in bytes.
    ///
    /// # Errors
    /// A packet that breaks MQTT 3.1.1, that `to` must not be sent, or that is larger than `max_packet`, as soon
    /// as the bytes show it. The inbox is then of no further use.
    pub fn decode(inbox: &mut BytesMut, to: Side, max_packet: usize) -> Result<Option<Self>, Malformed> {
        Self::decode_sharing(inbox, to, max_packet, ProtocolVersion::default(), &mut None)
    }

    /// As [`Packet::decode`], by the rules of the client's `version`; a PUBLISH to the `topic` of the last one that `to`
    /// received shares it.
    ///
    /// # Errors
    /// As [`Packet::decode`].
    pub fn decode_sharing(
        inbox: &mut BytesMut,
        to: Side,
        max_packet: usize,
        version: ProtocolVersion,
        topic: &mut Option<Arc<str>>,
    ) -> Result<Option<Self>, Malformed> {
        let Some(header) = header::header(inbox, to, max_packet, version)? else { return Ok(None) };
        if inbox.len() < header.end {
            return Ok(None);
        }
        let body = &inbox[header.start..header.end];
        let packet = match header.kind {
            PacketType::Publish => {
                return publish::decode(inbox, header, to, topic).map(|message| Some(Self::Publish(message)));
            }
            PacketType::PubAck => Self::PubAck(FieldReader { kind: header.kind, rest: body }.packet_id()?),
            PacketType::Connect => Self::from(connect::decode(body)?),
            PacketType::ConnAck => decode_connack(body[0], ConnectCode(body[1]))?,
            PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect => return decode_by_codec(inbox, header).map(Some),
        };
        inbox.advance(header.end);
        Ok(Some(packet))
    }

    /// Appends the packet to an outbox.
    ///
    /// # Errors
    /// Nothing is written when the packet, or a text in it, is longer than MQTT can say.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLarge> {
        match self {
            Self::Connect(connect) => return connect.encode(out),
            Self::OtherVersion { .. } => return Err(TooLarge("a CONNECT of another version of MQTT".into())),
            Self::ConnAck { session_present, code } => {
                header::short(PacketType::ConnAck, [u8::from(*session_present), code.0], out);
            }
            Self::Publish(message) => {
                let Message { topic, payload, qos, retain, dup, id } = message.clone();
                let publish = Publish { topic, payload, qos, retain };
                publish.fits()?;
                publish.encode(id.unwrap_or_default(), dup, out);
            }
            Self::PubAck(id) => header::short(PacketType::PubAck, id.to_be_bytes(), out),
            Self::PubRec(id) => encode_by_codec(&v4::Packet::PubRec(v4::PubRec { pkid: *id }), out)?,
            Self::PubRel(id) => encode_by_codec(&v4::Packet::PubRel(v4::PubRel { pkid: *id }), out)?,
            Self::PubComp(id) => encode_by_codec(&v4::Packet::PubComp(v4::PubComp { pkid: *id }), out)?,
            Self::Subscribe { id, filters } => {
                check_lengths(filters.iter().map(|(filter, _)| filter))?;
                let filters = filters.iter().map(|(filter, qos)| v4::SubscribeFilter {
                    path: filter.clone(),
                    qos: qos_to_codec(*qos),
                });
                let subscribe = v4::Subscribe { pkid: *id, filters: filters.collect() };
                encode_by_codec(&v4::Packet::Subscribe(subscribe), out)?;
            }
            Self::SubAck { id, codes } => {
                let codes = codes.iter().map(|code| match code {
                    SubscribeCode::Granted(qos) => v4::SubscribeReasonCode::Success(qos_to_codec(*qos)),
                    SubscribeCode::Refused => v4::SubscribeReasonCode::Failure,
                });
                encode_by_codec(&v4::Packet::SubAck(v4::SubAck::new(*id, codes.collect())), out)?;
            }
            Self::Unsubscribe { id, filters } => {
                check_lengths(filters)?;
                let unsubscribe = v4::Unsubscribe { pkid: *id, topics: filters.clone() };
                encode_by_codec(&v4::Packet::Unsubscribe(unsubscribe), out)?;
            }
            Self::UnsubAck(id) => encode_by_codec(&v4::Packet::UnsubAck(v4::UnsubAck { pkid: *id }), out)?,
            Self::PingReq => encode_by_codec(&v4::Packet::PingReq, out)?,
            Self::PingResp => encode_by_codec(&v4::Packet::PingResp, out)?,
            Self::Disconnect => encode_by_codec(&v4::Packet::Disconnect, out)?,
        }
        Ok(())
    }
}

impl From<ReceivedConnect> for Packet {
    fn from(connect: ReceivedConnect) -> Self {
        match connect {
            ReceivedConnect::Known(connect) => Self::Connect(connect),
            ReceivedConnect::OtherVersion { protocol, level, client_id, username } => {
                Self::OtherVersion { protocol, level, client_id, username }
            }
        }
    }
}

/// Section 3.2.2: seven reserved flags, and no session with a refusal.
fn decode_connack(flags: u8, code: ConnectCode) -> Result<Packet, Malformed> {
    match flags {
        0 => Ok(Packet::ConnAck { session_present: false, code }),
        1 if code == ConnectCode::ACCEPTED => Ok(Packet::ConnAck { session_present: true, code }),
        1 => Err(malformed!("CONNACK that refuses with code {code}, yet says that a session is present")),
        _ => Err(malformed!("CONNACK with its reserved flags set ({flags:#04x})")),
    }
}

/// Lets rumqttc read a whole packet, and checks what it leaves unchecked.
fn decode_by_codec(inbox: &mut BytesMut, header: Header) -> Result<Packet, Malformed> {
    let name = header.kind.name();
    if header.kind == PacketType::Subscribe {
        check_requested_qos(&inbox[header.start..header.end])?;
    }
    let packet = v4::Packet::read(inbox, usize::MAX).map_err(|why| in_our_words(name, &why))?;
    let id = |id| if id == 0 { Err(malformed!("{name} with packet id 0")) } else { Ok(id) };
    Ok(match packet {
        v4::Packet::PubRec(ack) => Packet::PubRec(id(ack.pkid)?),
        v4::Packet::PubRel(ack) => Packet::PubRel(id(ack.pkid)?),
        v4::Packet::PubComp(ack) => Packet::PubComp(id(ack.pkid)?),
        v4::Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters.into_iter().map(|filter| {
                check_filter(&filter.path).map_err(|why| malformed!("{name}: {why}"))?;
                Ok((filter.path, qos_from_codec(filter.qos)))
            });
            Packet::Subscribe { id: id(subscribe.pkid)?, filters: filters.collect::<Result<_, Malformed>>()? }
        }
        v4::Packet::SubAck(ack) => {
            let codes = ack.return_codes.into_iter().map(|code| match code {
                v4::SubscribeReasonCode::Success(qos) => SubscribeCode::Granted(qos_from_codec(qos)),
                v4::SubscribeReasonCode::Failure => SubscribeCode::Refused,
            });
            Packet::SubAck { id: id(ack.pkid)?, codes: codes.collect() }
        }
        v4::Packet::Unsubscribe(unsubscribe) => {
            if unsubscribe.topics.is_empty() {
                return Err(malformed!("{name} without a filter"));
            }
            for filter in &unsubscribe.topics {
                check_filter(filter).map_err(|why| malformed!("{name}: {why}"))?;
            }
            Packet::Unsubscribe { id: id(unsubscribe.pkid)?, filters: unsubscribe.topics }
        }
        v4::Packet::UnsubAck(ack) => Packet::UnsubAck(id(ack.pkid)?),
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::PingResp => Packet::PingResp,
        v4::Packet::Disconnect => Packet::Disconnect,
        v4::Packet::Connect(_) | v4::Packet::ConnAck(_) | v4::Packet::Publish(_) | v4::Packet::PubAck(_) => {
            return Err(malformed!("{name} was read as another packet"));
        }
    })
}

/// Section 3.8.3: the six upper bits of a requested QoS are reserved, which rumqttc's reader does not look at.
fn check_requested_qos(body: &[u8]) -> Result<(), Malformed> {
    let mut fields = FieldReader { kind: PacketType::Subscribe, rest: body };
    fields.packet_id()?;
    while !fields.rest.is_empty() {
        fields.binary("filter")?;
        let requested = fields.byte("requested QoS")?;
        if requested > 2 {
            return Err(malformed!("SUBSCRIBE with requested QoS {requested}"));
        }
    }
    Ok(())
}

fn in_our_words(name: &str, why: &codec::Error) -> Malformed {
    match why {
        codec::Error::EmptySubscription => malformed!("{name} without a filter"),
        codec::Error::TopicNotUtf8 => malformed!("{name} with a filter that is not UTF-8"),
        codec::Error::BoundaryCrossed(length) => {
            malformed!("{name} ends within a filter of {length} bytes")
        }
        codec::Error::InvalidSubscribeReasonCode(code) => malformed!("{name} with return code {code}"),
        codec::Error::MalformedPacket | codec::Error::PayloadRequired => {
            malformed!("{name} ends too early")
        }
        other => malformed!("{name}: {other}"),
    }
}

fn encode_by_codec(packet: &v4::Packet, out: &mut BytesMut) -> Result<(), TooLarge> {
    let written = if packet.size() > MAX_REMAINING {
        Err(packet.size())
    } else {
        packet.write(out, usize::MAX).map_err(|_| packet.size())
    };
    written.map(drop).map_err(|size| TooLarge(format!("a packet of {size} bytes; MQTT has no room for it")))
}

fn check_lengths<'f>(filters: impl IntoIterator<Item = &'f String>) -> Result<(), TooLarge> {
    match filters.into_iter().find(|filter| filter.len() > usize::from(u16::MAX)) {
        None => Ok(()),
        Some(filter) => {
            Err(TooLarge(format!("a filter of {} bytes; at most 65,535 are possible", filter.len())))
        }
    }
}

fn qos_from_codec(qos: codec::QoS) -> QoS {
    match qos {
        codec::QoS::AtMostOnce => QoS::AtMostOnce,
        codec::QoS::AtLeastOnce => QoS::AtLeastOnce,
        codec::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn qos_to_codec(qos: QoS) -> codec::QoS {
    match qos {
        QoS::AtMostOnce => codec::QoS::AtMostOnce,
        QoS::AtLeastOnce => codec::QoS::AtLeastOnce,
        QoS::ExactlyOnce => codec::QoS::ExactlyOnce,
    }
}
