//! Puts rows of the same group together that come from different parts of a scan, as AggregateRow says.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anabranch_proto::timeseries::v1::AggregateRow;
use anabranch_proto::timeseries::v1::aggregate_group::Group;
use anabranch_proto::timeseries::v1::aggregate_row::Value;
use anabranch_proto::timeseries::v1::aggregation_query::Aggregation;
use bytes::Bytes;

/// Groups in the order of the server's pages; a value tells the rows of `distinct` apart.
type Key = (Option<i64>, i32, Bytes, Bytes);

/// Rows so far.
pub(super) struct Rows {
    how: How,
    rows: BTreeMap<Key, AggregateRow>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Count,
    Distinct,
    Min,
    Max,
    Sum,
    Avg,
}

impl Rows {
    pub(super) fn new(aggregation: &Aggregation) -> Self {
        let how = match aggregation {
            Aggregation::Count(_) => How::Count,
            Aggregation::Distinct(_) => How::Distinct,
            Aggregation::Min(_) => How::Min,
            Aggregation::Max(_) => How::Max,
            Aggregation::Sum(_) => How::Sum,
            Aggregation::Avg(_) => How::Avg,
        };
        Self {
            how,
            rows: BTreeMap::new(),
        }
    }

    /// Adds a row of some part.
    pub(super) fn add(&mut self, row: AggregateRow) {
        let how = self.how;
        match self.rows.entry(key(how, &row)) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(row);
            }
            std::collections::btree_map::Entry::Occupied(mut there) => merge(how, there.get_mut(), row),
        }
    }

    /// Every row, in the order of the groups.
    pub(super) fn finish(self) -> Vec<AggregateRow> {
        self.rows.into_values().collect()
    }
}

fn key(how: How, row: &AggregateRow) -> Key {
    let distinct = match (how, &row.value) {
        // Two ways to write one number.
        (How::Distinct, Some(Value::DoubleValue(value))) if *value == 0.0 => Bytes::from_static(b"0"),
        (How::Distinct, _) => row.event_item_value.clone(),
        _ => Bytes::new(),
    };
    match row.group.as_ref().and_then(|group| group.group.as_ref()) {
        Some(Group::Time(time)) => (Some(time.seconds), time.nanos, Bytes::new(), distinct),
        Some(Group::EventItemValue(value)) => (None, 0, value.clone(), distinct),
        None => (None, 0, Bytes::new(), distinct),
    }
}

fn merge(how: How, into: &mut AggregateRow, row: AggregateRow) {
    into.count += row.count;
    into.sum += row.sum;
    match how {
        How::Distinct => {}
        How::Count => into.value = Some(Value::IntegerValue(into.count)),
        How::Sum => into.value = add(into.value.take(), row.value, into.sum),
        How::Avg => {
            #[expect(clippy::cast_precision_loss, reason = "a mean is a floating-point number")]
            let mean = (into.count != 0).then(|| Value::DoubleValue(into.sum / into.count as f64));
            into.value = mean;
        }
        How::Min | How::Max => {
            let wanted = if how == How::Min {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let wins = match (&row.value, &into.value) {
                (Some(new), Some(old)) => compare(new, old) == wanted,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if wins {
                into.value = row.value;
                into.event_item_value = row.event_item_value;
            }
        }
    }
}

/// Integers stay integers while they fit.
fn add(a: Option<Value>, b: Option<Value>, sum: f64) -> Option<Value> {
    match (a, b) {
        (Some(Value::IntegerValue(a)), Some(Value::IntegerValue(b))) => Some(
            a.checked_add(b)
                .map_or(Value::DoubleValue(sum), Value::IntegerValue),
        ),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        _ => Some(Value::DoubleValue(sum)),
    }
}

/// Values of one key have one type; of different types the order means nothing.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::IntegerValue(a), Value::IntegerValue(b)) => a.cmp(b),
        (Value::DoubleValue(a), Value::DoubleValue(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::KeywordValue(a), Value::KeywordValue(b)) => a.cmp(b),
        (Value::BooleanValue(a), Value::BooleanValue(b)) => a.cmp(b),
        (Value::TimestampValue(a), Value::TimestampValue(b)) => {
            (a.seconds, a.nanos).cmp(&(b.seconds, b.nanos))
        }
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_proto::timeseries::v1::{
        AvgAggregation, CountAggregation, DistinctAggregation, MinAggregation, SumAggregation,
    };

    fn row(count: i64, sum: f64, value: Option<Value>) -> AggregateRow {
        AggregateRow {
            count,
            sum,
            value,
            ..AggregateRow::default()
        }
    }

    fn merged(aggregation: Aggregation, rows: Vec<AggregateRow>) -> AggregateRow {
        let mut all = Rows::new(&aggregation);
        rows.into_iter().for_each(|row| all.add(row));
        all.finish().remove(0)
    }

    #[test]
    fn parts_of_one_group_become_one_row() {
        let int = |value| Some(Value::IntegerValue(value));
        let count = merged(
            Aggregation::Count(CountAggregation::default()),
            vec![row(2, 0.0, int(2)), row(3, 0.0, int(3))],
        );
        assert_eq!((count.count, count.value), (5, int(5)));
        let sum = merged(
            Aggregation::Sum(SumAggregation::default()),
            vec![row(2, 7.0, int(7)), row(1, 5.0, int(5)), row(0, 0.0, None)],
        );
        assert_eq!((sum.count, sum.value), (3, int(12)));
        let avg = merged(
            Aggregation::Avg(AvgAggregation::default()),
            vec![
                row(1, 1.0, Some(Value::DoubleValue(1.0))),
                row(3, 9.0, Some(Value::DoubleValue(3.0))),
            ],
        );
        assert_eq!(avg.value, Some(Value::DoubleValue(2.5)));
        let min = merged(
            Aggregation::Min(MinAggregation::default()),
            vec![row(1, 0.0, int(10)), row(1, 0.0, int(9)), row(0, 0.0, None)],
        );
        assert_eq!(min.value, int(9));
    }

    #[test]
    fn a_sum_past_64_bits_becomes_floating() {
        let sum = merged(
            Aggregation::Sum(SumAggregation::default()),
            vec![
                row(1, 9.2e18, Some(Value::IntegerValue(i64::MAX))),
                row(1, 1.0, Some(Value::IntegerValue(1))),
            ],
        );
        assert_eq!(sum.value, Some(Value::DoubleValue(9.2e18 + 1.0)));
    }

    #[test]
    fn distinct_values_stay_apart_and_in_order() {
        let value = |text: &'static str| AggregateRow {
            event_item_value: Bytes::from_static(text.as_bytes()),
            count: 1,
            ..AggregateRow::default()
        };
        let mut rows = Rows::new(&Aggregation::Distinct(DistinctAggregation::default()));
        for text in ["b", "a", "b"] {
            rows.add(value(text));
        }
        let rows: Vec<_> = rows
            .finish()
            .into_iter()
            .map(|row| (row.event_item_value, row.count))
            .collect();
        assert_eq!(
            rows,
            [(Bytes::from_static(b"a"), 1), (Bytes::from_static(b"b"), 2)]
        );
    }
}
