//! The fields that partitions, rows and markers are made of.

use bytes::Bytes;

use crate::cql::{CqlType, EncodingBase};
use crate::error::Result;
use crate::input::{Cursor, DataInput, Input};
use crate::unfiltered::DeletionTime;

/// The body of a row or marker: its length, then that many bytes, which start with the length of the row
/// before it.
pub(crate) fn sized_body(input: &mut DataInput) -> Result<Cursor> {
    let length = input.count()?;
    let mut body = input.cursor(length)?;
    let _previous_length = body.vint()?;
    Ok(body)
}

/// Clustering values: two bits a value, in groups of 32, say which are null and which are empty.
pub(crate) fn clustering(
    input: &mut impl Input,
    types: &[CqlType],
    size: usize,
) -> Result<Vec<Option<Bytes>>> {
    let Some(types) = types.get(..size) else {
        return Err(input.wrong(format!("{size} clustering values for {} columns", types.len())));
    };
    let mut values = Vec::with_capacity(size);
    for group in types.chunks(32) {
        let mut header = input.vint()?;
        for cql_type in group {
            values.push(match header & 3 {
                0 => Some(value(input, cql_type)?),
                1 => Some(Bytes::new()),
                _ => None,
            });
            header >>= 2;
        }
        if header != 0 {
            return Err(input.wrong("a clustering has more values than there are columns".into()));
        }
    }
    Ok(values)
}

pub(crate) fn value(input: &mut impl Input, cql_type: &CqlType) -> Result<Bytes> {
    match cql_type.fixed_length() {
        Some(length) => input.take(length),
        None => input.vint_bytes(),
    }
}

/// Which columns a row has. Under 64 columns a bit is set for each that is missing; from 64 on, the missing
/// ones are counted, and then those that are fewer are listed.
pub(crate) fn present_columns(body: &mut Cursor, all: usize) -> Result<Vec<usize>> {
    let encoded = body.vint()?;
    if all < 64 {
        if encoded >> all != 0 {
            return Err(body.wrong(format!("columns {encoded:#b} are missing of {all}")));
        }
        return Ok((0..all).filter(|index| (encoded >> index) & 1 == 0).collect());
    }
    let missing = usize::try_from(encoded).ok().filter(|missing| *missing <= all);
    let Some(missing) = missing else {
        return Err(body.wrong(format!("{encoded} columns are missing of {all}")));
    };
    let present = all - missing;
    let lists_present = present < all / 2;
    let listed = if lists_present { present } else { missing };
    let mut indexes: Vec<usize> = Vec::with_capacity(listed);
    for _ in 0..listed {
        let index = body.count()?;
        if index >= all || indexes.last().is_some_and(|last| *last >= index) {
            return Err(body.wrong(format!("column {index} is out of order or out of {all}")));
        }
        indexes.push(index);
    }
    if lists_present {
        return Ok(indexes);
    }
    let mut skipped = indexes.into_iter().peekable();
    Ok((0..all)
        .filter(|index| skipped.next_if_eq(index).is_none())
        .collect())
}

pub(crate) fn timestamp(body: &mut Cursor, base: &EncodingBase) -> Result<i64> {
    Ok(body.vint()?.cast_signed().wrapping_add(base.timestamp))
}

pub(crate) fn relative_deletion_time(body: &mut Cursor, base: &EncodingBase) -> Result<i64> {
    Ok(i64::from(body.vint32()?) + base.local_deletion_time)
}

pub(crate) fn deletion(body: &mut Cursor, base: &EncodingBase) -> Result<DeletionTime> {
    match live_or_deletion(body, base)? {
        Some(deletion) => Ok(deletion),
        None => Err(body.wrong("a deletion deletes nothing".into())),
    }
}

/// A row that has one complex deletion has a field for it in each complex column: most then say "live".
pub(crate) fn live_or_deletion(body: &mut Cursor, base: &EncodingBase) -> Result<Option<DeletionTime>> {
    let marked_for_delete_at = timestamp(body, base)?;
    let stored = relative_deletion_time(body, base)?;
    if marked_for_delete_at == i64::MIN {
        return Ok(None);
    }
    match stored {
        0.. => Ok(Some(DeletionTime {
            marked_for_delete_at,
            local_deletion_time: stored,
        })),
        _ => Err(body.wrong(format!("{stored} is no time of deletion"))),
    }
}

/// Before `oa`: twelve bytes, of which one value means "not deleted".
pub(crate) fn signed_deletion(input: &mut DataInput) -> Result<Option<DeletionTime>> {
    let local_deletion_time = input.i32()?;
    let marked_for_delete_at = input.i64()?;
    if (marked_for_delete_at, local_deletion_time) == (i64::MIN, i32::MAX) {
        return Ok(None);
    }
    if local_deletion_time < 0 {
        return Err(input.wrong(format!("{local_deletion_time} is no time of deletion")));
    }
    let local_deletion_time = i64::from(local_deletion_time);
    Ok(Some(DeletionTime {
        marked_for_delete_at,
        local_deletion_time,
    }))
}

/// From `oa` on: one byte for "not deleted", or twelve in the other order, with an unsigned local time.
pub(crate) fn unsigned_deletion(input: &mut DataInput) -> Result<Option<DeletionTime>> {
    const NOT_DELETED: u8 = 0x80;
    let first = input.u8()?;
    if first & NOT_DELETED != 0 {
        return match first {
            NOT_DELETED => Ok(None),
            _ => Err(input.wrong(format!("a partition's deletion has flags {first:#x}"))),
        };
    }
    let mut word = [0; 8];
    let [head, rest @ ..] = &mut word;
    *head = first;
    rest.copy_from_slice(&input.array::<7>()?);
    let marked_for_delete_at = i64::from_be_bytes(word);
    let local_deletion_time = i64::from(input.u32()?);
    Ok(Some(DeletionTime {
        marked_for_delete_at,
        local_deletion_time,
    }))
}
