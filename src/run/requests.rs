//! From inputs to requests, and from the ends of requests to result lines.

use std::{sync::Arc, time::Duration};

use super::{
    event_loop::GatewayConnection,
    results::{InputPosition, Outcome, ResultContext, ResultContexts, Results},
    warnings::Warnings,
};
use crate::{
    error::{Failure, FailureKind},
    gateway::{Ended, GatewayEvent, GatewayTime, Payload, RequestOutcome, StatusBatch, Unsendable, excerpt},
    io::{console::Console, request_ids::request_id},
    net::client::Event,
    request::parser::{InputError, Request, status_item},
    tuya::{CommandAnswer, DeviceStatus, GatewayId, Uplink},
};

/// A connection whose requests end as result lines.
pub type RequestConnection = GatewayConnection<ResultContexts>;

/// Sends what inputs ask for, and reports what becomes of it.
pub struct Requests {
    /// The result lines.
    pub results: Results,
    statuses: StatusBatch<ResultContext>,
    warnings: Warnings,
    console: Console,
    timeout: Duration,
    /// What is added to the message of a request that timed out.
    advice: &'static str,
}

impl Requests {
    /// Requests of a connection, whose results go there.
    #[must_use]
    pub fn new(results: Results, connection: &RequestConnection, console: Console) -> Self {
        Self {
            results,
            statuses: StatusBatch::new(connection.gateway().longest_status()),
            warnings: Warnings::new(console),
            console,
            timeout: connection.gateway().timeout(),
            advice: "",
        }
    }

    /// Adds an advice to the message of each request that times out from now on.
    pub fn advise(&mut self, advice: &'static str) {
        self.advice = advice;
    }

    /// Warns of what the other end did; a flood of it is counted.
    pub fn warn(&mut self, what: &str) {
        self.warnings.warn(what);
    }

    /// Sends one item, or keeps it for a message with others (see [`Requests::send_statuses`]). An item without an origin
    /// is a message of the program's own, which ends as no result line.
    ///
    /// # Errors
    /// What ends the run.
    pub fn send(
        &mut self,
        connection: &mut RequestConnection,
        now: GatewayTime,
        item: Request,
        origin: Option<InputPosition>,
    ) -> Result<(), Failure> {
        if let Request { body: Payload::Uplink(Uplink::Status(statuses)), request_id: None, t: None, .. } =
            &item
            && let [status] = statuses.as_slice()
            && let Some(origin) = origin
        {
            let full = self.statuses.push(status.clone(), origin.source_of(status.clone()));
            return self.send_batch(connection, now, full);
        }
        self.send_message(connection, now, item, |item| match origin {
            Some(origin) => origin.sources(item),
            None => ResultContexts::Several(Vec::new()),
        })
    }

    /// Sends the statuses that have gathered, as one message.
    ///
    /// # Errors
    /// What ends the run.
    pub fn send_statuses(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        let statuses = self.statuses.take();
        self.send_batch(connection, connection.moment(), statuses)
    }

