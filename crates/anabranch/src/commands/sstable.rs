//! `sstable`: what Cassandra's files hold, without Cassandra.

use std::io::Write;

use anabranch_runtime::Clock;
use anabranch_sstable::dump::{self, Lines, Options};
use anabranch_sstable::{SstableError, select, stat};

use super::Session;
use crate::cli::{Sstable, SstableLines};
use crate::exit::Failure;
use crate::output;

pub(super) fn run(session: &Session, sstable: Sstable) -> Result<(), Failure> {
    let mut out = output::stdout();
    let now = session.clock.unix_micros().div_euclid(1_000_000);
    let written = match sstable {
        Sstable::Dump {
            path,
            lines,
            raw_times,
        } => {
            let lines = match lines {
                SstableLines::Partitions => Lines::Partitions,
                SstableLines::Rows => Lines::Rows,
            };
            let options = Options {
                lines,
                raw_times,
                now: Some(now),
            };
            dump::run(&path, options, &mut out)
        }
        Sstable::Select { path } => select::run(&path, now, &mut out),
        Sstable::Stat { path } => stat::run(&path, &mut out),
    };
    // What was read before the damage is still worth seeing.
    let flushed = out.flush().map_err(|source| SstableError::Output { source });
    written.and(flushed).map_err(failure)
}

fn failure(error: SstableError) -> Failure {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match error {
        SstableError::Output { source } => source.into(),
        SstableError::NotATable { .. } | SstableError::Schema { .. } | SstableError::Unsupported { .. } => {
            Failure::usage(text)
        }
        _ => Failure::internal(text),
    }
}
