//! The agent behind its local broker: what local programs may do, and what comes of it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use smol_str::SmolStr;
use tokio::sync::Notify;

use super::subjects::subjects;
use crate::{
    agent::{
        ANSWER_TOPIC, Accepted, AgentStatus, AnsweredClients, ForwardId, Forwarding, LocalClient,
        LocalPublish, LocalTopics, QUEUE_PREFIX, STATUS_TOPIC, ToForward,
    },
    io::spool::Spool,
    mqtt::{Connect, ConnectCode, Direction, Message, QoS},
    net::server::{
        Ack, ClientInfo, ConnectRefusal, Handler, Incoming, Now, PublishAck, PublishDecision, Recipients,
        ServerAction, SessionId,
    },
    tuya::{Channel, ResultCode},
};

/// Messages that a local program asks the agent for, beside those that it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentRequest {
    /// End in good order.
    Stop,
    /// Read the files again.
    Reload,
}

/// A message for the spool.
#[derive(Debug)]
pub struct Queued {
    /// Acknowledges it to its program, once it is on the disk.
    pub ack: Option<PublishAck>,
    /// The program.
    pub client: LocalClient,
    /// What it is.
    pub channel: Channel,
    /// The edge's topic.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
}

/// The local programs of an agent.
pub struct AgentHandler {
    topics: LocalTopics,
    forwarding: Forwarding<PublishAck>,
    /// The sessions of local programs, observers apart.
    sessions: BTreeMap<LocalClient, SessionId>,
    observers: BTreeMap<LocalClient, SessionId>,
    next_client: u64,
    /// The program that answers commands.
    answerer: Option<LocalClient>,
    /// Whether the agent answers commands itself.
    answers_commands: bool,
    last_answer: Option<Timestamp>,
    /// The spool, whose messages of a device go before new ones.
    spool: Option<Rc<RefCell<Spool>>>,
    status: AgentStatus,
    queued: VecDeque<Queued>,
    requests: VecDeque<AgentRequest>,
    warnings: VecDeque<String>,
    actions: VecDeque<ServerAction>,
    /// Tells the agent's loop that there is work.
    work: Rc<Notify>,
}

/// A local program, by the number of its connection. No two are equal, so that no session is resumed.
#[derive(Debug, PartialEq, Eq)]
pub struct LocalConnection(LocalClient);

impl AgentHandler {
    /// A handler without programs. `work` is notified when one of the `take_*` and `poll_*` methods has something.
    #[must_use]
    pub fn new(topics: LocalTopics, answers_commands: bool, status: AgentStatus, work: Rc<Notify>) -> Self {
        Self {
            topics,
            forwarding: Forwarding::default(),
            sessions: BTreeMap::new(),
            observers: BTreeMap::new(),
            next_client: 0,
            answerer: None,
            answers_commands,
            last_answer: None,
            spool: None,
            status,
            queued: VecDeque::new(),
            requests: VecDeque::new(),
            warnings: VecDeque::new(),
            actions: VecDeque::new(),
            work,
        }
    }

    /// Gives the handler the spool, of which it only asks which devices have messages in it.
    pub fn set_spool(&mut self, spool: Rc<RefCell<Spool>>) {
        self.spool = Some(spool);
    }

    /// Takes the spool back from the handler.
    pub fn take_spool(&mut self) {
        self.spool = None;
    }

    /// Counts an answer.
    pub fn note_answer(&mut self, code: ResultCode) {
        *self.status.codes.entry(code.to_string()).or_default() += 1;
        self.last_answer = Some(Timestamp::now());
    }

    /// Lets messages go that are behind spooled ones which have ended.
    pub fn release_devices(&mut self) {
        let Some(spool) = &self.spool else { return };
        let spool = spool.borrow();
        self.forwarding.release_if(|device| !spool.holds(device));
    }

    /// Tells a program why its message is not kept, and disconnects it: MQTT 3.1.1 has no negative acknowledgement.
    pub fn refuse_queued(&mut self, client: LocalClient, why: String) {
        let Some(session) = self.sessions.get(&client).copied() else { return };
        let mut status = self.described_status();
        status.spool.get_or_insert_default().error = why;
        let (topic, payload) = (STATUS_TOPIC.into(), status.encode().into());
        self.actions.push_back(ServerAction::Retained { topic, payload, to: session });
        let why = "its message is not kept: the spool is full or the disk failed";
        self.actions.push_back(ServerAction::Disconnect(session, why));
    }

    /// The messages on their way.
    pub fn forwarding(&mut self) -> &mut Forwarding<PublishAck> {
        &mut self.forwarding
    }

    /// The number of local programs.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    /// The next message for the edge.
    pub fn poll_forward(&mut self) -> Option<ToForward> {
        self.forwarding.poll_forward()
    }

    /// The next message for the spool.
    pub fn poll_queued(&mut self) -> Option<Queued> {
        self.queued.pop_front()
    }

    /// The next request to the agent itself.
    pub fn poll_request(&mut self) -> Option<AgentRequest> {
        self.requests.pop_front()
    }

