//! The options that select messages of a recording.

use std::time::Duration;

use crate::{
    error::Failure,
    mqtt::Direction,
    run::replay::reader::{Bound, Selection},
};

/// Which messages are sent.
#[derive(Debug, clap::Args)]
pub struct SelectionArgs {
    /// Begin at a time (2026-11-22T07:22:00Z) or an offset (10m)
    #[arg(long, value_name = "TIME|OFFSET")]
    from: Option<Bound>,

    /// End before a time or an offset
    #[arg(long, value_name = "TIME|OFFSET")]
    to: Option<Bound>,

    /// Send only messages of this kind; repeatable or with commas
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,

    /// Send only messages of this device; repeatable or with commas
    #[arg(long, value_name = "CID", value_delimiter = ',')]
    cid: Vec<String>,

    /// Send only messages whose topic matches; repeatable
    #[arg(long, value_name = "FILTER")]
    topic: Vec<String>,
}

impl SelectionArgs {
    /// Returns the selection; answers count for this long after its end.
    ///
    /// # Errors
    /// A topic filter that is not valid, or a kind that does not exist.
    pub fn selection(self, direction: Direction, aftermath: Duration) -> Result<Selection, Failure> {
        let Self { from, to, kind, cid, topic } = self;
        let selection = Selection { direction, kinds: kind, cids: cid, topics: topic, from, to, aftermath };
        selection.check()?;
        Ok(selection)
    }
}
