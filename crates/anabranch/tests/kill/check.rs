//! What a server that was killed has to have kept.

use std::sync::Mutex;

use anabranch_proto::timeseries::v1 as wire;
use futures::StreamExt;

use crate::harness::fates::Fates;
use crate::harness::made::{Maker, check_order};
use crate::harness::{self, Events, Server};
use crate::{Folder, NAMESPACE, Totals};

/// Reads every series, both ways, and folds what is found into what is known.
pub(crate) async fn check_all(server: &Server, folder: &Folder, totals: &mut Totals) -> Result<(), String> {
    let client = server.events().await;
    let (maker, known) = (folder.maker, folder.known.clone());
    let results: Vec<Result<(u64, u64), String>> = futures::stream::iter(0..known.len() as u64)
        .map(|series| {
            let (client, known) = (client.clone(), known.clone());
            async move { check_series(client, maker, series, &known[usize::try_from(series).unwrap()]).await }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for result in results {
        let (returned, found) = result?;
        totals.checked += returned;
        totals.unknown_found += found;
    }
    Ok(())
}

async fn check_series(
    mut client: Events,
    maker: Maker,
    series: u64,
    known: &Mutex<Fates>,
) -> Result<(u64, u64), String> {
    let newest_first = read_series(&mut client, maker, series, false, 1_000).await?;
    let mut oldest_first = read_series(&mut client, maker, series, true, 777).await?;
    oldest_first.reverse();
    if newest_first != oldest_first {
        return Err(format!(
            "series {series}: {} events one way, {} the other",
            newest_first.len(),
            oldest_first.len()
        ));
    }
    let mut known = known.lock().unwrap();
    let (there, all) = (known.there(0..u64::MAX), 0..u64::MAX);
    let found = known
        .check(&newest_first, &there, all)
        .map_err(|why| format!("series {series}: {why}"))?;
    // What a restart did not show stays away.
    known.give_up_unknown();
    Ok((newest_first.len() as u64, found))
}

/// The numbers of a series' events, after every byte and their order was checked.
pub(crate) async fn read_series(
    client: &mut Events,
    maker: Maker,
    series: u64,
    ascending: bool,
    page_size: i32,
) -> Result<Vec<u64>, String> {
    let direction = if ascending {
        wire::Direction::Ascending
    } else {
        wire::Direction::Descending
    };
    let request = wire::ReadEventRecordsRequest {
        namespace: NAMESPACE.into(),
        time_series_id: maker.series(series),
        direction: direction.into(),
        page_size,
        latency_slo: Some(harness::duration(30)),
        ..wire::ReadEventRecordsRequest::default()
    };
    let records = harness::walk(client, request)
        .await
        .map_err(|status| format!("series {series}: {status}"))?;
    check_order(&records, ascending).map_err(|why| format!("series {series}: {why}"))?;
    records
        .iter()
        .map(|record| maker.number(series, record))
        .collect()
}
