//! A client's and a server's session joined in memory: thousands of seeded schedules of splits, cuts and
//! reconnects, and the promises that must hold at the end of each.

use std::collections::HashMap;

use bytes::Buf as _;
use fastrand::Rng;

use super::*;
use crate::mqtt::codec::Message;

const SCHEDULES: u64 = 5_000;
const NOW: Duration = Duration::ZERO;

/// One end with what it published, what became of that, and what it received.
struct Party {
    session: Session,
    published: Vec<QoS>,
    delivered: HashMap<u64, u32>,
    /// The tokens received, in the order of their deliveries.
    received: Vec<u64>,
    receipts: Vec<AckToken>,
}

impl Party {
    fn new(end: Side, random: &mut Rng) -> Self {
        Self {
            session: Session::new(end, limits(random)),
            published: Vec::new(),
            delivered: HashMap::new(),
            received: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn publish(&mut self, random: &mut Rng) {
        let token = self.published.len() as u64;
        let qos = QoS::from_number(random.u8(0..3)).unwrap();
        self.published.push(qos);
        // A payload of varying length, so that splits fall everywhere.
        let payload = format!("{token}:{}", "x".repeat(random.usize(..200)));
        let publish = Publish { topic: "a/b".into(), payload: payload.into(), qos, retain: false };
        self.session.publish(publish, token).unwrap();
    }

    fn acknowledge(&mut self, random: &mut Rng) {
        if !self.receipts.is_empty() {
            let receipt = self.receipts.swap_remove(random.usize(..self.receipts.len()));
            self.session.acknowledge(receipt);
        }
    }

    /// Takes what is common to both ends; gives the greetings back.
    fn take(&mut self, event: SessionEvent) -> Option<SessionEvent> {
        match event {
            SessionEvent::Publish(message, receipt) => {
                let payload = std::str::from_utf8(&message.payload).unwrap();
                self.received.push(payload.split_once(':').unwrap().0.parse().unwrap());
                self.receipts.extend(receipt);
            }
            SessionEvent::Delivered { token } => *self.delivered.entry(token).or_default() += 1,
            // Where the PUBCOMP was lost, the PUBREL comes again; nothing else may be out of place.
            SessionEvent::Ignored(warning) => assert!(warning.starts_with("PUBREL"), "{warning}"),
            greeting => return Some(greeting),
        }
        None
    }

    /// What must hold between this end, which published, and the one that received.
    fn check(&self, receiver: &Self) {
        assert_eq!(self.session.in_flight() + self.session.queued(), 0, "something is left");
        for token in 0..self.published.len() as u64 {
            assert_eq!(self.delivered.get(&token), Some(&1), "token {token} must be delivered exactly once");
            let times = receiver.received.iter().filter(|received| **received == token).count();
            match self.published[usize::try_from(token).unwrap()] {
                QoS::AtMostOnce => assert!(times <= 1, "QoS 0, token {token}: {times} times"),
                QoS::AtLeastOnce => assert!(times >= 1, "QoS 1, token {token} is lost"),
                QoS::ExactlyOnce => assert_eq!(times, 1, "QoS 2, token {token}"),
            }
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut first: Vec<u64> = Vec::new();
            for token in &receiver.received {
                if self.published[usize::try_from(*token).unwrap()] == qos && !first.contains(token) {
                    first.push(*token);
                }
            }
            assert!(first.is_sorted(), "{qos:?} is out of order: {first:?}");
        }
    }
}

fn limits(random: &mut Rng) -> SessionLimits {
    SessionLimits { max_packet: 1_000, in_flight: random.u16(1..6) }
}

/// The bytes under way in each direction, up and down.
#[derive(Default)]
struct Link {
    up: BytesMut,
    down: BytesMut,
}

/// Moves up to `most` bytes.
fn carry(from: &mut BytesMut, to: &mut BytesMut, most: usize) {
    let some = from.len().min(most);
    to.extend_from_slice(&from[..some]);
    from.advance(some);
}

fn connect(client: &mut Party, server: &mut Party, link: &mut Link, random: &mut Rng) {
    *link = Link::default();
    client.session.open(NOW);
    client.session.connect(&Connect::default(), NOW).unwrap();
    if random.bool() {
        server.session.open(NOW);
    } else {
        // A server may as well begin a session for the socket and adopt the one that it kept.
        let mut session = Session::new(Side::Server, limits(random));
        session.open(NOW);
        std::mem::swap(&mut session, &mut server.session);
        server.session.adopt(session);
    }
}

fn hear_client(client: &mut Party) {
    while let Some(event) = client.session.poll_event(NOW).unwrap() {
        match client.take(event) {
            None => {}
            Some(SessionEvent::ConnAck { .. }) => client.session.resume(),
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn hear_server(server: &mut Party, known: &mut bool) {
    while let Some(event) = server.session.poll_event(NOW).unwrap() {
        match server.take(event) {
            None => {}
            Some(SessionEvent::Connect(_)) => {
                server.session.connack(*known, ConnectCode::ACCEPTED);
                server.session.resume();
                *known = true;
            }
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn play(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut client = Party::new(Side::Client, &mut random);
    let mut server = Party::new(Side::Server, &mut random);
    let mut link = Link::default();
    let mut known = false;
    connect(&mut client, &mut server, &mut link, &mut random);
    for _ in 0..random.usize(50..250) {
        let most = random.usize(1..120);
        match random.u8(0..40) {
            0 if random.bool() => {
                // Nobody is connected for a while; whatever is published then must wait.
                link = Link::default();
                client.session.close();
                server.session.close();
            }
            0 => connect(&mut client, &mut server, &mut link, &mut random),
            1..5 => client.publish(&mut random),
            5..9 => server.publish(&mut random),
            9..13 => client.acknowledge(&mut random),
            13..17 => server.acknowledge(&mut random),
            17..22 => carry(client.session.outbox(), &mut link.up, most),
            22..27 => carry(server.session.outbox(), &mut link.down, most),
            27..32 => {
                carry(&mut link.up, server.session.inbox(), most);
                hear_server(&mut server, &mut known);
            }
            32..37 => {
                carry(&mut link.down, client.session.inbox(), most);
                hear_client(&mut client);
            }
            37 => client.session.shrink(),
            _ => server.session.shrink(),
        }
    }
    // In the end the link holds: everything is carried and acknowledged until nothing moves any more.
    connect(&mut client, &mut server, &mut link, &mut random);
    loop {
        while !client.receipts.is_empty() {
            client.acknowledge(&mut random);
        }
        while !server.receipts.is_empty() {
            server.acknowledge(&mut random);
        }
        if client.session.outbox().is_empty() && server.session.outbox().is_empty() {
            break;
        }
        let up = client.session.outbox().split();
        server.session.inbox().extend_from_slice(&up);
        hear_server(&mut server, &mut known);
        let down = server.session.outbox().split();
        client.session.inbox().extend_from_slice(&down);
        hear_client(&mut client);
    }
    client.check(&server);
    server.check(&client);
}

#[test]
fn nothing_is_lost_repeated_or_reordered_beyond_what_qos_allows() {
    for seed in 0..SCHEDULES {
        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
            panic!("seed {seed}: {:?}", panic.downcast_ref::<String>());
        }
    }
}

#[test]
fn random_and_mutated_bytes_neither_panic_nor_fill_the_memory() {
    for seed in 0..5_000 {
        let mut random = Rng::with_seed(seed);
        let end = if random.bool() { Side::Client } else { Side::Server };
        let mut session = Session::new(end, limits(&mut random));
        session.open(NOW);
        let mut bytes = BytesMut::new();
        let message = Message {
            topic: "a".into(),
            payload: "x".into(),
            qos: QoS::ExactlyOnce,
            retain: false,
            dup: false,
            id: Some(2),
        };
        let mut packets = vec![
            Packet::Publish(message.clone()),
            Packet::Publish(Message { qos: QoS::AtLeastOnce, ..message }),
            Packet::PubAck(1),
            Packet::PubRec(2),
            Packet::PubRel(2),
            Packet::PubComp(2),
        ];
        if end == Side::Client {
            session.connect(&Connect::default(), NOW).unwrap();
            session.subscribe(&[("a", QoS::AtLeastOnce)]).unwrap();
            Packet::ConnAck { session_present: true, code: ConnectCode::ACCEPTED }
                .encode(&mut bytes)
                .unwrap();
            packets.extend([
                Packet::SubAck { id: 1, codes: vec![SubscribeCode::Refused] },
                Packet::UnsubAck(1),
                Packet::PingResp,
            ]);
        } else {
            Packet::Connect(Box::default()).encode(&mut bytes).unwrap();
            packets.extend([
                Packet::Subscribe { id: 1, filters: vec![("a".into(), QoS::AtLeastOnce)] },
                Packet::Unsubscribe { id: 1, filters: vec!["a".into()] },
                Packet::PingReq,
            ]);
        }
        let greeting = bytes.len();
        for _ in 0..random.usize(1..8) {
            packets[random.usize(..packets.len())].encode(&mut bytes).unwrap();
        }
        for _ in 0..random.usize(..3) {
            let at = if random.u8(0..4) == 0 { 0 } else { greeting };
            let at = random.usize(at..bytes.len());
            bytes[at] = random.u8(..);
        }
        while bytes.has_remaining() {
            let most = random.usize(1..20);
            carry(&mut bytes, session.inbox(), most);
            while let Ok(Some(event)) = session.poll_event(NOW) {
                match event {
                    SessionEvent::Connect(_) => session.connack(true, ConnectCode::ACCEPTED),
                    SessionEvent::Publish(_, Some(receipt)) => session.acknowledge(receipt),
                    SessionEvent::ConnAck { .. } => {
                        for token in 0..3 {
                            let qos = QoS::from_number(random.u8(0..3)).unwrap();
                            session
                                .publish(Publish { topic: "a".into(), qos, ..Publish::default() }, token)
                                .unwrap();
                        }
                    }
                    _ => {}
                }
            }
            let stored = session.inbox().len() + session.outbox().len();
            assert!(stored < 2_000, "seed {seed}: {stored} bytes");
        }
    }
}
