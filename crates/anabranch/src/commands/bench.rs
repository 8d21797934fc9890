//! `bench`: a server of this program under load, beside the floors of this machine. See `anabranch_loadtest`.

use std::path::PathBuf;

use anabranch_loadtest::{Options, null, run as measure, run_split};
use clap::Args;

use crate::exit::Failure;
use crate::output::{Format, print_line, say};

use super::Session;

/// Flags of `bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
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

pub(super) async fn run(session: &Session, bench: Bench) -> Result<(), Failure> {
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
    if let Some(file) = &bench.json {
        std::fs::write(file, &document)
            .map_err(|error| Failure::internal(format_args!("can not write {}: {error}", file.display())))?;
    }
    match session.format {
        // The table is what a person keeps of a run, also in a file; programs have `--json` and `-o json`.
        Format::Json => print_line(&document),
        _ => print_line(table.trim_end()),
    }
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::internal(format_args!("{error:#}"))
}
