//! Calls of methods with what nobody should send: all of it at random, or right but for its texts.

use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message as _;
use prost_reflect::MethodDescriptor;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::hostile::Hostile;
use crate::harness::made::Dice;
use crate::harness::{self, raw};
use crate::{MANGLED, NAMESPACES};

/// Methods that change what a namespace is, and so are let loose on one only.
const MANGLING: [&str; 6] = [
    "CreateNamespace",
    "UpdateNamespace",
    "DeleteNamespace",
    "SealTimeSlices",
    "UnsealTimeSlices",
    "BlockTimeSeriesIds",
];

/// One call of a method with what nobody should send. What came of it.
pub(crate) async fn one(channel: &Channel, method: MethodDescriptor, n: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mangles = MANGLING.contains(&method.name());
    let namespaces = if mangles { &[MANGLED][..] } else { &NAMESPACES[..] };
    let mut hostile = Hostile {
        dice: Dice::new(0x0005_7071 ^ n),
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        now: i64::try_from(now).unwrap(),
    };
    // Of all that is made at random hardly anything is right in every field: half of the calls are but for their texts.
    let is_right = hostile.dice.below(2) == 0;
    match method.name() {
        "IngestEventRecords" => return ingest(channel, &mut hostile).await,
        "WriteEventRecordsSync" if is_right => return write_and_read_back(channel, &mut hostile).await,
        _ => {}
    }
    let right = is_right.then(|| right(method.name(), &mut hostile)).flatten();
    let message = match right {
        Some(message) => message,
        // The namespaces have to stay.
        None if method.name() == "DeleteNamespace" => nobody(&mut hostile),
        None => hostile.message(&method.input(), 6).encode_to_vec().into(),
    };
    let name = format!("{}/{}", method.parent_service().full_name(), method.name());
    let answer = raw::call(channel, &name, message, &[("grpc-timeout", "2S")]).await;
    code(answer.map(drop))
}

fn nobody(hostile: &mut Hostile) -> Bytes {
    let name = match hostile.dice.below(2) {
        0 => hostile.text(),
        _ => format!("nobody-{}", hostile.dice.below(100)),
    };
    admin::DeleteNamespaceRequest { name }.encode_to_vec().into()
}

/// A request that can be answered. None of methods that are too heavy to be called so a thousand times, and of those that take
/// a split in one state only.
fn right(method: &str, hostile: &mut Hostile) -> Option<Bytes> {
    let namespace = hostile.dice.pick(&hostile.namespaces).clone();
    let page_size = i32::try_from(hostile.dice.below(20)).unwrap();
    let message = match method {
        "WriteEventRecords" => wire::WriteEventRecordsRequest {
            namespace,
            events: vec![event(hostile), event(hostile)],
        }
        .encode_to_vec(),
        "ReadEventRecords" => wire::ReadEventRecordsRequest {
            namespace,
            time_series_id: id(hostile),
            time_interval: lately(hostile),
            ..wire::ReadEventRecordsRequest::default()
        }
        .encode_to_vec(),
        "SearchEventRecords" => wire::SearchEventRecordsRequest {
            namespace,
            time_interval: lately(hostile),
            search_query: Some(of_two_ids(hostile)),
            ..wire::SearchEventRecordsRequest::default()
        }
        .encode_to_vec(),
        "AggregateEventRecords" => wire::AggregateEventRecordsRequest {
            namespace,
            time_interval: lately(hostile),
            search_query: Some(of_two_ids(hostile)),
            aggregation_query: Some(by_item(hostile)),
            ..wire::AggregateEventRecordsRequest::default()
        }
        .encode_to_vec(),
        "UpdateNamespace" => admin::UpdateNamespaceRequest {
            namespace: Some(admin::Namespace {
                name: namespace,
                field_mapping: [(key(hostile), admin::namespace::FieldType::Integer.into())].into(),
                ..admin::Namespace::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["field_mapping".to_owned()],
            }),
        }
        .encode_to_vec(),
        "ListNamespaces" => admin::ListNamespacesRequest {
            page_size,
            ..admin::ListNamespacesRequest::default()
        }
        .encode_to_vec(),
        "SealTimeSlices" => admin::SealTimeSlicesRequest {
            namespace,
            before: some_time(hostile),
        }
        .encode_to_vec(),
        "UnsealTimeSlices" => admin::UnsealTimeSlicesRequest {
            namespace,
            after: some_time(hostile),
        }
        .encode_to_vec(),
        "BlockTimeSeriesIds" => admin::BlockTimeSeriesIdsRequest {
            namespace,
            time_series_ids: vec![id(hostile), id(hostile)],
            reason: cut(hostile.text(), 256),
        }
        .encode_to_vec(),
        "UnblockTimeSeriesIds" => admin::UnblockTimeSeriesIdsRequest {
            namespace,
            time_series_ids: vec![id(hostile), id(hostile)],
        }
        .encode_to_vec(),
        "GetPartitionSizes" => admin::GetPartitionSizesRequest {
            namespace,
            time_slice: "all".to_owned(),
        }
        .encode_to_vec(),
        "PlanSplit" => admin::PlanSplitRequest {
            namespace,
            partition: Some(admin::Partition {
                time_slice: "all".to_owned(),
                time_series_id: id(hostile),
                ..admin::Partition::default()
            }),
            dry_run: hostile.dice.below(2) == 0,
        }
        .encode_to_vec(),
        _ => return None,
    };
    Some(message.into())
}

