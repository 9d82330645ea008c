//! `password`: derives the MQTT password, for one login or for many.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::connection::Origin,
    error::{Exit, Failure},
    io::{batch_writer::end_torn_line, console::Console, input::unwrapped, stdin::stdin},
    json::json_line,
    run::failures::{Failures, at_line},
    tuya::{GatewayId, Secret, check_login_name, derive_password},
};

/// Arguments of `password`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The password is the MD5 of client id and username joined, in lower-case hexadecimal digits. Logins are read as \
JSON Lines from FILE, or from stdin without options and their environment variables: \
{\"client_id\":…,\"username\":…} or {\"gateway_id\":…,\"username\":…} each; a line that is none is reported by its number \
and stops no other.

EXAMPLES
  tuyagw password -g gw001 -u acme
  tuyagw password -g gw001 -u acme --raw > password.txt
  tuyagw password logins.jsonl")]
pub struct Args {
    /// Logins as JSON Lines, whatever options and environment say; - is stdin
    file: Option<PathBuf>,

    /// The gateway's id
    #[arg(short, long, value_name = "ID", env = "TUYAGW_GATEWAY_ID", hide_env_values = true)]
    gateway_id: Option<String>,

    /// The MQTT client id [default: the gateway id]
    #[arg(long, value_name = "ID", env = "TUYAGW_CLIENT_ID", hide_env_values = true)]
    client_id: Option<String>,

    /// The username, which Tuya provides
    #[arg(short, long, value_name = "NAME", env = "TUYAGW_USERNAME", hide_env_values = true)]
    username: Option<String>,

    /// Print the password alone, as on a terminal
    #[arg(long)]
    raw: bool,
}

/// Runs `password`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let bare = args.raw || io::stdout().is_terminal();
    let mut stdout = io::stdout().lock();
    end_torn_line(&mut stdout).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    let written = match &args.file {
        Some(path) if path != Path::new("-") => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|why| Failure::io(format!("cannot read {name}: {why}")))?;
            write_many(unwrapped(file, &name)?, stdout, bare, console)
        }
        Some(_) => write_many(unwrapped(stdin(), "stdin")?, stdout, bare, console),
        None => match login(args.gateway_id, args.client_id, args.username)? {
            Some(login) => write_one(stdout, &login, bare).map(|()| Exit::SUCCESS),
            None if io::stdin().is_terminal() => {
                return Err(Failure::invalid("no login given")
                    .hint("Give --gateway-id and --username, or logins as JSON Lines on stdin.")
                    .into());
            }
            None => write_many(unwrapped(stdin(), "stdin")?, stdout, bare, console),
        },
    };
    match written {
        // The reader wanted no more.
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        Err(why) => Err(Failure::io(format!("cannot read the logins or write stdout: {why}")).into()),
        Ok(exit) => Ok(exit),
    }
}

/// Who logs in.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    client_id: String,
    username: String,
}

/// A line that is no login, as it is reported.
#[derive(Debug, Serialize)]
struct Invalid {
    line: u64,
    ok: bool,
    error: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: String,
}

/// The login of the options; none where there are none.
fn login(
    gateway_id: Option<String>,
    client_id: Option<String>,
    username: Option<String>,
) -> Result<Option<Login>, Failure> {
    let names = [
        ("--gateway-id", "TUYAGW_GATEWAY_ID", &gateway_id),
        ("--client-id", "TUYAGW_CLIENT_ID", &client_id),
        ("--username", "TUYAGW_USERNAME", &username),
    ];
    for (option, variable, text) in names {
        if let Some(text) = text {
            Origin::of(option, variable, text.as_ref()).check_name(text)?;
        }
    }
    let gateway_id = gateway_id
        .map(GatewayId::new)
        .transpose()
        .map_err(|why| Failure::invalid(format!("--gateway-id: {why}")))?;
    match (client_id.or_else(|| gateway_id.map(|id| id.as_str().to_owned())), username) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::invalid("the gateway's id is missing")
            .hint("Give --gateway-id ID, or set TUYAGW_GATEWAY_ID.")),
        (Some(_), None) => {
            Err(Failure::invalid("the username is missing")
                .hint("Give --username NAME, or set TUYAGW_USERNAME."))
        }
        (Some(client_id), Some(username)) => {
            for (option, text) in [("--client-id", &client_id), ("--username", &username)] {
                if text.is_empty() {
                    return Err(Failure::invalid(format!("{option} must not be empty")));
                }
            }
            Ok(Some(Login { client_id, username }))
        }
    }
}

fn write_one(mut out: impl Write, login: &Login, bare: bool) -> io::Result<()> {
    let password: Secret = derive_password(&login.client_id, &login.username);
    if bare {
        writeln!(out, "{}", password.expose())?;
    } else {
        #[derive(Serialize)]
        struct Line<'a> {
            client_id: &'a str,
            username: &'a str,
            password: &'a str,
        }
        let Login { client_id, username } = login;
        out.write_all(&json_line(&Line { client_id, username, password: password.expose() }))?;
    }
    out.flush()
}

/// Answers every line as soon as no further one is waiting.
fn write_many(input: impl io::Read, out: impl Write, bare: bool, console: Console) -> io::Result<Exit> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut out = Hold(io::BufWriter::with_capacity(64 * 1024, out));
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
        match read(&line) {
            Ok(login) => write_one(&mut out, &login, bare)?,
            Err((field, message)) => {
                exit = exit.or(Exit::USAGE);
                if bare {
                    console.error(&format!("line {number}: {message}"));
                } else {
                    failures.tell(|| at_line(Some(number), &message));
                    let invalid = Invalid { line: number, ok: false, error: "invalid", field, message };
                    out.write_all(&json_line(&invalid))?;
                }
            }
        }
    }
}

/// Leaves flushing to the loop over the lines.
struct Hold<W: Write>(W);

impl<W: Write> Write for Hold<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A login from its line, or the field at fault and what is wrong.
fn read(line: &[u8]) -> Result<Login, (Option<&'static str>, String)> {
    // A byte order mark is in front of each file where several were joined.
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
    Ok(Login {
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
        let text = |text: &str| Some(text.to_owned());
        let failure = login(text("gw"), None, text("acme\r")).unwrap_err();
        assert!(failure.message.contains("--username") && failure.message.contains(r"'\r'"), "{failure}");
    }

    #[test]
    fn bare_output_is_the_passwords_alone() {
        let (out, exit) = many("{\"client_id\":\"gw001\",\"username\":\"acme\"}\nx\n", true);
        assert_eq!((out.as_str(), exit), ("53c9ff16b29370c9741eefcf052955cb\n", Exit::USAGE));
    }

    #[test]
    fn options_give_a_whole_login_or_none() {
        let text = |text: &str| Some(text.to_owned());
        let whole = |id: &str| Login { client_id: id.into(), username: "acme".into() };
        assert_eq!(login(None, None, None).unwrap(), None);
        assert_eq!(login(text("gw"), None, text("acme")).unwrap(), Some(whole("gw")));
        assert_eq!(login(text("gw"), text("other/1"), text("acme")).unwrap(), Some(whole("other/1")));
        for (gateway, client, user) in [
            (text("gw"), None, None),
            (None, None, text("acme")),
            (text("a/b"), None, text("acme")),
            (None, text(""), text("acme")),
            (text("gw"), None, text("")),
        ] {
            assert!(login(gateway, client, user).is_err());
        }
    }
}
