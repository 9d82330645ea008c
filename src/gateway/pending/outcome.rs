//! What the pending requests return to their owner.

use std::time::Duration;

use super::request::Finished;
use crate::tuya::{Answer, FieldError};

/// A message that is to be sent now.
#[derive(Debug)]
pub struct Sending<'a, C> {
    /// The request's token.
    pub token: u64,
    /// How often it was tried, this time included.
    pub attempt: u32,
    /// Whether this begins an attempt, rather than repeats one after a loss.
    pub is_first: bool,
    /// What the caller keeps with it.
    pub context: &'a mut C,
}

/// The relation of an arrived message to the open requests.
#[derive(Debug)]
pub enum Match<C> {
    /// The answer to a request, which ends with it.
    Answered {
        /// The request.
        request: Finished<C>,
        /// The answer.
        answer: Answer,
        /// The time since the latest attempt was first written; `None` if none was, as far as is known.
        round_trip: Option<Duration>,
    },
    /// A system error as answer to a request that is tried again.
    TriedAgain,
    /// A message that names a request and is no answer; the request ends with it.
    Malformed {
        /// The request.
        request: Finished<C>,
        /// The fault of the message.
        error: FieldError,
    },
    /// An answer to none of the open requests: it comes late, again, or is another client's; in words.
    Unmatched(String),
    /// Not an answer that counts; why, in words.
    Ignored(String),
}

/// The effect of the broker's acknowledgement on an open request.
#[derive(Debug)]
pub struct Acknowledged<C> {
    /// Whether this is the first one of this request.
    pub is_first: bool,
    /// The request, if it ends with this, and the time since its latest attempt was first written.
    pub finished: Option<(Finished<C>, Option<Duration>)>,
}

/// A request that ends, because its answer or acknowledgement did not come in time.
#[derive(Debug)]
pub struct TimedOut<C> {
    /// The request.
    pub request: Finished<C>,
    /// Whether it waited for an answer, rather than for an acknowledgement alone.
    pub is_answer_missing: bool,
    /// Whether the broker had acknowledged it.
    pub is_acknowledged: bool,
}
