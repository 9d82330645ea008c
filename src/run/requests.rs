//! From inputs to requests, and from the ends of requests to result lines.

use std::{sync::Arc, time::Duration};

use super::{
    event_loop::GatewayConnection,
    results::{InputPosition, ResultContext, ResultContexts, ResultStatus, Results},
    warnings::Warnings,
};
use crate::{
    error::{Failure, FailureKind},
    gateway::{Ended, GatewayEvent, GatewayTime, Payload, RequestOutcome, StatusBatch, Unsendable, excerpt},
    io::{console::Console, request_ids::request_id},
    net::client::ClientEvent,
    request::{InputError, Request, status_request},
    tuya::{CommandAnswer, DeviceStatus, GatewayId, Uplink},
};

/// A connection whose requests end as result lines.
pub type RequestConnection = GatewayConnection<ResultContexts>;

/// Sends requests, and writes their result lines.
pub struct Requests {
    /// The result lines.
    pub results: Results,
    statuses: StatusBatch<ResultContext>,
    warnings: Warnings,
    console: Console,
    timeout: Duration,
    /// A suffix of the message of a request that timed out.
    timeout_advice: &'static str,
}

impl Requests {
    /// No requests yet; their results go to `results`.
    #[must_use]
    pub fn new(results: Results, connection: &RequestConnection, console: Console) -> Self {
        Self {
            results,
            statuses: StatusBatch::new(connection.gateway().longest_status()),
            warnings: Warnings::new(console),
            console,
            timeout: connection.gateway().timeout(),
            timeout_advice: "",
        }
    }

    /// Adds an advice to the message of each request that times out from now on.
    pub fn set_timeout_advice(&mut self, advice: &'static str) {
        self.timeout_advice = advice;
    }

    /// Prints a warning about the other end; a flood of warnings is counted.
    pub fn warn(&mut self, what: &str) {
        self.warnings.warn(what);
    }

    /// Sends a request. A single status is kept for a message with others (see [`Requests::send_statuses`]). A request without
    /// a position is a message of the program's own, which has no result line.
    ///
    /// # Errors
    /// A message that does not fit into a packet, which ends the run.
    pub fn send(
        &mut self,
        connection: &mut RequestConnection,
        now: GatewayTime,
        request: Request,
        position: Option<InputPosition>,
    ) -> Result<(), Failure> {
        if let Request {
            payload: Payload::Uplink(Uplink::Status(statuses)), request_id: None, t: None, ..
        } = &request
            && let [status] = statuses.as_slice()
            && let Some(position) = position
        {
            let full = self.statuses.push(status.clone(), position.status_context(status.clone()));
            return self.send_batch(connection, now, full);
        }
        self.send_message(connection, now, request, |request| match position {
            Some(position) => position.result_contexts(request),
            None => ResultContexts::Several(Vec::new()),
        })
    }

