//! Keeps flush and compaction from filling the disk's queue.
//!
//! A commit waits for every write that the disk has been given before. So table data is synced and followed
//! by a pause after each MiB; without this the write tail doubles. Pauses stop when the work falls behind.

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
    unsynced: u64,
    /// The oldest file of this work that may have unsynced data.
    oldest: u64,
}

impl Pacer {
    /// `first` is the number that the next new table file will get.
    pub(super) fn new(folder: PathBuf, first: u64, pause: Duration) -> Self {
        Self {
            folder,
            pause,
            unsynced: 0,
            oldest: first,
        }
    }

    /// Counts bytes that were handed to the table writer; `next` is the number after the newest file.
    pub(super) fn spend(&mut self, bytes: u64, next: u64, hurry: impl FnOnce() -> bool) -> io::Result<()> {
        self.unsynced += bytes;
        if self.unsynced < STEP || self.pause.is_zero() {
            return Ok(());
        }
        self.unsynced = 0;
        for number in self.oldest..next {
            match File::open(self.folder.join(number.to_string())) {
                Ok(file) => file.sync_data()?,
                // A number that another work took, or whose file is gone again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.oldest = self.oldest.max(next.saturating_sub(1));
        if !hurry() {
            std::thread::sleep(self.pause);
        }
        Ok(())
    }
}
