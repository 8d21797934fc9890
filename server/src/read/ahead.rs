//! Targets that a walk will come to, read before it asks for them.
//!
//! ```text
//! page ─▶ page ─▶ page …        each a call of its own: a walk pays the way to the store and back for every one
//! target  target  target  …     whole targets, several at once, kept for a moment
//! ```
//!
//! A wide partition is one stream: the next place is known only when the last was read. What it was split into can be
//! read in parallel, because a split says beforehand what lies where. So when pages of one walk follow each other, the
//! targets ahead are read whole, in parallel, and the pages to come are cut from them.
//!
//! - R2: a target is never written to once it is proved, and no other has its place under the same incarnation of the
//!   namespace; so what was read of it stays right. Whether it may be served is asked by every page anew, and what comes
//!   from here is held against what was proved like what comes from the store (`segments`).
//! - R3: a target that could not be read ahead is read when its page comes, as if nobody had tried.
//! - Bounded: so many bytes for a server, and nothing ahead of a walk that finds no room. A walk reads further ahead the
//!   longer it goes on: who looks at two pages costs nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_model::{Direction, Event, NamespaceName, TimeInterval};
use anabranch_runtime::{Clock, Tasks};
use anabranch_storage::{EventBounds, EventStore, ScanEnd, ScanPage, ScanRequest, StoreError};
use tokio::sync::{Semaphore, watch};

use super::metrics::ReadMetrics;

/// Pages in a row after which one more target is read ahead.
const PAGES_A_TARGET: u8 = 2;
/// Bytes of one call of the store.
const CALL_BYTES: usize = 4 << 20;
const CALL_EVENTS: usize = 10_000;
const WALKS: usize = 4_096;

/// How much is read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadLimits {
    /// Targets ahead of one walk.
    pub targets_max: usize,
    /// Bytes that a server keeps, of all walks.
    pub bytes_max: u64,
    /// What nobody asked for in this time is let go.
    pub kept_for: Duration,
}

impl Default for AheadLimits {
    fn default() -> Self {
        Self {
            targets_max: 8,
            bytes_max: 64 << 20,
            kept_for: Duration::from_secs(5),
        }
    }
}

/// What was read ahead by this server.
#[derive(Debug)]
pub(super) struct ReadAhead {
    events: Arc<dyn EventStore>,
    server: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    limits: AheadLimits,
    metrics: Arc<ReadMetrics>,
    kept: Mutex<Kept>,
    /// Pages in a row, of a walk each; walks may share one, which costs time only.
    rows: Vec<AtomicU8>,
}

/// A target under an incarnation of its namespace.
type Key = (u64, anabranch_storage::TableName, anabranch_model::PartitionKey);

#[derive(Debug, Default)]
struct Kept {
    targets: HashMap<Key, Entry>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    loaded: watch::Receiver<Loaded>,
    bytes: u64,
    /// On the clock's elapsed time.
    asked: Duration,
    /// A walk came to its end.
    through: bool,
}

#[derive(Clone, Debug)]
enum Loaded {
    NotYet,
    /// All of it, newest first.
    Whole(Arc<[Event]>),
    Failed,
}

impl ReadAhead {
    pub(super) fn new(
        events: Arc<dyn EventStore>,
        server: Arc<Semaphore>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        limits: AheadLimits,
        metrics: Arc<ReadMetrics>,
    ) -> Self {
        Self {
            events,
            server,
            clock,
            tasks,
            limits,
            metrics,
            kept: Mutex::default(),
            rows: (0..WALKS).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Takes in that a page of a walk is read, its first or a later one. How many targets to read ahead for it.
    pub(super) fn note(&self, namespace: &NamespaceName, id: &str, goes_on: bool) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((namespace.as_str(), id));
        let at = usize::try_from(hash % WALKS as u64).unwrap_or(0);
        let Some(row) = self.rows.get(at) else {
            return 0;
        };
        if !goes_on {
            row.store(0, Ordering::Relaxed);
            return 0;
        }
        let pages = row.load(Ordering::Relaxed).saturating_add(1);
        row.store(pages, Ordering::Relaxed);
        usize::from(pages / PAGES_A_TARGET).min(self.limits.targets_max)
    }

    /// As far as it goes.
    pub(super) fn targets_max(&self) -> usize {
        self.limits.targets_max
    }

    /// Begins to read a target, unless it is here or there is no room. `bytes` is what it is known to hold.
    pub(super) fn begin(self: &Arc<Self>, incarnation: u64, scan: &ScanRequest, bytes: u64) {
        let key = (incarnation, scan.table.clone(), scan.partition.clone());
        let now = self.clock.elapsed();
        let loading = {
            let mut kept = self.kept();
            if let Some(entry) = kept.targets.get_mut(&key) {
                entry.asked = now;
                return;
            }
            if !kept.make_room(bytes, self.limits.bytes_max) {
                return;
            }
            let (loading, loaded) = watch::channel(Loaded::NotYet);
            let entry = Entry {
                loaded,
                bytes,
                asked: now,
                through: false,
            };
            kept.bytes += bytes;
            kept.targets.insert(key.clone(), entry);
            loading
        };
        let (ahead, request, stop) = (self.clone(), whole(scan), self.tasks.stopping());
        self.tasks.spawn("read ahead", async move {
            let loaded = tokio::select! {
                biased;
                () = stop.cancelled() => Loaded::Failed,
                loaded = ahead.load(request) => loaded.map_or(Loaded::Failed, Loaded::Whole),
            };
            let failed = matches!(loaded, Loaded::Failed);
            if failed {
                ahead.kept().remove(&key);
            }
            // Whoever waits is told; nobody may wait.
            let _ = loading.send(loaded);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = ahead.keep_while_asked(&key), if !failed => {}
            }
        });
    }

