//! The options that say what values mean.

use std::path::PathBuf;

use crate::{
    error::Failure, request::parser::RequestParser, run::product_model, tuya::product::ValueEncoding,
};

/// The options that say what values mean.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Product model")]
pub struct ModelArgs {
    /// The product model to check values against [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Check no values: neither type nor range, enumeration or access
    #[arg(long)]
    no_check: bool,

    /// Send values as native JSON, or all of them as strings
    #[arg(long, value_name = "HOW", default_value = "native")]
    value_encoding: Encoding,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Encoding {
    /// true, 12345, "opened"
    Native,
    /// "true", "12345", "opened"
    String,
}

impl ModelArgs {
    /// Loads the model.
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
