//! The broker over sockets in memory: what it counts, what it holds, and whose turn it is.

use std::{cell::Cell, collections::VecDeque, io};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    task::LocalSet,
};
use tokio_rustls::server::TlsStream;

use super::{
    client_state::{ClientState, Offered},
    close_reason::CloseReason,
    connection::Transport,
    retained::Retained,
    *,
};
use crate::{
    mqtt::{
        Connect, ConnectCode, Direction, Message, Packet, Publish, Session, SessionEvent, Side,
        SubscribeCode, Will,
    },
    net::socket_writer::tests::{TINY, tls_pair},
};

impl Transport for DuplexStream {
    fn acknowledge(&self) {}
}

impl Transport for TlsStream<DuplexStream> {
    fn acknowledge(&self) {}
}

/// What the handler was log, a line each.
type Log = Rc<RefCell<Vec<String>>>;

/// A handler that refuses the client id `refused`, answers messages to `ask` to their sender alone and acknowledges them
/// after that, keeps messages to `hold` to itself without an acknowledgement, warns of messages to `forbidden`, and
/// passes all others on.
#[derive(Default)]
struct TestHandler {
    actions: VecDeque<ServerAction>,
    held: Vec<PublishAck>,
    log: Log,
}

impl TestHandler {
    fn note(&self, what: &str, client: ClientInfo<'_, ()>) {
        let ClientInfo { client_id, username, .. } = client;
        self.log.borrow_mut().push(format!("{what} {client_id} {}", username.unwrap_or_default()));
    }
}

impl Handler for TestHandler {
    type ClientData = ();

    const ASSIGNED_ID_PREFIX: &'static str = "client-";

    fn is_congested(&self) -> bool {
        false
    }

    fn handle_connect(&mut self, _: Now, connect: &Connect) -> Result<(), ConnectRefusal> {
        let code = ConnectCode::NOT_AUTHORIZED;
        if connect.client_id == "refused" {
            Err(ConnectRefusal::Refuse(code, "a test".into()))
        } else {
            Ok(())
        }
    }

    fn handle_refused(&mut self, _: Now, client_id: &str, username: Option<&str>, code: ConnectCode) {
        let username = username.unwrap_or_default();
        self.log.borrow_mut().push(format!("refused {client_id} {username} {code}"));
    }

    fn handle_connected(&mut self, _: Now, client: ClientInfo<'_, ()>) {
        self.note("connected", client);
    }

    fn may_subscribe(&mut self, _: ClientInfo<'_, ()>, filter: &str) -> Result<(), &'static str> {
        if filter == "forbidden" { Err("a test") } else { Ok(()) }
    }

    fn handle_publish(&mut self, _: Now, publish: Incoming<'_, ()>) -> PublishDecision {
        let Incoming { client, message, ack } = publish;
        match &*message.topic {
            "ask" => {
                let to = Recipients::Session(client.session);
                let payload = message.payload.clone();
                self.actions.push_back(ServerAction::Publish {
                    topic: "answer".into(),
                    payload,
                    qos: QoS::AtMostOnce,
                    to,
                });
                self.actions.extend(ack.map(ServerAction::Acknowledge));
                PublishDecision::Consume(Ack::Later)
            }
            "hold" => {
                self.held.extend(ack);
                PublishDecision::Consume(Ack::Later)
            }
            "forbidden" => {
                self.actions.push_back(ServerAction::Warn("forbidden".into()));
                PublishDecision::Consume(Ack::Now)
            }
            _ => PublishDecision::Forward(Ack::Now),
        }
    }

    fn handle_disconnected(&mut self, _: Now, client: ClientInfo<'_, ()>, by: Direction) {
        self.note(if by == Direction::Up { "left" } else { "closed" }, client);
    }

    fn handle_session_ended(&mut self, client: ClientInfo<'_, ()>) {
        self.note("ended", client);
    }

    fn handle_will(&mut self, _: Now, client: ClientInfo<'_, ()>, will: &Message) -> bool {
        self.note("will of", client);
        &*will.topic != "forbidden"
    }

    fn handle_timeout(&mut self, _: Now) {}

    fn handle_warning(&mut self, message: &str) {
        self.log.borrow_mut().push(format!("warning: {message}"));
    }

    fn flush(&mut self) {}

    fn poll_action(&mut self, _: Now) -> Option<ServerAction> {
        self.actions.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        None
    }
}

type TestRouter = Router<TestHandler>;

fn router_with(limits: ServerLimits) -> (Rc<RefCell<TestRouter>>, Log) {
    let handler = TestHandler::default();
    let log = Rc::clone(&handler.log);
    (Router::new(handler, limits, Instant::now()), log)
}

fn warnings(log: &Log) -> Vec<String> {
    log.borrow().iter().filter(|line| line.starts_with("warning: ")).cloned().collect()
}

fn login(client_id: &str, username: &str) -> Connect {
    Connect {
        client_id: client_id.into(),
        username: Some(username.into()),
        clean_session: true,
        ..Connect::default()
    }
}

fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    let payload = payload.to_owned().into();
    Message { topic: topic.into(), payload, qos, retain: false, dup: false, id: None }
}

