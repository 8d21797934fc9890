//! What each command does.

mod aggregate;
mod bench;
mod blocks;
mod bus;
mod config;
mod errors;
mod explain;
mod healing;
mod namespace;
mod namespace_settings;
mod open;
mod pages;
mod read;
#[cfg(feature = "cluster")]
mod replay;
mod search;
mod serve;
mod slices;
mod split;
mod sstable;
mod status;
mod widths;
#[cfg(feature = "cluster")]
mod workers;
mod write;

use std::sync::Arc;

use anabranch_proto::timeseries::v1::TimeInterval;
use anabranch_runtime::{Clock, SystemClock};

use crate::cli::{Cli, Command, Global, Interval};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, Sheet};
use crate::units::parse_time;

pub(crate) use bench::Bench;
pub(crate) use config::load as load_settings;
pub(crate) use explain::line as explain_line;
pub(crate) use pages::quote;
pub(crate) use serve::{start, start_logs};
pub(crate) use split::{parse_state, partition_text};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where time comes from.
    pub(crate) clock: Arc<SystemClock>,
    /// The server to talk to.
    pub(crate) server: String,
    /// The form of data on stdout.
    pub(crate) format: Format,
}

impl Session {
    fn new(global: Global) -> Self {
        Self {
            clock: SystemClock::new(),
            server: global.server,
            format: Format::or_fitting(global.output),
        }
    }

    /// Connects to the server.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.server).await
    }

    /// A time of the command line.
    pub(crate) fn time(&self, flag: &str, text: &str) -> Result<prost_types::Timestamp, Failure> {
        parse_time(text, self.clock.unix_micros())
            .map_err(|problem| Failure::usage(format_args!("{flag}: {problem}")))
    }

    fn optional_time(
        &self,
        flag: &str,
        text: Option<&str>,
    ) -> Result<Option<prost_types::Timestamp>, Failure> {
        text.map(|text| self.time(flag, text)).transpose()
    }

    /// A range of the command line; nothing when neither end is given.
    pub(crate) fn interval(&self, interval: &Interval) -> Result<Option<TimeInterval>, Failure> {
        let start = self.optional_time("--start", interval.start.as_deref())?;
        let end = self.optional_time("--end", interval.end.as_deref())?;
        Ok((start.is_some() || end.is_some()).then_some(TimeInterval { start, end }))
    }
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let session = Session::new(cli.global);
    match cli.command {
        Command::Demo(demo) => crate::demo::run(&session, demo).await,
        Command::Serve(serve) => serve::run(&session, &serve).await,
        #[cfg(feature = "cluster")]
        Command::Planner(worker) => workers::planner(&session, &worker).await,
        #[cfg(feature = "cluster")]
        Command::Splitter(worker) => workers::splitter(&session, &worker).await,
        Command::Status => status::run(&session).await,
        Command::Config(config) => config::run(&session, config),
        Command::Write(write) => write::run(&session, write).await,
        Command::Read(read) => read::run(&session, read).await,
        Command::Search(search) => search::run(&session, search).await,
        Command::Aggregate(aggregate) => aggregate::run(&session, aggregate).await,
        #[cfg(feature = "cluster")]
        Command::Replay(replay) => replay::run(&session, replay).await,
        Command::Namespace(namespace) => namespace::run(&session, namespace).await,
        Command::Slices { namespace } => slices::run(&session, &namespace).await,
        Command::Split(split) => split::run(&session, split).await,
        Command::Widths { namespace, slice } => widths::run(&session, namespace, slice).await,
        Command::Sstable(sstable) => sstable::run(&session, sstable),
        Command::Bench(bench) => bench::run(&session, bench).await,
        Command::Errors { reason } => errors::run(&session, reason.as_deref()),
        Command::ExitCodes => exit_codes(&session),
    }
}

fn exit_codes(session: &Session) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&["code", "name", "meaning"]);
    for (exit, name, meaning) in Exit::ALL {
        sheet.cells(vec![
            (exit as u8).to_string(),
            name.to_owned(),
            meaning.to_owned(),
        ]);
    }
    sheet.print(session.format)
}

/// Prints things that have a JSON form and cells.
fn print_sheet(session: &Session, sheet: &Sheet) -> Result<(), Failure> {
    sheet.print(session.format)
}

/// Says a line on stderr.
fn say(text: impl AsRef<str>) {
    output::say(text.as_ref());
}
