//! Whether the SSTables of a table, merged, are what a client sees: `sstable select` and `SELECT JSON *`, row by row.

use super::json::{Json, same};

/// How many rows are the same; the first that differs, otherwise. `ours` is what `sstable select` writes.
pub(crate) fn compare(ours: &[u8], theirs: &[Json]) -> Result<usize, String> {
    let ours = String::from_utf8_lossy(ours);
    let rows = theirs.len();
    let mut theirs = theirs.iter();
    for our in ours.lines().map(Json::parse) {
        match theirs.next() {
            Some(their) => equal(&our, their)?,
            None => return Err(format!("a client does not see {our:?}")),
        }
    }
    match theirs.next() {
        None => Ok(rows),
        Some(their) => Err(format!("only a client sees {their:?}")),
    }
}

/// Columns that are not there are null to a client.
fn equal(our: &Json, their: &Json) -> Result<(), String> {
    let Json::Object(theirs) = their else {
        return Err(format!("{their:?} is no row"));
    };
    if let Json::Object(ours) = our
        && let Some((more, _)) = ours
            .iter()
            .find(|(our, _)| theirs.iter().all(|(name, _)| name != our))
    {
        return Err(format!("a client does not see {more}: {theirs:?}"));
    }
    for (name, their) in theirs {
        let our = our.get(name).unwrap_or(&Json::Null);
        let (mut our_known, mut their_known) = (our.clone(), their.clone());
        forget_later_fields(&mut our_known, &mut their_known);
        if !same(&our_known, &their_known) {
            let what = format!("{name} is not what a client sees:\n ours   {our:?}\n theirs {their:?}");
            return Err(format!("{what}\n row    {theirs:?}"));
        }
    }
    Ok(())
}

/// Takes away the null fields at an object's end that the other has not. Which fields a type was given after a file was written
/// does not stand in each `schema.cql`, and until it is started again a node does not know it of types inside a vector.
fn forget_later_fields(ours: &mut Json, theirs: &mut Json) {
    match (ours, theirs) {
        (Json::List(ours), Json::List(theirs)) => {
            let pairs = ours.iter_mut().zip(theirs);
            pairs.for_each(|(our, their)| forget_later_fields(our, their));
        }
        (Json::Object(ours), Json::Object(theirs)) => {
            let known = ours.len().min(theirs.len());
            for fields in [&mut *ours, &mut *theirs] {
                while fields.len() > known && fields.pop_if(|(_, value)| *value == Json::Null).is_some() {}
            }
            let pairs = ours.iter_mut().zip(theirs);
            pairs.for_each(|((_, our), (_, their))| forget_later_fields(our, their));
        }
        _ => {}
    }
}
