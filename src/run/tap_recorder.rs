//! Records tapped traffic. If the output is too slow or fails, records are left out; the traffic never waits.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use serde::Serialize;

use crate::{
    error::Failure,
    io::{
        batch_writer::{BatchWriter, Offset, WriterError, Written},
        console::Console,
    },
    json::json_line,
    mqtt::{Direction, codec::Message},
    net::proxy::{CaptureTime, Observation, Observer},
    recording::{ConnectionRecord, LEFT_OUT, Record},
    run::warnings::WarningLimiter,
    stats::{Inspection, RecordingSummary},
    tuya::Topics,
};

/// Unwritten bytes above which records are left out, until half of them is written.
const FULL: usize = 32 * 1024 * 1024;

/// Bytes of records that are handed to the writer thread at once.
const BATCH: usize = 256 * 1024;

/// How many ends of records are kept before the written ones are removed.
const MANY_RECORDS: usize = 4096;

/// The recorder.
#[derive(Debug)]
pub(crate) struct Recorder {
    console: Console,
    topics: Topics,
    origin: Instant,
    sink: Option<BatchWriter>,
    /// How far the writer has written, and the ends of records that may not be written yet.
    written: Written,
    unwritten: VecDeque<Offset>,
    /// Bytes that the writer has and its thread does not.
    batch: usize,
    line: Vec<u8>,
    /// When the last observed bytes passed, in microseconds since the start.
    mono_us: u64,
    inspection: Inspection,
    /// Records left out since the last written one, and in total.
    missing: u64,
    missing_in_all: u64,
    failure: Option<Failure>,
    warnings: WarningLimiter,
}

impl Recorder {
    /// A recorder with this output.
    pub(crate) fn new(console: Console, topics: Topics, sink: BatchWriter) -> Self {
        Self {
            console,
            topics,
            origin: Instant::now(),
            written: sink.written(),
            unwritten: VecDeque::new(),
            sink: Some(sink),
            batch: 0,
            line: Vec::new(),
            mono_us: 0,
            inspection: Inspection::new(None),
            missing: 0,
            missing_in_all: 0,
            failure: None,
            warnings: WarningLimiter::new(Some(console)),
        }
    }

    /// Writes a line that is not a record.
    pub(crate) fn event(&mut self, line: &[u8]) {
        self.line.extend_from_slice(line);
        self.write();
        self.flush();
    }

    /// Hands the written lines to the writer thread.
    fn flush(&mut self) {
        if let Some(sink) = &mut self.sink {
            sink.flush();
            self.batch = 0;
        }
    }

    /// Ends the recording; the traffic goes on.
    pub(crate) fn fail(&mut self, why: WriterError) {
        if self.failure.is_some() {
            return;
        }
        let failure = match why {
            WriterError::Failed(failure) => failure,
            WriterError::ReaderGone => Failure::io("the reader of stdout went away"),
        };
        self.console.error(&format!("{}: the recording ends here; the traffic goes on", failure.message));
        self.failure = Some(failure);
        // Lines that the writer has and did not write are missing, too.
        self.forget_written();
        self.lose(self.unwritten.len() as u64);
        self.unwritten.clear();
    }

    fn forget_written(&mut self) {
        let written = self.written.offset();
        self.unwritten.drain(..self.unwritten.partition_point(|end| *end <= written));
    }

    /// Counts records that are not in the recording.
    fn lose(&mut self, records: u64) {
        self.missing_in_all += records;
        self.inspection.handle_left_out(records);
    }

    /// Returns the writer, to be closed.
    pub(crate) fn close(&mut self) -> Option<BatchWriter> {
        if self.missing > 0 {
            self.say_missing();
        }
        self.warnings.finish();
        self.flush();
        self.sink.take()
    }

    /// Whether everything observed is in the recording, once it is closed.
    pub(crate) fn is_whole(&self) -> bool {
        self.failure.is_none() && self.missing_in_all == 0
    }

