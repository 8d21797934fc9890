//! From stored bytes to values, by type. Every value must take exactly the bytes it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, Bytes};

use crate::cql::{CqlType, Udt};
use crate::json;
use crate::unfiltered::{Cell, CellState};

/// Deeper nesting than any table's; it bounds the stack.
const DEPTH_MAX: u32 = 64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No bytes where a number, a time or the like has some: Cassandra allows it, and it is not null.
    Empty,
    /// `ascii`, `text`
    Text(String),
    /// `blob`
    Blob(Bytes),
    /// `boolean`
    Boolean(bool),
    /// `tinyint`, `smallint`, `int`, `bigint`, and the total of a `counter`
    Integer(i64),
    /// `varint`: two's complement, big-endian
    VarInt(Bytes),
    /// `decimal`: `unscaled` / 10^`scale`
    Decimal {
        /// Digits after the point; negative for zeroes before it.
        scale: i32,
        /// Two's complement, big-endian.
        unscaled: Bytes,
    },
    /// `float`
    Float(f32),
    /// `double`
    Double(f64),
    /// `date`, in days since 1970
    Date(i64),
    /// `time`, in nanoseconds since midnight
    Time(i64),
    /// `timestamp`, in milliseconds since 1970
    Timestamp(i64),
    /// `uuid`, `timeuuid`
    Uuid([u8; 16]),
    /// `inet`
    Inet(IpAddr),
    /// `duration`
    Duration {
        /// Months.
        months: i64,
        /// Days.
        days: i64,
        /// Nanoseconds.
        nanoseconds: i64,
    },
    /// `list`, `set`, `vector`, `tuple`: an element may be null
    List(Vec<Option<Value>>),
    /// `map`, in the order of its keys
    Map(Vec<(Option<Value>, Option<Value>)>),
    /// A user-defined type: fields that were added after the value was written are null
    Udt(Vec<(String, Option<Value>)>),
}

/// Why bytes are no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are no {cql_type}: {what}")]
pub struct InvalidValue {
    /// The type.
    pub cql_type: String,
    /// How many bytes there were.
    pub bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Value {
    /// The value of these bytes.
    pub fn decode(cql_type: &CqlType, bytes: &Bytes) -> Result<Self, InvalidValue> {
        decode(cql_type.bare(), bytes, 0).map_err(|what| InvalidValue {
            cql_type: cql_type.to_string(),
            bytes: bytes.len(),
            what,
        })
    }
}

impl Value {
    /// The value of a column with a cell for each element, from the cells that live; `None` from none.
    pub fn of_cells(cql_type: &CqlType, cells: &[Cell]) -> Result<Option<Self>, InvalidValue> {
        let parts = cells.iter().filter_map(|cell| match &cell.state {
            CellState::Live(value) | CellState::Expiring(value, _) => {
                Some((cell.path.clone().unwrap_or_default(), value))
            }
            CellState::Tombstone { .. } => None,
        });
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return Ok(None);
        }
        let decode = |cql_type: &CqlType, bytes: &Bytes| Self::decode(cql_type, bytes).map(Some);
        Ok(Some(match cql_type {
            CqlType::List(element) => Self::List(
                parts
                    .map(|(_, value)| decode(element, value))
                    .collect::<Result<_, _>>()?,
            ),
            CqlType::Set(element) => Self::List(
                parts
                    .map(|(path, _)| decode(element, &path))
                    .collect::<Result<_, _>>()?,
            ),
            CqlType::Map(key, value_type) => {
                let entry = |(path, value)| Ok((decode(key, &path)?, decode(value_type, value)?));
                Self::Map(parts.map(entry).collect::<Result<_, _>>()?)
            }
            CqlType::Udt(udt) => {
                let cells: Vec<_> = parts.collect();
                let field = |(number, (name, field_type)): (usize, &(String, CqlType))| {
                    let is_this =
                        |path: &Bytes| u16::try_from(number).is_ok_and(|n| **path == n.to_be_bytes());
                    let value = cells.iter().find(|(path, _)| is_this(path));
                    let value = value.map_or(Ok(None), |(_, value)| decode(field_type, value))?;
                    Ok((name.clone(), value))
                };
                Self::Udt(
                    udt.fields
                        .iter()
                        .enumerate()
                        .map(field)
                        .collect::<Result<_, _>>()?,
                )
            }
            simple => match parts.next() {
                Some((_, value)) => Self::decode(simple, value)?,
                None => return Ok(None),
            },
        }))
    }

    /// The value as JSON, in the form in which `sstabledump` and `SELECT JSON` write it.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        json::value(&mut out, self);
        String::from_utf8_lossy(&out).into_owned()
    }
}

