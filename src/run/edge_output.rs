//! The output of the edge: records of all traffic, results of commands, and warnings.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    edge::{CommandOutcome, EndedCommand},
    error::FailureKind,
    io::{batch_writer::BatchWriter, console::Console},
    recording::{ConnectionRecord, Record, RecordPrefix},
    request::{InputPart, request_id_of},
    run::{edge_handler::EdgeObserver, results::ResultLine, warnings::WarningLimiter},
    tuya::{Answer, GatewayId},
};

/// Unwritten bytes above which the edge stops reading from clients.
const CONGESTED: usize = 8 * 1024 * 1024;

/// Bytes of records that are handed to the writer thread at once: more would leave the processor's caches before that thread
/// reads them.
const BATCH: usize = 64 * 1024;

/// Time without progress after which stdout counts as not being read. Then clients are served, and records are dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most commands from stdin without a result, and bytes of their inputs; then stdin is not read.
const COMMANDS: usize = 1000;
const COMMAND_BYTES: usize = 4 * 1024 * 1024;

/// The fields of a command from stdin that its result line repeats.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) line: Option<u64>,
    pub(crate) cid: Option<String>,
    pub(crate) id: Option<String>,
    /// Which of the `properties` of its input it is.
    pub(crate) part: Option<Arc<InputPart>>,
    pub(crate) request_id: Arc<str>,
    pub(crate) input: Arc<str>,
}

/// The output.
#[derive(Debug)]
pub(crate) struct EdgeOutput {
    console: Console,
    /// Where results and the first event go.
    stdout: Option<BatchWriter>,
    /// Where records go, unless they go to stdout.
    out: Option<BatchWriter>,
    /// Whether records go to stdout.
    is_recording: bool,
    asked: HashMap<u64, Noted>,
    /// The bytes of their inputs.
    asked_bytes: usize,
    /// Told when a command has its result.
    settled: Rc<Notify>,
    progressed: Instant,
    left_out: u64,
    /// Silent if stderr is PROGRAM's.
    warnings: WarningLimiter,
    prefix: RecordPrefix,
}

impl EdgeOutput {
    /// An output. Without `out` records go to stdout, and without both nowhere.
    pub(crate) fn new(
        console: Console,
        has_program: bool,
        stdout: Option<BatchWriter>,
        out: Option<BatchWriter>,
    ) -> Self {
        let now = Instant::now();
        Self {
            console,
            is_recording: stdout.is_some() && out.is_none(),
            stdout,
            out,
            asked: HashMap::new(),
            asked_bytes: 0,
            settled: Rc::default(),
            progressed: now,
            left_out: 0,
            warnings: WarningLimiter::new((!has_program).then_some(console)),
            prefix: RecordPrefix::default(),
        }
    }

    /// Writes a line that is neither a record nor a result.
    pub(crate) fn event(&mut self, line: &[u8]) {
        if let Some(stdout) = &mut self.stdout {
            stdout.write(line);
        }
    }

    /// Hands lines that were written outside the broker's turns to the writer threads.
    pub(crate) fn flush_now(&mut self) {
        for sink in [&mut self.stdout, &mut self.out].into_iter().flatten() {
            sink.flush();
        }
    }

    /// Keeps the fields of a command until its result.
    pub(crate) fn expect(&mut self, token: u64, asked: Noted) {
        self.asked_bytes += asked.input.len();
        self.asked.insert(token, asked);
    }

    /// Whether another command may be taken from stdin.
    pub(crate) fn has_room_for_commands(&self) -> bool {
        self.asked.len() < COMMANDS && self.asked_bytes < COMMAND_BYTES
    }

    /// Is notified when a command has its result.
    pub(crate) fn settled(&self) -> Rc<Notify> {
        Rc::clone(&self.settled)
    }

    /// Writes the result of a command that could not be sent.
    pub(crate) fn invalid(&mut self, index: u64, asked: &Noted, field: Option<&str>, message: &str) {
        let request_id = asked.part.is_none().then(|| request_id_of(&asked.input)).flatten();
        let result = ResultLine {
            field,
            request_id: request_id.as_deref(),
            ..ResultLine::failed(FailureKind::Invalid, message)
        };
        self.result(index, asked, None, result);
    }

