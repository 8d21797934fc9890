//! Ordinary ids while a wide partition is split: what their readers and writers feel of it, with the pace that namespaces
//! have by default and without any.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_proto::admin::v1::WidePartition;
use anabranch_proto::timeseries::v1::ReadEventRecordsRequest;
use anabranch_runtime::Tasks;
use anyhow::{Context, Result};
use serde::Serialize;
use tonic::Code;

use super::calls;
use super::fleet::{Admin, Fleet, Server, Side, UNTHROTTLED};
use super::heal;
use super::loops::{self, Call, Until};
use crate::clock::{self, now};
use crate::data;
use crate::reads::Wide;
use crate::writes::TailSummary;

/// Default of `split_bytes_per_second`.
pub(super) const THROTTLED: u64 = 20 << 20;
const IDS: u64 = 64;
const EVENTS: u64 = 2_000;
const READS_PER_SECOND: f64 = 60.0;
const READ_EVENTS: u64 = 100;
const WRITES_PER_SECOND: f64 = 20.0;
const WRITE_EVENTS: u64 = 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// What readers and writers of ordinary ids felt meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Felt {
    /// What went on beside them.
    pub beside: String,
    /// For how long.
    pub seconds: f64,
    /// Newest pages of 100 events, at a fixed rate.
    pub reads: TailSummary,
    /// Batches of 20 events, at a fixed rate.
    pub writes: TailSummary,
}

/// The ids that are read: written before the slice is sealed.
pub(super) fn ids() -> Vec<Wide> {
    let id = |n| Wide {
        id: format!("ordinary-{n:02}"),
        events: EVENTS,
    };
    (0..IDS).map(id).collect()
}

/// Splits an id once at the default pace and once without one, beside its ordinary neighbours. The first split is to
/// come: nothing of the id is split yet.
pub(super) async fn measure(
    tasks: &Tasks,
    fleet: &Fleet,
    namespace: &str,
    wide: &Wide,
    seed: u64,
    rest: Duration,
) -> Result<Vec<Felt>> {
    let mut admin = fleet.admin().await?;
    let neighbours = Neighbours::new(&fleet.servers[Side::Targets.at()], namespace, seed);
    // Makes the slice of today.
    (neighbours.write)(0)
        .await
        .map_err(|code| anyhow::anyhow!("the first write of today failed: {code}"))?;
    let mut felt = Vec::new();
    let quiet = |part: &str| format!("nothing, {part}");
    felt.push(
        neighbours
            .beside(tasks, quiet("before"), clock::sleep(rest))
            .await?
            .0,
    );

    heal::detect(fleet, namespace, std::slice::from_ref(wide)).await?;
    // From here to the plan it is waited until the slice counts as frozen.
    heal::planning(fleet, namespace, wide).await?;
    let split = heal::completed(fleet, namespace, std::slice::from_ref(wide));
    let throttled = format!("a split of {} at {} MiB/s, the default", wide.id, THROTTLED >> 20);
    let (seen, splits) = neighbours.beside(tasks, throttled, split).await?;
    felt.push(seen);
    let partition = splits?.into_iter().next().and_then(|split| split.partition);
    let partition = partition.context("a split without a partition")?;
    felt.push(
        neighbours
            .beside(tasks, quiet("between"), clock::sleep(rest))
            .await?
            .0,
    );

    set_pace(&mut admin, namespace, UNTHROTTLED).await?;
    admin.invalidate(namespace, &partition).await?;
    admin.plan(namespace, &partition).await?;
    heal::planning(fleet, namespace, wide).await?;
    let split = heal::completed(fleet, namespace, std::slice::from_ref(wide));
    let (seen, splits) = neighbours
        .beside(tasks, format!("a split of {} without a pace", wide.id), split)
        .await?;
    splits?;
    felt.push(seen);
    felt.push(
        neighbours
            .beside(tasks, quiet("after"), clock::sleep(rest))
            .await?
            .0,
    );
    Ok(felt)
}

/// Sets how fast a namespace's partitions are split.
pub(super) async fn set_pace(admin: &mut Admin, namespace: &str, bytes_per_second: u64) -> Result<()> {
    let wide = WidePartition {
        split_bytes_per_second: i64::try_from(bytes_per_second).ok(),
        ..WidePartition::default()
    };
    admin.update(namespace, "split_bytes_per_second", wide).await
}

struct Neighbours {
    read: Call,
    write: Call,
    reads: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Neighbours {
    fn new(server: &Server, namespace: &str, seed: u64) -> Self {
        Self {
            read: reading(server, namespace, seed),
            write: writing(server, namespace, seed),
            reads: Arc::default(),
            writes: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Reads and writes for as long as something else takes.
    async fn beside<T>(
        &self,
        tasks: &Tasks,
        what: String,
        work: impl Future<Output = T>,
    ) -> Result<(Felt, T)> {
        let stop = Arc::new(AtomicBool::new(false));
        let open = |call: &Call, next: &Arc<AtomicU64>, rate| {
            loops::open(
                tasks,
                call.clone(),
                next.clone(),
                rate,
                Until::Stopped(stop.clone()),
            )
        };
        let began = now();
        let work = async {
            let done = work.await;
            stop.store(true, Ordering::Relaxed);
            (done, began.elapsed())
        };
        let (reads, writes, (done, took)) = tokio::join!(
            open(&self.read, &self.reads, READS_PER_SECOND),
            open(&self.write, &self.writes, WRITES_PER_SECOND),
            work
        );
        let felt = Felt {
            beside: what,
            seconds: took.as_secs_f64(),
            reads: reads?.summary(),
            writes: writes?.summary(),
        };
        Ok((felt, done))
    }
}

/// The newest page of one of the ordinary ids, checked.
fn reading(server: &Server, namespace: &str, seed: u64) -> Call {
    let (clients, namespace, ids) = (server.clients.clone(), namespace.to_owned(), ids());
    Arc::new(move |n| {
        let at = |len: usize| usize::try_from(n).unwrap_or(0) % len;
        let (client, id) = (clients[at(clients.len())].clone(), ids[at(ids.len())].clone());
        let request = ReadEventRecordsRequest {
            namespace: namespace.clone(),
            time_series_id: id.id.clone(),
            page_size: i32::try_from(READ_EVENTS).unwrap_or(i32::MAX),
            ..ReadEventRecordsRequest::default()
        };
        Box::pin(async move {
            let records = calls::read(client, request, DEADLINE).await?;
            let right = records.len() as u64 == READ_EVENTS
                && data::verify_page(seed, &id.id, id.events - 1, &records).is_ok();
            if right { Ok(()) } else { Err(Code::DataLoss) }
        })
    })
}

/// A batch of one id that happens now.
fn writing(server: &Server, namespace: &str, seed: u64) -> Call {
    let (clients, namespace) = (server.clients.clone(), namespace.to_owned());
    Arc::new(move |n| {
        let at = usize::try_from(n).unwrap_or(0) % clients.len();
        let client = clients[at].clone();
        // Behind what was sealed a moment ago.
        let seconds = i64::try_from(clock::unix_seconds()).unwrap_or(0) + 1;
        let events = (0..WRITE_EVENTS).map(|event| {
            let mut event = data::page_event(seed, &format!("now-{:02}", n % IDS), n * WRITE_EVENTS + event);
            event.event_time = Some(data::timestamp(seconds * 1_000_000));
            event
        });
        Box::pin(calls::write(
            client,
            namespace.clone(),
            events.collect(),
            DEADLINE,
        ))
    })
}
