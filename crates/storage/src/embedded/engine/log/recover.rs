//! Reading the log back: what was committed, and is any of it missing?
//!
//! ```text
//! segments by number:   freed … | oldest live ─▶ … ─▶ last
//!                          each must end where the next one's header says; the last one ends at the first
//!                          frame that does not fit, and then: torn or damaged?
//! ```
//!
//! A frame is good if its sectors, checksum, commit number and chain all fit. At the first that is not:
//!
//! - there is a later segment, whose header says which commit this one reached: short of it, **refuse**;
//! - it is the last segment: frame n+1 is only ever written after frame n was synced (K5), so any trace of a
//!   later commit, or a frame that says the missing one was durable, means **refuse**. Else the frame was
//!   the last one. If one of its sectors is still old, it was never whole, so never acknowledged: **cut**.
//!   If all of them were written, it was whole once: **refuse**.
//!
//! What remains open: a disk that loses the whole last group, acknowledged within 5 ms of a crash and before
//! its seal, leaves no trace to find.

use std::path::Path;

use super::frame::{self, BLOCK, Place, SECTOR, Sector, StoredHead};
use super::low::Low;
use super::segment::{self, Header, SegmentFile};
use super::{Lists, Live, Visit};
use crate::embedded::engine::disk;
use crate::embedded::engine::error::EngineError;

/// What the log held.
#[derive(Debug)]
pub(in super::super) struct Recovered {
    /// The last commit.
    pub(in super::super) commit: u64,
    /// The link that the next frame or segment carries.
    pub(super) chain: u64,
    pub(super) lists: Lists,
    pub(super) next_number: u64,
    /// A frame that was being written when the process ended: its commit number and its file.
    pub(in super::super) torn: Option<(u64, std::path::PathBuf)>,
}

/// Reads all live segments in order, calling `visit` with each frame.
pub(super) fn recover(
    folder: &Path,
    store: u64,
    low: Low,
    visit: &mut Visit<'_>,
) -> Result<Recovered, EngineError> {
    let (used, mut free, files) = list(folder, store, low)?;
    let next_number = used.last().map_or(1, |(header, _)| header.number + 1);
    let Some((last_header, _)) = used.last() else {
        return Err(EngineError::damaged(folder, "no segment of the log has a header"));
    };
    let last_number = last_header.number;

    let ends: Vec<u64> = used
        .iter()
        .skip(1)
        .map(|(next, _)| next.first.saturating_sub(1))
        .collect();
    let mut live = std::collections::VecDeque::new();
    let mut walk: Option<Walk> = None;
    let mut torn = None;
    for (n, (header, file)) in used.into_iter().enumerate() {
        let end = ends.get(n).copied();
        // Freed, or begun by a process that ended before its first commit.
        if walk.is_none() && end.is_some_and(|end| end <= low.low || end < header.first) {
            free.push(file);
            continue;
        }
        let state = walk.get_or_insert(Walk {
            commit: header.first.wrapping_sub(1),
            chain: header.chain,
        });
        if live.is_empty() && header.first > low.low + 1 {
            return Err(EngineError::damaged(
                folder,
                format!(
                    "the log begins with commit {}, commits {}..={} are missing",
                    header.first,
                    low.low + 1,
                    header.first - 1
                ),
            ));
        }
        if header.first != state.commit + 1 || header.chain != state.chain {
            return Err(EngineError::damaged(
                &file.path,
                format!(
                    "it does not follow commit {} of the segment before it",
                    state.commit
                ),
            ));
        }
        if end.is_some_and(|end| end < header.first) {
            free.push(file);
            continue;
        }
        let segment = Segment {
            file: &file,
            place: file.place(header.number, store),
        };
        let at = segment.walk(state, end, visit)?;
        if end.is_none() && segment.tail_is_torn(at, state.commit + 1)? {
            torn = Some((state.commit + 1, file.path.clone()));
        }
        live.push_back(Live {
            first: header.first,
            last: end.unwrap_or(state.commit),
            number: header.number,
            file,
        });
    }
    let Some(end) = walk else {
        return Err(EngineError::damaged(folder, "no segment of the log is in use"));
    };
    debug_assert!(live.back().is_some_and(|l| l.number == last_number));
    Ok(Recovered {
        commit: end.commit,
        chain: end.chain,
        lists: Lists {
            live,
            free,
            files,
            switched: 0,
        },
        next_number,
        torn,
    })
}

/// Used segments by number, unused files, and the number of files.
type Listing = (Vec<(Header, SegmentFile)>, Vec<SegmentFile>, u64);

fn list(folder: &Path, store: u64, low: Low) -> Result<Listing, EngineError> {
    let mut numbers: Vec<u64> = disk::names(folder)?
        .iter()
        .filter_map(|n| segment::file_number(n))
        .collect();
    numbers.sort_unstable();
    let files = numbers.last().copied().unwrap_or(0);
    for n in 1..=files.max(low.files) {
        if numbers.binary_search(&n).is_err() {
            return Err(EngineError::damaged(
                &folder.join(segment::file_name(n)),
                "the file is missing",
            ));
        }
    }
    let (mut used, mut free) = (Vec::new(), Vec::new());
    for n in numbers {
        let file = SegmentFile::open(&folder.join(segment::file_name(n)))?;
        match file.header(store)? {
            Some(header) => used.push((header, file)),
            None => free.push(file),
        }
    }
    used.sort_by_key(|(header, _)| header.number);
    if let Some(pair) = used.windows(2).find(|pair| pair[0].0.number == pair[1].0.number) {
        return Err(EngineError::damaged(
            &pair[1].1.path,
            "two files carry the same segment number",
        ));
    }
    Ok((used, free, files))
}