    /// Records that are not in the recording.
    pub(crate) fn missing_in_all(&self) -> u64 {
        self.missing_in_all
    }

    /// The summary of everything observed, recorded or not.
    pub(crate) fn summary(&self) -> RecordingSummary {
        self.inspection.summary()
    }

    fn message(&mut self, dir: Direction, message: &Message, unix_us: i64) {
        let record = Record { dir: Some(dir), ..Record::of(message, unix_us, self.mono_us) };
        let record = record.classified(&self.topics);
        self.inspection.handle_message(&record);
        if self.has_room() {
            record.write(&mut self.line);
            self.write_record();
        }
    }

    fn connection(&mut self, record: &ConnectionRecord<'_>) {
        if record.connected {
            self.inspection.handle_connect(record.code);
        } else {
            self.inspection.handle_disconnect();
        }
        if self.has_room() {
            record.write(&mut self.line);
            self.write_record();
        }
    }

    /// Whether the next record can be written; counts it if not.
    fn has_room(&mut self) -> bool {
        let Some(sink) = &self.sink else { return false };
        let limit = if self.missing > 0 { FULL / 2 } else { FULL };
        if self.failure.is_none() && sink.backlog() + self.batch < limit {
            if self.missing > 0 {
                self.say_missing();
            }
            return true;
        }
        self.missing += 1;
        self.lose(1);
        if self.missing == 1 && self.failure.is_none() {
            self.console.warn("the recording is not written fast enough: records are left out");
        }
        false
    }

    /// Writes a mark at the place of missing records.
    fn say_missing(&mut self) {
        #[derive(Serialize)]
        struct LeftOutMark {
            v: u64,
            event: &'static str,
            mono_us: u64,
            records: u64,
        }
        let records = std::mem::take(&mut self.missing);
        if self.failure.is_none() {
            self.console.warn(&format!("{records} records were left out"));
        }
        let mark =
            LeftOutMark { v: crate::recording::VERSION, event: LEFT_OUT, mono_us: self.mono_us, records };
        self.line.extend_from_slice(&json_line(&mark));
        self.write();
    }

    fn write_record(&mut self) {
        if let Some(end) = self.write() {
            self.unwritten.push_back(end);
            if self.unwritten.len() > MANY_RECORDS {
                self.forget_written();
            }
        }
    }

    fn write(&mut self) -> Option<Offset> {
        let end = self.sink.as_mut().map(|sink| sink.write(&self.line));
        self.batch += self.line.len();
        self.line.clear();
        if self.batch > BATCH {
            self.flush();
        }
        end
    }
}

impl Observer for Recorder {
    fn handle_observation(&mut self, observation: Observation<'_>, peer: SocketAddr, at: CaptureTime) {
        let since = at.monotonic.saturating_duration_since(self.origin);
        self.mono_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let unix_us = unix_us(at.wall);
        let (dir, client, connected, code) = match observation {
            Observation::Message { dir, message } => return self.message(dir, message, unix_us),
            Observation::Lost { dir, why } => {
                let side = match dir {
                    Direction::Up => "the client's traffic",
                    Direction::Down => "the broker's traffic",
                };
                return self.warn(&format!("{peer}: {side} is forwarded, but no longer recorded: {why}"));
            }
            Observation::Connected { client, code } => (Direction::Up, client, true, code),
            Observation::Disconnected { dir, client } => (dir, client, false, None),
        };
        let record = ConnectionRecord {
            unix_us,
            dir,
            connected,
            gateway_id: None,
            mono_us: self.mono_us,
            client_id: &client.id,
            username: client.username.as_deref(),
            code,
        };
        self.connection(&record);
    }

    fn flush(&mut self) {
        self.flush();
    }

    fn warn(&mut self, message: &str) {
        self.warnings.warn(message);
    }
}

/// A wall-clock time in microseconds since 1970.
fn unix_us(wall: SystemTime) -> i64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
