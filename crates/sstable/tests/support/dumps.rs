//! Whether a table holds what `sstabledump` says of it, but for what the two write differently: `dump`'s module text lists
//! it.

use anabranch_sstable::dump::{self, Lines, Options};
use anabranch_sstable::{SstableError, Table};

use super::json::{Json, same};

/// What we write, a line a value.
pub(crate) fn dumped(table: &Table, lines: Lines) -> Result<Vec<Json>, SstableError> {
    let mut out = Vec::new();
    let options = Options {
        lines,
        raw_times: true,
        now: None,
    };
    dump::write(table, options, &mut out)?;
    Ok(String::from_utf8_lossy(&out).lines().map(Json::parse).collect())
}

/// How many rows and markers are the same; the first that differs, otherwise. `theirs` is what `sstabledump -l -t` wrote.
pub(crate) fn compare(table: &Table, theirs: &str) -> Result<usize, String> {
    let ours = dumped(table, Lines::Partitions).map_err(|error| error.to_string())?;
    let theirs: Vec<Json> = theirs.lines().flat_map(partitions).collect();
    if ours.len() != theirs.len() {
        return Err(format!("{} partitions, theirs {}", ours.len(), theirs.len()));
    }
    let mut rows = 0;
    for (mut our, mut their) in ours.into_iter().zip(theirs) {
        let (Some(Json::List(our_rows)), Some(Json::List(their_rows))) =
            (our.remove("rows"), their.remove("rows"))
        else {
            return Err(format!("no rows in {our:?} or {their:?}"));
        };
        normalize(&mut our);
        normalize(&mut their);
        equal(&our, &their)?;
        if our_rows.len() != their_rows.len() {
            return Err(format!(
                "{} rows, theirs {}: {our:?}",
                our_rows.len(),
                their_rows.len()
            ));
        }
        for (mut our, mut their) in our_rows.into_iter().zip(their_rows) {
            normalize(&mut our);
            normalize(&mut their);
            strip_row_ttl(&mut our, &their);
            equal(&our, &their)?;
            rows += 1;
        }
    }
    Ok(rows)
}

fn equal(our: &Json, their: &Json) -> Result<(), String> {
    match same(our, their) {
        true => Ok(()),
        false => Err(format!(
            "not as sstabledump has it:\n ours   {our:?}\n theirs {their:?}"
        )),
    }
}

/// A line is a partition, or a list of one.
fn partitions(line: &str) -> Vec<Json> {
    match Json::parse(line) {
        Json::List(partitions) => partitions,
        partition => vec![partition],
    }
}

fn normalize(item: &mut Json) {
    item.remove("position");
    item.remove("table kind");
    item.remove("sstable");
    if let Json::Object(fields) = item
        && let Some((_, cells)) = fields.iter_mut().find(|(name, _)| name == "cells")
        && let Json::List(cells) = cells
    {
        cells.iter_mut().for_each(normalize_cell);
    }
    if let Json::Object(fields) = item {
        for (name, value) in fields {
            match name.as_str() {
                "partition" | "liveness_info" => normalize_expired(value),
                _ => {}
            }
        }
    }
}

fn normalize_expired(value: &mut Json) {
    value.remove("expired");
    value.remove("position");
}

fn normalize_cell(cell: &mut Json) {
    cell.remove("expired");
    if let Json::Object(fields) = cell
        && let Some((_, Json::String(name))) = fields.iter_mut().find(|(name, _)| name == "name")
    {
        *name = name.trim_matches('"').to_owned();
    }
}

/// sstabledump leaves a cell's expiry out when its TTL is the row's, even when it expires at another time.
fn strip_row_ttl(ours: &mut Json, theirs: &Json) {
    let Json::Object(fields) = ours else { return };
    let Some((_, Json::List(cells))) = fields.iter_mut().find(|(name, _)| name == "cells") else {
        return;
    };
    for (cell, their) in cells
        .iter_mut()
        .zip(theirs.get("cells").map(Json::list).unwrap_or_default())
    {
        let row_ttl = theirs.get("liveness_info").and_then(|info| info.get("ttl"));
        if row_ttl.is_some() && cell.get("ttl") == row_ttl && their.get("ttl").is_none() {
            cell.remove("ttl");
            cell.remove("expires_at");
        }
    }
}
