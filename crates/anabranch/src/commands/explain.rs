//! What an answer says about itself, as lines on stderr.

use anabranch_proto::timeseries::v1::ResponseContext;

use super::say;
use crate::units::{counted, format_size, format_time};

/// Says every warning, and with `explain` what the answer cost.
pub(super) fn context(contexts: &[ResponseContext], explain: bool) {
    for context in contexts {
        for warning in &context.warnings {
            say(format!("warning: {warning}"));
        }
        if explain {
            say(format!("explain: {}", line(context)));
        }
    }
}

/// One line of what an answer cost and where it came from.
pub(crate) fn line(context: &ResponseContext) -> String {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut parts = vec![
        counted(count(i64::from(context.partitions_read)), "partition"),
        format!("{} read", format_size(count(context.bytes_read))),
        format!("served from {}", name(context.served_from().as_str_name())),
        format!("split filter {}", name(context.split_filter().as_str_name())),
        format!("order {}", name(context.order().as_str_name())),
        context.time_taken.clone(),
    ];
    if context.split_generation != 0 {
        parts.insert(4, format!("split generation {}", context.split_generation));
    }
    if context.partial {
        parts.push(format!("PARTIAL: {}", context.partial_reason));
        if let Some(until) = &context.complete_until {
            parts.push(format!("complete until {}", format_time(until)));
        }
    }
    parts.join(", ")
}

/// What was not set is said in words.
fn name(value: &str) -> &str {
    if value.ends_with("UNSPECIFIED") {
        "nothing"
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_answer_says_why_and_how_far_it_is_complete() {
        let context = ResponseContext {
            partitions_read: 1,
            bytes_read: 42_000,
            time_taken: "0.5s".to_owned(),
            served_from: 1,
            partial: true,
            partial_reason: "the deadline came first".to_owned(),
            complete_until: Some(prost_types::Timestamp::default()),
            ..ResponseContext::default()
        };
        assert_eq!(
            line(&context),
            "1 partition, 41.0 KiB read, served from ORIGINAL, split filter nothing, order nothing, 0.5s, \
             PARTIAL: the deadline came first, complete until 1970-01-01T00:00:00Z"
        );
    }
}
