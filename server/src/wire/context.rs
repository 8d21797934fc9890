//! What an answer says about how it came about.

use std::time::Duration;

use anabranch_proto::timeseries::v1 as pb;
use pb::response_context::{Order, ServedFrom, SplitFilter};

use super::fields;
use crate::context::{self, PartialReason, RecordOrder, ResponseContext};
use crate::split::FilterAnswer;

/// The context of a read.
pub fn of_read(context: ResponseContext) -> pb::ResponseContext {
    let order = match context.order {
        RecordOrder::Event => Order::Event,
        RecordOrder::Partition => Order::Partition,
    };
    let served_from = match context.served_from {
        None => ServedFrom::Unspecified,
        Some(context::ServedFrom::Original) => ServedFrom::Original,
        Some(context::ServedFrom::Targets) => ServedFrom::Targets,
        Some(context::ServedFrom::Mixed) => ServedFrom::Mixed,
    };
    let split_filter = match context.split_filter {
        None => SplitFilter::Unspecified,
        Some(FilterAnswer::Off) => SplitFilter::Off,
        Some(FilterAnswer::Miss) => SplitFilter::Miss,
        Some(FilterAnswer::Hit) => SplitFilter::Hit,
    };
    pb::ResponseContext {
        served_from: served_from.into(),
        split_filter: split_filter.into(),
        split_generation: context.split_generation.into(),
        order: order.into(),
        ..of_write(context)
    }
}

/// The context of a write.
pub fn of_write(context: ResponseContext) -> pb::ResponseContext {
    pb::ResponseContext {
        namespace: context.namespace.into(),
        time_taken: time_taken(context.time_taken),
        partitions_read: fields::wire_i32(context.partitions_read),
        bytes_read: fields::wire_i64(context.bytes_read),
        served_from: ServedFrom::Unspecified.into(),
        split_filter: SplitFilter::Unspecified.into(),
        split_generation: 0,
        order: Order::Unspecified.into(),
        partial: context.partial.is_some(),
        partial_reason: context
            .partial
            .map_or_else(String::new, |reason| why(reason).to_owned()),
        complete_until: context.complete_until.and_then(fields::timestamp),
        warnings: context.warnings,
    }
}

fn why(reason: PartialReason) -> &'static str {
    match reason {
        PartialReason::Deadline => "the deadline came first; go on with the page token",
        PartialReason::Groups => "the aggregate held as many groups as it may; go on with the page token",
    }
}

/// `0.41s`: seconds, to the microsecond, at least two digits behind the point.
fn time_taken(taken: Duration) -> String {
    let text = format!("{:.6}", taken.as_secs_f64());
    let keep = text.trim_end_matches('0').len();
    let least = text.find('.').map_or(text.len(), |point| point + 3);
    format!("{}s", &text[..keep.max(least)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_model::{EventTime, NamespaceName};

    #[test]
    fn time_taken_is_seconds_with_a_unit() {
        let cases = [
            (41_070_000, "41.07s"),
            (4_000, "0.004s"),
            (412, "0.000412s"),
            (1_000_000, "1.00s"),
            (0, "0.00s"),
            (10_500_000, "10.50s"),
        ];
        for (micros, text) in cases {
            assert_eq!(time_taken(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn a_partial_answer_says_why_and_how_far() {
        let mut context = ResponseContext::new(NamespaceName::new("demo").unwrap());
        context.partial = Some(PartialReason::Deadline);
        context.complete_until = Some(EventTime::from_micros(1_000_000));
        context.order = RecordOrder::Partition;
        context.partitions_read = 3;
        context.served_from = Some(context::ServedFrom::Mixed);
        context.split_filter = Some(FilterAnswer::Hit);
        context.split_generation = 7;
        context.bytes_read = 1 << 40;
        context.warnings = vec!["w".into()];
        let wire = of_read(context);
        assert!(wire.partial && wire.partial_reason.contains("deadline"));
        assert_eq!(wire.complete_until.map(|time| time.seconds), Some(1));
        assert_eq!(
            (wire.order(), wire.served_from()),
            (Order::Partition, ServedFrom::Mixed)
        );
        assert_eq!(
            (wire.split_filter(), wire.split_generation),
            (SplitFilter::Hit, 7)
        );
        assert_eq!((wire.partitions_read, wire.bytes_read), (3, 1 << 40));
        assert_eq!(wire.warnings, ["w"]);
    }
}
