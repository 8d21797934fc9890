//! The committed tables of several SSTables, and what a client saw of them.
//!
//! Beside the folders of SSTables lie for each table and format a `.cql` file, what Cassandra writes beside a snapshot, with a
//! view's table before it; and a `.select` file, the time of the query and then a row a line.

use std::path::PathBuf;

use anabranch_sstable::{SchemaCql, TableSchema};

use super::json::Json;

/// A table.
pub(crate) struct CommittedTable {
    /// `t0_5-oa`: the table and the format.
    pub(crate) name: String,
    /// What `t0_5-oa.cql` says of it.
    pub(crate) schema: TableSchema,
    /// `t0_5-oa-1-big`, `t0_5-oa-2-big` and so on.
    pub(crate) sstables: Vec<PathBuf>,
    /// The time of the query, in seconds since 1970.
    pub(crate) now: i64,
    /// What `SELECT JSON *` said.
    pub(crate) rows: Vec<Json>,
}

/// All of them, by name.
pub(crate) fn all() -> Vec<CommittedTable> {
    let entries = std::fs::read_dir(super::fixtures()).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "select"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let folders = super::tables();
    let of_file = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let (now, rows) = text.split_once('\n').unwrap();
        let mut schema = SchemaCql::default();
        let cql = std::fs::read_to_string(file.with_extension("cql")).unwrap();
        schema.add(&format!("{name}.cql"), &cql).unwrap();
        let is_of = |folder: &&PathBuf| {
            folder
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&format!("{name}-"))
        };
        CommittedTable {
            schema: schema.table("ks", name.rsplit_once('-').unwrap().0).unwrap(),
            sstables: folders.iter().filter(is_of).cloned().collect(),
            now: now.parse().unwrap(),
            rows: rows.lines().map(Json::parse).collect(),
            name,
        }
    };
    files.into_iter().map(of_file).collect()
}
