//! What has to hold when nothing fails any more: every split rests, and everything is there, wherever it is read from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use wire::response_context::ServedFrom;

use crate::data::Data;
use crate::harness::fleet::Fleet;
use crate::harness::{self, Server, micros};
use crate::load::{Client, everything};

const RESTS_WITHIN: Duration = Duration::from_secs(900);
/// How long one request may take: nothing fails any more, and time is not what is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
/// Every server's filter and cache know of a change by then.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);
/// Later than the end of any slice of the run.
const AFTER_ALL: i64 = 30 * 86_400;

/// A partition of a namespace: slice, series, time bucket.
type Place = (String, u64, i64);

/// A partition that is split, and where it lies.
struct Span {
    start_micros: i64,
    end_micros: i64,
    series: u64,
}

/// Seals everything and waits until every split rests; then reads it all, from targets and from originals.
pub(crate) async fn comes_to_rest(
    servers: &[Server],
    client: &Client,
    all: &[Arc<Data>],
) -> Result<(), String> {
    for data in all {
        let before = data.maker.start_micros / 1_000_000 + AFTER_ALL;
        let request = admin::SealTimeSlicesRequest {
            namespace: data.namespace.to_owned(),
            before: Some(harness::timestamp(before * 1_000_000)),
        };
        let sealed = servers[0].admin().await.seal_time_slices(request).await;
        sealed.map_err(|status| format!("seal: {status}"))?;
    }
    for data in all {
        rest(servers, client, data).await?;
    }
    tokio::time::sleep(KNOWN_WITHIN).await;
    for data in all {
        for span in completed(&servers[0], data).await {
            from_targets(client, data, &span).await?;
        }
    }
    let through_targets = read_all(client, all).await?;
    for data in all {
        let wide = admin::WidePartition {
            rollout: admin::wide_partition::Rollout::Split.into(),
            ..admin::WidePartition::default()
        };
        let request = admin::UpdateNamespaceRequest {
            namespace: Some(admin::Namespace {
                wide_partition: Some(wide),
                ..harness::namespace(data.namespace)
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["wide_partition.rollout".to_owned()],
            }),
        };
        let updated = servers[0].admin().await.update_namespace(request).await;
        updated.map_err(|status| format!("rollout: {status}"))?;
    }
    tokio::time::sleep(KNOWN_WITHIN).await;
    let pages = client
        .load
        .pages_from_targets
        .load(std::sync::atomic::Ordering::Relaxed);
    let from_originals = read_all(client, all).await?;
    if client
        .load
        .pages_from_targets
        .load(std::sync::atomic::Ordering::Relaxed)
        != pages
    {
        return Err("a read of originals was served from targets".to_owned());
    }
    if through_targets != from_originals {
        return Err("targets and originals do not hold the same".to_owned());
    }
    let events: usize = from_originals.iter().map(Vec::len).sum();
    let in_doubt: u64 = all
        .iter()
        .flat_map(|data| (0..data.series).map(|series| data.fates(series).in_doubt()))
        .sum();
    println!(
        "{events} events are there, from targets and from originals alike; {in_doubt} that were never acked are not"
    );
    Ok(())
}

