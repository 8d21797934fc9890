//! Flags of the commands that write, read, search and compute.

use std::path::PathBuf;

use clap::Args;

/// Flags of `write`.
#[derive(Args, Debug)]
pub(crate) struct Write {
    /// The namespace
    pub(crate) namespace: String,
    /// Where the events are; `-` is stdin. gzip and zstd are told by their first bytes
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// One request a batch, acked when durable, instead of a stream of batches
    #[arg(long, conflicts_with = "queued")]
    pub(crate) sync: bool,
    /// Queue events and do not wait until they are durable; a crash may lose them
    #[arg(long)]
    pub(crate) queued: bool,
    /// What to do about an event that can not be written
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub(crate) on_error: OnError,
    /// Events a batch
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Batches under way at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) in_flight: u32,
    /// Start at this line
    #[arg(long, value_name = "LINE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "checkpoint")]
    pub(crate) from_line: u64,
    /// Keep in FILE how far the input is written, and go on from there
    #[arg(long, value_name = "FILE", conflicts_with = "queued")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// How long to try again when the server, once it has answered, can not be reached any more
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = crate::units::parse_duration)]
    pub(crate) retry_for: std::time::Duration,
}

/// What to do about an event that can not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnError {
    /// Write everything before it, and stop.
    Stop,
    /// Name it and go on.
    Skip,
}

/// A range of time, as flags.
#[derive(Args, Debug)]
pub(crate) struct Interval {
    /// First time; -7d is a week ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// First time after the range
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
}

/// How an answer is paged.
#[derive(Args, Debug)]
pub(crate) struct Paging {
    /// Events a page [default: what the server has]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub(crate) page_size: i32,
    /// Go on where a page ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub(crate) page_token: String,
    /// Every page, not only the first
    #[arg(long)]
    pub(crate) all: bool,
    /// How long a page may take before it is cut short [default: what the namespace has]
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration)]
    pub(crate) latency_slo: Option<std::time::Duration>,
    /// Say on stderr what each page cost
    #[arg(long)]
    pub(crate) explain: bool,
    /// Events over all pages, at most; 0 is no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub(crate) limit: i64,
    /// Oldest first
    #[arg(long)]
    pub(crate) ascending: bool,
}

/// Flags of `read`.
#[derive(Args, Debug)]
pub(crate) struct Read {
    /// The namespace
    pub(crate) namespace: String,
    /// The time series
    #[arg(long)]
    pub(crate) id: String,
    /// When.
    #[command(flatten)]
    pub(crate) interval: Interval,
    /// How.
    #[command(flatten)]
    pub(crate) paging: Paging,
    /// Only events with this item, or with this value of it; may be given several times
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) filter: Vec<String>,
}

/// Flags of `search`.
#[derive(Args, Debug)]
#[command(after_long_help = QUERY_HELP)]
pub(crate) struct Search {
    /// The namespace
    pub(crate) namespace: String,
    /// What to find: author = "x" AND added > 10 [default: everything]
    #[arg(short, long)]
    pub(crate) query: Option<String>,
    /// When.
    #[command(flatten)]
    pub(crate) interval: Interval,
    /// How.
    #[command(flatten)]
    pub(crate) paging: Paging,
}

/// The query language, for `--help`.
pub(super) const QUERY_HELP: &str = "\
Queries
  author = \"x\"            an item equals a value; != finds the events that have it not
  added > 10              also < <= >=; both ends: added >= 10 < 20
  path ^= \"core/\"         an item starts with a value
  kind IN (play, stop)    an item is one of several
  exists(path)            there is an item of this key
  id = \"profile:42\"       the time series; also id IN (\"a\", \"b\"), which reads just those
  a AND (b OR NOT c)      combined
Values are bare, in \"\" or '', or base64(\"…\"). They compare by the namespace's field_mapping. A query that starts with {
is a SearchQuery in proto3 JSON.";

/// Flags of `aggregate`.
#[derive(Args, Debug)]
#[command(after_long_help = QUERY_HELP)]
pub(crate) struct Aggregate {
    /// The namespace
    pub(crate) namespace: String,
    /// What to compute.
    #[command(flatten)]
    pub(crate) what: What,
    /// One row for each stretch of this time
    #[arg(long, value_name = "WIDTH", conflicts_with = "by_item", value_parser = crate::units::parse_duration)]
    pub(crate) by_time: Option<std::time::Duration>,
    /// One row for each value of this item
    #[arg(long, value_name = "KEY")]
    pub(crate) by_item: Option<String>,
    /// Which events [default: all]
    #[arg(short, long)]
    pub(crate) query: Option<String>,
    /// When.
    #[command(flatten)]
    pub(crate) interval: Interval,
    /// How long one part of the scan may take before the next one starts
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration)]
    pub(crate) latency_slo: Option<std::time::Duration>,
    /// Stop after the first part of a scan that takes long
    #[arg(long)]
    pub(crate) one_part: bool,
    /// Say on stderr what each part cost
    #[arg(long)]
    pub(crate) explain: bool,
}

/// What to compute: exactly one.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// How many events; with a key, how many that have this item
    #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "")]
    pub(crate) count: Option<String>,
    /// The different values of an item
    #[arg(long, value_name = "KEY")]
    pub(crate) distinct: Option<String>,
    /// The smallest value
    #[arg(long, value_name = "KEY")]
    pub(crate) min: Option<String>,
    /// The largest value
    #[arg(long, value_name = "KEY")]
    pub(crate) max: Option<String>,
    /// The sum of INTEGER or DOUBLE values
    #[arg(long, value_name = "KEY")]
    pub(crate) sum: Option<String>,
    /// The mean of INTEGER or DOUBLE values
    #[arg(long, value_name = "KEY")]
    pub(crate) avg: Option<String>,
}