    fn send_batch(
        &mut self,
        connection: &mut RequestConnection,
        now: GatewayTime,
        batch: Vec<(DeviceStatus, ResultContext)>,
    ) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let (statuses, sources) = batch.into_iter().unzip();
        self.send_message(connection, now, status_item(statuses), |_| ResultContexts::Several(sources))
    }

    fn send_message(
        &mut self,
        connection: &mut RequestConnection,
        now: GatewayTime,
        mut item: Request,
        sources: impl FnOnce(Request) -> ResultContexts,
    ) -> Result<(), Failure> {
        let request_id = item.request_id.take().unwrap_or_else(request_id);
        let (channel, gateway) = (item.operation.channel(), item.gateway_id.as_ref());
        match connection.gateway_mut().prepare(now, channel, gateway, request_id, item.t, &item.body) {
            Ok(draft) => connection.insert(now, draft, sources(item)),
            Err(why) => {
                let field = (why == Unsendable::NoGateway).then(|| "gateway_id".to_owned());
                let invalid = InputError { field, message: why.to_string(), ..InputError::default() };
                for source in sources(item).as_slice() {
                    self.results.refuse(source, &invalid);
                }
                Ok(())
            }
        }
    }

    /// Answers a command; the answer is sent again until the broker has acknowledged it.
    ///
    /// # Errors
    /// What ends the run.
    pub fn respond(
        &mut self,
        connection: &mut RequestConnection,
        gateway: &GatewayId,
        request_id: Arc<str>,
        answer: CommandAnswer,
    ) -> Result<(), Failure> {
        let now = connection.moment();
        connection.gateway_mut().respond(
            now,
            gateway,
            request_id,
            answer,
            ResultContexts::Several(Vec::new()),
        );
        connection.publish(now)
    }

    /// Passes an event of the client to the gateway, and warns of a loss or of something odd. Every loss is told; a flood of
    /// oddities is counted.
    pub fn handle_client_event(&mut self, connection: &mut RequestConnection, event: Event) {
        let is_loss = matches!(event, Event::Lost { .. });
        match connection.handle_event(event) {
            Some(what) if is_loss => self.console.warn(&what),
            Some(what) => self.warn(&what),
            None => {}
        }
    }

    /// Takes an event of the gateway.
    pub fn handle_event(&mut self, event: GatewayEvent<ResultContexts>) {
        match event {
            GatewayEvent::Ended(ended, outcome) => self.handle_ended(&ended, &outcome),
            GatewayEvent::Progress => {}
            GatewayEvent::Retried => self.results.retried(),
            GatewayEvent::Resent(requests) => self.results.resent(requests),
            GatewayEvent::Warning(what) => self.warn(&what),
        }
    }

    fn handle_ended(&mut self, ended: &Ended<ResultContexts>, outcome: &RequestOutcome) {
        let failed = |kind, message| Outcome::Failed { kind, message, sent: None };
        let message;
        let outcome = match outcome {
            RequestOutcome::Answered { answer, round_trip } => {
                if let (Some(cid), [source]) = (&answer.cid, ended.context.as_slice())
                    && *cid != source.cid()
                {
                    let (expected, named) = (excerpt(source.cid()), excerpt(cid));
                    self.warn(&format!("the answer for {expected} names the cid {named}"));
                }
                Outcome::Answered(answer, *round_trip)
            }
            RequestOutcome::Delivered { is_acknowledged, round_trip } => {
                Outcome::Delivered { acknowledged: *is_acknowledged, round_trip: *round_trip }
            }
            RequestOutcome::Malformed(error) => {
                message = format!("the answer breaks the protocol: {error}");
                failed(FailureKind::Protocol, &message)
            }
            RequestOutcome::TimedOut { is_answer_missing, is_acknowledged } => {
                let (missing, though) = match (is_answer_missing, is_acknowledged) {
                    (true, true) => ("answer", ", though the broker acknowledged the request"),
                    (true, false) => ("answer", ""),
                    (false, _) => ("acknowledgement", ""),
                };
                message = format!("no {missing} in {:?}{though}{}", self.timeout, self.advice);
                failed(FailureKind::Timeout, &message)
            }
            RequestOutcome::EndsConnections(length) => {
                message = format!(
                    "the broker closed the connection each time that it got this message of {length} bytes: it may be \
                     longer than the broker takes"
                );
                Outcome::Failed { kind: FailureKind::Connection, message: &message, sent: Some(true) }
            }
        };
        self.report(ended, outcome);
    }

    /// Writes the result lines of a request; the failure of a message of the program's own is a warning.
    fn report(&mut self, ended: &Ended<ResultContexts>, outcome: Outcome<'_>) {
        let Ended { context, topic, request_id, attempts } = ended;
        if context.as_slice().is_empty() {
            let problem = match outcome {
                Outcome::Answered(answer, _) if !answer.code.is_success() => {
                    format!("{} {}", answer.code, answer.msg)
                }
                Outcome::Failed { message, .. } => message.to_owned(),
                Outcome::Answered(..) | Outcome::Delivered { .. } => return,
            };
            let request_id = excerpt(request_id);
            self.warn(&format!("the message on {topic} with request_id {request_id}: {problem}"));
        }
        for source in context.as_slice() {
            self.results.tell(source, Some(request_id), *attempts, outcome);
        }
    }

    /// Ends every request as failed.
    pub fn fail_all(&mut self, connection: &mut RequestConnection, kind: FailureKind, message: &str) {
        for ended in connection.gateway_mut().drain() {
            let sent = Some(ended.attempts > 0);
            self.report(&ended, Outcome::Failed { kind, message, sent });
        }
        for (_, source) in self.statuses.take() {
            self.results.tell(&source, None, 1, Outcome::Failed { kind, message, sent: Some(false) });
        }
    }

    /// Says how many warnings were not printed.
    pub fn finish_warnings(&self) {
        self.warnings.finish();
    }
}
