//! `bench`: a server of this program under load, beside the floors of this machine. See `anabranch_loadtest`.

#[cfg(feature = "cluster")]
mod wide;

use std::path::{Path, PathBuf};

use anabranch_loadtest::{Options, null, run as measure, run_split};
use clap::Args;
#[cfg(feature = "cluster")]
use clap::Subcommand;

use crate::exit::Failure;
use crate::output::{Format, print_line, say};

use super::Session;

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    /// Something else to measure.
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    other: Option<Other>,
    /// Length of each measured window; the write tail takes six of them
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,
    /// How often the windows take turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Size of the wide id, in millions of bytes
    #[arg(long, value_name = "MB", default_value_t = 100)]
    wide_mb: u64,
    /// Folder for the data, on the disk to measure [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write everything that was found to a file, as one JSON document
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure how long the wide id takes to be split, and what that does to others, and nothing else
    #[arg(long)]
    split: bool,
    /// Be the null service of a run
    #[arg(long, hide = true)]
    floor: bool,
}

/// What else there is to measure.
#[cfg(feature = "cluster")]
#[derive(Debug, Subcommand)]
enum Other {
    /// Measure what splitting wide partitions is worth on a Cassandra, before and after
    ///
    /// Starts a node for each format of SSTables by `dev/cluster`, a fleet of this program on it, writes partitions of the
    /// sizes asked for, has them split, and reads pages from the originals and from what they were split into, in turns.
    /// Every byte of every page is checked. Prints tables in Markdown. All of it takes about 40 minutes.
    Wide(Box<wide::WideArgs>),
}

pub(super) async fn run(session: &Session, bench: Bench) -> Result<(), Failure> {
    #[cfg(feature = "cluster")]
    if let Some(Other::Wide(args)) = bench.other {
        return wide::run(session, *args).await;
    }
    if bench.floor {
        let say_where =
            |line: String| print_line(&line).map_err(|failure| std::io::Error::other(failure.text));
        return null::serve(say_where).await.map_err(failed);
    }
    let mut options = Options::of_this_program(&["bench", "--floor"]).map_err(failed)?;
    options.seconds = bench.seconds;
    options.rounds = bench.rounds;
    options.wide_mb = bench.wide_mb;
    if let Some(folder) = bench.folder {
        options.folder = folder;
    }
    options
        .check()
        .map_err(|error| Failure::usage(format_args!("{error:#}")))?;
    let (document, table) = if bench.split {
        let report = run_split(options, &say).await.map_err(failed)?;
        (serde_json::to_string_pretty(&report), report.table())
    } else {
        let report = measure(options, &say).await.map_err(failed)?;
        (serde_json::to_string_pretty(&report), report.table())
    };
    let document = document.map_err(|error| failed(error.into()))?;
    print(session, bench.json.as_deref(), &document, &table)
}

fn print(session: &Session, file: Option<&Path>, document: &str, table: &str) -> Result<(), Failure> {
    if let Some(file) = file {
        std::fs::write(file, document)
            .map_err(|error| Failure::internal(format_args!("can not write {}: {error}", file.display())))?;
    }
    match session.format {
        // The table is what a person keeps of a run, also in a file; programs have `--json` and `-o json`.
        Format::Json => print_line(document),
        _ => print_line(table.trim_end()),
    }
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::internal(format_args!("{error:#}"))
}
