//! The command line: every command and flag.
//!
//! What a flag is worth when it is not given is settled elsewhere: for `serve` and `demo` by the settings,
//! for everything else by the server.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::DEFAULT_SERVER;
use crate::commands::Bench;
use crate::output::Format;

/// Commands by what they are for. A test holds this list against the commands there are.
const HELP: &str = "\
{about}

Usage: anabranch COMMAND [OPTIONS]

Run a server
  demo         A server on an embedded store with real-looking data: start here
  serve        A server
  status       How a server is doing
  config       Settings of a server: what they are, where they come from, whether they are right

Events
  write        Write events from NDJSON
  read         Page through the events of one id
  search       Find events by what is in them
  aggregate    Count, sum and compare events

Operate
  namespace    Create, list, show, change, delete, seal and block
  slices       Time slices of a namespace
  widths       How wide the partitions of a time slice are
  split        Wide partitions: list, show, watch, plan, retry, invalidate
  sstable      What Cassandra's files hold, without Cassandra
  bench        What a server does on this machine, beside what the machine can do

Look up
  errors       What an error means and what to do about it
  exit-codes   What a command's exit code means
  help         Help on a command

Options
{options}

Times are RFC 3339, a date, `now`, or relative to now: -7d. Durations are 15m or 0.5s, sizes 16MiB.";

/// An online store for time-series events.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, help_template = HELP, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The server to talk to
    #[arg(long, global = true, value_name = "URL", env = "ANABRANCH_SERVER", default_value = DEFAULT_SERVER, hide_env = true)]
    pub(crate) server: String,
    /// table, json, ndjson or csv [default: table on a terminal, ndjson in a pipe]
    #[arg(
        hide_possible_values = true,
        short,
        long,
        global = true,
        value_name = "FORM",
        env = "ANABRANCH_OUTPUT",
        hide_env = true
    )]
    pub(crate) output: Option<Format>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server on an embedded store and fill it with real-looking data
    ///
    /// The data is that of a streaming service: tens of thousands of ordinary ids, and three that are far too wide. It is
    /// made from a seed, loaded once, and kept: a second run finds it. Then pages are read and timed, and the server keeps
    /// serving until Ctrl-C.
    Demo(Demo),
    /// Start a server
    ///
    /// Prints `listening on http://HOST:PORT` once it takes requests, logs to stderr, and drains when it is told to stop.
    /// One port carries gRPC, gRPC-Web, JSON (POST /api/SERVICE/METHOD), /metrics and /healthz.
    Serve(Serve),
    /// Show how a server is doing
    Status,
    /// Show or check the settings of a server
    #[command(subcommand, arg_required_else_help = true)]
    Config(Config),
    /// Write events from NDJSON: one EventRecord in proto3 JSON a line, plain, gzip or zstd
    ///
    /// Values are base64, times RFC 3339, field names lowerCamelCase or snake_case. Writing is idempotent: running the same
    /// file again writes nothing twice, so after a stop it is safe to simply start again.
    Write(Write),
    /// Page through the events of one time series, newest first
    Read(Read),
    /// Find events by what is in them
    Search(Search),
    /// Compute over events: one row, or one for each stretch of time or value
    Aggregate(Aggregate),
    /// Create, list, show, change, delete, seal and block
    #[command(subcommand, visible_alias = "ns", arg_required_else_help = true)]
    Namespace(Namespace),
    /// List the time slices of a namespace
    Slices {
        /// The namespace
        namespace: String,
    },
    /// Measure the partitions of a time slice, and name the widest
    Widths {
        /// The namespace
        namespace: String,
        /// The time slice [default: the newest that has begun]
        #[arg(long, value_name = "SLICE")]
        slice: Option<String>,
    },
    /// List, show, watch, plan, retry and invalidate splits of wide partitions
    #[command(subcommand, arg_required_else_help = true)]
    Split(Split),
    /// Dump or describe SSTables: formats nb, oa and da, without Cassandra
    #[command(subcommand, arg_required_else_help = true)]
    Sstable(Sstable),
    /// Put a server of its own under load, and print what it did beside the floors of this machine
    ///
    /// Starts a server in a new folder, writes and reads for about two minutes, checks every page, and removes the folder.
    /// Each value stands beside its floor of the same run: the disk, the loopback, a service with nothing behind it, the
    /// engine alone. `--seconds 10 --rounds 5 --wide-mb 500` is a full run.
    Bench(Bench),
    /// Explain an error, or list all of them
    Errors {
        /// The reason, such as NAMESPACE_NOT_FOUND
        reason: Option<String>,
    },
    /// List what exit codes mean
    #[command(name = "exit-codes", before_long_help = exit_codes())]
    ExitCodes,
}

