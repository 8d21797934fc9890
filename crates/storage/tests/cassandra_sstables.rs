//! Random tables on a real Cassandra: what `anabranch_sstable` reads in its files is what Cassandra says of them.
//!
//! ```text
//! seed ─▶ tables ─▶ writes, flush, compact, alter, … ─▶ snapshot ─┬─▶ each SSTable ─ row by row ─▶ sstabledump
//!                                                                 └─▶ merge ─ byte by byte ─▶ SELECT *, SELECT JSON *
//! ```
//!
//! The format is the node's: `dev/soak sstables` starts one for each. `ANABRANCH_SSTABLE_TABLES` says how many tables
//! (24), `ANABRANCH_SSTABLE_SEED` which (1). A table that differs is left in the target folder, with all that was said to
//! Cassandra.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test panics when it fails, and says what it has compared"
)]

#[allow(dead_code, reason = "a part of what the other tests use")]
mod cluster;
mod sstables;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anabranch_runtime::{Clock, SystemClock};
use anabranch_sstable::{Merge, Table, schema_cql};
use cluster::{Keyspace, contact_points};
use futures::StreamExt;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sstables::dice::Dice;
use sstables::node::{self, Node};
use sstables::seen::{Difference, Seen};
use sstables::table::{RandomTable, Relation};
use sstables::tally::Tally;
use sstables::{dumps, seen, select};

