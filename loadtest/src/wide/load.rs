//! Writes the wide partitions, through the service, so that they come to lie as a regime wants them.

use anyhow::{Result, ensure};

use super::fleet::{Admin, Fleet, Side};
use super::node::Node;
use crate::data;
use crate::reads::Wide;
use crate::writes;

const BATCH_EVENTS: usize = 500;
const IN_FLIGHT: usize = 8;

/// What lies where, of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) namespace: String,
    /// The keyspace of it.
    pub(super) keyspace: String,
    /// Table of the originals.
    pub(super) data_table: String,
    /// Table of the targets.
    pub(super) wide_table: String,
}

impl Ground {
    async fn of(fleet: &Fleet, admin: &mut Admin, namespace: &str) -> Result<Self> {
        let slice = admin.oldest_slice(namespace).await?;
        Ok(Self {
            namespace: namespace.to_owned(),
            keyspace: format!("{}_{namespace}", fleet.keyspace),
            data_table: format!("data_{slice}"),
            wide_table: format!("wide_data_{slice}"),
        })
    }
}

/// In order of time, then as one SSTable.
pub(super) async fn in_order(
    fleet: &Fleet,
    node: &Node,
    namespace: &str,
    seed: u64,
    ids: &[Wide],
) -> Result<Ground> {
    for id in ids {
        write(fleet, namespace, seed, id, |_| true).await?;
    }
    let ground = Ground::of(fleet, &mut fleet.admin().await?, namespace).await?;
    node.nodetool(&["flush", &ground.keyspace, &ground.data_table])
        .await?;
    node.nodetool(&["compact", &ground.keyspace, &ground.data_table])
        .await?;
    Ok(ground)
}

/// Spread over so many SSTables, each with events of all times, and left so.
pub(super) async fn scattered(
    fleet: &Fleet,
    node: &Node,
    namespace: &str,
    seed: u64,
    ids: &[Wide],
    flushes: u64,
) -> Result<Ground> {
    let mut ground = None;
    for flush in 0..flushes {
        for id in ids {
            let of_flush = |n: u64| flush_of(seed, n, flushes) == flush;
            write(fleet, namespace, seed, id, of_flush).await?;
        }
        let ground = match &mut ground {
            Some(ground) => ground,
            none => {
                let ground = Ground::of(fleet, &mut fleet.admin().await?, namespace).await?;
                node.nodetool(&["disableautocompaction", &ground.keyspace, &ground.data_table])
                    .await?;
                none.insert(ground)
            }
        };
        node.nodetool(&["flush", &ground.keyspace, &ground.data_table])
            .await?;
    }
    match ground {
        Some(ground) => Ok(ground),
        None => anyhow::bail!("nothing was flushed"),
    }
}

/// The flush that an event comes with: at random, so that each flush has events of all times.
fn flush_of(seed: u64, n: u64, flushes: u64) -> u64 {
    let drawn = data::payload(seed, "flush", n, 16);
    u64::from_le_bytes(drawn.first_chunk().copied().unwrap_or_default()) % flushes
}

/// Writes those events of an id that are wanted now.
async fn write(
    fleet: &Fleet,
    namespace: &str,
    seed: u64,
    id: &Wide,
    wanted: impl Fn(u64) -> bool + Send + Sync,
) -> Result<()> {
    let mut n = 0;
    let next = || {
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        while n < id.events && batch.len() < BATCH_EVENTS {
            if wanted(n) {
                batch.push(data::page_event(seed, &id.id, n));
            }
            n += 1;
        }
        (!batch.is_empty()).then_some(batch)
    };
    let window = writes::ingest_stream(fleet.client(Side::Targets), namespace, next, IN_FLIGHT).await?;
    ensure!(
        window.outcomes.all_ok(),
        "loading id {} failed: {:?}",
        id.id,
        window.outcomes
    );
    Ok(())
}
