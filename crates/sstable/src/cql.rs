//! Types and columns, as a data file was written with them.

use std::fmt;

use bytes::Bytes;

/// A CQL type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CqlType {
    /// `ascii`
    Ascii,
    /// `bigint`
    BigInt,
    /// `blob`
    Blob,
    /// `boolean`
    Boolean,
    /// `counter`
    Counter,
    /// `date`
    Date,
    /// `decimal`
    Decimal,
    /// `double`
    Double,
    /// `duration`
    Duration,
    /// `empty`: what compact tables have instead of a column.
    Empty,
    /// `float`
    Float,
    /// `inet`
    Inet,
    /// `int`
    Int,
    /// `smallint`
    SmallInt,
    /// `text`
    Text,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timeuuid`
    TimeUuid,
    /// `tinyint`
    TinyInt,
    /// `uuid`
    Uuid,
    /// `varint`
    VarInt,
    /// `list`: one cell an element unless frozen.
    List(Box<CqlType>),
    /// `set`: one cell an element unless frozen.
    Set(Box<CqlType>),
    /// `map`: one cell an entry unless frozen.
    Map(Box<CqlType>, Box<CqlType>),
    /// A user-defined type: one cell a field unless frozen.
    Udt(Udt),
    /// `tuple`, always frozen.
    Tuple(Vec<CqlType>),
    /// `vector`, always frozen.
    Vector(Box<CqlType>, usize),
    /// Several components in one value: a partition key of several columns.
    Composite(Vec<CqlType>),
    /// One cell whatever is inside.
    Frozen(Box<CqlType>),
    /// A clustering column in descending order.
    Reversed(Box<CqlType>),
}

/// A user-defined type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Udt {
    /// The keyspace it belongs to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Names and types of its fields, in order.
    pub fields: Vec<(String, CqlType)>,
}

impl CqlType {
    /// The type without `frozen` and `reversed` around it.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Frozen(inner) | Self::Reversed(inner) => inner.bare(),
            other => other,
        }
    }

    /// Whether a column of this type has a cell for each element.
    pub fn is_multi_cell(&self) -> bool {
        matches!(self, Self::List(_) | Self::Set(_) | Self::Map(..) | Self::Udt(_))
    }

    /// Takes over the fields of user-defined types that `other`, the same type, has and this one has not: they are only ever
    /// added, at the end.
    pub(crate) fn widen(&mut self, other: &Self) {
        match (self, other.bare()) {
            (Self::Frozen(inner) | Self::Reversed(inner), other) => inner.widen(other),
            (Self::List(one), Self::List(other)) | (Self::Set(one), Self::Set(other)) => one.widen(other),
            (Self::Vector(one, _), Self::Vector(other, _)) => one.widen(other),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.widen(other_key);
                value.widen(other_value);
            }
            (Self::Tuple(parts), Self::Tuple(others)) | (Self::Composite(parts), Self::Composite(others)) => {
                parts
                    .iter_mut()
                    .zip(others)
                    .for_each(|(one, other)| one.widen(other));
            }
            (Self::Udt(one), Self::Udt(other)) => {
                let known = one.fields.len();
                let both = one.fields.iter_mut().zip(&other.fields);
                both.for_each(|((_, one), (_, other))| one.widen(other));
                one.fields.extend(other.fields.iter().skip(known).cloned());
            }
            _ => {}
        }
    }

    /// Whether both are one type, but for what does not change a value's bytes: `frozen`, a descending order, the fields that
    /// a user-defined type was given later, and the keyspace that it was restored from.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self.bare(), other.bare()) {
            (Self::List(one), Self::List(other)) | (Self::Set(one), Self::Set(other)) => one.is_like(other),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.is_like(other_key) && value.is_like(other_value)
            }
            (Self::Vector(one, dimension), Self::Vector(other, other_dimension)) => {
                dimension == other_dimension && one.is_like(other)
            }
            (Self::Tuple(parts), Self::Tuple(others)) | (Self::Composite(parts), Self::Composite(others)) => {
                parts.len() == others.len() && parts.iter().zip(others).all(|(one, other)| one.is_like(other))
            }
            (Self::Udt(one), Self::Udt(other)) => one.name == other.name,
            (one, other) => one == other,
        }
    }

    /// How many bytes a value takes, for the types whose values are stored without their length.
    pub(crate) fn fixed_length(&self) -> Option<usize> {
        match self {
            Self::Empty => Some(0),
            Self::Boolean => Some(1),
            Self::Float | Self::Int => Some(4),
            Self::BigInt | Self::Double | Self::Timestamp => Some(8),
            Self::Uuid | Self::TimeUuid => Some(16),
            Self::Vector(element, dimension) => element.fixed_length()?.checked_mul(*dimension),
            Self::Frozen(inner) | Self::Reversed(inner) => inner.fixed_length(),
            _ => None,
        }
    }
}

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Ascii => "ascii",
            Self::BigInt => "bigint",
            Self::Blob => "blob",
            Self::Boolean => "boolean",
            Self::Counter => "counter",
            Self::Date => "date",
            Self::Decimal => "decimal",
            Self::Double => "double",
            Self::Duration => "duration",
            Self::Empty => "empty",
            Self::Float => "float",
            Self::Inet => "inet",
            Self::Int => "int",
            Self::SmallInt => "smallint",
            Self::Text => "text",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimeUuid => "timeuuid",
            Self::TinyInt => "tinyint",
            Self::Uuid => "uuid",
            Self::VarInt => "varint",
            Self::List(element) => return write!(f, "list<{element}>"),
            Self::Set(element) => return write!(f, "set<{element}>"),
            Self::Map(key, value) => return write!(f, "map<{key}, {value}>"),
            Self::Udt(udt) => return write!(f, "{}.{}", udt.keyspace, udt.name),
            Self::Vector(element, dimension) => return write!(f, "vector<{element}, {dimension}>"),
            Self::Frozen(inner) => return write!(f, "frozen<{inner}>"),
            Self::Reversed(inner) => return write!(f, "{inner} desc"),
            Self::Tuple(parts) => return write_list(f, "tuple<", parts, ">"),
            Self::Composite(parts) => return write_list(f, "(", parts, ")"),
        };
        f.write_str(name)
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, open: &str, types: &[CqlType], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (at, part) in types.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{part}")?;
    }
    f.write_str(close)
}

/// A static or regular column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: UTF-8 in every table that CQL made.
    pub name: Bytes,
    /// Its type.
    pub cql_type: CqlType,
}

impl Column {
    /// The name as text.
    pub fn label(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// What the data file was written with. Key columns have types here and no names: those are in the table's
/// schema alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The type of the partition key; [`CqlType::Composite`] when it has several columns.
    pub partition_key: CqlType,
    /// The types of the clustering columns.
    pub clustering: Vec<CqlType>,
    /// Static columns, in the order of their bits.
    pub statics: Vec<Column>,
    /// Regular columns, in the order of their bits.
    pub regulars: Vec<Column>,
    /// What times are stored relative to.
    pub(crate) base: EncodingBase,
}

/// The smallest times of a file: all others are stored as their distance from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncodingBase {
    pub(crate) timestamp: i64,
    pub(crate) local_deletion_time: i64,
    pub(crate) ttl: i32,
}

impl Schema {
    /// The static columns, or the regular ones.
    pub fn columns(&self, is_static: bool) -> &[Column] {
        if is_static { &self.statics } else { &self.regulars }
    }

    /// The types of the partition key's columns.
    pub fn partition_key_types(&self) -> &[CqlType] {
        match &self.partition_key {
            CqlType::Composite(types) => types,
            single => std::slice::from_ref(single),
        }
    }

    /// The values of the partition key's columns, or `None` when the key is not put together that way.
    pub fn split_partition_key(&self, key: &Bytes) -> Option<Vec<Bytes>> {
        let CqlType::Composite(types) = &self.partition_key else {
            return Some(vec![key.clone()]);
        };
        let mut rest = key.clone();
        let mut parts = Vec::with_capacity(types.len());
        for _ in types {
            let length = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>()?));
            let end = length.checked_add(2)?;
            // Each component ends with a zero: anything else is a bound, and no key.
            if *rest.get(end)? != 0 {
                return None;
            }
            parts.push(rest.slice(2..end));
            rest = rest.slice(end + 1..);
        }
        rest.is_empty().then_some(parts)
    }
}
