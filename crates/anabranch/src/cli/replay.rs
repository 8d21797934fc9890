//! Flags of `replay`.

use std::path::PathBuf;

use clap::Args;

use super::events::QUERY_HELP;

/// Flags of `replay`.
#[derive(Args, Debug)]
#[command(after_long_help = QUERY_HELP)]
pub(crate) struct Replay {
    /// The namespace
    pub(crate) namespace: String,
    /// Which events [default: all]
    #[arg(short, long)]
    pub(crate) query: Option<String>,
    /// First time; -7d is a week ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: String,
    /// First time after the range
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: String,
    /// The topic to send to; it has to be there
    #[arg(long)]
    pub(crate) topic: String,
    /// Kafka brokers to begin with
    #[arg(long, value_name = "HOST:PORT,…", env = "ANABRANCH_BROKERS", hide_env = true)]
    pub(crate) brokers: String,
    /// What the Kafka client needs besides, such as a login: NAME=VALUE a line, as librdkafka names them
    #[arg(long, value_name = "FILE")]
    pub(crate) kafka_properties: Option<PathBuf>,
    /// One message an id, with its newest event of those, instead of all
    #[arg(long)]
    pub(crate) one_per_id: bool,
    /// Messages a second, at most; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) rate: u64,
    /// Keep in FILE how far it is, and go on from there
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// How long to try again when server or brokers, once they have answered, no longer do
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = crate::units::parse_duration)]
    pub(crate) retry_for: std::time::Duration,
}