    /// Sends the kept statuses as one message.
    ///
    /// # Errors
    /// A message that does not fit into a packet, which ends the run.
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
        let (statuses, contexts) = batch.into_iter().unzip();
        self.send_message(connection, now, status_request(statuses), |_| ResultContexts::Several(contexts))
    }

    fn send_message(
        &mut self,
        connection: &mut RequestConnection,
        now: GatewayTime,
        mut request: Request,
        contexts: impl FnOnce(Request) -> ResultContexts,
    ) -> Result<(), Failure> {
        let request_id = request.request_id.take().unwrap_or_else(request_id);
        let (channel, gateway) = (request.kind.channel(), request.gateway_id.as_ref());
        match connection.gateway_mut().prepare(now, channel, gateway, request_id, request.t, &request.payload)
        {
            Ok(draft) => connection.insert(now, draft, contexts(request)),
            Err(why) => {
                let field = (why == Unsendable::NoGateway).then(|| "gateway_id".to_owned());
                let error = InputError { field, message: why.to_string(), ..InputError::default() };
                for context in contexts(request).as_slice() {
                    self.results.report_unsendable(context, &error);
                }
                Ok(())
            }
        }
    }

    /// Answers a command; the answer is sent again until the broker has acknowledged it.
    ///
    /// # Errors
    /// A message that does not fit into a packet, which ends the run.
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

    /// Passes an event of the client to the gateway, and prints its warning. Every lost connection is printed; a flood of other
    /// warnings is counted.
    pub fn handle_client_event(&mut self, connection: &mut RequestConnection, event: ClientEvent) {
        let is_loss = matches!(event, ClientEvent::Lost { .. });
        match connection.handle_event(event) {
            Some(what) if is_loss => self.console.warn(&what),
            Some(what) => self.warn(&what),
            None => {}
        }
    }

    /// Handles an event of the gateway.
    pub fn handle_event(&mut self, event: GatewayEvent<ResultContexts>) {
        match event {
            GatewayEvent::Ended(ended, outcome) => self.handle_ended(&ended, &outcome),
            GatewayEvent::Progress => {}
            GatewayEvent::Retried => self.results.count_retry(),
            GatewayEvent::Resent(requests) => self.results.count_resent(requests),
            GatewayEvent::Warning(what) => self.warn(&what),
        }
    }

    fn handle_ended(&mut self, ended: &Ended<ResultContexts>, outcome: &RequestOutcome) {
        let failed = |kind, message| ResultStatus::Failed { kind, message, sent: None };
        let message;
        let status = match outcome {
            RequestOutcome::Answered { answer, round_trip } => {
                if let (Some(cid), [context]) = (&answer.cid, ended.context.as_slice())
                    && *cid != context.cid()
                {
                    let (expected, named) = (excerpt(context.cid()), excerpt(cid));
                    self.warn(&format!("the answer for {expected} names the cid {named}"));
                }
                ResultStatus::Answered(answer, *round_trip)
            }
            RequestOutcome::Delivered { is_acknowledged, round_trip } => {
                ResultStatus::Delivered { acknowledged: *is_acknowledged, round_trip: *round_trip }
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
                message = format!("no {missing} in {:?}{though}{}", self.timeout, self.timeout_advice);
                failed(FailureKind::Timeout, &message)
            }
            RequestOutcome::EndsConnections(length) => {
                message = format!(
                    "the broker closed the connection each time that it got this message of {length} bytes: it may be \
                     longer than the broker accepts"
                );
                ResultStatus::Failed { kind: FailureKind::Connection, message: &message, sent: Some(true) }
            }
        };
        self.report(ended, status);
    }

    /// Writes the result lines of a request; the failure of a message of the program's own is a warning.
    fn report(&mut self, ended: &Ended<ResultContexts>, status: ResultStatus<'_>) {
        let Ended { context, topic, request_id, attempts } = ended;
        if context.as_slice().is_empty() {
            let problem = match status {
                ResultStatus::Answered(answer, _) if !answer.code.is_success() => {
                    format!("{} {}", answer.code, answer.msg)
                }
                ResultStatus::Failed { message, .. } => message.to_owned(),
                ResultStatus::Answered(..) | ResultStatus::Delivered { .. } => return,
            };
            let request_id = excerpt(request_id);
            self.warn(&format!("the message on {topic} with request_id {request_id}: {problem}"));
        }
        for context in context.as_slice() {
            self.results.report(context, Some(request_id), *attempts, status);
        }
    }

    /// Ends every request as failed.
    pub fn fail_all(&mut self, connection: &mut RequestConnection, kind: FailureKind, message: &str) {
        for ended in connection.gateway_mut().drain() {
            let sent = Some(ended.attempts > 0);
            self.report(&ended, ResultStatus::Failed { kind, message, sent });
        }
        for (_, context) in self.statuses.take() {
            self.results.report(&context, None, 1, ResultStatus::Failed { kind, message, sent: Some(false) });
        }
    }

    /// Prints how many warnings were not printed.
    pub fn finish_warnings(&self) {
        self.warnings.finish();
    }
}
