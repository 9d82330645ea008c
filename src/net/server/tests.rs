//! The broker over sockets in memory: what it counts, what it holds, and whose turn it is.

use std::cell::Cell;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    task::LocalSet,
};
use tokio_rustls::server::TlsStream;

use super::{
    client_state::{ClientState, Offered},
    connection::Transport,
    retained::Retained,
    *,
};
use crate::{
    edge::{Access, Faults, Registry, Role, Settings},
    mqtt::{
        Connect, ConnectCode, Message, Packet, Password, Publish, Session, SessionEvent, Side, SubscribeCode,
        Will,
    },
    net::socket_writer::tests::{TINY, tls_pair},
    tuya::{derive_password, product::Product},
};

impl Transport for DuplexStream {
    fn acknowledge(&self) {}
}

impl Transport for TlsStream<DuplexStream> {
    fn acknowledge(&self) {}
}

/// What the broker told.
#[derive(Clone, Default)]
struct Told {
    warnings: Rc<RefCell<Vec<String>>>,
    connections: Rc<RefCell<Vec<String>>>,
}

impl Handler for Told {
    fn message(&mut self, _: &Record<'_>) {}
    fn connection(&mut self, record: &Connection<'_>) {
        let mut line = Vec::new();
        record.write(&mut line);
        self.connections.borrow_mut().push(String::from_utf8(line).unwrap());
    }
    fn settled(&mut self, _: EndedCommand) {}
    fn warn(&mut self, message: &str) {
        self.warnings.borrow_mut().push(message.to_owned());
    }
    fn flush(&mut self) {}
    fn is_congested(&self) -> bool {
        false
    }
}

fn board_with(limits: Limits, faults: &[&str]) -> (Rc<RefCell<Router>>, Told) {
    let settings = Settings {
        access: Access { usernames: Vec::new(), platform_usernames: vec!["platform".into()] },
        product: Product::smart_water_meter(),
        accepts_all: true,
        max_skew: None,
        offline_after: None,
        command_timeout: Duration::from_secs(5),
        faults: Faults::new(faults.iter().map(|fault| fault.parse().unwrap()).collect(), 1),
    };
    let told = Told::default();
    let edge = Edge::new(settings, Registry::default());
    (Router::new(edge, limits, Box::new(told.clone()), None, Instant::now()), told)
}

fn login(client_id: &str, username: &str) -> Connect {
    Connect {
        client_id: client_id.into(),
        username: Some(username.into()),
        password: Some(Password::from(&derive_password(client_id, username))),
        clean_session: true,
        ..Connect::default()
    }
}

fn encoded(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes).unwrap();
    bytes
}

/// A client that has just been let in, as the router alone sees it.
fn admit(board: &mut Router, connect: Connect) -> Result<router::ClientHandle, connection::Ending> {
    board.begin_turn();
    let (mut session, connect) = greeted(connect);
    let admitted = board.admit(connect, &mut session);
    board.end_turn();
    admitted
}

/// A server's session that has heard a CONNECT.
fn greeted(connect: Connect) -> (Session, Connect) {
    let mut session = Session::new(Side::Server, Limits::default().session());
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
    let (board, _) = board_with(Limits::default(), &[]);
    spawn_local(connection::serve(near, Rc::clone(&board), Instant::now()));
    subscribed(&mut far).await;
    for n in 0..10_u8 {
        let mut board = board.borrow_mut();
        board.begin_turn();
        board.route("a".into(), vec![n; 5000].into(), QoS::AtMostOnce);
        board.end_turn();
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
            let (board, _) = board_with(Limits::default(), &[]);
            let mut pair = tls_pair().await;
            let (near, mut plain) = duplex(TINY);
            if is_tls {
                spawn_local(connection::serve(pair.0, Rc::clone(&board), Instant::now()));
                subscribed(&mut pair.1).await;
            } else {
                spawn_local(connection::serve(near, Rc::clone(&board), Instant::now()));
                subscribed(&mut plain).await;
            }
            let before = board.borrow().kept_bytes();
            board.borrow_mut().begin_turn();
            board.borrow_mut().route("a".into(), vec![0; 50_000].into(), QoS::AtMostOnce);
            board.borrow_mut().end_turn();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            let kept = board.borrow().kept_bytes() - before;
            assert!((50_000 - TINY..51_000).contains(&kept), "TLS {is_tls}: {kept}");
        }
    });
}

