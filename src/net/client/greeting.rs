//! Recognises servers that are no MQTT brokers by their first bytes. Pure.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::text::is_unsafe;

/// How many bytes of an unknown greeting are printed.
const SHOWN: usize = 60;
const PORT: &str = "Check the port: the edge's MQTT port is 21883";

/// The first bytes of a server that is no MQTT broker.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What the server is, in words.
    pub what: String,
    /// What to do next.
    pub hint: &'static str,
}

impl Greeting {
    /// Recognises another protocol, or a line of text, in the first bytes of a server; `None` if they may be a CONNACK.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let known = |what: &str, hint| Some(Self { what: what.to_owned(), hint });
        match bytes {
            [0x15, 3, ..] => {
                known("a TLS alert came back, so the port wants TLS", "Write mqtts:// in --broker")
            }
            [0x16, 3, ..] => known("a TLS handshake came back", PORT),
            [b'S', b'S', b'H', b'-', ..] => known("an SSH server answers there", PORT),
            [b'H', b'T', b'T', b'P', b'/', ..] => known("an HTTP server answers there", PORT),
            [b'R', b'T', b'S', b'P', b'/', ..] => {
                known("an RTSP server, such as a camera, answers there", PORT)
            }
            [b'R', b'F', b'B', b' ', ..] => known("a VNC server answers there", PORT),
            [b'A', b'M', b'Q', b'P', ..] => known("an AMQP broker answers there", PORT),
            // A telnet server negotiates options first (RFC 854).
            [0xff, 0xfb..=0xfe, 0..=0x27, ..] => known("a telnet server answers there", PORT),
            _ => {
                let text = line(bytes)?;
                Some(Self { what: format!("it says {text:?}"), hint: PORT })
            }
        }
    }
}

/// The first line of a text, with which mail servers and many others begin. A short one may still be MQTT.
fn line(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = &bytes[..end.unwrap_or(bytes.len()).min(SHOWN)];
    let text = str::from_utf8(line).ok().filter(|text| !text.contains(is_unsafe))?;
    (text.len() >= 8 || (end.is_some() && text.len() >= 4)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> Option<String> {
        Greeting::of(bytes).map(|greeting| greeting.what)
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for (bytes, says) in [
            (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "SSH"),
            (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
            (b"\x15\x03\x01\0\x02\x02\x16", "TLS alert"),
            (b"\x16\x03\x03\0\x40", "TLS handshake"),
            (b"220 mail.example ESMTP\r\n", "it says \"220 mail.example ESMTP\""),
            (b"+OK \r\n", "+OK"),
            (b"-ERR unknown command\r\n", "-ERR"),
            (b"\xff\xfd\x18\xff\xfd\x20", "telnet"),
            (b"RFB 003.008\n", "VNC"),
        ] {
            assert!(what(bytes).is_some_and(|what| what.contains(says)), "{bytes:?}: {:?}", what(bytes));
        }
    }

    #[test]
    fn packets_of_mqtt_and_beginnings_of_any_are_no_greeting() {
        for bytes in [
            &b""[..],
            b"S",
            b"22",
            &[0x20, 2, 0, 0],
            &[0x20, 2, 0, 0, 0x30, 9, 0, 1, b'a', b'b', b'c', b'd', b'e', b'f'],
            &[0xff; 40],
            &[0; 40],
            &[0xd0, 0],
            &[0x30, 4, 0, 1, b'a', b'b'],
            b"220 \x1b[2J owned\r\n",
        ] {
            assert_eq!(what(bytes), None, "{bytes:?}");
        }
    }
}
