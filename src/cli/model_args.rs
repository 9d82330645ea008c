//! The options that decide how values are checked and encoded.

use std::path::PathBuf;

use crate::{error::Failure, request::RequestParser, run::product_model, tuya::product::ValueEncoding};

/// How values are checked and encoded.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Product model")]
pub struct ModelArgs {
    /// Product model to check values against [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Do not check values for type, range, enumeration and access
    #[arg(long)]
    no_check: bool,

    /// Encode values as native JSON, or all of them as strings
    #[arg(long, value_name = "HOW", default_value = "native", hide_short_help = true)]
    value_encoding: Encoding,
}

/// Encodings of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Encoding {
    /// true, 12345, "opened"
    Native,
    /// "true", "12345", "opened"
    String,
}

impl ModelArgs {
    /// Loads the model, and returns a parser that checks against it.
    ///
    /// # Errors
    /// A model file that cannot be read.
    pub fn parser(&self) -> Result<RequestParser, Failure> {
        let encoding = match self.value_encoding {
            Encoding::Native => ValueEncoding::Native,
            Encoding::String => ValueEncoding::String,
        };
        Ok(RequestParser {
            product: product_model::load(self.model.as_deref())?,
            check: !self.no_check,
            encoding,
        })
    }
}
