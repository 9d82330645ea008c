//! Commands that arrive at `listen`: their execution, their answers, and the report of the new values.

use super::Listen;
use crate::{
    error::Failure,
    gateway::{CommandAction, Payload},
    mqtt::codec::Message,
    request::{Request, RequestKind},
    run::{
        command_executor::{CommandJob, ExecutedCommand},
        requests::RequestConnection,
    },
    tuya::{Channel, Command, CommandAnswer, Envelope, Property, ResultCode, Uplink},
};

impl Listen {
    /// Answers a message that is a command, now or once it is executed.
    pub(super) fn handle_command(
        &mut self,
        connection: &mut RequestConnection,
        message: &Message,
        number: u64,
    ) -> Result<(), Failure> {
        let Some(commands) = &mut self.commands else { return Ok(()) };
        let topics = connection.gateway().topics();
        if !topics
            .channels(&message.topic)
            .any(|(channel, id)| channel == Channel::Command && id == self.gateway_id.as_str())
        {
            return Ok(());
        }
        if message.retain {
            self.requests.warn(&format!("a retained command on {} is stale and not executed", message.topic));
            return Ok(());
        }
        match commands.handle_delivery(&message.payload) {
            CommandAction::Execute(key, envelope) if self.executor.is_full() => {
                commands.forget(key);
                self.refuse_busy(connection, &envelope)
            }
            CommandAction::Execute(key, envelope) => {
                self.arrivals.await_answer(key, number);
                self.executor.push(CommandJob { key, envelope, payload: message.payload.clone() });
                Ok(())
            }
            CommandAction::Repeated(key) => {
                self.arrivals.await_answer(key, number);
                Ok(())
            }
            CommandAction::Answer(request_id, answer) => {
                self.requests.respond(connection, &self.gateway_id, request_id.into(), answer)
            }
            CommandAction::Ignore(why) => {
                self.requests.warn(&format!("on {}: {why}; nothing is answered", message.topic));
                Ok(())
            }
        }
    }

    /// Refuses a command, because its platform would give up before its turn.
    fn refuse_busy(
        &mut self,
        connection: &mut RequestConnection,
        envelope: &Envelope<Command>,
    ) -> Result<(), Failure> {
        let Command { cid, .. } = &envelope.body;
        let msg = "busy: too many commands wait to be executed".to_owned();
        let code = ResultCode::SYSTEM_ERROR;
        self.requests.warn(&format!("command of {cid}: {msg}; answered {code}"));
        let answer = CommandAnswer { cid: cid.clone(), code, msg };
        self.requests.respond(connection, &self.gateway_id, envelope.request_id.as_str().into(), answer)
    }

    /// Answers each delivery of an executed command, and reports the new values after a success.
    pub(super) fn handle_executed(
        &mut self,
        connection: &mut RequestConnection,
        ExecutedCommand { job, answer, problem }: ExecutedCommand,
    ) -> Result<(), Failure> {
        if let Some(problem) = problem {
            self.requests.warn(&format!("command of {}: {problem}; answered {}", answer.cid, answer.code));
        }
        let request_id = &job.envelope.request_id;
        if let Some(commands) = &mut self.commands {
            commands.finish(job.key, &answer);
        }
        for _ in 0..self.arrivals.handle_answer(&job.key) {
            self.requests.respond(
                connection,
                &self.gateway_id,
                request_id.as_str().into(),
                answer.clone(),
            )?;
        }
        if !answer.code.is_success() || !self.report_back {
            return Ok(());
        }
        let Command { cid, points } = &job.envelope.body;
        for (id, value) in points {
            let property = Property { cid: cid.into(), id: id.into(), value: value.clone() };
            let request = Request::new(RequestKind::Report, Payload::Uplink(Uplink::Report(property)));
            self.requests.send(connection, connection.moment(), request, None)?;
        }
        Ok(())
    }
}
