//! Reads what was loaded: newest pages, times of many pages, a search, an aggregate. Says what to try.

use anabranch_proto::timeseries::v1::aggregation_query::Aggregation;
use anabranch_proto::timeseries::v1::{
    AggregateEventRecordsRequest, AggregateEventRecordsResponse, AggregationQuery, CountAggregation,
    EventRecord, GroupBy, ReadEventRecordsRequest, ReadEventRecordsResponse, SearchEventRecordsRequest,
    TimeInterval, aggregate_group, group_by,
};
use anabranch_runtime::Clock;

use super::NAMESPACE;
use super::data::{profile, wide_ids};
use super::latency::Latencies;
use crate::client::{Client, DEFAULT_SERVER};
use crate::commands::{Session, explain_line, quote};
use crate::exit::Failure;
use crate::output::{print_line, program, table};
use crate::query;
use crate::units::{format_elapsed, format_size, format_time};

/// Rows of a page that are shown.
const SHOWN: usize = 3;
/// Pages timed of each kind.
const TIMED: u64 = 200;
/// Events of a timed page.
const TIMED_PAGE: i32 = 100;
const ORDINARY: u64 = 7;
const SEARCH: &str = r#"id = "device:whale" AND kind = "error""#;

pub(super) async fn run(session: &Session, client: &Client) -> Result<(), Failure> {
    let ordinary = profile(ORDINARY);
    for id in [ordinary.as_str()].into_iter().chain(wide_ids()) {
        newest_page(session, client, id).await?;
    }
    time_pages(session, client).await?;
    search(session, client).await?;
    aggregate(session, client).await?;
    Ok(())
}

/// Says what to try next.
pub(super) fn print_next(url: &str) -> Result<(), Failure> {
    print_line(&format!("\ntry this next\n{}", next(url).join("\n")))
}

pub(super) async fn read(
    client: &Client,
    request: ReadEventRecordsRequest,
) -> Result<ReadEventRecordsResponse, Failure> {
    Ok(client
        .events
        .clone()
        .read_event_records(request)
        .await?
        .into_inner())
}

pub(super) fn page_of(id: &str, page_size: i32) -> ReadEventRecordsRequest {
    ReadEventRecordsRequest {
        namespace: NAMESPACE.to_owned(),
        time_series_id: id.to_owned(),
        page_size,
        ..ReadEventRecordsRequest::default()
    }
}

async fn newest_page(session: &Session, client: &Client, id: &str) -> Result<(), Failure> {
    let started = session.clock.elapsed();
    let page = read(client, page_of(id, 0)).await?;
    let took = session.clock.elapsed().saturating_sub(started);
    let more = if page.next_page_token.is_empty() {
        "all there is"
    } else {
        "and more"
    };
    print_line(&format!(
        "\nnewest page of {id}: {} events, {more}, in {}",
        page.records.len(),
        format_elapsed(took)
    ))?;
    rows(&page.records)?;
    for context in &page.response_context {
        print_line(&format!("  {}", explain_line(context)))?;
    }
    Ok(())
}

fn rows(events: &[EventRecord]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for event in events.iter().take(SHOWN) {
        let items: Vec<_> = event
            .event_items
            .iter()
            .map(|item| {
                format!(
                    "{}={}",
                    item.event_item_key,
                    crate::output::records::shown(&item.event_item_value)
                )
            })
            .collect();
        let time = event.event_time.as_ref().map(format_time).unwrap_or_default();
        rows.push(vec![format!("  {time}"), event.event_id.clone(), items.join(" ")]);
    }
    let mut text = Vec::new();
    let width = table::width().unwrap_or(120);
    table::write(&mut text, None, rows, Some(width))?;
    print_line(String::from_utf8_lossy(&text).trim_end())
}