fn exit_codes() -> String {
    use std::fmt::Write as _;
    crate::exit::Exit::ALL
        .iter()
        .fold(String::new(), |mut text, (exit, name, meaning)| {
            let _ = writeln!(text, "{}  {name:<12} {meaning}", *exit as u8);
            text
        })
}

/// Where settings come from, and the ones that have a flag.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArgs {
    /// Settings file [default: anabranch.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "ANABRANCH_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the embedded store [setting: store.embedded.data_dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [setting: server.listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Listen beyond loopback although there is no TLS and no authentication [setting: server.insecure]
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// Flags of `serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Flags of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Do everything once, then stop instead of serving
    #[arg(long)]
    pub(crate) exit: bool,
    /// Make this share of the data
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 1.0,
        hide = true,
        env = "ANABRANCH_DEMO_SCALE"
    )]
    pub(crate) scale: f64,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print every setting
    Show {
        /// Settings.
        #[command(flatten)]
        settings: SettingsArgs,
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Check the settings without starting anything
    Check {
        /// Settings.
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// What to do with SSTables.
#[derive(Debug, Subcommand)]
pub(crate) enum Sstable {
    /// Write partitions, rows and tombstones as NDJSON, in the manner of sstabledump
    ///
    /// Every checksum, length and count is checked. When something is damaged, the lines before it are written, the damage is
    /// named with file and offset, and the exit code is 1.
    Dump {
        /// An SSTable's Data.db, or a folder of SSTables
        path: PathBuf,
        /// What a line holds
        #[arg(long, value_name = "WHAT", default_value = "partitions")]
        lines: SstableLines,
        /// Times as numbers, in microseconds or seconds
        #[arg(long)]
        raw_times: bool,
    },
    /// Print counts, bounds, compression and schema
    Stat {
        /// An SSTable's Data.db, or a folder of SSTables
        path: PathBuf,
    },
}

/// What a line of `sstable dump` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SstableLines {
    /// A whole partition.
    Partitions,
    /// A row, or a bound of a range tombstone.
    Rows,
}

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
    /// How long to try again when the server can not be reached
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

/// The query language, for `--help`.
const QUERY_HELP: &str = "\
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

/// Settings of a namespace, as flags.
#[derive(Args, Debug)]
pub(crate) struct NamespaceSettings {
    /// Settings from a TOML or JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting: accept_limit=15m, retention.close_after=30d, field_mapping.added=INTEGER
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// What to do with namespaces.
#[derive(Debug, Subcommand)]
pub(crate) enum Namespace {
    /// Create a namespace
    Create {
        /// Its name
        name: String,
        /// Its settings.
        #[command(flatten)]
        settings: NamespaceSettings,
    },
    /// List namespaces
    List,
    /// Show every setting of a namespace
    Show {
        /// Its name
        name: String,
    },
    /// Change settings of a namespace
    Update {
        /// Its name
        name: String,
        /// Its settings.
        #[command(flatten)]
        settings: NamespaceSettings,
        /// Take a setting back to its default
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete a namespace with every event in it
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Accept no event of the past any more
    Seal {
        /// The namespace
        name: String,
        /// No event earlier than this is accepted [default: now]
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        before: Option<String>,
    },
    /// Take a seal back
    Unseal {
        /// The namespace
        name: String,
        /// From here on [default: all time]
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        after: Option<String>,
    },
    /// Refuse reads and writes of some ids
    Block {
        /// The namespace
        name: String,
        /// The id; may be given several times
        #[arg(long, required = true)]
        id: Vec<String>,
        /// Why; whoever meets the block reads it
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Allow reads and writes of blocked ids again
    Unblock {
        /// The namespace
        name: String,
        /// The id; may be given several times
        #[arg(long, required = true)]
        id: Vec<String>,
    },
    /// List blocked ids
    Blocked {
        /// The namespace
        name: String,
    },
}

/// Which partition of a namespace.
#[derive(Args, Debug)]
pub(crate) struct WhichPartition {
    /// The namespace
    pub(crate) namespace: String,
    /// SLICE/ID/TIME_BUCKET/EVENT_BUCKET, as `split list` and `widths` print it
    #[arg(conflicts_with_all = ["id", "time", "event_bucket"], required_unless_present = "id")]
    pub(crate) partition: Option<String>,
    /// The time series, instead of a partition
    #[arg(long, requires = "time")]
    pub(crate) id: Option<String>,
    /// A time that the partition holds
    #[arg(long, value_name = "TIME", requires = "id", allow_hyphen_values = true)]
    pub(crate) time: Option<String>,
    /// The event bucket, where the time slice has several
    #[arg(long, value_name = "N", requires = "id")]
    pub(crate) event_bucket: Option<i32>,
}

/// What to do with splits.
#[derive(Debug, Subcommand)]
pub(crate) enum Split {
    /// List the wide partitions of a namespace
    List {
        /// The namespace
        namespace: String,
        /// Only those in this state, such as COMPLETED or QUARANTINED
        #[arg(long, value_parser = crate::commands::parse_state)]
        state: Option<SplitStateFlag>,
    },
    /// Show everything about one, with its targets
    Show {
        /// Which.
        #[command(flatten)]
        which: WhichPartition,
    },
    /// Show how they change, until Ctrl-C: a table on a terminal, a line for each change in a pipe
    Watch {
        /// The namespace
        namespace: String,
        /// How often to look
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::units::parse_duration)]
        every: std::time::Duration,
        /// Stop after this time
        #[arg(long = "for", value_name = "TIME", value_parser = crate::units::parse_duration)]
        stop_after: Option<std::time::Duration>,
    },
    /// Have a partition surveyed, and split if it is worth it
    Plan {
        /// Which.
        #[command(flatten)]
        which: WhichPartition,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Send one that failed or was put in quarantine round again
    Retry {
        /// Which.
        #[command(flatten)]
        which: WhichPartition,
    },
    /// Stop one from being served or made; its original is read from then on
    Invalidate {
        /// Which.
        #[command(flatten)]
        which: WhichPartition,
    },
}

/// A state of a split, as a flag.
pub(crate) type SplitStateFlag = anabranch_proto::admin::v1::split::State;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_short_help_names_every_command() {
        for command in Cli::command().get_subcommands() {
            let listed = HELP
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{} ", command.get_name())));
            assert!(listed, "{} is not in the help", command.get_name());
        }
    }

    #[test]
    fn relative_times_are_values_not_flags() {
        let cli = Cli::try_parse_from(["anabranch", "read", "demo", "--id", "a", "--start", "-7d"]).unwrap();
        let Command::Read(read) = cli.command else {
            panic!("another command");
        };
        assert_eq!(read.interval.start.as_deref(), Some("-7d"));
    }

    #[test]
    fn one_aggregate_at_a_time() {
        assert!(Cli::try_parse_from(["anabranch", "aggregate", "demo"]).is_err());
        assert!(Cli::try_parse_from(["anabranch", "aggregate", "demo", "--min", "a", "--max", "a"]).is_err());
        assert!(
            Cli::try_parse_from(["anabranch", "aggregate", "demo", "--count", "--by-time", "1h"]).is_ok()
        );
    }
}
