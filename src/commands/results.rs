//! Result lines on stdout: one for each thing that was asked for, and their tally.

mod line;
mod tally;

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;

pub use line::ResultLine;
pub use tally::Progress;
use tally::Tally;

use super::{
    Console, json_line,
    operations::{Invalid, Item, Operation, Subject},
};
use crate::{
    failure::{Exit, Failure, Kind},
    protocol::{Answer, GatewayId},
    sink::{Sink, SinkError, Ticket},
};

/// No more input is taken while more than this waits for the reader of stdout.
const BACKLOG: usize = 1 << 20;

/// What one result line needs of its input.
#[derive(Debug)]
pub struct Source {
    index: u64,
    line: Option<u64>,
    operation: Operation,
    gateway_id: Option<GatewayId>,
    subject: Subject,
    input: Arc<RawValue>,
}

impl Source {
    /// The device that the line speaks of.
    #[must_use]
    pub fn cid(&self) -> &str {
        &self.subject.cid
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The other end answered.
    Answered(&'a Answer, Option<Duration>),
    /// The broker acknowledged it, or with QoS 0 it was written; nobody answers it.
    Delivered {
        /// Whether the broker acknowledged it.
        acknowledged: bool,
        /// How long that took.
        round_trip: Option<Duration>,
    },
    /// It was not done.
    Failed {
        /// What kind of failure it was.
        kind: Kind,
        /// What happened.
        message: &'a str,
        /// Whether it had left, where that is worth telling.
        sent: Option<bool>,
    },
}

/// Where results go.
pub struct Results {
    out: Sink,
    /// The reader of stdout has gone: the run goes on without printing.
    muted: bool,
    tally: Tally,
    next_index: u64,
    failure: Option<Failure>,
    console: Console,
}

impl Results {
    /// Results on stdout; `single` says that one request came from flags.
    #[must_use]
    pub fn new(progress: Progress, single: bool, console: Console) -> Self {
        let tally = Tally::new(progress, single, console);
        Self { out: Sink::stdout(), muted: false, tally, next_index: 0, failure: None, console }
    }

    /// Gives the result lines of an input their indexes: one for each subject, one for what is invalid.
    pub fn sources(
        &mut self,
        operation: Operation,
        line: Option<u64>,
        input: &Arc<RawValue>,
        item: &Result<Item, Invalid>,
    ) -> Vec<Source> {
        let (subjects, gateway_id) = match item {
            Ok(item) => (item.subjects.clone(), item.gateway_id.clone()),
            Err(invalid) => {
                let cid = invalid.cid.clone().unwrap_or_default();
                (vec![Subject { cid, id: invalid.id.clone(), status: None }], None)
            }
        };
        let sources = subjects.into_iter().map(|subject| {
            let index = self.next_index;
            self.next_index += 1;
            Source {
                index,
                line,
                operation,
                gateway_id: gateway_id.clone(),
                subject,
                input: Arc::clone(input),
            }
        });
        sources.collect()
    }

    /// Writes the result of one line of a message.
    pub fn tell(&mut self, source: &Source, request_id: Option<&str>, outcome: Outcome<'_>) {
        let mut result = match outcome {
            Outcome::Answered(answer, round_trip) => ResultLine::answered(answer, round_trip),
            Outcome::Delivered { acknowledged, round_trip } => {
                ResultLine::delivered(acknowledged, round_trip)
            }
            Outcome::Failed { kind, message, sent } => {
                ResultLine { sent, ..ResultLine::failed(kind, message) }
            }
        };
        result.request_id = request_id;
        self.print(source, result);
    }

    /// Writes that an input, or a part of one, was not sent because it is wrong.
    pub fn invalid(&mut self, source: &Source, invalid: &Invalid) {
        let mut result = ResultLine::failed(Kind::Invalid, &invalid.message);
        result.field = invalid.field.as_deref();
        self.print(source, result);
    }

    fn print<'a>(&mut self, source: &'a Source, mut result: ResultLine<'a>) {
        result.index = source.index;
        result.line = source.line;
        result.op = source.operation.name();
        result.gateway_id = source.gateway_id.as_ref().map(GatewayId::as_str);
        result.cid = Some(source.subject.cid.as_str()).filter(|cid| !cid.is_empty());
        result.id = source.subject.id.as_deref();
        result.status = source.subject.status;
        result.input = (!result.ok).then_some(source.input.as_ref());
        self.tally.count(&result);
        let _ticket = self.write(&json_line(&result));
    }

    /// Writes a line of another kind among the results; it has been written once [`Results::done`] says so.
    pub fn write(&mut self, line: &[u8]) -> Ticket {
        if self.muted { self.out.done() } else { self.out.write(line) }
    }

    /// Up to here all has been written.
    #[must_use]
    pub fn done(&self) -> Ticket {
        self.out.done()
    }

    /// Whether all that was handed over has been written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.muted || self.out.backlog() == 0
    }

    /// Whether the reader of stdout has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.muted
    }

    /// Whether the reader of stdout is so far behind that no more should be asked.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.muted && self.out.backlog() > BACKLOG
    }

    /// Hands what was written to the writing thread, and shows how far the run is.
    pub fn flush(&mut self, in_flight: usize) {
        self.out.flush();
        self.tally.show(in_flight);
    }

    /// Waits until something more has been written; for ever where nothing is to be. Cancel-safe.
    ///
    /// # Errors
    /// Stdout cannot be written. A reader that has gone is no error: it wanted no more.
    pub async fn progress(&mut self) -> Result<(), Failure> {
        if self.muted {
            return std::future::pending().await;
        }
        // Asked of the sink even where nothing is left: whoever looked a moment ago may have seen the rest unwritten.
        match self.out.progress().await {
            Ok(_) => Ok(()),
            Err(SinkError::ReaderGone) => {
                self.muted = true;
                Ok(())
            }
            Err(SinkError::Failed(failure)) => Err(failure),
        }
    }

    /// Counts requests that were sent again after a reconnect.
    pub fn resent(&mut self, requests: usize) {
        self.tally.resent(requests);
    }

    /// Remembers the failure that ended the run, to be told after the results.
    pub fn fail(&mut self, failure: &Failure) {
        self.failure = Some(failure.clone());
    }

    /// Writes what is left, tells the summary, and gives the exit code of the results.
    pub async fn finish(self) -> Exit {
        let (written, mut tally) = self.end().await;
        written.or(tally.finish())
    }

    /// Writes what is left and tells no summary; gives the exit code of the writing alone.
    pub async fn finish_quietly(self) -> Exit {
        self.end().await.0
    }

    /// Writes what is left, then tells the failure that ended the run: words stand below the lines they speak of.
    async fn end(mut self) -> (Exit, Tally) {
        self.tally.hide();
        self.out.flush();
        let written = if self.muted { Ok(()) } else { self.out.close().await };
        let tell = |Failure { message, hint, .. }: &Failure| {
            self.console.error(message);
            hint.iter().for_each(|hint| self.console.hint(hint));
        };
        self.failure.iter().for_each(tell);
        let exit = match written {
            Err(SinkError::Failed(failure)) => {
                tell(&failure);
                failure.kind.exit()
            }
            Ok(()) | Err(SinkError::ReaderGone) => Exit::SUCCESS,
        };
        (exit, self.tally)
    }
}