/// Reads everything, as users would, until whatever is wide is split or found not worth it.
async fn rest(servers: &[Server], client: &Client, data: &Arc<Data>) -> Result<(), String> {
    use admin::split::State;
    let since = Instant::now();
    loop {
        for series in 0..data.series {
            read_series(client, data, series, false).await?;
        }
        let splits = harness::splits(&servers[0], data.namespace).await;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for split in &splits {
            *counts.entry(split.state().as_str_name()).or_default() += 1;
        }
        let rests = |split: &&admin::Split| matches!(split.state(), State::Completed | State::NotWorthIt);
        let moving = splits.iter().find(|split| !rests(split));
        let left = wide(&servers[0], data, &splits).await;
        if moving.is_none() && left.is_empty() {
            println!(
                "{}: at rest after {:.0?}: {counts:?}",
                data.namespace,
                since.elapsed()
            );
            return Ok(());
        }
        if since.elapsed() > RESTS_WITHIN {
            return Err(format!(
                "{} does not come to rest: {counts:?}, such as {moving:?}; wide and not split: {left:?}",
                data.namespace
            ));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Partitions of which more is left in the original alone than a read may have to touch.
async fn wide(server: &Server, data: &Data, splits: &[admin::Split]) -> Vec<(Place, u64)> {
    let slices = slices(server, data).await;
    let boundaries: BTreeMap<Place, i64> = splits
        .iter()
        .filter_map(|split| {
            let boundary = match split.boundary.as_ref() {
                _ if split.state() == admin::split::State::NotWorthIt => i64::MAX,
                Some(boundary) if split.serving_generation > 0 => micros(boundary),
                _ => return None,
            };
            Some((place(data, split.partition.as_ref()?), boundary))
        })
        .collect();
    let mut left: BTreeMap<Place, u64> = BTreeMap::new();
    for series in 0..data.series {
        let there = data.fates(series).there(0..u64::MAX);
        for n in there {
            let event = data.maker.event(series, n);
            let time = micros(event.event_time.as_ref().unwrap());
            let (start, (name, bucket)) = slices.range(..=time).next_back().unwrap();
            let place = (name.clone(), series, (time - start) / bucket);
            if boundaries.get(&place).is_none_or(|boundary| time >= *boundary) {
                *left.entry(place).or_default() += data.event_bytes(&event);
            }
        }
    }
    left.into_iter()
        .filter(|(_, bytes)| *bytes > data.detect_bytes)
        .collect()
}

/// Start of each slice; its name, and the width of its buckets in microseconds.
async fn slices(server: &Server, data: &Data) -> BTreeMap<i64, (String, i64)> {
    let slices = harness::time_slices(server, data.namespace).await;
    slices
        .into_iter()
        .map(|slice| {
            let start = micros(&slice.interval.unwrap().start.unwrap());
            let bucket = slice.settings.unwrap().seconds_per_time_bucket;
            (start, (slice.name, bucket * 1_000_000))
        })
        .collect()
}

fn place(data: &Data, partition: &admin::Partition) -> Place {
    let mut series = 0..data.series;
    let series = series.find(|series| data.maker.series(*series) == partition.time_series_id);
    (
        partition.time_slice.clone(),
        series.expect("a split of a series that is not there"),
        partition.time_bucket,
    )
}

/// Where completed splits lie, as far as they reach to the end of their partition.
async fn completed(server: &Server, data: &Data) -> Vec<Span> {
    let slices: BTreeMap<String, (i64, i64)> = slices(server, data)
        .await
        .into_iter()
        .map(|(start, (name, bucket))| (name, (start, bucket)))
        .collect();
    let splits = harness::splits(server, data.namespace).await;
    splits
        .iter()
        .filter(|split| split.serving_generation > 0)
        .filter_map(|split| {
            let (slice, series, time_bucket) = place(data, split.partition.as_ref()?);
            let (start, bucket) = slices.get(&slice)?;
            let start_micros = start + time_bucket * bucket;
            let end_micros = start_micros + bucket;
            (micros(split.boundary.as_ref()?) >= end_micros).then_some(Span {
                start_micros,
                end_micros,
                series,
            })
        })
        .collect()
}

/// A partition that is split to its end is read from its targets alone.
async fn from_targets(client: &Client, data: &Data, span: &Span) -> Result<(), String> {
    let instant = |micros: i64| {
        let since = (micros - data.maker.start_micros).max(0);
        u64::try_from(since / data.maker.step_micros).unwrap()
    };
    let instants = instant(span.start_micros)..instant(span.end_micros);
    for server in &client.servers {
        let mut request = data.request(span.series, &instants, true);
        request.page_size = 10_000;
        let page = server.clone().read_event_records(request).await;
        let page = page
            .map_err(|status| format!("a read of a split partition: {status}"))?
            .into_inner();
        let from = page.response_context[0].served_from();
        if from != ServedFrom::Targets {
            return Err(format!(
                "{}, series {}, instants {instants:?} is split and served from {from:?}",
                data.namespace, span.series
            ));
        }
    }
    Ok(())
}

/// Every series, oldest first, after it was read both ways from each server.
async fn read_all(client: &Client, all: &[Arc<Data>]) -> Result<Vec<Vec<wire::EventRecord>>, String> {
    let mut found = Vec::new();
    for data in all {
        for series in 0..data.series {
            let mut of_series: Option<Vec<wire::EventRecord>> = None;
            for server in &client.servers {
                let client = Client {
                    servers: vec![server.clone()],
                    ..client.clone()
                };
                for ascending in [true, false] {
                    let mut records = read_series(&client, data, series, ascending).await?;
                    if !ascending {
                        records.reverse();
                    }
                    if of_series.as_ref().is_some_and(|before| *before != records) {
                        return Err(format!("{}, series {series}: two reads differ", data.namespace));
                    }
                    of_series = Some(records);
                }
            }
            found.extend(of_series);
        }
    }
    Ok(found)
}

async fn read_series(
    client: &Client,
    data: &Data,
    series: u64,
    ascending: bool,
) -> Result<Vec<wire::EventRecord>, String> {
    let instants = everything(data);
    let before = data.fates(series).there(data.numbers(&instants));
    let request = data.request(series, &instants, ascending);
    let mut client = Client {
        deadline: PATIENCE,
        ..client.clone()
    };
    let records = client.walk(request, 1_000).await?;
    let records = records.ok_or("nothing is the matter, and a read fails again and again")?;
    data.check(series, &instants, ascending, &records, &before)?;
    Ok(records)
}

/// Nothing panicked, and no target was ever found to be wrong.
pub(crate) fn logs_are_clean(fleet: &Fleet) -> Result<(), String> {
    const NEVER: [&str; 4] = [
        "panicked",
        "checksums differ",
        "split is invalidated",
        "differs from the original",
    ];
    for role in ["serve", "planner", "splitter"] {
        let log = fleet.log(role);
        if let Some(line) = log
            .lines()
            .find(|line| NEVER.iter().any(|never| line.contains(never)))
        {
            return Err(format!("{role} says: {line}"));
        }
    }
    Ok(())
}
