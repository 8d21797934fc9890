//! Has partitions split by the pipeline itself: a read finds them wide, and then they are waited for.

use std::time::Duration;

use anabranch_proto::admin::v1::{Split, WidePartition, split, wide_partition};
use anabranch_proto::timeseries::v1::ReadEventRecordsRequest;
use anabranch_proto::timeseries::v1::response_context::ServedFrom;
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::fleet::{DETECT_BYTES, Fleet, Side};
use super::pages::{self, Shape};
use crate::clock::{self, now};
use crate::reads::Wide;

const HEALED_WITHIN: Duration = Duration::from_secs(900);
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// Seldom enough to be no load of its own.
const POLL: Duration = Duration::from_millis(250);
/// Pages that are read in the stage COMPARE: a gain is stored after each 16 that were compared.
const COMPARED_PAGES: u64 = 64;

/// A split as its record has it.
#[derive(Clone, Debug, Serialize)]
pub struct SplitSeen {
    /// The id.
    pub id: String,
    /// Targets that are served.
    pub targets: i32,
    /// Bytes of the original, as the survey counted them.
    pub source_bytes: i64,
    /// What `compare` measured, as `split list` and `split show` have it.
    pub gain_ratio: Option<f64>,
    /// Reads that this rests on.
    pub compared_reads: i64,
}

/// Reads ids until they are found wide.
pub(super) async fn detect(fleet: &Fleet, namespace: &str, ids: &[Wide]) -> Result<()> {
    for id in ids {
        let mut client = fleet.client(Side::Targets);
        let (mut bytes, mut token) = (0, String::new());
        while bytes <= DETECT_BYTES {
            let request = ReadEventRecordsRequest {
                namespace: namespace.to_owned(),
                time_series_id: id.id.clone(),
                page_size: 1_000,
                page_token: token,
                ..ReadEventRecordsRequest::default()
            };
            let page = client.read_event_records(request).await?.into_inner();
            let read: i64 = page
                .response_context
                .iter()
                .map(|context| context.bytes_read)
                .sum();
            bytes += u64::try_from(read)?;
            token = page.next_page_token;
            ensure!(
                !token.is_empty() || bytes > DETECT_BYTES,
                "id {} is not wide enough: only {bytes} bytes",
                id.id
            );
        }
    }
    Ok(())
}

/// Waits until a planner has begun to survey an id, or is through already.
pub(super) async fn planning(fleet: &Fleet, namespace: &str, id: &Wide) -> Result<()> {
    use split::State;
    let began = now();
    let mut admin = fleet.admin().await?;
    loop {
        let splits = admin.splits(namespace).await?;
        let of = |split: &Split| {
            let partition = split.partition.as_ref();
            let begun = matches!(
                split.state(),
                State::Planning | State::Planned | State::Splitting | State::Verifying | State::Completed
            );
            begun && partition.is_some_and(|partition| partition.time_series_id == id.id)
        };
        if splits.iter().any(of) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < HEALED_WITHIN,
            "not planned within {HEALED_WITHIN:?}: {splits:?}"
        );
        clock::sleep(POLL).await;
    }
}

/// Waits until every id of a namespace is split and served from targets. How each stands, in the order of the ids.
pub(super) async fn completed(fleet: &Fleet, namespace: &str, ids: &[Wide]) -> Result<Vec<Split>> {
    let began = now();
    let mut admin = fleet.admin().await?;
    let found = loop {
        let splits = admin.splits(namespace).await?;
        let of = |id: &Wide| {
            let is = |split: &&Split| {
                let partition = split.partition.as_ref();
                partition.is_some_and(|partition| partition.time_series_id == id.id)
                    && split.state() == split::State::Completed
            };
            splits.iter().find(is).cloned()
        };
        if let Some(found) = ids.iter().map(of).collect::<Option<Vec<Split>>>() {
            break found;
        }
        ensure!(
            began.elapsed() < HEALED_WITHIN,
            "not split within {HEALED_WITHIN:?}: {splits:?}"
        );
        clock::sleep(POLL).await;
    };
    let mut client = fleet.client(Side::Targets);
    for id in ids {
        let began = now();
        loop {
            let request = ReadEventRecordsRequest {
                namespace: namespace.to_owned(),
                time_series_id: id.id.clone(),
                page_size: 1,
                ..ReadEventRecordsRequest::default()
            };
            let page = client.read_event_records(request).await?.into_inner();
            let context = page
                .response_context
                .first()
                .context("an answer without a context")?;
            if context.served_from() != ServedFrom::Original {
                break;
            }
            ensure!(
                began.elapsed() < SERVED_WITHIN,
                "id {} is not served from targets",
                id.id
            );
            clock::sleep(POLL).await;
        }
    }
    Ok(found)
}

/// Puts a namespace into the stage COMPARE, reads, puts it back. What the records then say of each id.
pub(super) async fn gains(fleet: &Fleet, namespace: &str, ids: &[Wide], seed: u64) -> Result<Vec<SplitSeen>> {
    let mut admin = fleet.admin().await?;
    let every_read = WidePartition {
        compare_ratio: Some(1.0),
        ..WidePartition::default()
    };
    admin.update(namespace, "compare_ratio", every_read).await?;
    let stage = |rollout: wide_partition::Rollout| WidePartition {
        rollout: rollout.into(),
        ..WidePartition::default()
    };
    admin
        .update(namespace, "rollout", stage(wide_partition::Rollout::Compare))
        .await?;
    for id in ids {
        let shape = Shape {
            namespace: namespace.to_owned(),
            id: id.clone(),
            newest_first: true,
            readers: 1,
            seed,
        };
        // One comparison at a time: a pause leaves room for the second read.
        let pause = Duration::from_millis(15);
        pages::read_some(&mut fleet.client(Side::Targets), &shape, COMPARED_PAGES, pause).await?;
    }
    clock::sleep(Duration::from_secs(1)).await;
    admin
        .update(namespace, "rollout", stage(wide_partition::Rollout::Serve))
        .await?;
    let mut seen = Vec::new();
    for split in completed(fleet, namespace, ids).await? {
        let partition = split.partition.clone().context("a split without a partition")?;
        let split = admin.split(namespace, &partition).await?;
        seen.push(SplitSeen {
            id: partition.time_series_id,
            targets: split.target_count,
            source_bytes: split.source_bytes,
            gain_ratio: split.gain_ratio,
            compared_reads: split.compared_reads,
        });
    }
    Ok(seen)
}
