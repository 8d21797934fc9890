//! The binary `anabranch`: one command line for the server, for the demo, and for everything a client does.
//!
//! ```text
//! cli ─▶ commands ─▶ client ─▶ server          events, namespaces, status
//!             ├────▶ settings ─▶ serve ─▶ store  the one place that wires everything together
//!             └────▶ output                    data on stdout, talk on stderr
//! ```

mod cli;
mod client;
mod commands;
mod demo;
mod exit;
mod input;
mod messages;
mod output;
mod problem;
mod query;
mod settings;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("anabranch")
        .build()
        .map_err(|error| Failure::internal(format_args!("can not start: {error}")))
        .and_then(|runtime| runtime.block_on(commands::run(cli)));
    match ended {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if !failure.text.is_empty() {
                output::say(&failure.text);
            }
            failure.exit.into()
        }
    }
}
