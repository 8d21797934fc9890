use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::{FILE_DESCRIPTOR_SET, timeseries::v1 as ts};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("own descriptors decode")
}

#[test]
fn descriptor_set_names_both_services_and_the_error_details() {
    let pool = pool();
    for service in [
        "anabranch.timeseries.v1.TimeSeriesService",
        "anabranch.admin.v1.AdminService",
    ] {
        assert!(pool.get_service_by_name(service).is_some(), "{service}");
    }
    for message in [
        "google.rpc.Status",
        "google.rpc.ErrorInfo",
        "google.protobuf.FieldMask",
    ] {
        assert!(pool.get_message_by_name(message).is_some(), "{message}");
    }
}

#[test]
fn descriptor_set_keeps_comments() {
    let files = pool();
    let file = files
        .get_file_by_name("anabranch/timeseries/v1/timeseries_service.proto")
        .expect("the file is in the set");
    assert!(file.file_descriptor_proto().source_code_info.is_some());
}

#[test]
fn json_names_values_without_a_prefix() {
    let pool = pool();
    let descriptor = pool
        .get_message_by_name("anabranch.timeseries.v1.ReadEventRecordsRequest")
        .expect("known");
    let json = serde_json::json!({"namespace": "demo", "timeSeriesId": "a", "direction": "ASCENDING"});
    let message = DynamicMessage::deserialize(descriptor, json).expect("readable");
    let request: ts::ReadEventRecordsRequest = message.transcode_to().expect("same shape");
    assert_eq!(request.direction(), ts::Direction::Ascending);
}

#[test]
fn values_share_the_buffer_they_arrived_in() {
    let sent = ts::EventItem {
        event_item_key: "k".into(),
        event_item_value: "payload".into(),
    };
    let wire = bytes::Bytes::from(sent.encode_to_vec());
    let range = wire.as_ptr_range();
    let item = ts::EventItem::decode(wire).expect("readable");
    assert!(range.contains(&item.event_item_value.as_ptr()));
}
