//! An aggregation as it can be computed: its fields, with their types.

use anabranch_model::query::{AggregationKind, AggregationQuery, GroupBy};
use anabranch_model::time::micros_of;
use anabranch_model::{FieldType, ItemKey, NamespaceSettings};

use crate::errors::{Reason, ServiceError};
use crate::read::field;

/// An aggregation that has been checked.
#[derive(Clone, Debug)]
pub(super) struct Computation {
    pub(super) kind: AggregationKind,
    pub(super) item: Option<Item>,
    pub(super) groups: Groups,
}

/// An item key and what its values are.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: ItemKey,
    pub(super) field_type: FieldType,
}

/// What splits the rows.
#[derive(Clone, Debug)]
pub(super) enum Groups {
    One,
    /// Microseconds of event time, at least 1.
    Time(i64),
    Item(ItemKey),
}

impl Computation {
    pub(super) fn of(query: &AggregationQuery, settings: &NamespaceSettings) -> Result<Self, ServiceError> {
        let path = format!("aggregation_query.{}.event_item_key", name(query.kind));
        let item = query.item_key.as_ref().map(|key| Item {
            key: key.clone(),
            field_type: field::type_of(settings, key.as_str()),
        });
        match &item {
            None if query.kind != AggregationKind::Count => {
                return Err(broken(&path, "is missing; name the item to compute over"));
            }
            Some(item) if is_numeric_only(query.kind) && !is_numeric(item.field_type) => {
                let (key, name) = (&item.key, field::name(item.field_type));
                let what = format!(
                    "`{key}` is {name}; sums and means are of INTEGER or DOUBLE items: set field_mapping of \
                     `{key}` in the namespace to one of them"
                );
                return Err(broken(&path, what)
                    .with("eventItemKey", key)
                    .with("fieldType", name));
            }
            _ => {}
        }
        let groups = match &query.group_by {
            None => Groups::One,
            Some(GroupBy::Item(key)) => Groups::Item(key.clone()),
            Some(GroupBy::TimeWidth(width)) => match micros_of(*width) {
                0 => {
                    return Err(broken(
                        "aggregation_query.group_by.time_width",
                        "is less than a microsecond; use 0.000001s or more",
                    ));
                }
                micros => Groups::Time(micros),
            },
        };
        Ok(Self {
            kind: query.kind,
            item,
            groups,
        })
    }
}

fn name(kind: AggregationKind) -> &'static str {
    match kind {
        AggregationKind::Count => "count",
        AggregationKind::Distinct => "distinct",
        AggregationKind::Min => "min",
        AggregationKind::Max => "max",
        AggregationKind::Sum => "sum",
        AggregationKind::Avg => "avg",
    }
}

fn is_numeric_only(kind: AggregationKind) -> bool {
    matches!(kind, AggregationKind::Sum | AggregationKind::Avg)
}

fn is_numeric(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::Integer | FieldType::Double)
}

fn broken(path: &str, what: impl Into<String>) -> ServiceError {
    let what = what.into();
    ServiceError::new(Reason::InvalidAggregation, format!("{path} {what}")).field(path, what)
}