    /// The next warning for the operator.
    pub fn poll_warning(&mut self) -> Option<String> {
        self.warnings.pop_front()
    }

    /// Changes the state that programs are told, and tells those that have subscribed to it.
    pub fn set_status(&mut self, change: impl FnOnce(&mut AgentStatus)) {
        change(&mut self.status);
        let payload = self.current_status();
        let topic = STATUS_TOPIC.into();
        let to = Recipients::Subscribers;
        self.actions.push_back(ServerAction::Publish { topic, payload, qos: QoS::AtLeastOnce, to });
    }

    /// Changes the state that programs are told without telling it now.
    pub fn note_status(&mut self, change: impl FnOnce(&mut AgentStatus)) {
        change(&mut self.status);
    }

    /// Takes the edge's acknowledgement of a forwarded message.
    pub fn handle_acknowledged(&mut self, id: ForwardId) {
        if let Some((_, ack)) = self.forwarding.handle_acknowledged(id) {
            self.actions.push_back(ServerAction::Acknowledge(ack));
        }
    }

    /// Acknowledges a message that the spool has on the disk.
    pub fn acknowledge(&mut self, ack: PublishAck) {
        self.actions.push_back(ServerAction::Acknowledge(ack));
    }

    /// Takes a message of the edge: an answer goes to the programs that wait for it and to observers, everything else to those
    /// that subscribe. Retained answers go nowhere: they answer none of the open requests. Returns whether it answers programs.
    pub fn handle_downlink(&mut self, message: &Message, channel: Option<Channel>) -> bool {
        let is_answer = matches!(channel, Some(Channel::SyncResponse | Channel::ReportResponse));
        if !is_answer {
            // Programs have their own uplinks, and observers have had them when they were given.
            if channel.is_none_or(|channel| channel.direction() == Direction::Down) {
                self.publish(message, Recipients::Subscribers);
            }
            return false;
        }
        if message.retain {
            return false;
        }
        let channel = channel.unwrap_or(Channel::ReportResponse);
        let AnsweredClients { clients, abandoned } = self.forwarding.handle_answer(channel, &message.payload);
        for client in &clients {
            if let Some(session) = self.sessions.get(client) {
                self.publish(message, Recipients::Session(*session));
            }
        }
        for session in self.observers.values().copied().collect::<Vec<_>>() {
            self.publish(message, Recipients::Session(session));
        }
        let is_theirs = !clients.is_empty() || abandoned.is_some();
        if let Some(request_id) = abandoned {
            self.warn(format!(
                "the answer to request_id {request_id:?} came after its program had gone, on {}",
                message.topic
            ));
        }
        is_theirs
    }

    fn publish(&mut self, message: &Message, to: Recipients) {
        let (topic, payload) = (Arc::clone(&message.topic), message.payload.clone());
        self.actions.push_back(ServerAction::Publish { topic, payload, qos: message.qos, to });
    }

    fn warn(&mut self, message: String) {
        self.warnings.push_back(message);
        self.work.notify_one();
    }

    fn current_status(&self) -> Bytes {
        self.described_status().encode().into()
    }

    fn described_status(&self) -> AgentStatus {
        let answering = match self.answerer {
            Some(_) => "client",
            None if self.answers_commands => "agent",
            None => "",
        };
        AgentStatus {
            clients: self.sessions.len() as u64,
            queue: self.forwarding.len() as u64,
            answering: answering.to_owned(),
            last_answer: self.last_answer.map(in_seconds).unwrap_or_default(),
            ..self.status.clone()
        }
    }

    /// The device of a message that has messages in the spool, if there is one.
    fn device_in_spool(&self, payload: &Bytes) -> Option<SmolStr> {
        let spool = self.spool.as_ref()?.borrow();
        if spool.is_empty() {
            return None;
        }
        let (devices, _) = subjects(payload);
        devices.into_iter().find(|device| spool.holds(device))
    }

    /// Takes a message that is to be forwarded.
    fn forward(
        &mut self,
        publish: Incoming<'_, LocalConnection>,
        channel: Option<Channel>,
    ) -> PublishDecision {
        let Incoming { client, message, ack } = publish;
        let LocalConnection(number) = *client.data;
        if channel == Some(Channel::CommandResponse) && self.answerer != Some(number) {
            self.warn(format!(
                "program {:?} answered a command without a subscription to {ANSWER_TOPIC}: the answer was dropped",
                client.client_id
            ));
            return PublishDecision::Consume(Ack::Now);
        }
        if message.retain {
            self.warn(format!(
                "program {:?} sent a message to be retained: it is sent without",
                client.client_id
            ));
        }
        let given = (Arc::clone(&message.topic), message.payload.clone());
        let behind = self.device_in_spool(&message.payload);
        match self.forwarding.accept(number, given, channel, ack, behind.as_deref()) {
            Accepted::Yes => {}
            Accepted::TooMany => {
                let why =
                    "it has more messages without an acknowledgement or an answer than a program may have";
                return PublishDecision::Disconnect(why.into());
            }
        }
        if !self.forwarding.is_observer(number) {
            self.observers.remove(&number);
        }
        for (observer, session) in self.observers.clone() {
            if observer != number {
                self.publish(message, Recipients::Session(session));
            }
        }
        self.work.notify_one();
        PublishDecision::Consume(Ack::Later)
    }
}

