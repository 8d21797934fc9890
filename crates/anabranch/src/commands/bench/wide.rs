//! `bench wide`: what splitting wide partitions is worth on a Cassandra. See `anabranch_loadtest::wide`.

use std::path::PathBuf;

use anabranch_loadtest::wide::{Format, Options, Regime, Source, run as measure};
use clap::Args;

use super::{failed, print};
use crate::commands::Session;
use crate::exit::Failure;
use crate::output::say;

/// Flags of `bench wide`.
#[derive(Args, Debug)]
pub(super) struct WideArgs {
    /// Sizes of the partitions, in millions of bytes
    #[arg(
        long,
        value_name = "MB,…",
        value_delimiter = ',',
        default_value = "10,100,500"
    )]
    mb: Vec<u64>,
    /// Formats of SSTables: big, bti
    #[arg(
        long,
        value_name = "FORMAT,…",
        value_delimiter = ',',
        default_value = "big,bti"
    )]
    formats: Vec<Format>,
    /// What is measured: compacted, scattered, cloud, walk, walk-delayed, first, direct, foreground [default: all]
    #[arg(long, value_name = "REGIME,…", value_delimiter = ',')]
    regimes: Vec<Regime>,
    /// How many read at once
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,16")]
    readers: Vec<usize>,
    /// Length of one turn
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,
    /// How often each side has its turn
    #[arg(long, value_name = "N", default_value_t = 2)]
    rounds: usize,
    /// SSTables that a scattered partition lies in
    #[arg(long, value_name = "N", default_value_t = 40)]
    flushes: u64,
    /// Delay of walk-delayed on each call of the store, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    delay: u64,
    /// The program that starts a node: that of the source tree
    #[arg(long, value_name = "FILE", default_value = "dev/cluster")]
    cluster: PathBuf,
    /// Nodes that are there already, instead: HOST:PORT, several with commas between. In the format that they have. What
    /// stays on them is said at the end
    #[arg(long, value_name = "NODES", conflicts_with = "cluster", requires = "kafka")]
    contact_points: Option<String>,
    /// Brokers of a Kafka beside them, for the detections
    #[arg(long, value_name = "BROKERS", requires = "contact_points")]
    kafka: Option<String>,
    /// Their nodetool, with its arguments; without, there is only what needs no flush and no compaction
    #[arg(long, value_name = "COMMAND", requires = "contact_points")]
    nodetool: Option<String>,
    /// Copies of the keyspaces that are made there
    #[arg(long, value_name = "N", requires = "contact_points", default_value_t = 1)]
    replication_factor: u32,
    /// Folder for everything that is written, on the disk to measure [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write everything that was found to a file, as one JSON document
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(session: &Session, args: WideArgs) -> Result<(), Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format_args!("this program has no path: {error}")))?;
    let named = args.contact_points.is_some();
    let source = match args.contact_points.zip(args.kafka) {
        Some((contact_points, kafka)) => Source::Named {
            contact_points,
            kafka,
            nodetool: args.nodetool,
            replication_factor: args.replication_factor,
        },
        None => Source::Started {
            program: args.cluster,
        },
    };
    let mut options = Options {
        megabytes: args.mb,
        formats: args.formats,
        regimes: args.regimes,
        readers: args.readers,
        seconds: args.seconds,
        rounds: args.rounds,
        flushes: args.flushes,
        delay_millis: args.delay,
        seed: 7,
        source,
        folder: args.folder.unwrap_or_else(std::env::temp_dir),
        program,
    };
    if options.regimes.is_empty() {
        options.regimes = Regime::ALL.to_vec();
    }
    if named {
        options.formats = vec![Format::Theirs];
    }
    options
        .check()
        .map_err(|error| Failure::usage(format_args!("{error:#}")))?;
    let report = measure(options, &say).await.map_err(failed)?;
    let document = serde_json::to_string_pretty(&report).map_err(|error| failed(error.into()))?;
    print(session, args.json.as_deref(), &document, &report.table())?;
    match report.failed() {
        None => Ok(()),
        Some(why) => Err(Failure::internal(why)),
    }
}
