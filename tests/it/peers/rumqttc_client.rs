//! rumqttc's `AsyncClient` as a gateway and as a platform user: the job that `gateway.py` does with paho.

use std::collections::VecDeque;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet,
    Publish, QoS, SubscribeFilter, SubscribeReasonCode,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    process::{LIMIT, Service},
    wire::password,
};

const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A connected client. Its event loop runs only while a method waits.
struct Client {
    requests: AsyncClient,
    events: EventLoop,
    session_present: bool,
    /// Messages that came while something else was waited for.
    messages: VecDeque<Publish>,
}

fn options(edge: &Service, client_id: &str, username: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", edge.port().parse().unwrap());
    options.set_credentials(username, password(client_id, username));
    options
}

impl Client {
    async fn connect(options: MqttOptions) -> Result<Self, ConnectReturnCode> {
        let (requests, mut events) = AsyncClient::new(options, 100);
        match timeout(LIMIT, events.poll()).await.unwrap() {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                let session_present = ack.session_present;
                Ok(Self { requests, events, session_present, messages: VecDeque::new() })
            }
            Err(ConnectionError::ConnectionRefused(code)) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    async fn gateway(edge: &Service, id: &str) -> Self {
        Self::connect(options(edge, id, "acme")).await.unwrap()
    }

    async fn platform(edge: &Service) -> Self {
        Self::connect(options(edge, "console", "platform")).await.unwrap()
    }

    /// The next packet that is no message.
    async fn packet(&mut self) -> Packet {
        loop {
            match timeout(LIMIT, self.events.poll()).await.unwrap().unwrap() {
                Event::Incoming(Packet::Publish(message)) => self.messages.push_back(message),
                Event::Incoming(packet) => return packet,
                Event::Outgoing(_) => {}
            }
        }
    }

    /// The next message to a topic that ends like this.
    async fn message(&mut self, end: &str) -> Publish {
        loop {
            while let Some(message) = self.messages.pop_front() {
                if message.topic.ends_with(end) {
                    return message;
                }
            }
            if let Event::Incoming(Packet::Publish(message)) =
                timeout(LIMIT, self.events.poll()).await.unwrap().unwrap()
            {
                self.messages.push_back(message);
            }
        }
    }

    async fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<SubscribeReasonCode> {
        let filters = filters.iter().map(|(filter, qos)| SubscribeFilter::new((*filter).to_owned(), *qos));
        self.requests.subscribe_many(filters).await.unwrap();
        loop {
            if let Packet::SubAck(ack) = self.packet().await {
                return ack.return_codes;
            }
        }
    }

    /// Publishes, and waits until the edge has the message.
    async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>, qos: QoS, retain: bool) {
        self.requests.publish(topic, qos, retain, payload).await.unwrap();
        loop {
            match timeout(LIMIT, self.events.poll()).await.unwrap().unwrap() {
                Event::Incoming(Packet::Publish(message)) => self.messages.push_back(message),
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => return,
                Event::Outgoing(rumqttc::Outgoing::Publish(_)) if qos == QoS::AtMostOnce => return,
                _ => {}
            }
        }
    }

    /// Sends DISCONNECT, and waits for the end of the connection.
    async fn leave(mut self) {
        self.requests.disconnect().await.unwrap();
        while timeout(LIMIT, self.events.poll()).await.unwrap().is_ok() {}
    }
}

fn json_of(message: &Publish) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

/// Sync, report, status and a command's answer, with one quality of service.
async fn job(edge: &Service, name: &str, qos: QoS) {
    let topic = |channel: &str| format!("gateway_id/{name}/{channel}");
    let granted = SubscribeReasonCode::Success(qos);
    let (mut gateway, mut platform) = (Client::gateway(edge, name).await, Client::platform(edge).await);
    assert!(!gateway.session_present && !platform.session_present);
    let downlinks = ["devices/sync/response", "properties/report/response", "commands"].map(topic);
    let codes = gateway.subscribe(&downlinks.each_ref().map(|filter| (filter.as_str(), qos))).await;
    assert_eq!(codes, [granted; 3]);
    let codes = gateway.subscribe(&[("gateway_id/another/commands", qos)]).await;
    assert_eq!(codes, [SubscribeReasonCode::Failure]);
    let uplinks = [("gateway_id/+/commands/response", qos), ("gateway_id/+/devices/status", qos)];
    assert_eq!(platform.subscribe(&uplinks).await, [granted; 2]);

    for (channel, param, code) in [
        ("properties/report", json!({"cid": "m1", "id": "1", "value": 1}), 2003),
        ("devices/sync", json!({"cid": "m1", "product_id": "p1"}), 0),
        ("properties/report", json!({"cid": "m1", "id": "9", "value": "opened"}), 0),
        ("properties/report", json!({"cid": "m1", "id": "9", "value": "ajar"}), 2002),
    ] {
        let request = json!({"t": 1, "request_id": "r1", "param": param}).to_string();
        gateway.publish(&topic(channel), request, qos, false).await;
        let message = gateway.message(&format!("{channel}/response")).await;
        let answer = json_of(&message);
        assert_eq!((&answer["request_id"], &answer["param"]["code"]), (&json!("r1"), &json!(code)));
        assert_eq!((message.qos as u8, message.retain), ((qos as u8).min(1), false));
    }
    let status = json!({"t": 1, "request_id": "s", "param": [{"cid": "m1", "status": true}]});
    gateway.publish(&topic("devices/status"), status.to_string(), qos, false).await;
    assert_eq!(json_of(&platform.message("status").await), status);

    let command = json!({"t": 1, "cid": "m1", "request_id": "c1", "param": {"id": "4", "value": true}});
    platform.publish(&topic("commands"), command.to_string(), qos, false).await;
    assert_eq!(json_of(&gateway.message("commands").await), command);
    let answer = json!({"t": 1, "cid": "m1", "request_id": "c1", "param": {"msg": "success", "code": 0}});
    gateway.publish(&topic("commands/response"), answer.to_string(), qos, false).await;
    assert_eq!(json_of(&platform.message("commands/response").await), answer);
    gateway.leave().await;
    platform.leave().await;
}

