//! Flags of the commands that operate: namespaces, splits, SSTables.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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

/// What to do with SSTables.
#[derive(Debug, Subcommand)]
pub(crate) enum Sstable {
    /// Write partitions, rows and tombstones as NDJSON, in the manner of sstabledump
    ///
    /// Every checksum, length and count is checked. When something is damaged, the lines before it are written, the damage is
    /// named with file and offset, and the exit code is 1. When something is missing that TOC.txt or a snapshot's manifest.json
    /// lists, it is named, and no line is written.
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
    /// Write the rows that a client would see, as NDJSON, in the manner of SELECT JSON *
    ///
    /// The SSTables of a folder are merged, and what has been overwritten, deleted, dropped or has expired by now is left out. The
    /// folder must have its table's schema.cql, as snapshots do: it says which columns were dropped, and whether the table is a
    /// materialized view. For a view alone, the snapshot of its table is looked for beside it. Damage, and what is missing, is
    /// named as `dump` does it.
    Select {
        /// A folder with the SSTables of one table, and schema.cql
        path: PathBuf,
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
