//! `password`: derives the MQTT password, for one login or for many.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use super::connection::Origin;
use crate::{
    error::{Exit, Failure},
    io::{batch_writer::end_torn_line, console::Console, input::unwrapped, stdin::stdin},
    run::passwords::{PasswordLogin, write_many, write_one},
    tuya::GatewayId,
};

/// Arguments of `password`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The password is the MD5 of the client id followed by the username, in lower-case hexadecimal digits. Without options and \
their environment variables, logins are read as JSON Lines from FILE or stdin: {\"client_id\":…,\"username\":…} or \
{\"gateway_id\":…,\"username\":…} each. An invalid line is reported by its number; the others are answered.

EXAMPLES
  tuyagw password -g gw001 -u acme
  tuyagw password -g gw001 -u acme --raw > password.txt
  tuyagw password logins.jsonl")]
pub struct Args {
    /// Logins as JSON Lines, in place of options and environment; - is stdin
    file: Option<PathBuf>,

    /// The gateway's id
    #[arg(short, long, value_name = "ID", env = "TUYAGW_GATEWAY_ID", hide_env_values = true)]
    gateway_id: Option<String>,

    /// The MQTT client id [default: the gateway id]
    #[arg(long, value_name = "ID", env = "TUYAGW_CLIENT_ID", hide_env_values = true)]
    client_id: Option<String>,

    /// The username, which Tuya gives to each manufacturer
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
                    .hint("Give --gateway-id and --username, or logins as JSON Lines on stdin")
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

/// Returns the login that the options give; `None` if there are none.
fn login(
    gateway_id: Option<String>,
    client_id: Option<String>,
    username: Option<String>,
) -> Result<Option<PasswordLogin>, Failure> {
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
            .hint("Give --gateway-id ID, or set TUYAGW_GATEWAY_ID")),
        (Some(_), None) => {
            Err(Failure::invalid("the username is missing")
                .hint("Give --username NAME, or set TUYAGW_USERNAME"))
        }
        (Some(client_id), Some(username)) => {
            for (option, text) in [("--client-id", &client_id), ("--username", &username)] {
                if text.is_empty() {
                    return Err(Failure::invalid(format!("{option} must not be empty")));
                }
            }
            Ok(Some(PasswordLogin { client_id, username }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_give_a_whole_login_or_none() {
        let text = |text: &str| Some(text.to_owned());
        let whole = |id: &str| PasswordLogin { client_id: id.into(), username: "acme".into() };
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
        let failure = login(text("gw"), None, text("acme\r")).unwrap_err();
        assert!(failure.message.contains("--username") && failure.message.contains(r"'\r'"), "{failure}");
    }
}