fn encoded(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes).unwrap();
    bytes
}

/// A client that has just been let in, as the router alone sees it.
fn accept_client(router: &mut TestRouter, connect: Connect) -> Result<router::ClientHandle, CloseReason> {
    router.begin_turn();
    let (mut session, connect) = greeted(connect);
    let admitted = router.accept_client(connect, &mut session);
    router.end_turn();
    admitted
}

/// A server's session that has heard a CONNECT.
fn greeted(connect: Connect) -> (Session, Connect) {
    let mut session = Session::new(Side::Server, ServerLimits::default().session());
    session.open(Duration::ZERO);
    session.inbox().extend_from_slice(&encoded(&Packet::Connect(Box::new(connect))));
    match session.poll_event(Duration::ZERO) {
        Ok(Some(SessionEvent::Connect(connect))) => (session, *connect),
        other => panic!("{other:?}"),
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // What hangs is to fail.
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_mins(1), test).await.expect("what is waited for comes");
    });
}

/// The next packet that a broker sends.
async fn next(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> Packet {
    loop {
        if let Some(packet) = Packet::decode(inbox, Side::Client, 1 << 20).unwrap() {
            return packet;
        }
        assert!(stream.read_buf(inbox).await.unwrap() > 0, "the broker has closed the connection");
    }
}

/// Logs in as a platform user that subscribes to `#`.
async fn subscribed(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut flight = encoded(&Packet::Connect(Box::new(login("listener", "platform"))));
    let filters = vec![("#".to_owned(), QoS::AtMostOnce)];
    flight.unsplit(encoded(&Packet::Subscribe { id: 1, filters }));
    stream.write_all(&flight).await.unwrap();
    let mut inbox = BytesMut::new();
    assert!(matches!(next(stream, &mut inbox).await, Packet::ConnAck { code: ConnectCode::ACCEPTED, .. }));
    let granted = Packet::SubAck { id: 1, codes: vec![SubscribeCode::Granted(QoS::AtMostOnce)] };
    assert_eq!(next(stream, &mut inbox).await, granted);
}

/// Sends a burst to a listener that reads only afterwards, and says nothing more itself.
async fn a_burst_arrives(near: impl Transport + 'static, mut far: impl AsyncRead + AsyncWrite + Unpin) {
    let (router, _) = router_with(ServerLimits::default());
    spawn_local(connection::serve(near, Rc::clone(&router), Instant::now()));
    subscribed(&mut far).await;
    for n in 0..10_u8 {
        let mut router = router.borrow_mut();
        router.begin_turn();
        router.route("a".into(), vec![n; 5000].into(), QoS::AtMostOnce);
        router.end_turn();
    }
    // The broker's turn, before anything is read.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let mut inbox = BytesMut::new();
    for n in 0..10_u8 {
        let Packet::Publish(message) = next(&mut far, &mut inbox).await else { panic!("message {n}") };
        assert_eq!(message.payload, vec![n; 5000]);
    }
}

#[test]
fn a_burst_to_a_slow_reader_arrives_whole_plain_and_over_tls() {
    run(async {
        let (near, far) = duplex(TINY);
        a_burst_arrives(near, far).await;
        let (near, far) = tls_pair().await;
        a_burst_arrives(near, far).await;
    });
}

#[test]
fn what_tls_holds_back_weighs_as_much_as_what_is_unwritten() {
    run(async {
        for is_tls in [false, true] {
            let (router, _) = router_with(ServerLimits::default());
            let mut pair = tls_pair().await;
            let (near, mut plain) = duplex(TINY);
            if is_tls {
                spawn_local(connection::serve(pair.0, Rc::clone(&router), Instant::now()));
                subscribed(&mut pair.1).await;
            } else {
                spawn_local(connection::serve(near, Rc::clone(&router), Instant::now()));
                subscribed(&mut plain).await;
            }
            let before = router.borrow().kept_bytes();
            router.borrow_mut().begin_turn();
            router.borrow_mut().route("a".into(), vec![0; 50_000].into(), QoS::AtMostOnce);
            router.borrow_mut().end_turn();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            let kept = router.borrow().kept_bytes() - before;
            assert!((50_000 - TINY..51_000).contains(&kept), "TLS {is_tls}: {kept}");
        }
    });
}

#[test]
fn the_time_for_connect_begins_when_the_connection_is_accepted() {
    run(async {
        let (router, log) = router_with(ServerLimits::default());
        let (near, mut far) = duplex(TINY);
        let Some(long_ago) = Instant::now().checked_sub(ServerLimits::default().connect_timeout) else {
            return;
        };
        spawn_local(connection::serve(near, router, long_ago));
        // The handshake of TLS has taken all of it.
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        assert!(warnings(&log)[0].contains("no CONNECT came within 5 s"), "{log:?}");
    });
}

/// A client that always has more to say, and counts what is read of it.
struct Flood {
    said: BytesMut,
    at: usize,
    read: Rc<Cell<usize>>,
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while into.remaining() > 0 {
            if self.at == self.said.len() {
                // Again from behind the CONNECT.
                self.at = usize::from(self.said[1]) + 2;
            }
            let part = &self.said[self.at..];
            let part = &part[..part.len().min(into.remaining())];
            into.put_slice(part);
            let length = part.len();
            self.at += length;
            self.read.set(self.read.get() + length);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Flood {
    fn acknowledge(&self) {}
}

/// The most bytes that a flood of these packets gets in between two looks at the sockets.
async fn most_between_two_looks(packets: &[Packet]) -> usize {
    let (router, _) = router_with(ServerLimits::default());
    let mut said = encoded(&Packet::Connect(Box::new(login("gw1", "acme"))));
    for packet in packets {
        said.unsplit(encoded(packet));
    }
    let read = Rc::new(Cell::new(0));
    let flood = Flood { said, at: 0, read: Rc::clone(&read) };
    let flooding = spawn_local(connection::serve(flood, router, Instant::now()));
    let mut most = 0;
    for _ in 0..50 {
        let before = read.get();
        // Comes back once the runtime has polled its I/O driver.
        tokio::task::yield_now().await;
        most = most.max(read.get() - before);
    }
    assert!(most > 0 && !flooding.is_finished());
    flooding.abort();
    most
}

#[test]
#[ignore = "slow: floods a broker"]
fn a_flood_leaves_a_bounded_turn_to_each_look_at_the_sockets() {
    let publish = |topic: &str, payload: &str| Packet::Publish(message(topic, payload, QoS::AtMostOnce));
    let filters = |count: usize| (0..count).map(|n| format!("gateway_id/gw1/{n:05}"));
    let subscribe =
        Packet::Subscribe { id: 2, filters: filters(300).map(|filter| (filter, QoS::AtMostOnce)).collect() };
    let request = "x".repeat(64);
    run(async move {
        for (what, packet, limit) in [
            ("messages", publish("a", &request), 192 * 1024),
            ("requests", publish("ask", &request), 192 * 1024),
            ("warnings", publish("forbidden", "x"), 128 * 1024),
            ("SUBSCRIBE", subscribe, 128 * 1024),
            ("UNSUBSCRIBE", Packet::Unsubscribe { id: 3, filters: filters(300).collect() }, 128 * 1024),
            ("PINGREQ", Packet::PingReq, 320 * 1024),
        ] {
            let most = most_between_two_looks(&[packet]).await;
            assert!(most <= limit, "{what}: {most} bytes");
        }
    });
}

#[test]
fn wills_and_names_count_and_the_heaviest_clients_go_first() {
    let limits = ServerLimits { max_queues: 1_000_000, ..ServerLimits::default() };
    let (router, log) = router_with(limits);
    let router = &mut *router.borrow_mut();
    let small = accept_client(router, login("small", "acme")).unwrap();
    let before = router.kept_bytes();
    assert!((15..200).contains(&before), "{before} for two names of five bytes");
    for n in 0..100 {
        let topic = "gateway/out/x".to_owned();
        let will = Will { topic, payload: vec![0; 60_000].into(), qos: QoS::AtMostOnce, retain: false };
        accept_client(router, Connect { will: Some(will), ..login(&format!("gw{n}"), "acme") }).unwrap();
        assert!(router.kept_bytes() <= 1_000_000, "{} after {n}", router.kept_bytes());
    }
    assert!(router.kept_bytes() > 500_000);
    assert!(router.client(small).is_some_and(|client| client.is_connected));
    assert!(warnings(&log)[0].contains("--max-queues allows"), "{log:?}");
}

#[test]
fn unfinished_packets_and_what_is_kept_for_clients_share_their_room() {
    let limits = ServerLimits { max_queues: 1_000_000, max_unfinished: 800_000, ..ServerLimits::default() };
    let (router, _) = router_with(limits);
    let router = &mut *router.borrow_mut();
    let fill = |router: &mut TestRouter| {
        let mut most = 0;
        for n in 0..30 {
            let topic = "gateway/out/x".to_owned();
            let will = Will { topic, payload: vec![0; 60_000].into(), qos: QoS::AtMostOnce, retain: false };
            accept_client(router, Connect { will: Some(will), ..login(&format!("gw{n}"), "acme") }).unwrap();
            most = most.max(router.kept_bytes());
        }
        most
    };
    assert_eq!(router.room_for_unfinished(), 800_000);
    router.unfinished_bytes = 200_000;
    assert!((900_000..=1_000_000).contains(&fill(router)));
    assert_eq!(router.room_for_unfinished(), 200_000);
    router.unfinished_bytes = 500_000;
    router.begin_turn();
    router.end_turn();
    assert!((600_000..=700_000).contains(&fill(router)));
    // Half of the room is the clients' whatever is unfinished.
    router.unfinished_bytes = 10_000_000;
    router.begin_turn();
    router.end_turn();
    assert!((400_000..=500_000).contains(&fill(router)));
}

#[test]
fn absent_sessions_with_long_names_count() {
    let limits = ServerLimits { max_queues: 100_000, ..ServerLimits::default() };
    let (router, log) = router_with(limits);
    let router = &mut *router.borrow_mut();
    for n in 0..500 {
        let name = format!("{n:0256}");
        let handle = accept_client(router, Connect { clean_session: false, ..login(&name, &name) }).unwrap();
        router.begin_turn();
        router.disconnect(handle, &CloseReason::Left);
        router.end_turn();
        assert!(router.kept_bytes() <= 100_000);
    }
    assert!(warnings(&log).iter().any(|warning| warning.contains("which is away, was ended")));
}

#[test]
fn a_refused_client_gets_the_handlers_return_code() {
    let (router, log) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    assert!(matches!(accept_client(router, login("refused", "acme")), Err(CloseReason::Refused)));
    assert_eq!(log.borrow()[0], "refused refused acme 5");
    assert!(warnings(&log)[0].contains("CONNACK 5"), "{log:?}");
}

#[test]
fn a_session_left_under_another_username_is_not_resumed() {
    let (router, log) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    let connect = |username| Connect { clean_session: false, ..login("gw1", username) };
    let leave = |router: &mut TestRouter, handle| {
        router.begin_turn();
        router.disconnect(handle, &CloseReason::Left);
        router.end_turn();
    };
    let handle = accept_client(router, connect("acme")).unwrap();
    router.client(handle).unwrap().subscribe("gateway/in/gw1", &ServerLimits::default()).unwrap();
    leave(router, handle);
    let origin = |router: &mut TestRouter, handle| router.client(handle).unwrap().origin;
    let again = accept_client(router, connect("acme")).unwrap();
    assert_eq!(origin(router, again), handle.generation, "the session goes on");
    leave(router, again);
    let other = accept_client(router, connect("other")).unwrap();
    assert_eq!(origin(router, other), other.generation, "a session of its own");
    assert!(router.client(other).unwrap().take_filters().next().is_none());
    assert!(warnings(&log)[0].contains(r#"as username "acme""#), "{log:?}");
}

#[test]
fn an_mqtt_5_client_is_refused_with_a_record_that_names_it() {
    run(async {
        let (router, log) = router_with(ServerLimits::default());
        let (near, mut far) = duplex(TINY);
        spawn_local(connection::serve(near, router, Instant::now()));
        far.write_all(b"\x10\x16\0\x04MQTT\x05\x82\0\x3c\0\0\x03gw1\0\x04acme").await.unwrap();
        let mut answer = [0; 4];
        far.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 1]);
        assert_eq!(log.borrow()[0], "refused gw1 acme 1");
        assert!(warnings(&log)[0].contains("MQTT level 5"), "{log:?}");
    });
}

#[test]
fn a_bridge_gets_none_of_its_own_messages_and_sees_the_retain_flag() {
    let (router, _) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    let bridge = accept_client(router, Connect { is_bridge: true, ..login("bridge", "platform") }).unwrap();
    let other = accept_client(router, login("other", "platform")).unwrap();
    for handle in [bridge, other] {
        let filters = vec![("#".to_owned(), QoS::AtMostOnce)];
        router.handle_event(handle, SessionEvent::Subscribe { id: 1, filters }).unwrap();
        router.client(handle).unwrap().session.outbox().clear();
    }
    for handle in [bridge, other] {
        let message = Message { retain: true, ..message("a", "x", QoS::AtMostOnce) };
        router.begin_turn();
        router.handle_event(handle, SessionEvent::Publish(message, None)).unwrap();
        router.end_turn();
    }
    let mut flags = |handle| {
        let mut outbox = router.client(handle).unwrap().session.outbox().split();
        let packets = std::iter::from_fn(move || Packet::decode(&mut outbox, Side::Client, 100).unwrap());
        let messages = packets.filter_map(|packet| match packet {
            Packet::Publish(message) => Some(message.retain),
            _ => None,
        });
        messages.collect::<Vec<bool>>()
    };
    assert_eq!((flags(bridge), flags(other)), (vec![true], vec![false, false]));
}

/// The packets that a router has written for a client, which reads them.
fn read(router: &mut TestRouter, handle: router::ClientHandle) -> Vec<Packet> {
    let mut outbox = router.client(handle).unwrap().session.outbox().split();
    std::iter::from_fn(|| Packet::decode(&mut outbox, Side::Client, 100).unwrap()).collect()
}

/// A client sends a message of QoS 1.
fn publish(router: &mut TestRouter, handle: router::ClientHandle, topic: &str, id: u16) {
    let message = Message { id: Some(id), ..message(topic, "x", QoS::AtLeastOnce) };
    let session = &mut router.client(handle).unwrap().session;
    session.inbox().extend_from_slice(&encoded(&Packet::Publish(message)));
    let event = session.poll_event(Duration::ZERO).unwrap().unwrap();
    router.begin_turn();
    router.handle_event(handle, event).unwrap();
    router.end_turn();
}

#[test]
fn an_answer_to_one_client_reaches_no_other_subscriber() {
    let (router, _) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    let handles =
        ["asker", "other", "unsubscribed"].map(|id| accept_client(router, login(id, "acme")).unwrap());
    let [asker, other, unsubscribed] = handles;
    for handle in [asker, other] {
        let filters = vec![("answer".to_owned(), QoS::AtMostOnce)];
        router.handle_event(handle, SessionEvent::Subscribe { id: 1, filters }).unwrap();
    }
    for handle in handles {
        read(router, handle);
    }
    publish(router, asker, "ask", 7);
    let packets = read(router, asker);
    assert!(
        matches!(&packets[..], [Packet::Publish(answer), Packet::PubAck(7)] if &*answer.topic == "answer")
    );
    assert_eq!(read(router, other), []);
    publish(router, unsubscribed, "ask", 8);
    assert_eq!(read(router, unsubscribed), [Packet::PubAck(8)]);
}

#[test]
fn a_message_is_acknowledged_when_the_handler_says_so_and_only_to_its_session() {
    let (router, _) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    let connect = || Connect { clean_session: false, ..login("gw1", "acme") };
    let acknowledge = |router: &mut TestRouter| {
        router.turn(|handler, _| {
            let held = handler.held.drain(..);
            handler.actions.extend(held.map(ServerAction::Acknowledge));
        });
    };
    let handle = accept_client(router, connect()).unwrap();
    read(router, handle);
    publish(router, handle, "hold", 7);
    assert_eq!(read(router, handle), []);
    acknowledge(router);
    assert_eq!(read(router, handle), [Packet::PubAck(7)]);
    // The session goes on with another connection.
    publish(router, handle, "hold", 8);
    let again = accept_client(router, connect()).unwrap();
    read(router, again);
    acknowledge(router);
    publish(router, again, "hold", 9);
    let other = accept_client(router, login("gw1", "acme")).unwrap();
    read(router, other);
    acknowledge(router);
    assert_eq!(read(router, other), [], "a session of its own");
}

#[test]
fn a_handler_hears_of_a_client_in_the_documented_order() {
    let (router, log) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    let will = |topic: &str| {
        let topic = topic.to_owned();
        Some(Will { topic, payload: "w".into(), qos: QoS::AtMostOnce, retain: false })
    };
    let listener = accept_client(router, login("listener", "acme")).unwrap();
    let filters = ["a", "forbidden"].map(|filter| (filter.to_owned(), QoS::AtMostOnce)).into();
    router.handle_event(listener, SessionEvent::Subscribe { id: 1, filters }).unwrap();
    let codes = vec![SubscribeCode::Granted(QoS::AtMostOnce), SubscribeCode::Refused];
    assert_eq!(read(router, listener)[1], Packet::SubAck { id: 1, codes });
    let handle = accept_client(router, Connect { will: will("a"), ..login("gw1", "acme") }).unwrap();
    // Taken over, with a will that is not passed on.
    let handle = {
        log.borrow_mut().clear();
        let again =
            accept_client(router, Connect { will: will("forbidden"), ..login("gw1", "acme") }).unwrap();
        assert_ne!(handle.generation, again.generation);
        again
    };
    router.begin_turn();
    router.disconnect(handle, &CloseReason::Gone);
    router.end_turn();
    let seen: Vec<_> = log.borrow().iter().filter(|line| !line.starts_with("warning")).cloned().collect();
    let closed = ["closed gw1 acme", "ended gw1 acme", "will of gw1 acme", "connected gw1 acme"];
    assert_eq!(seen, [&closed[..], &["left gw1 acme", "ended gw1 acme", "will of gw1 acme"]].concat());
    let wills = read(router, listener);
    assert!(matches!(&wills[..], [Packet::Publish(will)] if &*will.topic == "a"), "{wills:?}");
}

#[test]
fn a_client_without_a_client_id_gets_a_name_of_the_handlers_kind() {
    let (router, log) = router_with(ServerLimits::default());
    let router = &mut *router.borrow_mut();
    accept_client(router, login("client-1", "acme")).unwrap();
    accept_client(router, login("", "acme")).unwrap();
    assert_eq!(log.borrow()[1], "connected client-2 acme");
}

fn client() -> ClientState<()> {
    let (mut session, _) = greeted(login("gw1", "acme"));
    session.connack(false, ConnectCode::ACCEPTED);
    ClientState::new(session, "gw1".into(), Rc::new(()), 1)
}

#[test]
fn a_slow_reader_learns_which_option_left_no_room() {
    let limits = ServerLimits { max_queue: 20_000, max_queues: 100_000, ..ServerLimits::default() };
    let message = |size: usize| Publish {
        topic: "a".into(),
        payload: vec![0; size].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
    };
    let too_slow = |total: usize| {
        let mut client = client();
        for _ in 0..1000 {
            match client.offer(message(5000), &limits, total) {
                Offered::Taken => {}
                Offered::TooSlow(why) => return why,
                dropped @ Offered::Dropped { .. } => panic!("{dropped:?}"),
            }
        }
        panic!("there is always room");
    };
    assert!(too_slow(100_000).contains("--max-queues"));
    let why = too_slow(0);
    assert!(why.contains("--max-queue ") && !why.contains("--max-queues"), "{why}");
}

#[test]
fn subscribing_again_and_again_begins_no_more_searches_than_there_are_filters() {
    let limits = ServerLimits::default();
    let mut retained = Retained::new(10_000);
    assert!(retained.set("a", b"x", QoS::AtMostOnce));
    let mut client = client();
    for _ in 0..1000 {
        for filter in ["a", "b", "+", "#"] {
            let filter = client.subscribe(filter, &limits).unwrap();
            client.search(filter, QoS::AtMostOnce);
        }
    }
    assert!(client.searches() <= 9, "{}", client.searches());
    assert!(client.unsubscribe("+") && !client.unsubscribe("+"));
    while client.is_searching(&limits, 0) {
        client.search_on(&retained, &limits, 0);
    }
    let mut outbox = client.session.outbox().split();
    let packets = std::iter::from_fn(|| Packet::decode(&mut outbox, Side::Client, 100).unwrap());
    // Each of the three that are left found it once, behind the CONNACK.
    assert_eq!((packets.count(), client.searches()), (1 + 2, 0));
}

#[test]
fn an_unfinished_packet_holds_a_buffer_of_its_own_size() {
    run(async {
        let (router, _) = router_with(ServerLimits::default());
        let (near, mut far) = duplex(1 << 20);
        spawn_local(connection::serve(near, Rc::clone(&router), Instant::now()));
        subscribed(&mut far).await;
        // 5 KB of a packet of 100 KB.
        far.write_all(&[&[0x30, 0xa0, 0x8d, 0x06, 0, 1, b'a'][..], &[0; 5000]].concat()).await.unwrap();
        poll_fn(|cx| {
            if router.borrow().unfinished_bytes > 0 {
                return Poll::Ready(());
            }
            connection::wake_after_io(cx);
            Poll::Pending
        })
        .await;
        let mut router = router.borrow_mut();
        let held = router.client_by_name("listener").unwrap().session.inbox().capacity();
        assert!((5007..6000).contains(&held), "{held}");
    });
}