#[test]
fn the_time_for_connect_begins_when_the_connection_is_accepted() {
    run(async {
        let (board, told) = board_with(Limits::default(), &[]);
        let (near, mut far) = duplex(TINY);
        let Some(long_ago) = Instant::now().checked_sub(Limits::default().connect_timeout) else { return };
        spawn_local(connection::serve(near, board, long_ago));
        // The handshake of TLS has taken all of it.
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        assert!(told.warnings.borrow()[0].contains("no CONNECT came within 5 s"), "{:?}", told.warnings);
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
    let (board, _) = board_with(Limits::default(), &[]);
    let mut said = encoded(&Packet::Connect(Box::new(login("gw1", "acme"))));
    for packet in packets {
        said.unsplit(encoded(packet));
    }
    let read = Rc::new(Cell::new(0));
    let flood = Flood { said, at: 0, read: Rc::clone(&read) };
    let flooding = spawn_local(connection::serve(flood, board, Instant::now()));
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
    let publish = |topic: &str, payload: &str| {
        Packet::Publish(Message {
            topic: topic.into(),
            payload: payload.to_owned().into(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            id: None,
        })
    };
    let filters = |count: usize| (0..count).map(|n| format!("gateway_id/gw1/{n:05}"));
    let subscribe =
        Packet::Subscribe { id: 2, filters: filters(300).map(|filter| (filter, QoS::AtMostOnce)).collect() };
    let report = r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#;
    run(async move {
        for (what, packet, limit) in [
            ("reports", publish("gateway_id/gw1/properties/report", report), 192 * 1024),
            ("what is no JSON", publish("gateway_id/gw1/properties/report", "["), 128 * 1024),
            ("forbidden topics", publish("gateway_id/gw2/commands", "x"), 128 * 1024),
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
    let limits = Limits { max_queues: 1_000_000, ..Limits::default() };
    let (board, told) = board_with(limits, &[]);
    let board = &mut *board.borrow_mut();
    let small = admit(board, login("small", "acme")).unwrap();
    let before = board.kept_bytes();
    assert!((15..200).contains(&before), "{before} for two names of five bytes");
    for n in 0..100 {
        let topic = "gateway/out/x".to_owned();
        let will = Will { topic, payload: vec![0; 60_000].into(), qos: QoS::AtMostOnce, retain: false };
        admit(board, Connect { will: Some(will), ..login(&format!("gw{n}"), "acme") }).unwrap();
        assert!(board.kept_bytes() <= 1_000_000, "{} after {n}", board.kept_bytes());
    }
    assert!(board.kept_bytes() > 500_000);
    assert!(board.client(small).is_some_and(|client| client.is_connected));
    assert!(told.warnings.borrow()[0].contains("--max-queues allows"), "{:?}", told.warnings);
}

#[test]
fn unfinished_packets_and_what_is_kept_for_clients_share_their_room() {
    let limits = Limits { max_queues: 1_000_000, max_unfinished: 800_000, ..Limits::default() };
    let (board, _) = board_with(limits, &[]);
    let board = &mut *board.borrow_mut();
    let fill = |board: &mut Router| {
        let mut most = 0;
        for n in 0..30 {
            let topic = "gateway/out/x".to_owned();
            let will = Will { topic, payload: vec![0; 60_000].into(), qos: QoS::AtMostOnce, retain: false };
            admit(board, Connect { will: Some(will), ..login(&format!("gw{n}"), "acme") }).unwrap();
            most = most.max(board.kept_bytes());
        }
        most
    };
    assert_eq!(board.room_for_unfinished(), 800_000);
    board.unfinished_bytes = 200_000;
    assert!((900_000..=1_000_000).contains(&fill(board)));
    assert_eq!(board.room_for_unfinished(), 200_000);
    board.unfinished_bytes = 500_000;
    board.begin_turn();
    board.end_turn();
    assert!((600_000..=700_000).contains(&fill(board)));
    // Half of the room is the clients' whatever is unfinished.
    board.unfinished_bytes = 10_000_000;
    board.begin_turn();
    board.end_turn();
    assert!((400_000..=500_000).contains(&fill(board)));
}

#[test]
fn absent_sessions_with_long_names_are_counted_and_longer_ones_refused() {
    let limits = Limits { max_queues: 100_000, ..Limits::default() };
    let (board, told) = board_with(limits, &[]);
    let board = &mut *board.borrow_mut();
    for n in 0..500 {
        let name = format!("{n:0256}");
        let place = admit(board, Connect { clean_session: false, ..login(&name, &name) }).unwrap();
        board.begin_turn();
        board.depart(place, &connection::Ending::Left);
        board.end_turn();
        assert!(board.kept_bytes() <= 100_000);
    }
    let long = "x".repeat(257);
    assert!(matches!(admit(board, login(&long, "acme")), Err(connection::Ending::Refused)));
    assert!(matches!(admit(board, login("gw1", &long)), Err(connection::Ending::Refused)));
    let codes: Vec<bool> = [2, 4]
        .iter()
        .map(|code| told.connections.borrow().iter().any(|line| line.contains(&format!("\"code\":{code}"))))
        .collect();
    assert_eq!(codes, [true, true], "{:?}", told.connections.borrow().last());
}

#[test]
fn a_session_left_under_another_username_is_not_resumed() {
    let (board, told) = board_with(Limits::default(), &[]);
    let board = &mut *board.borrow_mut();
    let connect = |username| Connect { clean_session: false, ..login("gw1", username) };
    let leave = |board: &mut Router, place| {
        board.begin_turn();
        board.depart(place, &connection::Ending::Left);
        board.end_turn();
    };
    let place = admit(board, connect("acme")).unwrap();
    board.client(place).unwrap().subscribe("gateway/in/gw1", &Limits::default()).unwrap();
    leave(board, place);
    let origin = |board: &mut Router, place| board.client(place).unwrap().origin;
    let again = admit(board, connect("acme")).unwrap();
    assert_eq!(origin(board, again), place.generation, "the session goes on");
    leave(board, again);
    let other = admit(board, connect("other")).unwrap();
    assert_eq!(origin(board, other), other.generation, "a session of its own");
    assert!(board.client(other).unwrap().take_filters().next().is_none());
    assert!(told.warnings.borrow()[0].contains(r#"as username "acme""#), "{:?}", told.warnings);
}

#[test]
fn an_mqtt_5_client_is_refused_with_a_record_that_names_it() {
    run(async {
        let (board, told) = board_with(Limits::default(), &[]);
        let (near, mut far) = duplex(TINY);
        spawn_local(connection::serve(near, board, Instant::now()));
        far.write_all(b"\x10\x16\0\x04MQTT\x05\x82\0\x3c\0\0\x03gw1\0\x04acme").await.unwrap();
        let mut answer = [0; 4];
        far.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 1]);
        let lines = told.connections.borrow();
        let record: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&record["kind"], &record["code"]), (&"connect".into(), &1.into()));
        assert_eq!((&record["client_id"], &record["username"]), (&"gw1".into(), &"acme".into()));
        assert!(told.warnings.borrow()[0].contains("MQTT level 5"), "{:?}", told.warnings);
    });
}

#[test]
fn a_bridge_gets_none_of_its_own_messages_and_sees_the_retain_flag() {
    let (board, _) = board_with(Limits::default(), &[]);
    let board = &mut *board.borrow_mut();
    let bridge = admit(board, Connect { is_bridge: true, ..login("bridge", "platform") }).unwrap();
    let other = admit(board, login("other", "platform")).unwrap();
    for place in [bridge, other] {
        let filters = vec![("#".to_owned(), QoS::AtMostOnce)];
        board.handle(place, SessionEvent::Subscribe { id: 1, filters }).unwrap();
        board.client(place).unwrap().session.outbox().clear();
    }
    for place in [bridge, other] {
        let message = Message {
            topic: "a".into(),
            payload: "x".into(),
            qos: QoS::AtMostOnce,
            retain: true,
            dup: false,
            id: None,
        };
        board.begin_turn();
        board.handle(place, SessionEvent::Publish(message, None)).unwrap();
        board.end_turn();
    }
    let mut flags = |place| {
        let mut outbox = board.client(place).unwrap().session.outbox().split();
        let packets = std::iter::from_fn(move || Packet::decode(&mut outbox, Side::Client, 100).unwrap());
        let messages = packets.filter_map(|packet| match packet {
            Packet::Publish(message) => Some(message.retain),
            _ => None,
        });
        messages.collect::<Vec<bool>>()
    };
    assert_eq!((flags(bridge), flags(other)), (vec![true], vec![false, false]));
}

#[test]
fn delayed_answers_leave_early_rather_than_fill_the_memory() {
    let limits = Limits { max_queues: 400_000, ..Limits::default() };
    let (board, told) = board_with(limits, &["delay=1h"]);
    let board = &mut *board.borrow_mut();
    let place = admit(board, login("gw1", "acme")).unwrap();
    let filters = vec![("gateway_id/gw1/#".to_owned(), QoS::AtMostOnce)];
    board.handle(place, SessionEvent::Subscribe { id: 1, filters }).unwrap();
    for n in 0..600 {
        let report = format!(r#"{{"t":1,"request_id":"r{n}","param":{{"cid":"m1","id":"1","value":{n}}}}}"#);
        let message = Message {
            topic: "gateway_id/gw1/properties/report".into(),
            payload: report.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            id: None,
        };
        board.begin_turn();
        board.handle(place, SessionEvent::Publish(message, None)).unwrap();
        board.end_turn();
        assert!(board.delayed_bytes() <= 100_000, "{n}");
    }
    let session = &mut board.client(place).unwrap().session;
    let early = String::from_utf8_lossy(session.outbox()).matches("properties/report/response").count();
    assert!((100..500).contains(&early), "{early} of 600 answers before their time");
    assert!(told.warnings.borrow().iter().any(|warning| warning.contains("before their time")));
}

fn client() -> ClientState {
    let (mut session, _) = greeted(login("gw1", "acme"));
    session.connack(false, ConnectCode::ACCEPTED);
    ClientState::new(session, "gw1".into(), Rc::new(Role::Platform), 1)
}

#[test]
fn a_slow_reader_learns_which_option_left_no_room() {
    let limits = Limits { max_queue: 20_000, max_queues: 100_000, ..Limits::default() };
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
    let limits = Limits::default();
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
        let (board, _) = board_with(Limits::default(), &[]);
        let (near, mut far) = duplex(1 << 20);
        spawn_local(connection::serve(near, Rc::clone(&board), Instant::now()));
        subscribed(&mut far).await;
        // 5 KB of a packet of 100 KB.
        far.write_all(&[&[0x30, 0xa0, 0x8d, 0x06, 0, 1, b'a'][..], &[0; 5000]].concat()).await.unwrap();
        poll_fn(|cx| {
            if board.borrow().unfinished_bytes > 0 {
                return Poll::Ready(());
            }
            connection::come_again(cx);
            Poll::Pending
        })
        .await;
        let mut board = board.borrow_mut();
        let held = board.seat_of("listener").unwrap().session.inbox().capacity();
        assert!((5007..6000).contains(&held), "{held}");
    });
}