/// Tables that are there at the same time.
const BATCH: u64 = 12;
/// Tables that are written at the same time.
const AT_ONCE: usize = 6;
/// A change of the schema takes its time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// From so many tables on, a run must have met everything.
const COMPLETE: u64 = 200;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| u64::from_str(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_tables_read_as_cassandra_reads_them() {
    let test = "random tables read as Cassandra reads them";
    let Some(points) = contact_points(test) else {
        return;
    };
    let patient = ExecutionProfile::builder()
        .request_timeout(Some(PATIENCE))
        .build();
    let session = SessionBuilder::new()
        .known_nodes(&points)
        .default_execution_profile_handle(patient.into_handle())
        .build()
        .await
        .unwrap();
    let node = match Node::find(&session).await {
        Ok(node) if points.len() == 1 => node,
        Ok(_) => return eprintln!("!!! NOT RUN: {test}: it wants a cluster of one node"),
        Err(why) => return eprintln!("!!! NOT RUN: {test}: {why}"),
    };
    let (tables, seed) = (
        setting("ANABRANCH_SSTABLE_TABLES", 24),
        setting("ANABRANCH_SSTABLE_SEED", 1),
    );
    let mut run = Run {
        session,
        node,
        keyspace: Keyspace::new(&points),
        clock: SystemClock::new(),
        tally: Tally::default(),
        failures: Vec::new(),
    };
    for batch in 0..tables.div_ceil(BATCH) {
        let count = BATCH.min(tables - batch * BATCH);
        run.batch(seed, batch, count).await;
        println!(
            "seed {seed}, batch {batch}: {} tables so far, {} differ",
            run.tally.tables,
            run.failures.len()
        );
    }
    run.tally.report();
    assert!(
        run.failures.is_empty(),
        "{} differ:\n{}",
        run.failures.len(),
        run.failures.join("\n\n")
    );
    assert!(
        run.tally.refused * 4 < run.tally.statements,
        "Cassandra refuses too much"
    );
    if tables >= COMPLETE {
        run.tally.assert_complete();
    }
}

struct Run {
    session: Session,
    node: Node,
    keyspace: Keyspace,
    clock: std::sync::Arc<dyn Clock>,
    tally: Tally,
    failures: Vec<String>,
}

impl Run {
    /// Makes some tables, writes to them in several turns, compares, and drops them.
    async fn batch(&mut self, seed: u64, batch: u64, count: u64) {
        let keyspace = format!("{}_{batch}", self.keyspace.name);
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
        self.say(&format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {replication}"
        ))
        .await
        .unwrap();
        let number = |table: u64| seed << 32 | batch << 8 | table;
        let mut tables: Vec<RandomTable> = (0..count)
            .map(|table| RandomTable::new(number(table), &keyspace, &format!("t{table}")))
            .collect();
        for table in &mut tables {
            for statement in table.schema() {
                self.make(table, statement).await;
            }
        }
        let mut views = Vec::new();
        for (at, table) in tables.iter_mut().enumerate() {
            if self.node.has_views
                && let Some((view, statement)) = table.view()
            {
                self.make(table, statement).await;
                views.push((at, view));
            }
        }
        let mut dice = Dice::new(number(count));
        for _flush in 0..*dice.pick(&[1, 2, 3, 4]) {
            self.write(&mut tables).await;
            self.node.tools.run(&["flush", &keyspace]).unwrap();
            self.compact(&mut dice, &tables);
            for table in tables.iter_mut().filter(|_| dice.chance(0.15)) {
                for statement in table.alter() {
                    self.make(table, statement).await;
                }
            }
        }
        self.node.snapshot(&keyspace);
        tables.iter().for_each(|table| self.tally.table(table));
        self.tally.views += views.len();
        let relations = tables
            .iter()
            .enumerate()
            .map(|(at, table)| (at, table.relation.clone()));
        for (at, relation) in relations.chain(views) {
            if let Err(difference) = self.compare(&relation).await {
                let kept = self.keep(&relation, &tables[at].log);
                let name = &relation.name;
                let failure = format!("seed {seed}, batch {batch}, {name} ({kept}): {difference}");
                println!("{failure}");
                self.failures.push(failure);
            }
        }
        self.say(&format!("DROP KEYSPACE {keyspace}")).await.unwrap();
        self.node.remove_snapshots(&keyspace);
    }

    /// What must not fail: a part of the schema.
    async fn make(&self, table: &mut RandomTable, statement: String) {
        table.log.push(statement.clone());
        self.say(&statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    async fn say(&self, statement: &str) -> Result<(), String> {
        let said = self.session.query_unpaged(statement, ()).await;
        said.map(|_| ()).map_err(|error| error.to_string())
    }

    /// A table's statements one after the other, some tables at once.
    async fn write(&mut self, tables: &mut [RandomTable]) {
        let this = &*self;
        let of_table = async |table: &mut RandomTable| {
            let (mut said, mut refused) = (0, 0);
            for _ in 0..*table.dice.pick(&[8, 30, 100]) {
                let statement = table.write();
                said += 1;
                if let Err(error) = this.say(&statement).await {
                    // A random statement may be against the rules. Whether it was executed does not matter here.
                    refused += 1;
                    table.log.push(format!("-- refused: {error}"));
                }
            }
            (said, refused)
        };
        let counts: Vec<(usize, usize)> = futures::stream::iter(tables)
            .map(of_table)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (said, refused) in counts {
            self.tally.statements += said;
            self.tally.refused += refused;
        }
    }

    /// Some tables as a whole, and of some the first SSTables alone.
    fn compact(&mut self, dice: &mut Dice, tables: &[RandomTable]) {
        for table in tables {
            let Relation { keyspace, name } = &table.relation;
            let files = self.node.data_files(keyspace, name);
            let compacted = match dice.below(6) {
                0 | 1 => self.node.tools.run(&["compact", keyspace, name]),
                2 if files.len() > 1 => {
                    let mut command = vec!["merge"];
                    command.extend(files.iter().take(2).map(String::as_str));
                    self.node.tools.run(&command)
                }
                _ => Ok(()),
            };
            if let Err(failure) = compacted {
                println!("{} is not compacted: {failure}", table.relation.full_name());
            }
        }
    }

    async fn compare(&mut self, table: &Relation) -> Result<(), String> {
        let folder = self.node.snapshot_of(&table.keyspace, &table.name);
        let sstables = node::open(&folder)?;
        let clock = self.clock.clone();
        let now = || clock.unix_micros().div_euclid(1_000_000);
        for (path, sstable) in &sstables {
            self.tally
                .sstable(sstable, now())
                .map_err(|error| error.to_string())?;
            self.dump(path, sstable)?;
        }
        let sstables: Vec<_> = sstables.into_iter().map(|(_, sstable)| sstable).collect();
        *self.tally.merged.entry(sstables.len()).or_default() += 1;
        let seen = seen::all(&self.session, table, now).await?;
        match (sstables.len(), seen.rows.len()) {
            (0, 0) => {}
            (0, rows) => return Err(format!("no SSTables, and a client sees {rows} rows")),
            _ => {
                let rows = of_folder(&folder, &sstables, &seen).map_err(|difference| difference.0)?;
                self.tally.selected_rows += rows;
            }
        }
        match &seen.json {
            Ok(theirs) => {
                let mut ours = Vec::new();
                anabranch_sstable::select::run(&folder, seen.now, &mut ours)
                    .map_err(|error| error.to_string())?;
                select::compare(&ours, theirs)?;
            }
            Err(why) => {
                println!("not selected as JSON: {}: {why}", table.full_name());
                self.tally.not_json += 1;
            }
        }
        Ok(())
    }

    /// Compares an SSTable with what `sstabledump` says of it, unless that fails: Cassandra cannot read back everything
    /// that it writes.
    fn dump(&mut self, path: &str, sstable: &Table) -> Result<(), String> {
        if let Err(failure) = self.node.tools.run(&["dump", path]) {
            println!("not dumped: {path}: {failure}");
            self.tally.not_dumped += 1;
            return Ok(());
        }
        let json = path.replace("-Data.db", ".json");
        let theirs = std::fs::read_to_string(json).unwrap();
        self.tally.dumped_rows += dumps::compare(sstable, &theirs)?;
        Ok(())
    }

    /// Copies the SSTables of a table and what was said about it; returns where to.
    fn keep(&self, table: &Relation, log: &[String]) -> String {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(table.full_name());
        let _ = std::fs::remove_dir_all(&to);
        std::fs::create_dir_all(&to).unwrap();
        let from = self.node.snapshot_of(&table.keyspace, &table.name);
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        std::fs::write(to.join("statements.cql"), log.join(";\n")).unwrap();
        to.display().to_string()
    }
}

/// The merge of a snapshot's SSTables, by the rules that its own schema has, against what a client sees.
fn of_folder(folder: &Path, sstables: &[Table], seen: &Seen) -> Result<usize, Difference> {
    let (_, schema) = schema_cql::of_folder(folder)?;
    let mut merge = Merge::open(sstables, &schema.rules, seen.now)?;
    seen::compare(&mut merge, &schema, seen)
}
