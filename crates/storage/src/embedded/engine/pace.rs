//! Keeps flush and compaction from filling the disk's queue.
//!
//! A commit waits for every write that the disk has been given before. So table data is handed to the disk in
//! steps of a MiB, each followed by a pause; without this the final fsync of a table hands over all of it at
//! once, and the write tail doubles. Pauses stop when the work falls behind.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const STEP: u64 = 1 << 20;

/// The monotonic clock of the engine's threads. Nothing that is stored depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "only for pauses, idle time and metrics; stored state never depends on it"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Gives the calling thread less of the processor than the threads that commit.
pub(super) fn be_nice() {
    // Best effort: a container may forbid it, and everything works without.
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Paces one flush or one compaction.
#[derive(Debug)]
pub(super) struct Pacer {
    folder: PathBuf,
    pause: Duration,
    /// Bytes since the last step.
    spent: u64,
    /// The files made since this work began, and how much of each the disk was given.
    files: Vec<(u64, u64)>,
    next: u64,
}

impl Pacer {
    /// `next` is the number that the next new table file will get.
    pub(super) fn new(folder: PathBuf, next: u64, pause: Duration) -> Self {
        Self {
            folder,
            pause,
            spent: 0,
            files: Vec::new(),
            next,
        }
    }

    /// Counts bytes that were handed to the table writer; `next` is the number after the newest file.
    pub(super) fn spend(&mut self, bytes: u64, next: u64, hurry: impl FnOnce() -> bool) -> io::Result<()> {
        self.spent += bytes;
        if self.spent < STEP || self.pause.is_zero() {
            return Ok(());
        }
        self.spent = 0;
        self.files.extend((self.next..next).map(|number| (number, 0)));
        self.next = self.next.max(next);
        // All of them: a compaction's file still grows while flushes beside it make many newer ones.
        for (number, given) in &mut self.files {
            match File::open(self.folder.join(number.to_string())) {
                Ok(file) => *given = start_writing(&file, *given)?,
                // A number that another work took, or whose file is gone again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !hurry() {
            std::thread::sleep(self.pause);
        }
        Ok(())
    }
}

/// Makes the system write a file's new pages now, without waiting and without a commit of the file system's
/// journal, which an fsync of a growing file would cost every MiB. The advice "not needed" does that for dirty
/// pages; they stay cached, because a page that is being written is not dropped.
pub(super) fn start_writing(file: &File, given: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if let Some(fresh) = std::num::NonZeroU64::new(length.saturating_sub(given)) {
        rustix::fs::fadvise(file, given, Some(fresh), rustix::fs::Advice::DontNeed)?;
    }
    Ok(length)
}
