//! Random CQL types.

use anabranch_sstable::CqlType;
use anabranch_sstable::cql::Udt;

use super::dice::Dice;

/// Every type of one value.
pub(crate) const SCALARS: &[CqlType] = &[
    CqlType::Ascii,
    CqlType::BigInt,
    CqlType::Blob,
    CqlType::Boolean,
    CqlType::Date,
    CqlType::Decimal,
    CqlType::Double,
    CqlType::Duration,
    CqlType::Float,
    CqlType::Inet,
    CqlType::Int,
    CqlType::SmallInt,
    CqlType::Text,
    CqlType::Time,
    CqlType::Timestamp,
    CqlType::TimeUuid,
    CqlType::TinyInt,
    CqlType::Uuid,
    CqlType::VarInt,
];

/// Deeper than this there are no collections.
const DEPTH_MAX: u32 = 3;

/// What a type is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A column that is no key, or a part of one.
    Value,
    /// A key column, an element of a set, a key of a map: it has to have an order.
    Key,
}

/// A type for a column. Not frozen, a collection or user-defined type has a cell for each element.
pub(crate) fn column(dice: &mut Dice, udts: &[Udt], used: Use) -> CqlType {
    let cql_type = random(dice, udts, 0, used);
    match used {
        Use::Key => frozen(cql_type),
        Use::Value if dice.chance(0.3) => frozen(cql_type),
        Use::Value => cql_type,
    }
}

/// A type for a field of a user-defined type.
pub(crate) fn field(dice: &mut Dice, udts: &[Udt]) -> CqlType {
    frozen(random(dice, udts, 1, Use::Value))
}

fn random(dice: &mut Dice, udts: &[Udt], depth: u32, used: Use) -> CqlType {
    let plain = match (used, depth) {
        (_, DEPTH_MAX..) => 1.0,
        (Use::Key, 0) => 0.85,
        (Use::Key, _) => 0.8,
        (Use::Value, _) => 0.5,
    };
    if dice.chance(plain) {
        let scalars = SCALARS
            .iter()
            .filter(|scalar| used == Use::Value || **scalar != CqlType::Duration);
        let scalars: Vec<&CqlType> = scalars.collect();
        return (*dice.pick(&scalars)).clone();
    }
    let part = |dice: &mut Dice, used| Box::new(frozen(random(dice, udts, depth + 1, used)));
    match dice.below(6) {
        0 => CqlType::List(part(dice, used)),
        1 => CqlType::Set(part(dice, Use::Key)),
        2 => CqlType::Map(part(dice, Use::Key), part(dice, used)),
        3 => CqlType::Tuple((0..=dice.below(3)).map(|_| *part(dice, used)).collect()),
        4 => CqlType::Vector(part(dice, used), 1 + dice.below(3)),
        _ if used == Use::Value && !udts.is_empty() => CqlType::Udt(dice.pick(udts).clone()),
        _ => CqlType::Text,
    }
}

fn frozen(cql_type: CqlType) -> CqlType {
    match cql_type.is_multi_cell() {
        true => CqlType::Frozen(Box::new(cql_type)),
        false => cql_type,
    }
}

/// Puts a field at the end of a user-defined type, wherever it is used.
pub(crate) fn widen(cql_type: &mut CqlType, udt_name: &str, field: &(String, CqlType)) {
    match cql_type {
        CqlType::List(inner)
        | CqlType::Set(inner)
        | CqlType::Vector(inner, _)
        | CqlType::Frozen(inner)
        | CqlType::Reversed(inner) => widen(inner, udt_name, field),
        CqlType::Map(key, value) => {
            widen(key, udt_name, field);
            widen(value, udt_name, field);
        }
        CqlType::Tuple(parts) | CqlType::Composite(parts) => {
            parts.iter_mut().for_each(|part| widen(part, udt_name, field));
        }
        CqlType::Udt(udt) => {
            udt.fields
                .iter_mut()
                .for_each(|(_, part)| widen(part, udt_name, field));
            if udt.name == udt_name {
                udt.fields.push(field.clone());
            }
        }
        _ => {}
    }
}

/// Whether there is a user-defined type in it.
pub(crate) fn has_udt(cql_type: &CqlType) -> bool {
    let mut found = std::collections::BTreeSet::new();
    names(cql_type, &mut found);
    found.contains("udt")
}

/// The names of a type and of all inside it: `frozen`, `list`, `udt`, `int`, …
pub(crate) fn names(cql_type: &CqlType, found: &mut std::collections::BTreeSet<String>) {
    let name = match cql_type {
        CqlType::Udt(udt) => {
            udt.fields.iter().for_each(|(_, part)| names(part, found));
            "udt".to_owned()
        }
        other => {
            let text = other.to_string();
            text.split('<').next().unwrap_or_default().to_owned()
        }
    };
    found.insert(name);
    match cql_type {
        CqlType::List(inner) | CqlType::Set(inner) | CqlType::Vector(inner, _) | CqlType::Frozen(inner) => {
            names(inner, found);
        }
        CqlType::Map(key, value) => {
            names(key, found);
            names(value, found);
        }
        CqlType::Tuple(parts) => parts.iter().for_each(|part| names(part, found)),
        _ => {}
    }
}
