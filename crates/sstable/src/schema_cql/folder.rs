//! The schema that lies beside the SSTables of a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SchemaCql, TableSchema};
use crate::error::{Result, SstableError};
use crate::snapshot::{read, shown};

const FILE_NAME: &str = "schema.cql";

/// A folder's `schema.cql`, as errors name it, and what it says of the table whose SSTables lie there.
///
/// When it describes several tables, the folder's path says which one: `<keyspace>/<table>-<id>`, or a folder in that. When
/// it describes a view alone, as in a snapshot, the table of that is looked for in the snapshot of the same name beside it.
pub fn of_folder(folder: &Path) -> Result<(Arc<str>, TableSchema)> {
    let file = folder.join(FILE_NAME);
    let mut schema = SchemaCql::default();
    let Some(text) = read(&file)? else {
        return Err(SstableError::Missing {
            file: shown(&file),
            why: "it says which columns were dropped, and whether the table is a materialized view",
        });
    };
    schema.add(&shown(&file), &text)?;
    let (keyspace, name) = relation(&schema, folder, &file)?;
    if let Some((of, base)) = schema.base_of(&keyspace, &name) {
        let base = (of.to_owned(), base.to_owned());
        if schema
            .names()
            .all(|(keyspace, name)| (keyspace, name) != (&*base.0, &*base.1))
        {
            for file in in_snapshots_of(&base.1, folder)? {
                if let Some(text) = read(&file)? {
                    schema.add(&shown(&file), &text)?;
                }
            }
        }
    }
    Ok((shown(&file), schema.table(&keyspace, &name)?))
}

/// The one that is described, or the one that the path names.
fn relation(schema: &SchemaCql, folder: &Path, file: &Path) -> Result<(String, String)> {
    let owned = |(keyspace, name): (&str, &str)| (keyspace.to_owned(), name.to_owned());
    let mut names = schema.names();
    if let (Some(only), None) = (names.next(), names.next()) {
        return Ok(owned(only));
    }
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let named = whole.ancestors().find_map(|ancestor| {
        let (table, _id) = table_and_id(ancestor)?;
        let keyspace = ancestor.parent()?.file_name()?.to_str()?;
        Some((keyspace.to_owned(), table.to_owned()))
    });
    match named {
        Some(named) => Ok(named),
        None => Err(SstableError::Schema {
            file: shown(file),
            what: format!(
                "it describes {} tables, and no part of the folder's path is `<keyspace>/<table>-<id>`",
                schema.names().count()
            ),
        }),
    }
}

/// `<keyspace>/<base>-<id>/snapshots/<tag>/schema.cql`, seen from `<keyspace>/<view>-<id>/snapshots/<tag>`.
fn in_snapshots_of(base: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (Some(tag), Some(keyspace)) = (whole.file_name(), whole.ancestors().nth(3)) else {
        return Ok(Vec::new());
    };
    let io = |source| SstableError::Io {
        file: shown(keyspace),
        offset: 0,
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(keyspace).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if table_and_id(&path).is_some_and(|(table, _)| table == base) {
            found.push(path.join("snapshots").join(tag).join(FILE_NAME));
        }
    }
    Ok(found)
}

/// The parts of a table's folder name: the id is 32 hexadecimal digits.
fn table_and_id(path: &Path) -> Option<(&str, &str)> {
    let (table, id) = path.file_name()?.to_str()?.rsplit_once('-')?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some((table, id))
}
