//! Messages of the other end: recorded ones, and those that arrive.

use super::{AnswerKey, Replay, ReplayMessage, ReplayTarget, RequestSummary};
use crate::{
    error::Failure,
    tuya::{Answer, Channel, Envelope},
};

impl Replay {
    /// Handles a recorded message of the other end: a command, or an expected answer.
    pub(crate) fn handle_recorded(&mut self, message: &ReplayMessage) {
        let Ok(gateway) = self.gateways.resolve(&message.recorded_topic) else { return };
        match (message.recorded_topic.channel, &self.target) {
            (Some(Channel::Command), ReplayTarget::Up { .. }) => {
                let cids = &self.cids;
                self.commands.handle_recorded_command(gateway.as_str(), &message.payload, |cid| {
                    cids.get(cid).cloned()
                });
            }
            (Some(Channel::SyncResponse | Channel::ReportResponse | Channel::CommandResponse), _)
                if self.verify.is_some() =>
            {
                let Ok(answer) = Envelope::<Answer>::decode(&message.payload) else { return };
                let id = match self.fresh_id(gateway.as_str(), &answer.request_id) {
                    Some(id) => id.to_string(),
                    None => answer.request_id,
                };
                if let Some(verify) = &mut self.verify {
                    verify.handle_recorded_answer(&(gateway.as_str().to_owned(), id), answer.body.code.0);
                }
            }
            _ => {}
        }
    }

    /// Handles messages that arrived, and reports differences that are final.
    pub(crate) fn handle_arrived(&mut self) -> Result<(), Failure> {
        loop {
            // End the borrow first, because sending an answer borrows again.
            let arrival = self.stats.borrow_mut().arrived.pop_front();
            let Some(arrival) = arrival else { break };
            match (arrival.channel, &self.target) {
                (Channel::Command, ReplayTarget::Up { .. }) => {
                    if let Some((held, id)) =
                        self.commands.handle_command(&arrival.gateway_id, &arrival.payload)
                    {
                        self.send_held(held, &id)?;
                    }
                }
                (Channel::SyncResponse | Channel::ReportResponse, ReplayTarget::Up { .. })
                | (Channel::CommandResponse, ReplayTarget::Down(_)) => {
                    if let (Some(verify), Ok(answer)) =
                        (&mut self.verify, Envelope::<Answer>::decode(&arrival.payload))
                    {
                        let key: AnswerKey = (arrival.gateway_id, answer.request_id);
                        verify.handle_answer(&key, answer.body.code.0);
                    }
                }
                _ => {}
            }
        }
        self.report_differences();
        match self.stats.borrow_mut().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Reports the differences that are final by now.
    pub(crate) fn report_differences(&mut self) {
        if let (Some(verify), Some(start)) = (&mut self.verify, self.start) {
            for difference in verify.poll_differences(self.offset, start.elapsed()) {
                self.stats.borrow_mut().report_difference(&difference);
            }
        }
    }

    /// Sends a held answer, because its command has arrived.
    fn send_held(
        &mut self,
        (message, request): (ReplayMessage, RequestSummary),
        id: &str,
    ) -> Result<(), Failure> {
        let gateway = self.gateways.resolve(&message.recorded_topic)?;
        let is_fresh = request.id.as_deref() != Some(id);
        self.dispatch(&message, request.index, is_fresh.then_some(id), &gateway, None)
    }
}