/// How far the log has been read.
struct Walk {
    commit: u64,
    chain: u64,
}

struct Segment<'a> {
    file: &'a SegmentFile,
    place: Place,
}

impl Segment<'_> {
    /// Reads frames up to commit `end`, or as far as they fit; returns where the last good one ends.
    fn walk(&self, state: &mut Walk, end: Option<u64>, visit: &mut Visit<'_>) -> Result<u64, EngineError> {
        let mut at = BLOCK as u64;
        loop {
            if end == Some(state.commit) {
                return Ok(at);
            }
            let Some((stored, payload, next)) = self.frame(at, state)? else {
                return match end {
                    Some(end) => Err(EngineError::damaged(
                        &self.file.path,
                        format!(
                            "commits {}..={end} were durable and can not be read",
                            state.commit + 1
                        ),
                    )),
                    None => Ok(at),
                };
            };
            visit(&self.file.path, &stored.head, &payload)?;
            state.commit = stored.head.commit;
            state.chain = frame::link(stored.head.chain, stored.head.commit, stored.crc);
            at = next;
        }
    }

    /// The frame at `at`, if it is the one that must come next and is whole.
    fn frame(&self, at: u64, state: &Walk) -> Result<Option<(StoredHead, Vec<u8>, u64)>, EngineError> {
        let commit = state.commit + 1;
        let Some(stored) = self.head(at, commit)? else {
            return Ok(None);
        };
        let next = at + frame::frame_bytes(stored.length) as u64;
        if next > self.file.bytes || stored.head.chain != state.chain {
            return Ok(None);
        }
        let mut bytes = vec![0; frame::frame_bytes(stored.length)];
        self.file.read(at, &mut bytes)?;
        for (n, sector) in (0u64..).zip(bytes.chunks_exact(SECTOR)) {
            let expected = Sector::New {
                commit,
                first: n == 0,
            };
            if frame::judge(self.place, at + n * SECTOR as u64, sector) != expected {
                return Ok(None);
            }
        }
        Ok(frame::decode_payload(&stored, &bytes).map(|payload| (stored, payload, next)))
    }

    /// The head of commit `commit` at `at`, if that sector is whole.
    fn head(&self, at: u64, commit: u64) -> Result<Option<StoredHead>, EngineError> {
        if at + BLOCK as u64 > self.file.bytes {
            return Ok(None);
        }
        let mut sector = vec![0; SECTOR];
        self.file.read(at, &mut sector)?;
        if frame::judge(self.place, at, &sector) != (Sector::New { commit, first: true }) {
            return Ok(None);
        }
        Ok(frame::decode_head(&sector).filter(|stored| stored.head.commit == commit))
    }

    /// Judges what follows the last good frame of the last segment: nothing (`false`), a frame that was cut
    /// short by the end of the process (`true`), or damage.
    fn tail_is_torn(&self, at: u64, missing: u64) -> Result<bool, EngineError> {
        let refuse = |last: u64| {
            Err(EngineError::damaged(
                &self.file.path,
                format!("commits {missing}..={last} were durable and can not be read"),
            ))
        };
        let mut sectors = Vec::new();
        let mut bytes = vec![0; 1 << 20];
        let mut from = at;
        while from < self.file.bytes {
            #[expect(clippy::cast_possible_truncation, reason = "at most one MiB")]
            let step = (self.file.bytes - from).min(bytes.len() as u64) as usize;
            self.file.read(from, &mut bytes[..step])?;
            for (n, sector) in (0u64..).zip(bytes[..step].chunks_exact(SECTOR)) {
                let sector_at = from + n * SECTOR as u64;
                let state = frame::judge(self.place, sector_at, sector);
                if let Sector::New { commit, first } = state {
                    if commit > missing {
                        return refuse(commit - 1);
                    }
                    if first && frame::decode_head(sector).is_some_and(|s| s.head.durable >= missing) {
                        return refuse(missing);
                    }
                }
                sectors.push(state);
            }
            from += step as u64;
        }
        let ours = |state: &Sector| matches!(state, Sector::New { commit, .. } if *commit == missing);
        // The frame reaches as far as its head says, or else to the end of the last block that bears its number.
        let last_of_ours = sectors.iter().rposition(ours).map_or(0, |n| n + 1);
        let reach = match self.head(at, missing)? {
            Some(stored) => frame::frame_bytes(stored.length) / SECTOR,
            None => last_of_ours.max(1).next_multiple_of(BLOCK / SECTOR),
        };
        let frame = &sectors[..reach.min(sectors.len())];
        if frame.contains(&Sector::Old) || frame.is_empty() {
            return Ok(last_of_ours > 0);
        }
        refuse(missing)
    }
}