    fn result(&mut self, index: u64, asked: &Noted, gateway_id: Option<&str>, result: ResultLine<'_>) {
        let part = asked.part.as_ref().filter(|_| !result.ok);
        let part =
            part.map(|part| part.input_of(&asked.input, asked.cid.as_deref().unwrap_or_default(), None));
        let line = ResultLine {
            index,
            line: asked.line,
            op: "command",
            gateway_id,
            cid: asked.cid.as_deref(),
            id: asked.id.as_deref(),
            request_id: result.request_id.or((!asked.request_id.is_empty()).then_some(&*asked.request_id)),
            input: (!result.ok).then(|| part.as_deref().unwrap_or(&asked.input)),
            ..result
        };
        if let Some(stdout) = &mut self.stdout {
            stdout.write_with(|out| line.write(out));
        }
    }

    /// Takes note that the reader of the records has read.
    pub(crate) fn progress(&mut self) {
        self.progressed = Instant::now();
    }

    fn backlog(&self) -> usize {
        let sink = if self.is_recording { &self.stdout } else { &self.out };
        sink.as_ref().map_or(0, BatchWriter::backlog)
    }

    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut RecordPrefix)) {
        let sink = if self.is_recording { &mut self.stdout } else { &mut self.out };
        let Some(sink) = sink else { return };
        let is_left_out =
            sink.is_behind(CONGESTED as u64) && self.is_recording && self.progressed.elapsed() >= PATIENCE;
        if is_left_out {
            self.left_out += 1;
            if self.left_out == 1 {
                self.warnings.always_warn("stdout is not being read; dropping records until it is");
            }
        } else {
            sink.write_with(|line| write(line, &mut self.prefix));
            if sink.batched() > BATCH {
                hand_over(sink, &mut self.progressed);
            }
        }
    }

    fn is_congested(&self) -> bool {
        self.backlog() > CONGESTED && (!self.is_recording || self.progressed.elapsed() < PATIENCE)
    }

    /// Returns the writers, to be closed.
    pub(crate) fn close(&mut self) -> [Option<BatchWriter>; 2] {
        if self.left_out > 0 {
            self.warnings.always_warn(&format!(
                "{} records were left out, because stdout was not read",
                self.left_out
            ));
        }
        self.warnings.finish();
        [self.out.take(), self.stdout.take()]
    }
}

/// Hands lines to the writer thread. After an idle time the measure of the reader's progress begins again.
fn hand_over(sink: &mut BatchWriter, progressed: &mut Instant) {
    if sink.backlog() == 0 {
        *progressed = Instant::now();
    }
    sink.flush();
}

/// The output, as the edge's observer.
pub(crate) struct SharedEdgeOutput(pub(crate) Rc<RefCell<EdgeOutput>>);

impl EdgeObserver for SharedEdgeOutput {
    fn handle_message(&mut self, record: &Record<'_>) {
        self.0.borrow_mut().record(|line, prefix| record.write_after(line, prefix));
    }

    fn handle_connection(&mut self, record: &ConnectionRecord<'_>) {
        self.0.borrow_mut().record(|line, _| record.write(line));
    }

    fn handle_command_end(&mut self, outcome: EndedCommand) {
        let output = &mut *self.0.borrow_mut();
        let Some(asked) = output.asked.remove(&outcome.token) else { return };
        output.asked_bytes -= asked.input.len();
        output.settled.notify_one();
        let (answer, message);
        let result = match outcome.verdict {
            CommandOutcome::Answered { code, msg } => {
                answer = Answer { cid: None, code, msg: msg.into() };
                ResultLine::answered(&answer, outcome.round_trip)
            }
            CommandOutcome::TimedOut(limit) => {
                message = format!("no answer in {}s", limit.as_secs_f64());
                ResultLine::failed(FailureKind::Timeout, &message)
            }
            CommandOutcome::Unsent { field, why } => {
                message = why;
                ResultLine { field: Some(field), ..ResultLine::failed(FailureKind::Invalid, &message) }
            }
            CommandOutcome::Malformed(why) => {
                message = format!("malformed answer from the gateway: {why}");
                ResultLine::failed(FailureKind::Protocol, &message)
            }
        };
        let gateway_id = outcome.gateway_id.as_ref().map(GatewayId::as_str);
        output.result(outcome.token, &asked, gateway_id, result);
    }

    fn warn(&mut self, message: &str) {
        self.0.borrow_mut().warnings.warn(message);
    }

    fn alert(&mut self, message: &str) {
        self.0.borrow().console.warn(message);
    }

    fn flush(&mut self) {
        let output = &mut *self.0.borrow_mut();
        for sink in [&mut output.stdout, &mut output.out].into_iter().flatten() {
            hand_over(sink, &mut output.progressed);
        }
    }

    fn is_congested(&self) -> bool {
        self.0.borrow().is_congested()
    }
}