async fn time_pages(session: &Session, client: &Client) -> Result<(), Failure> {
    let mut rows = vec![
        ["  PAGES OF 100", "READS", "P50", "P99", "READ FOR A PAGE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut narrow = Timed::default();
    for number in 0..TIMED {
        narrow
            .page(session, client, page_of(&profile(number % 20), TIMED_PAGE))
            .await?;
    }
    rows.push(narrow.row("ordinary ids"));
    for id in wide_ids() {
        // Walked page by page, so that not only the newest is timed.
        let mut wide = Timed::default();
        let mut request = page_of(id, TIMED_PAGE);
        for _ in 0..TIMED {
            request.page_token = wide.page(session, client, request.clone()).await?;
        }
        rows.push(wide.row(id));
    }
    let mut text = Vec::new();
    table::write(&mut text, None, rows, None)?;
    print_line(&format!("\n{}", String::from_utf8_lossy(&text).trim_end()))
}

#[derive(Default)]
struct Timed {
    latencies: Latencies,
    bytes: u64,
}

impl Timed {
    async fn page(
        &mut self,
        session: &Session,
        client: &Client,
        request: ReadEventRecordsRequest,
    ) -> Result<String, Failure> {
        let started = session.clock.elapsed();
        let page = read(client, request).await?;
        self.latencies
            .add(session.clock.elapsed().saturating_sub(started));
        let bytes: i64 = page
            .response_context
            .iter()
            .map(|context| context.bytes_read)
            .sum();
        self.bytes += u64::try_from(bytes).unwrap_or(0);
        Ok(page.next_page_token)
    }

    fn row(&mut self, name: &str) -> Vec<String> {
        let count = self.latencies.count();
        vec![
            format!("  {name}"),
            count.to_string(),
            format_elapsed(self.latencies.percentile(50)),
            format_elapsed(self.latencies.percentile(99)),
            format_size(self.bytes / (count as u64).max(1)),
        ]
    }
}

async fn search(session: &Session, client: &Client) -> Result<(), Failure> {
    let request = SearchEventRecordsRequest {
        namespace: NAMESPACE.to_owned(),
        search_query: Some(query::parse(SEARCH).map_err(Failure::internal)?),
        page_size: 3,
        ..SearchEventRecordsRequest::default()
    };
    let started = session.clock.elapsed();
    let answer = client
        .events
        .clone()
        .search_event_records(request)
        .await?
        .into_inner();
    let took = session.clock.elapsed().saturating_sub(started);
    print_line(&format!(
        "\nsearch {SEARCH}: the {} newest, in {}",
        answer.records.len(),
        format_elapsed(took)
    ))?;
    rows(&answer.records)
}

async fn aggregate(session: &Session, client: &Client) -> Result<(), Failure> {
    let id = profile(ORDINARY);
    let request = AggregateEventRecordsRequest {
        namespace: NAMESPACE.to_owned(),
        time_interval: None::<TimeInterval>,
        search_query: Some(query::parse(&format!("id = \"{id}\"")).map_err(Failure::internal)?),
        aggregation_query: Some(AggregationQuery {
            aggregation: Some(Aggregation::Count(CountAggregation::default())),
            group_by: Some(GroupBy {
                group_by: Some(group_by::GroupBy::EventItemKey("kind".to_owned())),
            }),
        }),
        ..AggregateEventRecordsRequest::default()
    };
    let started = session.clock.elapsed();
    let answer = client
        .events
        .clone()
        .aggregate_event_records(request)
        .await?
        .into_inner();
    let took = session.clock.elapsed().saturating_sub(started);
    print_line(&format!(
        "\nevents of {id} by kind, in {}: {}",
        format_elapsed(took),
        counts(&answer)
    ))
}

fn counts(answer: &AggregateEventRecordsResponse) -> String {
    let one = |row: &anabranch_proto::timeseries::v1::AggregateRow| {
        let group = match row.group.as_ref().and_then(|group| group.group.as_ref()) {
            Some(aggregate_group::Group::EventItemValue(value)) => crate::output::records::shown(value),
            _ => "-".to_owned(),
        };
        format!("{group} {}", row.count)
    };
    answer.rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Commands that work as they are printed, from the folder that the demo was started in.
fn next(url: &str) -> Vec<String> {
    let anabranch = quote(&program());
    let server = if url == DEFAULT_SERVER {
        String::new()
    } else {
        format!(" --server {url}")
    };
    let json =
        format!(r#"{{"namespace": "{NAMESPACE}", "timeSeriesId": "profile:{ORDINARY}", "pageSize": 2}}"#);
    vec![
        format!("  {anabranch} read {NAMESPACE} --id profile:{ORDINARY} --limit 5 -o table{server}"),
        format!("  {anabranch} read {NAMESPACE} --id device:whale --page-size 1000 --explain{server}"),
        format!("  {anabranch} search {NAMESPACE} --query '{SEARCH}' --page-size 5{server}"),
        format!(
            "  {anabranch} aggregate {NAMESPACE} --count --by-time 1d --query 'id = \"bot:feed\"' -o table{server}"
        ),
        format!("  {anabranch} split list {NAMESPACE} -o table{server}"),
        format!("  {anabranch} widths {NAMESPACE} -o table{server}"),
        format!("  {anabranch} slices {NAMESPACE} -o table{server}"),
        format!("  {anabranch} status -o table{server}"),
        format!("  curl -s {url}/api/anabranch.timeseries.v1.TimeSeriesService/ReadEventRecords -d '{json}'"),
        format!("  curl -s {url}/metrics"),
        format!("  {anabranch} --help"),
    ]
}