type Decoded<T> = Result<T, &'static str>;

const WRONG_LENGTH: &str = "another length is wanted";

fn decode(cql_type: &CqlType, bytes: &Bytes, depth: u32) -> Decoded<Value> {
    if depth > DEPTH_MAX {
        return Err("it is nested too deep");
    }
    let nested = |cql_type: &CqlType, bytes: &Bytes| decode(cql_type.bare(), bytes, depth + 1);
    match cql_type {
        CqlType::Ascii if !bytes.is_ascii() => return Err("it is not ASCII"),
        CqlType::Ascii | CqlType::Text => {
            let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
            return Ok(Value::Text(text.to_owned()));
        }
        CqlType::Blob => return Ok(Value::Blob(bytes.clone())),
        CqlType::Tuple(parts) => return tuple(parts.iter(), bytes, nested).map(Value::List),
        CqlType::Udt(udt) => return udt_fields(udt, bytes, nested),
        _ if bytes.is_empty() => return Ok(Value::Empty),
        _ => {}
    }
    Ok(match cql_type {
        CqlType::TinyInt => Value::Integer(i8::from_be_bytes(exact(bytes)?).into()),
        CqlType::SmallInt => Value::Integer(i16::from_be_bytes(exact(bytes)?).into()),
        CqlType::Int => Value::Integer(i32::from_be_bytes(exact(bytes)?).into()),
        CqlType::BigInt => Value::Integer(i64::from_be_bytes(exact(bytes)?)),
        CqlType::Counter => Value::Integer(counter_total(bytes)?),
        CqlType::Boolean => Value::Boolean(exact::<1>(bytes)? != [0]),
        CqlType::Float => Value::Float(f32::from_be_bytes(exact(bytes)?)),
        CqlType::Double => Value::Double(f64::from_be_bytes(exact(bytes)?)),
        // Day 0 is in the middle of the unsigned range.
        CqlType::Date => Value::Date(i64::from(u32::from_be_bytes(exact(bytes)?)) - (1 << 31)),
        CqlType::Time => Value::Time(i64::from_be_bytes(exact(bytes)?)),
        CqlType::Timestamp => Value::Timestamp(i64::from_be_bytes(exact(bytes)?)),
        CqlType::Uuid | CqlType::TimeUuid => Value::Uuid(exact(bytes)?),
        CqlType::Inet => Value::Inet(inet(bytes)?),
        CqlType::VarInt => Value::VarInt(bytes.clone()),
        CqlType::Decimal => {
            let (scale, unscaled) = bytes.split_first_chunk::<4>().ok_or(WRONG_LENGTH)?;
            let unscaled = bytes.slice_ref(unscaled);
            Value::Decimal {
                scale: i32::from_be_bytes(*scale),
                unscaled,
            }
        }
        CqlType::Duration => duration(bytes.clone())?,
        CqlType::List(element) | CqlType::Set(element) => {
            let mut rest = bytes.clone();
            let count = collection_size(&mut rest)?;
            let elements: Decoded<_> = (0..count).map(|_| sized(&mut rest, element, nested)).collect();
            finished(&rest, Value::List(elements?))?
        }
        CqlType::Map(key, value) => {
            let mut rest = bytes.clone();
            let count = collection_size(&mut rest)?;
            let mut entry = || Ok((sized(&mut rest, key, nested)?, sized(&mut rest, value, nested)?));
            let entries: Decoded<_> = (0..count).map(|_| entry()).collect();
            finished(&rest, Value::Map(entries?))?
        }
        CqlType::Vector(element, dimension) => vector(element, *dimension, bytes, nested)?,
        CqlType::Composite(_) => Value::Blob(bytes.clone()),
        CqlType::Empty => return Err("it holds nothing"),
        // Covered above, or not bare.
        CqlType::Ascii
        | CqlType::Text
        | CqlType::Blob
        | CqlType::Tuple(_)
        | CqlType::Udt(_)
        | CqlType::Frozen(_)
        | CqlType::Reversed(_) => return Err("it is of no known kind"),
    })
}

fn exact<const N: usize>(bytes: &[u8]) -> Decoded<[u8; N]> {
    bytes.try_into().map_err(|_| WRONG_LENGTH)
}

fn finished(rest: &Bytes, value: Value) -> Decoded<Value> {
    if rest.is_empty() {
        Ok(value)
    } else {
        Err("bytes are left over")
    }
}

fn take(rest: &mut Bytes, length: usize) -> Decoded<Bytes> {
    if length > rest.len() {
        return Err("it ends early");
    }
    Ok(rest.split_to(length))
}

