//! Derives MQTT passwords, for one login or for a stream of JSON Lines.

use std::io::{self, BufRead as _, BufReader, Write};

use serde::Serialize;
use serde_json::Value;

use super::failures::{Failures, at_line};
use crate::{
    error::Exit,
    io::console::Console,
    json::json_line,
    tuya::{GatewayId, Secret, check_login_name, derive_password},
};

/// A login whose password is derived.
#[derive(Debug, PartialEq, Eq)]
pub struct PasswordLogin {
    /// The MQTT client id.
    pub client_id: String,
    /// The MQTT username.
    pub username: String,
}

/// The result line of an invalid input line.
#[derive(Debug, Serialize)]
struct InvalidLoginLine {
    line: u64,
    ok: bool,
    error: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: String,
}

/// Writes the password of one login.
///
/// # Errors
/// Output that cannot be written.
pub fn write_one(mut out: impl Write, login: &PasswordLogin, bare: bool) -> io::Result<()> {
    let password: Secret = derive_password(&login.client_id, &login.username);
    if bare {
        writeln!(out, "{}", password.expose())?;
    } else {
        #[derive(Serialize)]
        struct PasswordLine<'a> {
            client_id: &'a str,
            username: &'a str,
            password: &'a str,
        }
        let PasswordLogin { client_id, username } = login;
        out.write_all(&json_line(&PasswordLine { client_id, username, password: password.expose() }))?;
    }
    out.flush()
}

/// Writes the password of each line's login. Flushes when no further line is buffered, so that each is answered at once.
///
/// # Errors
/// Input that cannot be read, or output that cannot be written.
pub fn write_many(input: impl io::Read, out: impl Write, bare: bool, console: Console) -> io::Result<Exit> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut out = NoFlush(io::BufWriter::with_capacity(64 * 1024, out));
    let (mut line, mut number, mut exit) = (Vec::new(), 0, Exit::SUCCESS);
    let mut failures = Failures::new(console);
    loop {
        if input.buffer().is_empty() {
            out.0.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            failures.finish();
            return Ok(exit);
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_login(&line) {
            Ok(login) => write_one(&mut out, &login, bare)?,
            Err((field, message)) => {
                exit = exit.or(Exit::USAGE);
                if bare {
                    console.error(&format!("line {number}: {message}"));
                } else {
                    failures.print(|| at_line(Some(number), &message));
                    let invalid =
                        InvalidLoginLine { line: number, ok: false, error: "invalid", field, message };
                    out.write_all(&json_line(&invalid))?;
                }
            }
        }
    }
}

/// Ignores `flush`, because the loop over the lines decides when to flush.
struct NoFlush<W: Write>(W);

impl<W: Write> Write for NoFlush<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a login from its line; an error has the field and the message.
fn read_login(line: &[u8]) -> Result<PasswordLogin, (Option<&'static str>, String)> {
    // `cat` leaves a byte order mark in front of each joined file.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let value: Value = serde_json::from_slice(line)
        .map_err(|why| (None, format!("the line is not JSON, at column {}", why.column())))?;
    let Value::Object(fields) = &value else { return Err((None, "the line must be a JSON object".into())) };
    let text = |name: &'static str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => {
            Err((Some(name), format!("{name} must not be empty")))
        }
        Some(Value::String(text)) => match check_login_name(text) {
            Ok(()) => Ok(Some(text.clone())),
            Err(why) => Err((Some(name), format!("{name}: {why}"))),
        },
        Some(_) => Err((Some(name), format!("{name} must be a string"))),
    };
    let gateway_id = text("gateway_id")?
        .map(GatewayId::new)
        .transpose()
        .map_err(|why| (Some("gateway_id"), why.to_string()))?
        .map(|id| id.as_str().to_owned());
    let missing = |name: &'static str| move || (Some(name), format!("{name} is missing"));
    Ok(PasswordLogin {
        client_id: text("client_id")?.or(gateway_id).ok_or_else(missing("client_id"))?,
        username: text("username")?.ok_or_else(missing("username"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(input: &str, bare: bool) -> (String, Exit) {
        let mut out = Vec::new();
        let exit = write_many(input.as_bytes(), &mut out, bare, Console::new(true)).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }

    #[test]
    fn a_bad_line_is_named_and_stops_no_other() {
        let (out, exit) = many(
            "\u{feff}{\"client_id\":\"gw001\",\"username\":\"acme\"}\n\n{\"gateway_id\":\"gw001\"}\n[]\n\
             {\"client_id\":7,\"username\":\"acme\"}\n{\"gateway_id\":\"a/b\",\"username\":\"acme\"}\nx\n\
             {\"gateway_id\":\"gw001\",\"username\":\"acme\"}",
            false,
        );
        assert_eq!(exit, Exit::USAGE);
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let good = "{\"client_id\":\"gw001\",\"username\":\"acme\",\"password\":\"53c9ff16b29370c9741eefcf052955cb\"}";
        assert_eq!((out.lines().next(), out.lines().last()), (Some(good), Some(good)));
        let found: Vec<_> = lines[1..lines.len() - 1]
            .iter()
            .map(|line| {
                assert_eq!((&line["ok"], &line["error"]), (&Value::Bool(false), &Value::from("invalid")));
                (line["line"].as_u64().unwrap(), line["field"].as_str())
            })
            .collect();
        assert_eq!(
            found,
            [(3, Some("username")), (4, None), (5, Some("client_id")), (6, Some("gateway_id")), (7, None)]
        );
    }

    #[test]
    fn what_cannot_be_seen_in_a_login_is_refused_by_its_field() {
        for (line, field) in [
            (r#"{"client_id":"gw\r","username":"acme"}"#, "client_id"),
            (r#"{"client_id":"gw","username":"acme\r"}"#, "username"),
            (r#"{"gateway_id":" gw","username":"acme"}"#, "gateway_id"),
            (r#"{"client_id":"gw","username":"acme "}"#, "username"),
        ] {
            let (out, exit) = many(line, false);
            let found: Value = serde_json::from_str(&out).unwrap();
            assert_eq!((found["field"].as_str(), exit), (Some(field), Exit::USAGE), "{line}");
        }
        // The line's own end may be that of Windows.
        let (out, exit) = many("{\"client_id\":\"gw001\",\"username\":\"acme\"}\r\n", true);
        assert_eq!((out.as_str(), exit), ("53c9ff16b29370c9741eefcf052955cb\n", Exit::SUCCESS));
    }

    #[test]
    fn bare_output_is_the_passwords_alone() {
        let (out, exit) = many("{\"client_id\":\"gw001\",\"username\":\"acme\"}\nx\n", true);
        assert_eq!((out.as_str(), exit), ("53c9ff16b29370c9741eefcf052955cb\n", Exit::USAGE));
    }
}
