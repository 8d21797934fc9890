//! Shows wide partitions being found, split, proved and served, and says what that did and what it did not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_proto::admin::v1::split::State;
use anabranch_proto::admin::v1::{ListSplitsRequest, Split};
use anabranch_proto::timeseries::v1::ReadEventRecordsResponse;
use anabranch_proto::timeseries::v1::response_context::ServedFrom;
use anabranch_runtime::Clock;
use prost::Message;
use xxhash_rust::xxh3::Xxh3Default;

use super::NAMESPACE;
use super::data::wide_ids;
use super::latency::Latencies;
use super::tour::{page_of, read};
use crate::client::Client;
use crate::commands::{Session, partition_text};
use crate::exit::Failure;
use crate::output::{print_line, table};
use crate::units::{counted, format_elapsed, format_size};

/// How often the splits are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the first detection is waited for: a small demo has nothing wide.
const FIND_WITHIN: Duration = Duration::from_secs(10);
/// How long healing is watched.
const WATCH_FOR: Duration = Duration::from_secs(120);
const WALK_PAGE: i32 = 1_000;

/// One walk over an id, from its newest event to its first.
#[derive(Default)]
struct Walk {
    latencies: Latencies,
    events: u64,
    digest: u64,
    through_targets: usize,
}

pub(super) async fn run(session: &Session, client: &Client) -> Result<(), Failure> {
    print_line(
        "\nwide partitions: every id that is too wide is read once, from end to end. Nobody asks for a split;\nthe server notices:\n",
    )?;
    let began = session.clock.elapsed();
    let walked = AtomicBool::new(false);
    let walks = async {
        let mut walks = Vec::new();
        for id in wide_ids() {
            walks.push(walk(session, client, id).await?);
        }
        walked.store(true, Ordering::Relaxed);
        Ok(walks)
    };
    let (mut before, splits) = tokio::try_join!(walks, watch(session, client, began, &walked))?;
    if splits.is_empty() {
        return Ok(());
    }
    let mut after = Vec::new();
    for id in wide_ids() {
        wait_for_targets(session, client, id).await?;
        after.push(walk(session, client, id).await?);
    }
    report(&splits, &mut before, &mut after)
}

fn from_targets(page: &ReadEventRecordsResponse) -> bool {
    let served = page.response_context.first().map(|context| context.served_from());
    matches!(served, Some(ServedFrom::Targets | ServedFrom::Mixed))
}

async fn walk(session: &Session, client: &Client, id: &str) -> Result<Walk, Failure> {
    let mut walk = Walk::default();
    let mut digest = Xxh3Default::new();
    let mut request = page_of(id, WALK_PAGE);
    loop {
        let started = session.clock.elapsed();
        let page = read(client, request.clone()).await?;
        walk.latencies
            .add(session.clock.elapsed().saturating_sub(started));
        walk.events += page.records.len() as u64;
        walk.through_targets += usize::from(from_targets(&page));
        for record in &page.records {
            digest.update(&record.encode_to_vec());
        }
        if page.next_page_token.is_empty() {
            walk.digest = digest.digest();
            return Ok(walk);
        }
        request.page_token = page.next_page_token;
    }
}