    /// Lets go of a target when nobody has asked for it for a while.
    async fn keep_while_asked(&self, key: &Key) {
        loop {
            self.clock.sleep(self.limits.kept_for).await;
            let now = self.clock.elapsed();
            let mut kept = self.kept();
            match kept.targets.get(key) {
                Some(entry) if now.saturating_sub(entry.asked) < self.limits.kept_for => {}
                Some(_) => return kept.remove(key),
                None => return,
            }
        }
    }

    async fn load(&self, mut request: ScanRequest) -> Result<Arc<[Event]>, StoreError> {
        let mut events = Vec::new();
        loop {
            let page = {
                let _server = self.server.acquire().await;
                self.events.scan(&request).await?
            };
            self.metrics.ahead_read_bytes.inc_by(page.bytes_read);
            events.extend(page.events);
            match page.end {
                ScanEnd::Exhausted => return Ok(events.into()),
                ScanEnd::More { after } => request.bounds = request.bounds.after(after, request.direction),
            }
        }
    }

    /// A page of a target that was read ahead, or is being; `None` when it has to be read now.
    pub(super) async fn page(&self, incarnation: u64, request: &ScanRequest) -> Option<ScanPage> {
        let key = (incarnation, request.table.clone(), request.partition.clone());
        let mut loaded = {
            let mut kept = self.kept();
            let entry = kept.targets.get_mut(&key)?;
            entry.asked = self.clock.elapsed();
            entry.loaded.clone()
        };
        let whole = match &*loaded
            .wait_for(|loaded| !matches!(loaded, Loaded::NotYet))
            .await
            .ok()?
        {
            Loaded::Whole(events) => events.clone(),
            Loaded::NotYet | Loaded::Failed => return None,
        };
        let page = cut(&whole, request);
        self.metrics.ahead_served_bytes.inc_by(page.bytes_read);
        if page.end == ScanEnd::Exhausted
            && let Some(entry) = self.kept().targets.get_mut(&key)
        {
            entry.through = true;
        }
        Some(page)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.targets.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    /// Lets go of what walks are through with until so much more fits.
    fn make_room(&mut self, bytes: u64, bytes_max: u64) -> bool {
        while self.bytes.saturating_add(bytes) > bytes_max {
            let through = self.targets.iter().filter(|(_, entry)| entry.through);
            let Some(key) = through
                .min_by_key(|(_, entry)| entry.asked)
                .map(|(key, _)| key.clone())
            else {
                return false;
            };
            self.remove(&key);
        }
        true
    }
}

/// All of a target, in the store's own order.
fn whole(scan: &ScanRequest) -> ScanRequest {
    ScanRequest {
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction: Direction::Descending,
        events_max: CALL_EVENTS,
        bytes_max: CALL_BYTES,
        ..scan.clone()
    }
}

/// What a store would answer that holds these events, newest first.
fn cut(newest_first: &[Event], request: &ScanRequest) -> ScanPage {
    let ScanRequest {
        bounds,
        direction,
        events_max,
        bytes_max,
        ..
    } = request;
    let newer = |event: &Event| bounds.upper_excludes(&event.key);
    let from = newest_first.partition_point(newer);
    let within = newest_first.get(from..).unwrap_or_default();
    let to = within.partition_point(|event| bounds.contains(&event.key));
    let within = within.get(..to).unwrap_or_default();
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut take = |event: &Event| {
        let full = events.len() >= *events_max || bytes >= *bytes_max;
        if full && !events.is_empty() {
            return false;
        }
        bytes += event.content_bytes();
        events.push(event.clone());
        true
    };
    let all = match direction {
        Direction::Descending => within.iter().all(&mut take),
        Direction::Ascending => within.iter().rev().all(&mut take),
    };
    let end = match events.last() {
        Some(last) if !all => ScanEnd::More {
            after: last.key.clone(),
        },
        _ => ScanEnd::Exhausted,
    };
    ScanPage {
        events,
        bytes_read: bytes as u64,
        end,
    }
}
