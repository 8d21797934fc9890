//! The node whose files are read: where they are, and what Cassandra does with them.

use std::path::{Path, PathBuf};

use anabranch_sstable::Table;
use scylla::client::session::Session;

use super::tools::Tools;

const TAG: &str = "sstables";

/// A node on this machine.
pub(crate) struct Node {
    pub(crate) tools: Tools,
    /// Whether tables may have materialized views.
    pub(crate) has_views: bool,
    data: PathBuf,
}

impl Node {
    /// The node that a session talks to; why its files cannot be read, otherwise.
    pub(crate) async fn find(session: &Session) -> Result<Self, String> {
        let setting = async |table: &str, name: &str| {
            let query = format!("SELECT value FROM system_views.{table} WHERE name = '{name}'");
            let rows = session
                .query_unpaged(query, ())
                .await
                .map_err(|error| error.to_string())?;
            let rows = rows.into_rows_result().map_err(|error| error.to_string())?;
            let (value,) = rows
                .single_row::<(String,)>()
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(value)
        };
        let folders = setting("settings", "data_file_directories").await?;
        let data = PathBuf::from(folders.trim_matches(['[', ']']));
        if !data.is_dir() {
            return Err(format!(
                "its data folder, {}, is not on this machine",
                data.display()
            ));
        }
        let port = setting("system_properties", "cassandra.jmx.local.port").await?;
        let config = setting("system_properties", "cassandra.config").await?;
        Ok(Self {
            has_views: setting("settings", "materialized_views_enabled").await? == "true",
            tools: Tools::start(&port, &config),
            data,
        })
    }

    /// Links to the SSTables of a keyspace as they are at this moment, whatever compaction does then.
    pub(crate) fn snapshot(&mut self, keyspace: &str) {
        self.tools.run(&["snapshot", TAG, keyspace]).unwrap();
    }

    /// The folder of a table's snapshot.
    pub(crate) fn snapshot_of(&self, keyspace: &str, table: &str) -> PathBuf {
        let folder = self.folder_of(keyspace, table).unwrap();
        folder.join("snapshots").join(TAG)
    }

    /// The SSTables that a table has now.
    pub(crate) fn data_files(&self, keyspace: &str, table: &str) -> Vec<String> {
        let folder = self.folder_of(keyspace, table);
        folder.map(|folder| data_files(&folder)).unwrap_or_default()
    }

    /// What a keyspace that is dropped leaves behind.
    pub(crate) fn remove_snapshots(&self, keyspace: &str) {
        let _ = std::fs::remove_dir_all(self.data.join(keyspace));
    }

    fn folder_of(&self, keyspace: &str, table: &str) -> Option<PathBuf> {
        let folders = std::fs::read_dir(self.data.join(keyspace)).ok()?;
        let is_of = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.rsplit_once('-').is_some_and(|(name, _)| name == table)
        };
        folders.map(|entry| entry.unwrap().path()).find(is_of)
    }
}

/// The `Data.db` files of a folder, by name.
pub(crate) fn data_files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.map(|path| path.display().to_string());
    let mut files: Vec<String> = files.filter(|path| path.ends_with("-Data.db")).collect();
    files.sort();
    files
}

/// The SSTables of a folder, each beside its `Data.db`.
pub(crate) fn open(folder: &Path) -> Result<Vec<(String, Table)>, String> {
    let open = |path: String| match Table::open(Path::new(&path)) {
        Ok(table) => Ok((path, table)),
        Err(error) => Err(error.to_string()),
    };
    data_files(folder).into_iter().map(open).collect()
}