fn of_two_ids(hostile: &mut Hostile) -> wire::SearchQuery {
    let ids = wire::TimeSeriesIdsQuery {
        ids: vec![id(hostile), id(hostile)],
    };
    wire::SearchQuery {
        query: Some(wire::search_query::Query::TimeSeriesIds(ids)),
    }
}

fn by_item(hostile: &mut Hostile) -> wire::AggregationQuery {
    let count = wire::CountAggregation {
        event_item_key: key(hostile),
    };
    wire::AggregationQuery {
        aggregation: Some(wire::aggregation_query::Aggregation::Count(count)),
        group_by: Some(wire::GroupBy {
            group_by: Some(wire::group_by::GroupBy::EventItemKey(key(hostile))),
        }),
    }
}

/// A time of the last two days.
fn some_time(hostile: &mut Hostile) -> Option<prost_types::Timestamp> {
    let ago = i64::try_from(hostile.dice.below(172_800)).unwrap();
    Some(harness::timestamp((hostile.now - ago) * 1_000_000))
}

fn id(hostile: &mut Hostile) -> String {
    cut(hostile.text(), 1_024)
}

fn key(hostile: &mut Hostile) -> String {
    cut(hostile.text(), 256)
}

/// The hours in which events are written here.
fn lately(hostile: &Hostile) -> Option<wire::TimeInterval> {
    Some(wire::TimeInterval {
        start: Some(harness::timestamp((hostile.now - 7_200) * 1_000_000)),
        end: Some(harness::timestamp((hostile.now + 1) * 1_000_000)),
    })
}

fn code(answer: Result<(), tonic::Status>) -> String {
    let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
    format!("{code:?}")
}

fn event(hostile: &mut Hostile) -> wire::EventRecord {
    let mut items: Vec<wire::EventItem> = (0..=hostile.dice.below(3))
        .map(|_| wire::EventItem {
            event_item_key: key(hostile),
            event_item_value: hostile.bytes(),
        })
        .collect();
    items.sort_by(|a, b| a.event_item_key.cmp(&b.event_item_key));
    items.dedup_by(|a, b| a.event_item_key == b.event_item_key);
    let micros = (hostile.now - i64::try_from(hostile.dice.below(7_200)).unwrap()) * 1_000_000;
    wire::EventRecord {
        time_series_id: id(hostile),
        event_time: Some(harness::timestamp(micros)),
        event_id: key(hostile),
        event_items: items,
    }
}

fn cut(text: String, bytes_max: usize) -> String {
    let end = (0..=text.len().min(bytes_max))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

async fn ingest(channel: &Channel, hostile: &mut Hostile) -> String {
    let namespace = hostile.dice.pick(&hostile.namespaces).clone();
    let messages: Vec<_> = (0..3)
        .map(|_| wire::IngestEventRecordsRequest {
            namespace: namespace.clone(),
            events: vec![event(hostile), event(hostile)],
            ..wire::IngestEventRecordsRequest::default()
        })
        .collect();
    let mut client = harness::events(channel.clone());
    let answers = match client.ingest_event_records(tokio_stream::iter(messages)).await {
        Ok(answers) => answers.into_inner().collect::<Vec<_>>().await,
        Err(status) => return code(Err(status)),
    };
    let failed = answers.into_iter().find_map(Result::err);
    code(failed.map_or(Ok(()), Err))
}

/// What is written is read as it was, byte for byte.
async fn write_and_read_back(channel: &Channel, hostile: &mut Hostile) -> String {
    let namespace = (*hostile.dice.pick(&NAMESPACES)).to_owned();
    // An id of its own: another request may hold the same texts.
    let mut record = event(hostile);
    record.time_series_id = format!("{}{}", hostile.dice.next(), cut(record.time_series_id, 1_000));
    let mut client = harness::events(channel.clone());
    let request = wire::WriteEventRecordsSyncRequest {
        namespace: namespace.clone(),
        events: vec![record.clone()],
    };
    if let Err(status) = client.write_event_records_sync(request).await {
        return code(Err(status));
    }
    let request = wire::ReadEventRecordsRequest {
        namespace,
        time_series_id: record.time_series_id.clone(),
        latency_slo: Some(harness::duration(60)),
        ..wire::ReadEventRecordsRequest::default()
    };
    // To its end: a page that the deadline cuts may be empty.
    match harness::walk_pages(&mut client, request, |_| {}).await {
        Ok(records) => {
            assert_eq!(records, [record]);
            code(Ok(()))
        }
        Err(status) => code(Err(status)),
    }
}
