//! What a run is asked for.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Serialize;

/// What a run is asked for. The defaults take about 90 seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Length of one measured window.
    pub seconds: f64,
    /// How often each of the interleaved windows is run.
    pub rounds: usize,
    /// Size of the wide id, in millions of bytes.
    pub wide_mb: u64,
    /// Where events come from.
    pub seed: u64,
    /// The data goes into a new folder in this one.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Program to start as the server: it is given `serve --listen 127.0.0.1:0 --data-dir DIR`.
    #[serde(skip)]
    pub server: PathBuf,
    /// Program to start as the null service, and what to give it.
    #[serde(skip)]
    pub null: (PathBuf, Vec<String>),
}

impl Options {
    /// The defaults, with this program as server and, by `null_args`, as null service.
    pub fn of_this_program(null_args: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self {
            seconds: 2.0,
            rounds: 3,
            wide_mb: 100,
            seed: 7,
            folder: std::env::temp_dir(),
            server: program.clone(),
            null: (program, null_args.iter().map(|&arg| arg.to_owned()).collect()),
        })
    }

    /// Whether this can be run.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.seconds.is_finite() && (0.1..=600.0).contains(&self.seconds),
            "a window takes between 0.1 and 600 seconds, not {}",
            self.seconds
        );
        ensure!(
            (1..=100).contains(&self.rounds),
            "1 to 100 rounds, not {}",
            self.rounds
        );
        ensure!(
            (1..=100_000).contains(&self.wide_mb),
            "a wide id has between 1 and 100000 MB, not {}",
            self.wide_mb
        );
        Ok(())
    }
}
