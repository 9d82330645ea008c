//! Faults that users ask for: `--fault KIND[=ARG][@RATE]`, drawn at random from a seed.

use std::{fmt, str::FromStr, time::Duration};

use crate::{duration, mqtt::ConnectCode, tuya::ResultCode};

/// A kind of fault, with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Refuses a connection with this return code.
    Connack(ConnectCode),
    /// Refuses a subscription.
    Suback,
    /// Does the work and sends no answer.
    DropResponse,
    /// Answers after this delay.
    Delay(Duration),
    /// Answers twice.
    Duplicate,
    /// Answers with a request id that no request had.
    WrongId,
    /// Refuses the request with this code and does no work.
    Code(ResultCode),
    /// Closes the connection instead of answering.
    Disconnect,
    /// Sends no more packets, of any type; the connection stays open.
    Silent,
    /// Answers with bytes that are not a message.
    Garbage,
}

/// A misbehaviour and how often it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// The kind of fault.
    pub misbehaviour: Misbehaviour,
    /// Its probability each time, from 0 to 1.
    pub rate: f64,
}

impl Fault {
    /// Every kind with its argument, for help and errors.
    pub const KINDS: &'static str = "connack=CODE, suback, drop-response, delay=DURATION, duplicate, wrong-id, code=CODE, \
                                     disconnect, silent, garbage";
}

/// Why a fault could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidFault(String);

impl fmt::Display for InvalidFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidFault {}

impl FromStr for Fault {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let (what, rate) = match text.rsplit_once('@') {
            Some((what, rate)) => (what, read_rate(rate)?),
            None => (text, 1.0),
        };
        let (kind, argument) = match what.split_once('=') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (what, None),
        };
        let misbehaviour = match (kind, argument) {
            ("connack", Some(code)) => Misbehaviour::Connack(ConnectCode(read_number(kind, code, 1, 255)?)),
            ("code", Some(code)) => Misbehaviour::Code(ResultCode(read_number(kind, code, 1, i64::MAX)?)),
            ("delay", Some(delay)) => Misbehaviour::Delay(read_duration(delay)?),
            ("suback", None) => Misbehaviour::Suback,
            ("drop-response", None) => Misbehaviour::DropResponse,
            ("duplicate", None) => Misbehaviour::Duplicate,
            ("wrong-id", None) => Misbehaviour::WrongId,
            ("disconnect", None) => Misbehaviour::Disconnect,
            ("silent", None) => Misbehaviour::Silent,
            ("garbage", None) => Misbehaviour::Garbage,
            ("connack" | "code" | "delay", None) => {
                return Err(InvalidFault(format!(
                    "fault {kind} needs an argument; the kinds are {}",
                    Self::KINDS
                )));
            }
            (
                "suback" | "drop-response" | "duplicate" | "wrong-id" | "disconnect" | "silent" | "garbage",
                Some(_),
            ) => {
                return Err(InvalidFault(format!(
                    "fault {kind} takes no argument; the kinds are {}",
                    Self::KINDS
                )));
            }
            _ => {
                return Err(InvalidFault(format!(
                    "there is no fault {kind:?}; the kinds are {}",
                    Self::KINDS
                )));
            }
        };
        Ok(Self { misbehaviour, rate })
    }
}

fn read_rate(text: &str) -> Result<f64, InvalidFault> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(value) if (0.0..=whole).contains(&value) => Ok(value / whole),
        _ => Err(InvalidFault(format!(
            "a fault's rate is a probability from 0 to 1, or from 0% to 100%, not {text:?}"
        ))),
    }
}

fn read_number<N>(kind: &str, text: &str, least: N, most: N) -> Result<N, InvalidFault>
where
    N: FromStr + PartialOrd + fmt::Display + Copy,
{
    match text.parse::<N>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(InvalidFault(format!(
            "fault {kind} needs a whole number from {least} to {most}, not {text:?}"
        ))),
    }
}

fn read_duration(text: &str) -> Result<Duration, InvalidFault> {
    duration::parse(text).map_err(|why| InvalidFault(format!("fault delay: {why}; got {text:?}")))
}

/// The faults in force, with the random numbers that draw them.
#[derive(Debug)]
pub struct Faults {
    list: Vec<Fault>,
    dice: fastrand::Rng,
}

impl Faults {
    /// Faults drawn from a seed: the same seed and the same requests give the same faults.
    #[must_use]
    pub fn new(list: Vec<Fault>, seed: u64) -> Self {
        Self { list, dice: fastrand::Rng::with_seed(seed) }
    }

    /// Draws each fault that `choose` accepts; returns the first that happens this time.
    pub(super) fn draw<T>(&mut self, mut choose: impl FnMut(Misbehaviour) -> Option<T>) -> Option<T> {
        for fault in &self.list {
            if let Some(chosen) = choose(fault.misbehaviour)
                && self.dice.f64() < fault.rate
            {
                return Some(chosen);
            }
        }
        None
    }

    /// Draws one kind of fault; returns whether it happens this time.
    pub(super) fn happens(&mut self, misbehaviour: Misbehaviour) -> bool {
        self.draw(|found| (found == misbehaviour).then_some(())).is_some()
    }

    /// A request id that no request had.
    pub(super) fn foreign_id(&mut self) -> String {
        format!("foreign-{:016x}", self.dice.u64(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fault, String> {
        text.parse::<Fault>().map_err(|why| why.to_string())
    }

    #[test]
    fn every_kind_reads() {
        for (text, misbehaviour, rate) in [
            ("connack=3", Misbehaviour::Connack(ConnectCode::SERVER_UNAVAILABLE), 1.0),
            ("suback", Misbehaviour::Suback, 1.0),
            ("drop-response@0.25", Misbehaviour::DropResponse, 0.25),
            ("delay=250ms@10%", Misbehaviour::Delay(Duration::from_millis(250)), 0.1),
            ("delay=2s", Misbehaviour::Delay(Duration::from_secs(2)), 1.0),
            ("delay=1m30s", Misbehaviour::Delay(Duration::from_secs(90)), 1.0),
            ("duplicate", Misbehaviour::Duplicate, 1.0),
            ("wrong-id", Misbehaviour::WrongId, 1.0),
            ("code=500@0.5", Misbehaviour::Code(ResultCode::SYSTEM_ERROR), 0.5),
            ("disconnect", Misbehaviour::Disconnect, 1.0),
            ("silent@0", Misbehaviour::Silent, 0.0),
            ("garbage@100%", Misbehaviour::Garbage, 1.0),
        ] {
            assert_eq!(read(text), Ok(Fault { misbehaviour, rate }), "{text}");
        }
    }

    #[test]
    fn an_unreadable_fault_names_the_kinds_or_the_argument() {
        for (text, part) in [
            ("explode", "drop-response"),
            ("connack", "needs an argument"),
            ("connack=0", "from 1 to 255"),
            ("connack=256", "from 1 to 255"),
            ("suback=1", "takes no argument"),
            ("delay=2", "250ms"),
            ("code=x", "whole number"),
            ("suback@1.5", "probability"),
            ("suback@101%", "probability"),
            ("suback@NaN", "probability"),
        ] {
            let why = read(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn a_seed_decides_what_happens() {
        let throws = |seed| {
            let mut faults = Faults::new(vec![read("silent@0.5").unwrap()], seed);
            (0..64).map(|_| faults.happens(Misbehaviour::Silent)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        let often = throws(7).iter().filter(|happened| **happened).count();
        assert!((16..48).contains(&often), "{often} of 64");
    }
}
