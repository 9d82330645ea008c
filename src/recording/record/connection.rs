//! The line of a client that connected or disconnected.

use super::write::{RecordPrefix, push_field};
use crate::{
    json::push_number,
    mqtt::{ConnectCode, Direction},
};

/// A client that connected or disconnected, as `tap` and `edge` record it. Readers of messages skip these lines.
#[derive(Clone, Debug)]
pub struct ConnectionRecord<'a> {
    /// When it was seen by the wall clock, in microseconds since the Unix epoch.
    pub unix_us: i64,
    /// The side that opened or closed the connection: `Up` is the client.
    pub dir: Direction,
    /// Whether the client connected; otherwise it disconnected.
    pub connected: bool,
    /// The gateway, if the client is one.
    pub gateway_id: Option<&'a str>,
    /// Microseconds since the recording began.
    pub mono_us: u64,
    /// The client id.
    pub client_id: &'a str,
    /// The username, if the client gave one; a password is never recorded.
    pub username: Option<&'a str>,
    /// The return code of the CONNACK.
    pub code: Option<ConnectCode>,
}

impl ConnectionRecord<'_> {
    /// Appends the record as one line, ended by a newline and free of control characters.
    pub fn write(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(RecordPrefix::default().at(self.unix_us));
        push_field(line, b",\"dir\":", self.dir.name());
        push_field(line, b",\"kind\":", if self.connected { "connect" } else { "disconnect" });
        if let Some(id) = self.gateway_id {
            push_field(line, b",\"gateway_id\":", id);
        }
        line.extend_from_slice(b",\"mono_us\":");
        push_number(line, self.mono_us);
        push_field(line, b",\"client_id\":", self.client_id);
        if let Some(name) = self.username {
            push_field(line, b",\"username\":", name);
        }
        if let Some(code) = self.code {
            line.extend_from_slice(b",\"code\":");
            push_number(line, code.0.into());
        }
        line.extend_from_slice(b"}\n");
    }
}
