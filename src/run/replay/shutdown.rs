//! The end of a replay: waits for open messages, and reports those that did not come.

use std::time::Instant;

use super::{Difference, Replay, ReplayTarget, RequestSummary, Verify};
use crate::{
    error::{Exit, Failure, FailureKind},
    io::batch_writer::WriterError,
    run::{replay::replay_stats::counted, runtime::sleep_until},
    tuya::Channel,
};

impl Replay {
    /// Waits for open acknowledgements, for commands whose recorded answers are held, and with `--verify` for answers.
    pub(crate) async fn drain(&mut self) -> Result<Option<Exit>, Failure> {
        let ended = Instant::now();
        self.stats.borrow_mut().notifies_at = Some(0);
        loop {
            self.handle_arrived()?;
            let answers = match (&self.verify, self.start) {
                (Some(verify), Some(start)) if !verify.is_satisfied() => Some(start + verify.deadline()),
                _ => None,
            };
            let commands = self.commands.has_held().then(|| ended + self.timeout);
            let is_open = match &self.target {
                ReplayTarget::Up { .. } => self.stats.borrow().in_flight > 0,
                ReplayTarget::Down(broker) => broker.unacknowledged() > 0 && ended.elapsed() < self.timeout,
            };
            let now = Instant::now();
            let due = [answers, commands].into_iter().flatten().filter(|due| *due > now).max();
            if due.is_none() && !is_open {
                return Ok(None);
            }
            let due =
                due.or_else(|| matches!(self.target, ReplayTarget::Down(_)).then(|| ended + self.timeout));
            tokio::select! {
                signal = self.signals.next() => return Ok(Some(signal)),
                () = self.changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Reports what did not come, closes the connections, and returns the exit code.
    pub(crate) async fn close(
        mut self,
        end: Result<Option<Exit>, Failure>,
        began: Instant,
    ) -> Result<Exit, Failure> {
        let mut printed = None;
        let (exit, mut is_patient) = match end {
            Ok(None) => (Exit::SUCCESS, true),
            Ok(Some(signal)) => {
                self.console.note("waiting for acknowledgements; the same signal again ends at once");
                (signal, self.wait_for_acknowledgements().await)
            }
            Err(failure) => {
                self.console.failure(&failure);
                let exit = failure.kind.exit();
                printed = Some(failure);
                (exit, true)
            }
        };
        if exit == Exit::SUCCESS {
            if self.index == 0 {
                // Warn, or a test that compares nothing would always pass.
                self.console
                    .warn("there was nothing to send: the recording is empty, or the filters select nothing");
            }
            self.report_missing();
        }
        if let ReplayTarget::Up { senders, tasks, .. } = &mut self.target {
            // Without a sender, a connection ends once its messages are acknowledged or overdue.
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
        if let ReplayTarget::Down(broker) = &self.target {
            let open = broker.unacknowledged() as u64;
            let mut stats = self.stats.borrow_mut();
            for _ in open..stats.sent() {
                stats.in_flight += 1;
                stats.handle_delivered(true);
            }
        }
        let unanswered = self.commands.unanswered();
        if unanswered > 0 {
            self.console
                .warn(&format!("{unanswered} commands arrived for which the recording has no answer"));
        }
        let matched = self.verify.as_ref().map(Verify::matched);
        let duration = self.start.unwrap_or(began).elapsed();
        let result = self.stats.borrow().finish(matched, duration);
        let written = self.finish_output(is_patient, printed).await;
        Ok(exit.or(result).or(self.issues.finish()).or(written))
    }

    /// Writes the remaining result lines; another signal ends this.
    async fn finish_output(&mut self, is_patient: bool, printed: Option<Failure>) -> Exit {
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
        if printed.as_ref() != Some(&failure) {
            self.console.failure(&failure);
        }
        failure.kind.exit()
    }

    /// Waits for acknowledgements alone; returns false if another signal or a failure ended this.
    async fn wait_for_acknowledgements(&mut self) -> bool {
        self.stats.borrow_mut().notifies_at = Some(0);
        while self.stats.borrow().in_flight > 0 {
            tokio::select! {
                _again = self.signals.next() => return false,
                () = self.changed.notified() => if self.handle_arrived().is_err() { return false },
            }
        }
        true
    }

    /// Reports commands and answers that did not come.
    fn report_missing(&mut self) {
        let limit = format!("in {:?}", self.timeout);
        for (_, request) in self.commands.take_held() {
            self.report_unmatched(request, &limit);
        }
        if self.unmatched > 0 {
            let answers = counted(self.unmatched, "answer");
            self.console.warn(&format!("{answers} of the recording had no command to answer"));
            self.console.hint("--kind sync,report,status leaves out the answers to commands");
        }
        let mut stats = self.stats.borrow_mut();
        for difference in self.verify.as_mut().map(Verify::finish).unwrap_or_default() {
            stats.report_difference(&difference);
        }
    }

    /// Reports a recorded answer whose command did not arrive.
    pub(crate) fn report_unmatched(&mut self, request: RequestSummary, limit: &str) {
        self.unmatched += 1;
        let mut stats = self.stats.borrow_mut();
        if self.verify.is_some() {
            let request = RequestSummary { channel: Some(Channel::Command), ..request };
            stats.report_difference(&Difference { request, kind: "missing", expected: None, code: None });
        } else {
            let message = format!("the command that it answers did not arrive {limit}");
            stats.report_failure(&request, FailureKind::Timeout, &message);
        }
    }
}
