//! The split pipeline under kills: something to split, and what has to become of it.

use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use wire::response_context::ServedFrom;

use crate::check::check_all;
use crate::harness::{self, Admin, Server};
use crate::{Folder, NAMESPACE, Totals};

const CONVERGES_WITHIN: Duration = Duration::from_secs(60);

/// Seals what was written so far. Every series goes on at one instant that is later than all of it; the numbers between
/// are never sent.
pub(crate) async fn seal(admin: &mut Admin, folder: &mut Folder) -> Result<(), String> {
    let lengths = folder.known.iter().map(|known| known.lock().unwrap().len());
    let sealed = lengths.max().unwrap_or_default().next_multiple_of(3);
    for known in folder.known.iter() {
        known.lock().unwrap().pass_over(sealed);
    }
    folder.sealed = sealed;
    let request = admin::SealTimeSlicesRequest {
        namespace: NAMESPACE.to_owned(),
        before: folder.maker.event(0, folder.sealed).event_time,
    };
    let sealed = admin.seal_time_slices(request).await;
    sealed.map(drop).map_err(|status| format!("sealing: {status}"))
}

fn at_rest(split: &admin::Split) -> bool {
    use admin::split::State;
    // A parked one waits for more to be sealed.
    matches!(
        split.state(),
        State::Completed | State::NotWorthIt | State::Parked
    )
}

/// Counts what the kill before left to go on with.
pub(crate) async fn interrupted(server: &Server, totals: &mut Totals) {
    for split in harness::splits(server, NAMESPACE).await {
        if !at_rest(&split) {
            *totals.interrupted.entry(split.state().as_str_name()).or_default() += 1;
        }
    }
}

/// Lets every split come to rest, and reads everything once more, through what was split.
pub(crate) async fn converge(server: &Server, folder: &Folder, totals: &mut Totals) -> Result<(), String> {
    rest(server).await?;
    // A detection that the kill took with it is made again by a read.
    check_all(server, folder, totals).await?;
    let completed = rest(server).await?;
    let since = Instant::now();
    totals.completed += completed;
    // Its filter learns of a split a moment after it completed.
    let mut pages = 0;
    while completed > 0 && pages == 0 {
        if since.elapsed() > CONVERGES_WITHIN {
            return Err(format!(
                "{completed} splits completed, and no read goes to a target"
            ));
        }
        pages = pages_from_targets(server, folder).await?;
    }
    totals.pages_from_targets += pages;
    check_all(server, folder, totals).await
}

/// Waits until nothing moves any more; returns how many splits are completed. There may be hundreds in line: what must
/// not be is that none of them gets on.
async fn rest(server: &Server) -> Result<u64, String> {
    let (mut since, mut left) = (Instant::now(), usize::MAX);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let splits = harness::splits(server, NAMESPACE).await;
        let moving: Vec<&admin::Split> = splits.iter().filter(|split| !at_rest(split)).collect();
        let Some(one) = moving.first() else {
            let completed = splits
                .iter()
                .filter(|split| split.state() == admin::split::State::Completed);
            return Ok(completed.count() as u64);
        };
        if moving.len() < left {
            (since, left) = (Instant::now(), moving.len());
        } else if since.elapsed() > CONVERGES_WITHIN {
            return Err(format!("{left} splits do not converge, such as {one:?}"));
        }
    }
}

async fn pages_from_targets(server: &Server, folder: &Folder) -> Result<u64, String> {
    let mut client = server.events().await;
    let mut pages = 0;
    for series in 0..folder.known.len() as u64 {
        let request = wire::ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: folder.maker.series(series),
            page_size: 100,
            latency_slo: Some(harness::duration(30)),
            ..wire::ReadEventRecordsRequest::default()
        };
        let look = |page: &wire::ReadEventRecordsResponse| {
            pages += u64::from(page.response_context[0].served_from() != ServedFrom::Original);
        };
        let walk = harness::walk_pages(&mut client, request, look).await;
        walk.map_err(|status| format!("series {series}: {status}"))?;
    }
    Ok(pages)
}
