//! Reads a recording on a thread of its own and marks each message as "to send" or "expected".
//!
//! Batches are bounded, so memory stays constant and a pipe can be replayed live.

use std::{borrow::Cow, mem, ops::ControlFlow, str::FromStr, sync::Arc, thread, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::{
    collections::FastMap,
    duration,
    error::Failure,
    io::recording_file::{Recording, RecordingArgs},
    mqtt::{Direction, InvalidTopic, check_filter, check_topic_name, matches},
    recording::{Issue, Record, RecordingEntry, RewritableFields, Timeline},
    tuya::{Channel, Topics},
};

/// Most messages in a batch.
const BATCH: usize = 256;
/// Most bytes of payloads in a batch, roughly.
const BATCH_BYTES: usize = 1 << 20;
/// Most batches in the channel.
const BATCHES: usize = 4;
/// Size of a buffer that payloads share.
const PAYLOADS: usize = 32 << 10;
/// Most topics in the cache.
const TOPICS: usize = 4096;

/// One message of the recording.
#[derive(Debug)]
pub struct ReplayMessage {
    /// The number of the line or packet.
    pub number: u64,
    /// The recorded time since the recording began.
    pub offset: Duration,
    pub recorded_topic: Arc<RecordedTopic>,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// Whether it is sent; otherwise it came from the other end, and is expected again.
    pub should_send: bool,
    /// The fields of a sent payload that may be rewritten.
    pub splice: RewritableFields,
}

/// The topic of recorded messages; messages with the same topic share it.
#[derive(Debug)]
pub struct RecordedTopic {
    pub topic: Arc<str>,
    /// Why nothing can be published on it.
    pub flaw: Option<InvalidTopic>,
    pub channel: Option<Channel>,
    pub gateway_id: Option<String>,
}

/// What the reader's thread passes on.
#[derive(Debug)]
pub enum ReplayEntry {
    /// A message.
    Message(ReplayMessage),
    /// A problem of the recording.
    Issue(u64, Issue),
    /// The recording begins again (`--loop`).
    Again,
}

/// Which messages are sent.
#[derive(Clone, Debug)]
pub struct Selection {
    pub direction: Direction,
    pub kinds: Vec<String>,
    pub cids: Vec<String>,
    pub topics: Vec<String>,
    pub from: Option<Bound>,
    pub to: Option<Bound>,
    /// How long after `to` answers still count.
    pub aftermath: Duration,
}

/// A limit of `--from` or `--to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A time since the recording began.
    Offset(Duration),
    /// A time of the wall clock, in microseconds since 1970.
    Time(i64),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(offset) = duration::parse(text) {
            return Ok(Self::Offset(offset));
        }
        text.parse::<jiff::Timestamp>()
            // Round up: a record in the microsecond of the bound comes before a bound later in that microsecond.
            .map(|time| Self::Time(time.as_microsecond() + i64::from(time.subsec_nanosecond() % 1000 > 0)))
            .map_err(|_| "expected a time such as 2026-11-22T07:22:00Z, or an offset such as 10m".to_owned())
    }
}