/// Says every change of a split until the ids are walked and all splits rest.
async fn watch(
    session: &Session,
    client: &Client,
    began: Duration,
    walked: &AtomicBool,
) -> Result<Vec<Split>, Failure> {
    let mut known: BTreeMap<String, State> = BTreeMap::new();
    let mut started = session.clock.elapsed();
    loop {
        let request = ListSplitsRequest {
            namespace: NAMESPACE.to_owned(),
            page_size: 1_000,
            ..ListSplitsRequest::default()
        };
        let splits = client
            .admin
            .clone()
            .list_splits(request)
            .await?
            .into_inner()
            .splits;
        for split in &splits {
            let name = name(split);
            let state = split.state();
            if known.insert(name.clone(), state) != Some(state) {
                let at = format_elapsed(session.clock.elapsed().saturating_sub(began));
                print_line(&format!("  {at:>8}  {name:<34} {}", told(split)))?;
            }
        }
        let resting = |split: &Split| {
            matches!(
                split.state(),
                State::Completed | State::NotWorthIt | State::Quarantined | State::Parked
            )
        };
        if !walked.load(Ordering::Relaxed) {
            started = session.clock.elapsed();
        } else if !splits.is_empty() && splits.iter().all(resting) {
            return Ok(splits);
        }
        let watched = session.clock.elapsed().saturating_sub(started);
        if splits.is_empty() && watched > FIND_WITHIN {
            print_line("  nothing is wide enough to be split (8 MiB a partition): use a larger --scale")?;
            return Ok(splits);
        }
        if watched > WATCH_FOR {
            print_line("  (not all done yet: `anabranch split watch demo` shows how it goes on)")?;
            return Ok(splits);
        }
        session.clock.sleep(LOOK_EVERY).await;
    }
}

fn name(split: &Split) -> String {
    split.partition.as_ref().map(partition_text).unwrap_or_default()
}

fn told(split: &Split) -> String {
    let bytes = format_size(u64::try_from(split.source_bytes).unwrap_or(0));
    let targets = counted(u64::try_from(split.target_count).unwrap_or(0), "target");
    match split.state() {
        State::Detected => format!("DETECTED      a read had read {bytes} of it"),
        State::Planned => format!("PLANNED       {bytes} into {targets}"),
        State::Verifying => "VERIFYING     reading the targets back".to_owned(),
        State::Completed => format!("COMPLETED     {bytes} in {targets}, proved equal"),
        state => {
            let state = state.as_str_name();
            format!("{state:<13} {}", split.reason)
        }
    }
}

/// The filter of the server learns of a split a moment after it completed.
async fn wait_for_targets(session: &Session, client: &Client, id: &str) -> Result<(), Failure> {
    for _ in 0..50 {
        if from_targets(&read(client, page_of(id, 1)).await?) {
            break;
        }
        session.clock.sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn report(splits: &[Split], before: &mut [Walk], after: &mut [Walk]) -> Result<(), Failure> {
    let mut rows = vec![
        [
            "  READ FROM END TO END",
            "PAGES",
            "P50",
            "P99",
            "THROUGH TARGETS",
            "P50",
            "P99",
            "SAME EVENTS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for ((id, before), after) in wide_ids().iter().zip(before).zip(after) {
        let same = before.events == after.events && before.digest == after.digest;
        rows.push(vec![
            format!("  {id}"),
            before.latencies.count().to_string(),
            format_elapsed(before.latencies.percentile(50)),
            format_elapsed(before.latencies.percentile(99)),
            format!("{} of {}", after.through_targets, after.latencies.count()),
            format_elapsed(after.latencies.percentile(50)),
            format_elapsed(after.latencies.percentile(99)),
            if same { "yes, byte for byte" } else { "NO" }.to_owned(),
        ]);
    }
    let mut text = Vec::new();
    table::write(&mut text, None, rows, None)?;
    print_line(&format!("\n{}", String::from_utf8_lossy(&text).trim_end()))?;
    let widest = splits.iter().map(|split| split.source_bytes).max().unwrap_or(0);
    let completed = splits.iter().filter(|split| split.state() == State::Completed);
    let target = completed
        .map(|split| split.source_bytes / i64::from(split.target_count).max(1))
        .max()
        .unwrap_or(0);
    print_line(&format!(
        "\nThe widest partition holds {}; the copy that reads go through has targets of about {}. The original stays.\nOn the embedded store a page costs what its own rows cost, however wide the id, so splitting makes the units smaller\nand changes no answer; it is not expected to make these reads faster, and the table says what it did.",
        format_size(u64::try_from(widest).unwrap_or(0)),
        format_size(u64::try_from(target).unwrap_or(0)),
    ))
}