fn take_i32(rest: &mut Bytes) -> Decoded<i32> {
    exact(&take(rest, 4)?).map(i32::from_be_bytes)
}

/// A count that cannot be is refused before memory is asked for: an element takes four bytes at least.
fn collection_size(rest: &mut Bytes) -> Decoded<usize> {
    let count = usize::try_from(take_i32(rest)?).map_err(|_| "a count is negative")?;
    match count <= rest.len() / 4 {
        true => Ok(count),
        false => Err("it ends early"),
    }
}

/// An element after its length; a negative length is null.
fn sized(
    rest: &mut Bytes,
    cql_type: &CqlType,
    nested: impl Fn(&CqlType, &Bytes) -> Decoded<Value>,
) -> Decoded<Option<Value>> {
    match usize::try_from(take_i32(rest)?) {
        Ok(length) => nested(cql_type, &take(rest, length)?).map(Some),
        Err(_) => Ok(None),
    }
}

/// Elements of their types; those at the end may be missing altogether.
fn tuple<'a>(
    types: impl Iterator<Item = &'a CqlType>,
    bytes: &Bytes,
    nested: impl Fn(&CqlType, &Bytes) -> Decoded<Value>,
) -> Decoded<Vec<Option<Value>>> {
    let mut rest = bytes.clone();
    let mut values = Vec::new();
    for cql_type in types {
        values.push(match rest.is_empty() {
            true => None,
            false => sized(&mut rest, cql_type, &nested)?,
        });
    }
    if rest.is_empty() {
        Ok(values)
    } else {
        Err("bytes are left over")
    }
}

fn udt_fields(
    udt: &Udt,
    bytes: &Bytes,
    nested: impl Fn(&CqlType, &Bytes) -> Decoded<Value>,
) -> Decoded<Value> {
    let values = tuple(udt.fields.iter().map(|(_, cql_type)| cql_type), bytes, nested)?;
    let names = udt.fields.iter().map(|(name, _)| name.clone());
    Ok(Value::Udt(names.zip(values).collect()))
}

/// Elements side by side when they have a fixed length, each after its length otherwise.
fn vector(
    element: &CqlType,
    dimension: usize,
    bytes: &Bytes,
    nested: impl Fn(&CqlType, &Bytes) -> Decoded<Value>,
) -> Decoded<Value> {
    let mut rest = bytes.clone();
    let fixed = element.fixed_length();
    let mut values = Vec::new();
    for _ in 0..dimension {
        let length = match fixed {
            Some(length) => length,
            None => usize::try_from(vint(&mut rest)?).map_err(|_| "it ends early")?,
        };
        values.push(Some(nested(element, &take(&mut rest, length)?)?));
    }
    finished(&rest, Value::List(values))
}

/// Three numbers, zigzag-encoded: the sign is the last bit.
fn duration(mut rest: Bytes) -> Decoded<Value> {
    let mut next = || {
        let encoded = vint(&mut rest)?;
        let negative = (encoded & 1).wrapping_neg();
        Ok::<_, &'static str>(((encoded >> 1) ^ negative).cast_signed())
    };
    let (months, days, nanoseconds) = (next()?, next()?, next()?);
    finished(
        &rest,
        Value::Duration {
            months,
            days,
            nanoseconds,
        },
    )
}

fn vint(rest: &mut Bytes) -> Decoded<u64> {
    if !rest.has_remaining() {
        return Err("it ends early");
    }
    let first = rest.get_u8();
    let more = first.leading_ones();
    let mut value = if more < 8 {
        u64::from(first & (0xff_u8 >> more))
    } else {
        0
    };
    for byte in take(rest, more as usize)? {
        value = (value << 8) | u64::from(byte);
    }
    Ok(value)
}

/// A header with two bytes for each shard that is local or global, then 32 bytes a shard: node, clock, count.
fn counter_total(context: &Bytes) -> Decoded<i64> {
    let mut rest = context.clone();
    let listed = i16::from_be_bytes(exact(&take(&mut rest, 2)?)?).unsigned_abs();
    take(&mut rest, 2 * usize::from(listed))?;
    let (shards, odd) = rest.as_chunks::<32>();
    if !odd.is_empty() {
        return Err(WRONG_LENGTH);
    }
    let counts = shards.iter().filter_map(|shard| shard.last_chunk::<8>());
    Ok(counts.fold(0, |total: i64, count| {
        total.wrapping_add(i64::from_be_bytes(*count))
    }))
}

fn inet(bytes: &[u8]) -> Decoded<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    exact::<16>(bytes).map(|v6| Ipv6Addr::from(v6).into())
}
