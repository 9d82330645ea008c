//! Failures, and the one table of exit codes that the program, `--help`, the man pages, the
//! documentation and the tests share.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

/// The kinds of failure, which are the values of `error` in a result line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The command line or the input is wrong.
    Invalid,
    /// A local file or address is in the way.
    Io,
    /// The broker cannot be reached, or the connection was lost for good.
    Connection,
    /// The broker refused the connection or a subscription.
    Refused,
    /// No answer came in time.
    Timeout,
    /// The peer broke the protocol.
    Protocol,
}

impl FailureKind {
    /// The word that a result line carries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Io => "io",
            Self::Connection => "connection",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }

    /// The next step if the failure names none; `None` if the message names what to correct.
    #[must_use]
    pub fn next_step(self) -> Option<&'static str> {
        let is_local = matches!(self, Self::Invalid | Self::Io);
        let row = Exit::TABLE.iter().find(|(exit, ..)| *exit == self.exit() && !is_local);
        row.map(|(.., hint)| *hint)
    }

    /// The exit code of a run that ends with this failure.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Invalid | Self::Io => Exit::USAGE,
            Self::Connection => Exit::CONNECTION,
            Self::Refused => Exit::REFUSED,
            Self::Timeout => Exit::TIMEOUT,
            Self::Protocol => Exit::PROTOCOL,
        }
    }
}

/// A failure with its cause in words and, if there is one, the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is; it decides the exit code.
    pub kind: FailureKind,
    /// What happened, naming the file, address, line or field.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of a kind, with its message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A wrong command line, setting or input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// A local file or address that cannot be used.
    pub fn io(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Io, message)
    }

    /// The same failure with its next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The next step: the failure's own, or else that of its kind.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref().or(self.kind.next_step())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exit(pub u8);

impl Exit {
    /// 0: everything was accepted.
    pub const SUCCESS: Self = Self(0);
    /// 1: the other end answered no.
    pub const ANSWERED_NO: Self = Self(1);
    /// 2: the command line, the input or a local file is wrong.
    pub const USAGE: Self = Self(2);
    /// 3: the broker cannot be reached.
    pub const CONNECTION: Self = Self(3);
    /// 4: the broker refused.
    pub const REFUSED: Self = Self(4);
    /// 5: no answer in time.
    pub const TIMEOUT: Self = Self(5);
    /// 6: the peer broke the protocol.
    pub const PROTOCOL: Self = Self(6);
    /// 130: ended by SIGINT.
    pub const INTERRUPTED: Self = Self(130);
    /// 143: ended by SIGTERM.
    pub const TERMINATED: Self = Self(143);

    /// Every exit code with its meaning, in ascending order.
    pub const TABLE: &'static [(Self, &'static str, &'static str)] = &[
        (Self::SUCCESS, "everything was accepted", ""),
        (
            Self::ANSWERED_NO,
            "the edge (or the gateway, for command; or the comparison, for replay --verify) answered no",
            "Read code, meaning and hint of the result lines with \"ok\":false.",
        ),
        (
            Self::USAGE,
            "the command line, the input or a local file is wrong; an address cannot be bound",
            "The message names the option, or the file, line and field.",
        ),
        (
            Self::CONNECTION,
            "the broker cannot be reached (name, TCP, TLS, no CONNACK), or the connection was lost for good",
            "Check --broker, the network and whether the port speaks TLS (mqtts://).",
        ),
        (
            Self::REFUSED,
            "the broker refused: CONNACK 1 to 5 and 128 to 255, or SUBACK 0x80",
            "See `tuyagw explain connack CODE`; check gateway id, username and password.",
        ),
        (
            Self::TIMEOUT,
            "no answer in time",
            "See whether the edge's driver runs and the topics are right; --timeout waits longer.",
        ),
        (
            Self::PROTOCOL,
            "the peer broke the protocol (CONNACK 6 to 127 included)",
            "Check that the address is an MQTT broker; the message says what arrived.",
        ),
        (Self::INTERRUPTED, "ended by SIGINT, after what was in hand was written", ""),
        (Self::TERMINATED, "ended by SIGTERM, after what was in hand was written", ""),
    ];

    /// The code in a word or two; the word of result lines if they have one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SUCCESS => "success",
            Self::ANSWERED_NO => "answered no",
            Self::USAGE => "invalid, io",
            Self::CONNECTION => FailureKind::Connection.name(),
            Self::REFUSED => FailureKind::Refused.name(),
            Self::TIMEOUT => FailureKind::Timeout.name(),
            Self::PROTOCOL => FailureKind::Protocol.name(),
            Self::INTERRUPTED => "interrupted",
            Self::TERMINATED => "terminated",
            _ => "unknown",
        }
    }

    /// The next step; empty if nothing is wrong.
    #[must_use]
    pub fn advice(self) -> &'static str {
        Self::TABLE.iter().find(|(exit, ..)| *exit == self).map_or("", |(_, _, advice)| advice)
    }

    /// Of several causes, the first of 3, 4, 6, 5, 2, 1 wins; a signal beats all others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        const ORDER: [Exit; 9] = [
            Exit::INTERRUPTED,
            Exit::TERMINATED,
            Exit::CONNECTION,
            Exit::REFUSED,
            Exit::PROTOCOL,
            Exit::TIMEOUT,
            Exit::USAGE,
            Exit::ANSWERED_NO,
            Exit::SUCCESS,
        ];
        let rank = |exit| ORDER.iter().position(|known| *known == exit).unwrap_or(0);
        if rank(other) < rank(self) { other } else { self }
    }
}

/// The exit code of an error: that of the [`Failure`] in its chain, else 2.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>())
        .map_or(Exit::USAGE, |failure| failure.kind.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_of_the_table_has_a_name() {
        for (exit, ..) in Exit::TABLE {
            assert_ne!(exit.name(), "unknown", "{exit:?}");
        }
    }

    #[test]
    fn the_worse_exit_wins_in_the_contract_s_order() {
        let order = [130, 3, 4, 6, 5, 2, 1, 0].map(Exit);
        for (place, worse) in order.iter().enumerate() {
            for better in &order[place..] {
                assert_eq!(better.or(*worse), *worse);
                assert_eq!(worse.or(*better), *worse);
            }
        }
    }
}
