//! Whether the SSTables of a table, merged, are what a client sees: `SELECT JSON *`, row by row.

use anabranch_sstable::value::InvalidValue;
use anabranch_sstable::{Column, CqlType, Merge, Row, Schema, SstableError, Value};
use bytes::Bytes;

use super::json::{Json, same};

/// What a client sees, and what the files do not say: the names of the key columns.
pub(crate) struct Selected {
    pub(crate) partition: Vec<String>,
    pub(crate) clustering: Vec<String>,
    /// The time of the query, in seconds since 1970.
    pub(crate) now: i64,
    pub(crate) rows: Vec<Json>,
}

/// What a client sees of a merge, row by row: the key, the static row, and the row, which a partition with nothing but
/// static columns has not.
pub(crate) fn each_row<E: From<SstableError>>(
    merge: &mut Merge,
    mut visit: impl FnMut(&Bytes, Option<&Row>, Option<&Row>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(partition) = merge.next_partition()? {
        let statics = partition.static_row.as_ref();
        let mut has_rows = false;
        while let Some(row) = merge.next_row()? {
            has_rows = true;
            visit(&partition.key, statics, Some(&row))?;
        }
        if !has_rows && statics.is_some() {
            visit(&partition.key, statics, None)?;
        }
    }
    Ok(())
}

/// How many rows are the same; the first that differs, otherwise. Without SSTables there is no merge.
pub(crate) fn compare(merge: Option<Merge>, selected: &Selected) -> Result<usize, Difference> {
    let Some(mut merge) = merge else {
        return match selected.rows.as_slice() {
            [] => Ok(0),
            _ => Err(Difference("no SSTables, and there are rows".into())),
        };
    };
    let schema = merge.schema().clone();
    let mut theirs = selected.rows.iter();
    let mut rows = 0;
    each_row(&mut merge, |key, statics, row| {
        let ours = row_json(selected, &schema, key, statics, row)?;
        let Some(their) = theirs.next() else {
            return Err(Difference(format!("a client does not see {ours:?}")));
        };
        rows += 1;
        equal(&ours, their)
    })?;
    match theirs.next() {
        None => Ok(rows),
        Some(their) => Err(Difference(format!("only a client sees {their:?}"))),
    }
}

/// What is not the same, in words.
#[derive(Debug)]
pub(crate) struct Difference(pub(crate) String);

impl From<SstableError> for Difference {
    fn from(error: SstableError) -> Self {
        Self(error.to_string())
    }
}

impl From<InvalidValue> for Difference {
    fn from(error: InvalidValue) -> Self {
        Self(error.to_string())
    }
}

fn json(cql_type: &CqlType, bytes: Option<&Bytes>) -> Result<Json, Difference> {
    Ok(match bytes {
        Some(bytes) => Json::parse(&Value::decode(cql_type, bytes)?.to_json()),
        None => Json::Null,
    })
}

fn columns(
    fields: &mut Vec<(String, Json)>,
    columns: &[Column],
    row: Option<&Row>,
) -> Result<(), Difference> {
    for (index, column) in columns.iter().enumerate() {
        let data = row.and_then(|row| row.columns.iter().find(|data| data.column == index));
        let cells = data.map(|data| data.cells.as_slice()).unwrap_or_default();
        let value = Value::of_cells(&column.cql_type, cells)?;
        let json = value.map_or(Json::Null, |value| Json::parse(&value.to_json()));
        fields.push((column.label(), json));
    }
    Ok(())
}

fn row_json(
    names: &Selected,
    schema: &Schema,
    key: &Bytes,
    static_row: Option<&Row>,
    row: Option<&Row>,
) -> Result<Vec<(String, Json)>, Difference> {
    let mut fields = Vec::new();
    let Some(parts) = schema.split_partition_key(key) else {
        return Err(Difference(format!("{key:?} is no key")));
    };
    let types = schema.partition_key_types().iter();
    for (name, (cql_type, part)) in names.partition.iter().zip(types.zip(&parts)) {
        fields.push((name.clone(), json(cql_type, Some(part))?));
    }
    for (at, (name, cql_type)) in names.clustering.iter().zip(&schema.clustering).enumerate() {
        let value = row.and_then(|row| row.clustering.get(at)?.as_ref());
        fields.push((name.clone(), json(cql_type, value)?));
    }
    columns(&mut fields, &schema.statics, static_row)?;
    columns(&mut fields, &schema.regulars, row)?;
    Ok(fields)
}

/// Takes away the fields that a type was given after a value, and its file, were written: null to a client.
fn forget_later_fields(ours: &Json, theirs: &mut Json) {
    match (ours, theirs) {
        (Json::List(ours), Json::List(theirs)) => {
            let pairs = ours.iter().zip(theirs);
            pairs.for_each(|(our, their)| forget_later_fields(our, their));
        }
        (Json::Object(ours), Json::Object(theirs)) => {
            let known = ours.len();
            while theirs.len() > known && theirs.pop_if(|(_, value)| *value == Json::Null).is_some() {}
            let pairs = ours.iter().zip(theirs);
            pairs.for_each(|((_, our), (_, their))| forget_later_fields(our, their));
        }
        _ => {}
    }
}

/// Columns that no SSTable holds are null to a client.
fn equal(ours: &[(String, Json)], theirs: &Json) -> Result<(), Difference> {
    let Json::Object(theirs) = theirs else {
        return Err(Difference(format!("{theirs:?} is no row")));
    };
    for (name, their) in theirs {
        let our = ours
            .iter()
            .find(|(our, _)| our == name)
            .map_or(&Json::Null, |(_, our)| our);
        let mut known = their.clone();
        forget_later_fields(our, &mut known);
        if !same(our, &known) {
            let what = format!("{name} is not what a client sees:\n ours   {our:?}\n theirs {their:?}");
            return Err(Difference(format!("{what}\n row    {theirs:?}")));
        }
    }
    Ok(())
}