async fn logins(edge: &Service) {
    for (client_id, username, code) in [
        ("gw-wrong", "acme", ConnectReturnCode::BadUserNamePassword),
        ("gw", "other", ConnectReturnCode::NotAuthorized),
    ] {
        let mut options = options(edge, client_id, username);
        if username == "acme" {
            options.set_credentials(username, "0".repeat(32));
        }
        assert_eq!(Client::connect(options).await.err(), Some(code), "{client_id} {username}");
    }
}

/// A persistent session keeps the messages for an absent client, in order.
async fn persistence(edge: &Service) {
    let (topic, count) = ("gateway/in/gw-kept", 30);
    let mut options = options(edge, "gw-kept", "acme");
    options.set_clean_session(false);
    let mut gateway = Client::connect(options.clone()).await.unwrap();
    assert!(!gateway.session_present);
    gateway.subscribe(&[(topic, QoS::ExactlyOnce)]).await;
    gateway.leave().await;
    let mut platform = Client::platform(edge).await;
    for n in 0..count {
        platform.publish(topic, n.to_string(), QUALITIES[n % 2 + 1], false).await;
    }
    let mut gateway = Client::connect(options).await.unwrap();
    assert!(gateway.session_present);
    for n in 0..count {
        let message = gateway.message(topic).await;
        assert_eq!((message.payload, message.qos), (n.to_string().into(), QUALITIES[n % 2 + 1]));
    }
    gateway.leave().await;
    platform.leave().await;
}

/// A will follows a cut connection, and no DISCONNECT.
async fn wills(edge: &Service) {
    let topic = "gateway_id/gw-will/devices/status";
    let mut platform = Client::platform(edge).await;
    platform.subscribe(&[("gateway_id/+/devices/status", QoS::AtLeastOnce)]).await;
    for (will, is_polite) in [("polite", true), ("cut", false)] {
        let mut options = options(edge, "gw-will", "acme");
        options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, false));
        let gateway = Client::connect(options).await.unwrap();
        if is_polite {
            gateway.leave().await;
        }
    }
    assert_eq!(platform.message("status").await.payload, "cut");
    platform.leave().await;
}

async fn retained(edge: &Service) {
    let topic = "gateway/out/gw-last";
    let mut gateway = Client::gateway(edge, "gw-last").await;
    for qos in QUALITIES {
        gateway.publish(topic, format!("last {qos:?}"), qos, true).await;
    }
    let mut platform = Client::platform(edge).await;
    platform.subscribe(&[("gateway/out/+", QoS::ExactlyOnce)]).await;
    let message = platform.message(topic).await;
    assert_eq!((message.payload, message.retain), ("last ExactlyOnce".into(), true));
    gateway.leave().await;
    platform.leave().await;
}

/// A second client with the same id ends the first one's connection.
async fn takeover(edge: &Service) {
    let mut first = Client::gateway(edge, "gw-twice").await;
    let mut second = Client::gateway(edge, "gw-twice").await;
    while timeout(LIMIT, first.events.poll()).await.unwrap().is_ok() {}
    second.publish("gateway/out/gw-twice", "still here", QoS::AtLeastOnce, false).await;
    second.leave().await;
}

#[test]
fn rumqttc_is_a_gateway() {
    let edge = Service::edge(&["--username", "acme"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        logins(&edge).await;
        for (n, qos) in QUALITIES.into_iter().enumerate() {
            job(&edge, &format!("gw-{n}"), qos).await;
        }
        persistence(&edge).await;
        wills(&edge).await;
        retained(&edge).await;
        takeover(&edge).await;
    });
}