impl Bound {
    /// Returns whether a message is before this bound.
    fn is_after(self, unix_us: i64, offset: Duration, slack: Duration) -> bool {
        match self {
            Self::Offset(bound) => offset < bound.saturating_add(slack),
            Self::Time(bound) => {
                unix_us < bound.saturating_add(i64::try_from(slack.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }
}

impl Selection {
    /// Checks the filters.
    ///
    /// # Errors
    /// A topic filter that is not valid, or a kind that does not exist.
    pub fn check(&self) -> Result<(), Failure> {
        for topic in &self.topics {
            check_filter(topic).map_err(|why| Failure::invalid(format!("--topic: {why}")))?;
        }
        let known: Vec<_> = Channel::ALL.into_iter().map(Channel::kind).chain([OTHER]).collect();
        match self.kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            None => Ok(()),
            Some(kind) => Err(Failure::invalid(format!("--kind: expected a kind of record; got {kind:?}"))
                .hint(format!("The kinds are: {}", known.join(", ")))),
        }
    }

    /// Returns whether a message is sent (true) or expected (false); `None` if it is neither.
    fn classify(&self, record: &Record<'_>, offset: Duration) -> Option<bool> {
        let after = |bound: Bound, slack| !bound.is_after(record.unix_us, offset, slack);
        if self.from.is_some_and(|from| !after(from, Duration::ZERO))
            || self.to.is_some_and(|to| after(to, self.aftermath))
        {
            return None;
        }
        if !self.should_send(record) {
            return record.channel.is_some().then_some(false);
        }
        let kind = record.channel.map_or(OTHER, Channel::kind);
        let wanted = self.to.is_none_or(|to| !after(to, Duration::ZERO))
            && (self.topics.is_empty() || self.topics.iter().any(|filter| matches(filter, &record.topic)))
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
            && (self.cids.is_empty()
                || RewritableFields::of(&record.payload).is_some_and(|message| {
                    self.cids.iter().any(|cid| message.has_cid(&record.payload, cid))
                }));
        wanted.then_some(true)
    }

    fn should_send(&self, record: &Record<'_>) -> bool {
        match self.direction {
            // A topic outside the protocol has no direction.
            Direction::Up => record.dir != Some(Direction::Down),
            // The embedded edge answers uplinks itself.
            Direction::Down => {
                record.dir == Some(Direction::Down)
                    && !matches!(record.channel, Some(Channel::SyncResponse | Channel::ReportResponse))
            }
        }
    }
}

const OTHER: &str = "other";

/// Reads a recording on a thread of its own.
pub struct RecordingReader(mpsc::Receiver<Result<Vec<ReplayEntry>, Failure>>);

impl RecordingReader {
    /// Starts to read a recording, `times` times.
    ///
    /// # Errors
    /// A recording that cannot be opened, or cannot be opened again.
    pub fn open(
        first: Recording,
        args: RecordingArgs,
        times: u64,
        selection: Selection,
        topics: Topics,
    ) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let read_all = move || {
            let mut recording = Some(first);
            for time in 0..times {
                let outcome = match recording.take().map_or_else(|| Recording::open(&args), Ok) {
                    Ok(recording) => read(recording, time > 0, &selection, &topics, &sender),
                    Err(failure) => Err(failure),
                };
                match outcome {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return,
                    Err(failure) => {
                        // Without a receiver the replay has ended.
                        let _ = sender.blocking_send(Err(failure));
                        return;
                    }
                }
            }
        };
        thread::Builder::new()
            .name("recording".into())
            .spawn(read_all)
            .map_err(|why| Failure::io(format!("cannot start a thread for the recording: {why}")))?;
        Ok(Self(receiver))
    }

    /// Returns the next entries; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// A read that failed.
    pub async fn next(&mut self) -> Result<Option<Vec<ReplayEntry>>, Failure> {
        self.0.recv().await.transpose()
    }

    /// Returns the next entries without waiting; `None` if there are none yet.
    ///
    /// # Errors
    /// A read that failed.
    pub fn try_next(&mut self) -> Result<Option<Vec<ReplayEntry>>, Failure> {
        self.0.try_recv().ok().transpose()
    }
}

fn read(
    recording: Recording,
    is_again: bool,
    selection: &Selection,
    topics: &Topics,
    sender: &mpsc::Sender<Result<Vec<ReplayEntry>, Failure>>,
) -> Result<ControlFlow<()>, Failure> {
    let mut batch = if is_again { vec![ReplayEntry::Again] } else { Vec::new() };
    let (mut bytes, mut is_wanted) = (0, true);
    let (mut timeline, mut builder) = (Timeline::default(), MessageBuilder::new());
    recording.read(topics, &mut |number, found| {
        let mut is_idle = false;
        match found {
            RecordingEntry::Message(record) => {
                let offset = timeline.advance(record.unix_us, record.mono_us).offset;
                if let Some(Bound::Offset(to)) = selection.to
                    && offset >= to.saturating_add(selection.aftermath)
                {
                    // Nothing behind this can be sent or expected.
                    return ControlFlow::Break(());
                }
                if let Some(should_send) = selection.classify(&record, offset) {
                    bytes += record.payload.len();
                    batch.push(ReplayEntry::Message(builder.build(number, offset, record, should_send)));
                }
            }
            RecordingEntry::Issue(issue) => batch.push(ReplayEntry::Issue(number, issue)),
            RecordingEntry::Connection(_) | RecordingEntry::EventLine(_) => {}
            RecordingEntry::Idle => is_idle = true,
        }
        if !batch.is_empty() && (is_idle || batch.len() >= BATCH || bytes >= BATCH_BYTES) {
            bytes = 0;
            is_wanted = sender.blocking_send(Ok(mem::take(&mut batch))).is_ok();
        }
        if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if is_wanted && !batch.is_empty() {
        is_wanted = sender.blocking_send(Ok(batch)).is_ok();
    }
    Ok(if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
}

/// Makes messages that share buffers and topics, so that few of them allocate.
struct MessageBuilder {
    /// The rest of a buffer that payloads share; it is freed with the last of them.
    payloads: BytesMut,
    topics: FastMap<Arc<str>, Arc<RecordedTopic>>,
}

impl MessageBuilder {
    fn new() -> Self {
        Self { payloads: BytesMut::with_capacity(PAYLOADS), topics: FastMap::default() }
    }

    fn build(
        &mut self,
        number: u64,
        offset: Duration,
        record: Record<'_>,
        should_send: bool,
    ) -> ReplayMessage {
        ReplayMessage {
            number,
            offset,
            recorded_topic: self.recorded_topic(&record),
            splice: if should_send {
                RewritableFields::of(&record.payload).unwrap_or_default()
            } else {
                RewritableFields::default()
            },
            payload: match record.payload {
                Cow::Owned(payload) => payload.into(),
                Cow::Borrowed(payload) => {
                    self.payloads.extend_from_slice(payload);
                    self.payloads.split().freeze()
                }
            },
            qos: record.qos,
            retain: record.retain,
            should_send,
        }
    }

    fn recorded_topic(&mut self, record: &Record<'_>) -> Arc<RecordedTopic> {
        // A record may name its channel and gateway itself, so the topic alone does not decide.
        if let Some(known) = self.topics.get(&*record.topic)
            && known.channel == record.channel
            && known.gateway_id.as_deref() == record.gateway_id.as_deref()
        {
            return Arc::clone(known);
        }
        if self.topics.len() >= TOPICS {
            self.topics.clear();
        }
        let recorded_topic = Arc::new(RecordedTopic {
            topic: record.topic.as_ref().into(),
            flaw: check_topic_name(&record.topic).err(),
            channel: record.channel,
            gateway_id: record.gateway_id.as_deref().map(ToOwned::to_owned),
        });
        self.topics.insert(Arc::clone(&recorded_topic.topic), Arc::clone(&recorded_topic));
        recorded_topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_time_or_an_offset() {
        assert_eq!("90s".parse(), Ok(Bound::Offset(Duration::from_secs(90))));
        assert_eq!("1970-01-01T00:00:01.5Z".parse(), Ok(Bound::Time(1_500_000)));
        assert_eq!("1970-01-01T00:00:01.0000005Z".parse(), Ok(Bound::Time(1_000_001)));
        for text in ["yesterday", "1714550400", "1.7E9", "-5s", "1e400s", ""] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
    }
}
