//! The command line: every command and flag.
//!
//! What a flag is worth when it is not given is settled elsewhere: for `serve` and `demo` by the settings,
//! for everything else by the server.

mod events;
mod operate;
#[cfg(feature = "cluster")]
mod replay;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::DEFAULT_SERVER;
use crate::commands::Bench;
use crate::output::Format;

pub(crate) use events::{Aggregate, Interval, OnError, Paging, Read, Search, What, Write};
pub(crate) use operate::{Namespace, NamespaceSettings, Split, Sstable, SstableLines, WhichPartition};
#[cfg(feature = "cluster")]
pub(crate) use replay::Replay;

/// Lines for commands that only some builds have.
#[cfg(feature = "cluster")]
macro_rules! of_clusters {
    ($lines:literal) => {
        $lines
    };
}
#[cfg(not(feature = "cluster"))]
macro_rules! of_clusters {
    ($lines:literal) => {
        ""
    };
}

/// Commands by what they are for. A test holds this list against the commands there are.
const HELP: &str = concat!(
    "\
{about}

Usage: anabranch COMMAND [OPTIONS]

Run a server
  demo         A server on an embedded store with real-looking data: start here
  serve        A server",
    of_clusters!(
        "\n  planner      Plans splits, beside servers that share a store\n  splitter     Carries them out"
    ),
    "
  status       How a server is doing
  config       Settings of a server: what they are, where they come from, whether they are right

Events
  write        Write events from NDJSON
  read         Page through the events of one id
  search       Find events by what is in them
  aggregate    Count, sum and compare events",
    of_clusters!("\n  replay       Send events to a Kafka topic"),
    "

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

Times are RFC 3339, a date, `now`, or relative to now: -7d. Durations are 15m or 0.5s, sizes 16MiB."
);

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
    /// Plan the splits of wide partitions, as a process of its own; any number of them share a store on Cassandra
    ///
    /// Prints `listening on http://HOST:PORT` once it works. That port answers /metrics and /healthz.
    #[cfg(feature = "cluster")]
    Planner(Worker),
    /// Carry out planned splits, as a process of its own; any number of them share a store on Cassandra
    ///
    /// Prints `listening on http://HOST:PORT` once it works. That port answers /metrics and /healthz.
    #[cfg(feature = "cluster")]
    Splitter(Worker),
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
    /// Send the events that a query finds to a Kafka topic, those of one id in event order
    ///
    /// Keyed by id, the value of a message is an EventRecord. At least once: with --checkpoint a replay that was stopped goes
    /// on where it was, and repeats at most the page of up to 1,000 events that was under way.
    #[cfg(feature = "cluster")]
    Replay(Replay),
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

/// Flags of `planner` and `splitter`.
#[cfg(feature = "cluster")]
#[derive(Args, Debug)]
pub(crate) struct Worker {
    /// Settings file, the same that servers have [default: anabranch.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "ANABRANCH_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Address of /metrics and /healthz; port 0 takes a free one [setting: planner.listen or splitter.listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Listen beyond loopback although there is no TLS and no authentication [setting: server.insecure]
    #[arg(long)]
    pub(crate) insecure: bool,
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
