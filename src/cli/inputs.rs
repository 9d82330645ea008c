//! Where the inputs of `report` and `command` come from.

use std::{ffi::OsString, path::Path};

use crate::{
    error::Failure,
    io::{console::Console, input::InputSource},
    request::{
        input::InputFormat,
        parser::{RequestParser, input_from_text},
    },
};

/// Where the inputs of `report` and `command` come from: `CODE=VALUE` arguments, or a file, or stdin. Of arguments
/// that fit, though they are probably not meant, the console is told.
///
/// # Errors
/// Values without a device, a device without values, both values and a file, or a file that cannot be read.
pub fn source(
    parser: &RequestParser,
    cid: Option<&str>,
    args: &[OsString],
    format: Option<InputFormat>,
    console: Console,
) -> Result<InputSource, Failure> {
    let (mut values, mut files) = (Vec::new(), Vec::new());
    for arg in args {
        // A name that is not UTF-8 can only be a file's.
        match arg.to_str() {
            Some(text) if text.contains('=') => values.push(text),
            _ => files.push(arg),
        }
    }
    match (cid, values.is_empty(), files.as_slice()) {
        (Some(cid), false, []) => {
            values.iter().filter_map(|value| parser.suspicious(value)).for_each(|why| console.warn(&why));
            let inputs = values.into_iter().map(|value| input_from_text(cid, value));
            Ok(InputSource::Flags(inputs.collect()))
        }
        (None, true, []) => InputSource::open(None, format),
        (None, true, [file]) => InputSource::open(Some(Path::new(file)), format),
        (None, true, _) => Err(Failure::invalid("give one FILE; `cat` joins several")),
        (None, false, _) => Err(Failure::invalid("CODE=VALUE needs the device: --cid CID")),
        (Some(_), true, []) => Err(Failure::invalid("--cid needs what to send: CODE=VALUE")),
        (Some(_), _, _) => Err(Failure::invalid("give --cid with CODE=VALUE, or a FILE, not both")
            .hint("An argument with = in it is CODE=VALUE; give a file of such a name on stdin")),
    }
}
