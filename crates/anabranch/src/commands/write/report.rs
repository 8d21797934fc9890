//! What a person is told of a write: lines that are wrong, how far it is, how fast it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_runtime::{Clock, SystemClock};
use tonic::Status;

use super::send::Mode;
use crate::exit::{Exit, Failure};
use crate::input::batches::Batch;
use crate::input::open::Input;
use crate::output::progress::Progress;
use crate::units::{a_second, counted, format_count, format_elapsed, format_size};

/// Counts, and says.
pub(super) struct Report {
    clock: Arc<SystemClock>,
    started: Duration,
    progress: Progress,
    consumed: Arc<AtomicU64>,
    name: String,
    done: &'static str,
    skip: bool,
    events: u64,
    bytes: u64,
    wrong: u64,
    /// The first wrong line; said at the end when it is the one that stops everything.
    first_wrong: Option<(u64, String)>,
    unreadable: bool,
    last_line: u64,
}

impl Report {
    pub(super) fn new(
        clock: Arc<SystemClock>,
        input: &Input,
        mode: Mode,
        skip: bool,
        from_line: u64,
    ) -> Self {
        let progress = Progress::bytes(input.size);
        if from_line > 1 {
            progress.say(&format!(
                "{}: going on at line {}",
                input.name,
                format_count(from_line)
            ));
        }
        Self {
            started: clock.elapsed(),
            clock,
            progress,
            consumed: input.consumed.clone(),
            name: input.name.clone(),
            done: if mode == Mode::Queued { "queued" } else { "wrote" },
            skip,
            events: 0,
            bytes: 0,
            wrong: 0,
            first_wrong: None,
            unreadable: false,
            last_line: 0,
        }
    }

    /// A batch is done.
    pub(super) fn written(&mut self, batch: &Batch) {
        self.events += batch.events.len() as u64;
        self.bytes += batch.bytes as u64;
        self.last_line = self.last_line.max(batch.lines.last().copied().unwrap_or(0));
        self.progress.set(self.consumed.load(Ordering::Relaxed));
        self.progress.note(format!(
            "{} events, {}/s",
            format_count(self.events),
            format_count(self.rate())
        ));
    }

    /// A line can not be written.
    pub(super) fn wrong(&mut self, line: u64, problem: &str) {
        self.wrong += 1;
        if self.skip {
            self.progress.say(&format!("{}:{line}: {problem}", self.name));
        } else if self.first_wrong.as_ref().is_none_or(|(first, _)| line < *first) {
            self.first_wrong = Some((line, problem.to_owned()));
        }
    }

    /// The input can not be read past this line.
    pub(super) fn unreadable(&mut self, line: u64, problem: &str) {
        self.unreadable = true;
        self.progress.say(&format!("{}:{line}: {problem}", self.name));
    }

    /// The server can not take batches for now.
    pub(super) fn pausing(&self, status: &Status) {
        self.progress.say(&format!(
            "the server takes nothing now ({}); trying again",
            status.message()
        ));
    }

    /// Everything is done that could be.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.progress.finish();
        if let Some((line, problem)) = &self.first_wrong {
            self.progress.say(&format!("{}:{line}: {problem}", self.name));
            self.progress.say(&format!(
                "stopped at line {line}; {} {} {} {}. Writing is idempotent: correct the line and run the same \
                 command again, or go on past it with --from-line {} or --on-error skip",
                counted(self.events, "event"),
                // Batches after it may have been under way.
                if self.last_line > *line { "before and after it" } else { "before it" },
                if self.events == 1 { "is" } else { "are" },
                if self.done == "queued" { "queued" } else { "written" },
                line + 1
            ));
            return Err(Failure::said(Exit::BadInput));
        }
        self.say_written();
        if self.wrong > 0 {
            self.progress.say(&format!(
                "{} could not be written (named above)",
                counted(self.wrong, "line")
            ));
        }
        if self.wrong > 0 || self.unreadable {
            return Err(Failure::said(Exit::BadInput));
        }
        Ok(())
    }

    /// How much was written, and how fast.
    pub(super) fn say_written(&self) {
        self.progress.finish();
        let elapsed = self.clock.elapsed().saturating_sub(self.started);
        self.progress.say(&format!(
            "{} {} ({}) in {}: {} events/s",
            self.done,
            counted(self.events, "event"),
            format_size(self.bytes),
            format_elapsed(elapsed),
            format_count(self.rate())
        ));
    }

    fn rate(&self) -> u64 {
        a_second(self.events, self.clock.elapsed().saturating_sub(self.started))
    }
}
