//! The end of a performance: what is still open is waited for, what did not come is told.

use std::time::Instant;

use super::{Difference, Replay, RequestSummary, Target, Verify};
use crate::{
    error::{Exit, Failure, FailureKind},
    io::batch_writer::WriterError,
    run::{replay::replay_stats::counted, runtime::sleep_until},
    tuya::Channel,
};

impl Replay {
    /// Waits for what is open: acknowledgements, commands that are to be answered, with `--verify` answers.
    pub(crate) async fn drain(&mut self) -> Result<Option<Exit>, Failure> {
        let ended = Instant::now();
        self.stats.borrow_mut().tells_at = Some(0);
        loop {
            self.handle_arrived()?;
            let answers = match (&self.verify, self.start) {
                (Some(verify), Some(start)) if !verify.is_satisfied() => Some(start + verify.deadline()),
                _ => None,
            };
            let commands = self.commands.has_held().then(|| ended + self.timeout);
            let is_open = match &self.target {
                Target::Up { .. } => self.stats.borrow().in_flight > 0,
                Target::Down(broker) => broker.unacknowledged() > 0 && ended.elapsed() < self.timeout,
            };
            let now = Instant::now();
            let due = [answers, commands].into_iter().flatten().filter(|due| *due > now).max();
            if due.is_none() && !is_open {
                return Ok(None);
            }
            let due = due.or_else(|| matches!(self.target, Target::Down(_)).then(|| ended + self.timeout));
            tokio::select! {
                signal = self.signals.next() => return Ok(Some(signal)),
                () = self.changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Accounts for what is left, and gives the exit code.
    pub(crate) async fn close(
        mut self,
        end: Result<Option<Exit>, Failure>,
        began: Instant,
    ) -> Result<Exit, Failure> {
        let mut told = None;
        let (exit, mut is_patient) = match end {
            Ok(None) => (Exit::SUCCESS, true),
            Ok(Some(signal)) => {
                self.console.note("waiting for acknowledgements; the same signal again ends at once");
                (signal, self.acknowledgements().await)
            }
            Err(failure) => {
                self.console.failure(&failure);
                let exit = failure.kind.exit();
                told = Some(failure);
                (exit, true)
            }
        };
        if exit == Exit::SUCCESS {
            if self.index == 0 {
                // A test that compares nothing would pass for ever.
                self.console
                    .warn("there was nothing to send: the recording is empty, or the filters leave nothing");
            }
            self.missing();
        }
        if let Target::Up { senders, tasks, .. } = &mut self.target {
            // Without orders to come, a connection ends once all of its messages are acknowledged or overdue.
            senders.clear();
            for task in tasks {
                if is_patient {
                    tokio::select! {
                        _ended = task => {}
                        _again = self.signals.next() => is_patient = false,
                    }
                }
            }
        }
        if let Target::Down(broker) = &self.target {
            let open = broker.unacknowledged() as u64;
            let mut stats = self.stats.borrow_mut();
            for _ in open..stats.sent() {
                stats.in_flight += 1;
                stats.delivered(true);
            }
        }
        let unanswered = self.commands.unanswered();
        if unanswered > 0 {
            self.console.warn(&format!("{unanswered} commands came that the recording holds no answer to"));
        }
        let matched = self.verify.as_ref().map(Verify::matched);
        let duration = self.start.unwrap_or(began).elapsed();
        let result = self.stats.borrow().finish(matched, duration);
        let written = self.finish_output(is_patient, told).await;
        Ok(exit.or(result).or(self.issues.finish()).or(written))
    }

    /// Writes the result lines that are left; another signal ends it.
    async fn finish_output(&mut self, is_patient: bool, told: Option<Failure>) -> Exit {
        let Some(out) = self.stats.borrow_mut().take_output() else { return Exit::SUCCESS };
        let failure = tokio::select! {
            biased;
            written = out.close() => match written {
                Ok(()) | Err(WriterError::ReaderGone) => return Exit::SUCCESS,
                Err(WriterError::Failed(failure)) => failure,
            },
            () = async {
                if is_patient {
                    self.signals.next().await;
                }
            } => Failure::io("a signal ended the run before all result lines were written"),
        };
        if told.as_ref() != Some(&failure) {
            self.console.failure(&failure);
        }
        failure.kind.exit()
    }

    /// Waits for acknowledgements alone; `false` where another signal or a failure ended that.
    async fn acknowledgements(&mut self) -> bool {
        self.stats.borrow_mut().tells_at = Some(0);
        while self.stats.borrow().in_flight > 0 {
            tokio::select! {
                _again = self.signals.next() => return false,
                () = self.changed.notified() => if self.handle_arrived().is_err() { return false },
            }
        }
        true
    }

    /// Tells of commands and answers that did not come.
    fn missing(&mut self) {
        let limit = format!("in {:?}", self.timeout);
        for (_, request) in self.commands.take_held() {
            self.give_up(request, &limit);
        }
        if self.given_up > 0 {
            let answers = counted(self.given_up, "answer");
            self.console.warn(&format!("{answers} of the recording waited for commands that nobody sent"));
            self.console.hint("--kind sync,report,status leaves the answers to commands out");
        }
        let mut stats = self.stats.borrow_mut();
        for difference in self.verify.as_mut().map(Verify::finish).unwrap_or_default() {
            stats.differ(&difference);
        }
    }

    /// Tells of an answer whose command did not come.
    pub(crate) fn give_up(&mut self, request: RequestSummary, limit: &str) {
        self.given_up += 1;
        let mut stats = self.stats.borrow_mut();
        if self.verify.is_some() {
            let request = RequestSummary { channel: Some(Channel::Command), ..request };
            stats.differ(&Difference { request, kind: "missing", expected: None, code: None });
        } else {
            let message = format!("the command that it answers did not come {limit}");
            stats.fail(&request, FailureKind::Timeout, &message);
        }
    }
}
