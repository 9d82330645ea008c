//! The arguments that `report` and `command` share: values of data points, or a file of inputs, and how they are sent.

use std::{ffi::OsString, path::Path};

use super::{connection::NetworkArgs, model_args::ModelArgs, request_args::RequestArgs};
use crate::{
    error::{Exit, Failure},
    io::{console::Console, input::InputSource},
    request::{RequestKind, RequestParser, input_from_text},
    run::{batch, connection_settings::ConnectionSettings},
};

/// What to send, and how.
#[derive(Debug, clap::Args)]
pub struct ValueArgs {
    /// CODE=VALUE or ID=VALUE of the device --cid; or a FILE of JSON Lines, - for stdin
    #[arg(value_name = "CODE=VALUE|FILE")]
    values: Vec<OsString>,

    /// The device
    #[arg(long)]
    cid: Option<String>,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
}

impl ValueArgs {
    /// Sends the values over a connection, and waits for each answer.
    ///
    /// # Errors
    /// Arguments that contradict each other, or a file that cannot be read.
    pub fn run(
        self,
        kind: RequestKind,
        connection: ConnectionSettings,
        console: Console,
    ) -> anyhow::Result<Exit> {
        let parser = self.model.parser()?;
        let source = self.source(&parser, console)?;
        batch::run(parser, kind, source, connection, self.requests.options(), console)
    }

    /// Returns the inputs: `CODE=VALUE` arguments, or a file, or stdin. Warns of arguments that are probably mistakes.
    fn source(&self, parser: &RequestParser, console: Console) -> Result<InputSource, Failure> {
        let (mut values, mut files) = (Vec::new(), Vec::new());
        for arg in &self.values {
            // A name that is not UTF-8 can only be a file's.
            match arg.to_str() {
                Some(text) if text.contains('=') => values.push(text),
                _ => files.push(arg),
            }
        }
        let format = self.requests.format();
        match (self.cid.as_deref(), values.is_empty(), files.as_slice()) {
            (Some(cid), false, []) => {
                values.iter().filter_map(|value| parser.suspicious(value)).for_each(|why| console.warn(&why));
                let inputs = values.into_iter().map(|value| input_from_text(cid, value));
                Ok(InputSource::Flags(inputs.collect()))
            }
            (None, true, []) => InputSource::open(None, format),
            (None, true, [file]) => InputSource::open(Some(Path::new(file)), format),
            (None, true, _) => {
                Err(Failure::invalid("expected one FILE; got several").hint("`cat` joins several"))
            }
            (None, false, _) => Err(Failure::invalid("CODE=VALUE needs a device").hint("Give --cid CID")),
            (Some(_), true, []) => Err(Failure::invalid("--cid needs a value").hint("Give CODE=VALUE")),
            (Some(_), _, _) => Err(Failure::invalid("expected --cid with CODE=VALUE, or a FILE; got both")
                .hint("An argument with = in it is CODE=VALUE; give a file with such a name on stdin")),
        }
    }
}