impl Handler for AgentHandler {
    type ClientData = LocalConnection;

    const ASSIGNED_ID_PREFIX: &'static str = "local-";

    fn is_congested(&self) -> bool {
        false
    }

    fn handle_connect(&mut self, _: Now, connect: &Connect) -> Result<LocalConnection, ConnectRefusal> {
        if connect.will.is_some() {
            self.warn(format!("program {:?} has a will, which is ignored", connect.client_id));
        }
        self.next_client += 1;
        Ok(LocalConnection(LocalClient(self.next_client)))
    }

    fn handle_refused(&mut self, _: Now, _: &str, _: Option<&str>, _: ConnectCode) {}

    fn handle_connected(&mut self, _: Now, client: ClientInfo<'_, LocalConnection>) {
        let LocalConnection(number) = *client.data;
        self.forwarding.handle_client(number);
        self.sessions.insert(number, client.session);
        self.observers.insert(number, client.session);
    }

    fn may_subscribe(
        &mut self,
        client: ClientInfo<'_, LocalConnection>,
        filter: &str,
    ) -> Result<(), &'static str> {
        if !self.topics.may_subscribe(filter) {
            return Err("a program subscribes to its gateway's topics, $agent/status and $agent/answer");
        }
        if filter == ANSWER_TOPIC {
            if self.answers_commands {
                return Err("the agent answers commands itself");
            }
            if self.answerer.is_some_and(|answerer| answerer != client.data.0) {
                return Err("another program answers commands");
            }
            self.answerer = Some(client.data.0);
        }
        Ok(())
    }

    fn handle_subscribed(&mut self, client: ClientInfo<'_, LocalConnection>, filter: &str) {
        if filter == STATUS_TOPIC {
            let (topic, payload) = (STATUS_TOPIC.into(), self.current_status());
            self.actions.push_back(ServerAction::Retained { topic, payload, to: client.session });
        }
    }

    fn handle_unsubscribed(&mut self, client: ClientInfo<'_, LocalConnection>, filter: &str) {
        if filter == ANSWER_TOPIC && self.answerer == Some(client.data.0) {
            self.answerer = None;
        }
    }

    fn handle_publish(&mut self, _: Now, publish: Incoming<'_, LocalConnection>) -> PublishDecision {
        let topic = &publish.message.topic;
        match self.topics.publish(topic) {
            Some(LocalPublish::Forward(channel)) => self.forward(publish, channel),
            Some(LocalPublish::Queue(_)) if self.spool.is_none() => {
                PublishDecision::Disconnect("it queues a message, and the agent has no --spool".into())
            }
            Some(LocalPublish::Queue(channel)) => {
                let topic: Arc<str> = topic[QUEUE_PREFIX.len()..].into();
                let payload = publish.message.payload.clone();
                let LocalConnection(client) = *publish.client.data;
                self.queued.push_back(Queued { ack: publish.ack, client, channel, topic, payload });
                self.work.notify_one();
                PublishDecision::Consume(Ack::Later)
            }
            Some(request @ (LocalPublish::Stop | LocalPublish::Reload)) => {
                let request =
                    if request == LocalPublish::Stop { AgentRequest::Stop } else { AgentRequest::Reload };
                self.requests.push_back(request);
                self.work.notify_one();
                PublishDecision::Consume(Ack::Now)
            }
            None => {
                self.warn(format!(
                    "program {:?} may not publish to {topic:?}: the message was dropped",
                    publish.client.client_id
                ));
                PublishDecision::Consume(Ack::Now)
            }
        }
    }

    fn handle_disconnected(&mut self, _: Now, client: ClientInfo<'_, LocalConnection>, _: Direction) {
        let LocalConnection(number) = *client.data;
        self.forwarding.handle_client_gone(number);
        self.sessions.remove(&number);
        self.observers.remove(&number);
        if self.answerer == Some(number) {
            self.answerer = None;
        }
    }

    fn handle_session_ended(&mut self, _: ClientInfo<'_, LocalConnection>) {}

    fn handle_will(&mut self, _: Now, _: ClientInfo<'_, LocalConnection>, _: &Message) -> bool {
        false
    }

    fn handle_timeout(&mut self, _: Now) {}

    fn handle_warning(&mut self, message: &str) {
        self.warn(message.to_owned());
    }

    fn flush(&mut self) {}

    fn poll_action(&mut self, _: Now) -> Option<ServerAction> {
        self.actions.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        None
    }
}

/// A time as RFC 3339 text, in seconds.
pub(super) fn in_seconds(time: Timestamp) -> String {
    time.round(jiff::Unit::Second).unwrap_or(time).to_string()
}
