//! What the other end says: in the recording, and now.

use super::{Replay, ReplayMessage, ReplayTarget, RequestKey, RequestSummary};
use crate::{
    error::Failure,
    tuya::{Answer, Channel, Envelope},
};

impl Replay {
    /// Takes note of what the other end said in the recording.
    pub(crate) fn handle_recorded(&mut self, step: &ReplayMessage) {
        let Ok(gateway) = self.gateways.resolve(&step.address) else { return };
        match (step.address.channel, &self.target) {
            (Some(Channel::Command), ReplayTarget::Up { .. }) => {
                let cids = &self.cids;
                self.commands.record(gateway.as_str(), &step.payload, |cid| cids.get(cid).cloned());
            }
            (Some(Channel::SyncResponse | Channel::ReportResponse | Channel::CommandResponse), _)
                if self.verify.is_some() =>
            {
                let Ok(answer) = Envelope::<Answer>::decode(&step.payload) else { return };
                let id = match self.fresh_id(gateway.as_str(), &answer.request_id) {
                    Some(id) => id.to_string(),
                    None => answer.request_id,
                };
                if let Some(verify) = &mut self.verify {
                    verify.expect(&(gateway.as_str().to_owned(), id), answer.body.code.0);
                }
            }
            _ => {}
        }
    }

    /// Looks at what has come, and at what is due by now.
    pub(crate) fn handle_arrived(&mut self) -> Result<(), Failure> {
        loop {
            // Nothing may be borrowed while answers are sent.
            let arrival = self.stats.borrow_mut().arrived.pop_front();
            let Some(arrival) = arrival else { break };
            match (arrival.channel, &self.target) {
                (Channel::Command, ReplayTarget::Up { .. }) => {
                    if let Some((held, id)) = self.commands.come(&arrival.gateway_id, &arrival.payload) {
                        self.release(held, &id)?;
                    }
                }
                (Channel::SyncResponse | Channel::ReportResponse, ReplayTarget::Up { .. })
                | (Channel::CommandResponse, ReplayTarget::Down(_)) => {
                    if let (Some(verify), Ok(answer)) =
                        (&mut self.verify, Envelope::<Answer>::decode(&arrival.payload))
                    {
                        let key: RequestKey = (arrival.gateway_id, answer.request_id);
                        verify.answered(&key, answer.body.code.0);
                    }
                }
                _ => {}
            }
        }
        self.settle();
        match self.stats.borrow_mut().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Tells of the differences that are settled by now.
    pub(crate) fn settle(&mut self) {
        if let (Some(verify), Some(start)) = (&mut self.verify, self.start) {
            for difference in verify.settle(self.offset, start.elapsed()) {
                self.stats.borrow_mut().differ(&difference);
            }
        }
    }

    /// Sends an answer whose command has come.
    fn release(&mut self, (step, request): (ReplayMessage, RequestSummary), id: &str) -> Result<(), Failure> {
        let gateway = self.gateways.resolve(&step.address)?;
        let is_fresh = request.id.as_deref() != Some(id);
        self.dispatch(&step, request.index, is_fresh.then_some(id), &gateway, None)
    }
}
