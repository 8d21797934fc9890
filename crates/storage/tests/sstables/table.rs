//! A table of random columns and options, and the few keys that are written to it.

use anabranch_sstable::CqlType;
use anabranch_sstable::cql::Udt;

use super::dice::Dice;
use super::types::{self, Use};
use super::{literals, writes};

/// A name and a type.
pub(crate) type Column = (String, CqlType);

/// A table or view.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) keyspace: String,
    pub(crate) name: String,
}

impl Relation {
    /// The name with its keyspace.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.keyspace, self.name)
    }
}

/// Every compressor that Cassandra 5 ships, and none.
pub(crate) const COMPRESSORS: &[Option<&str>] = &[
    Some("LZ4Compressor"),
    Some("SnappyCompressor"),
    Some("DeflateCompressor"),
    Some("ZstdCompressor"),
    Some("NoopCompressor"),
    None,
];

/// A table, and the choices that its writes are made by.
pub(crate) struct RandomTable {
    pub(crate) dice: Dice,
    pub(crate) relation: Relation,
    pub(crate) udts: Vec<Udt>,
    pub(crate) partition: Vec<Column>,
    pub(crate) clustering: Vec<Column>,
    pub(crate) statics: Vec<Column>,
    pub(crate) regulars: Vec<Column>,
    pub(crate) has_counters: bool,
    /// Whether there are values of no bytes: Cassandra takes them, and cannot write all of them as JSON.
    pub(crate) has_empty: bool,
    pub(crate) compressor: Option<&'static str>,
    has_view: bool,
    /// How many columns were added since.
    added: usize,
    descending: Vec<bool>,
    options: Vec<String>,
    /// Literals of the keys that are written: few, so that writes meet.
    pub(crate) partitions: Vec<Vec<String>>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Everything that was said to Cassandra, for whoever looks into a difference.
    pub(crate) log: Vec<String>,
}

impl RandomTable {
    pub(crate) fn new(seed: u64, keyspace: &str, name: &str) -> Self {
        let mut dice = Dice::new(seed);
        let udts = udts(&mut dice, keyspace, name);
        let columns = |dice: &mut Dice, prefix: &str, count: usize, used| -> Vec<Column> {
            (0..count)
                .map(|at| (format!("{prefix}{at}"), types::column(dice, &udts, used)))
                .collect()
        };
        let count = *dice.pick(&[1, 1, 1, 2, 3]);
        let partition = columns(&mut dice, "p", count, Use::Key);
        let count = *dice.pick(&[0, 1, 1, 2, 3, 4]);
        let clustering = columns(&mut dice, "c", count, Use::Key);
        let has_counters = dice.chance(0.08);
        let has_empty = dice.chance(0.1);
        let (statics, regulars) = match has_counters {
            true => {
                let count = usize::from(!clustering.is_empty() && dice.chance(0.4));
                (counters("s", count), counters("r", 1 + dice.below(2)))
            }
            false => {
                let count = if clustering.is_empty() {
                    0
                } else {
                    *dice.pick(&[0, 0, 1, 3])
                };
                let statics = columns(&mut dice, "s", count, Use::Value);
                // From 64 on, columns that are not there are counted and listed in another way.
                let count = *dice.pick(&[0, 1, 3, 3, 6, 6, 12, 63, 64, 70]);
                (statics, columns(&mut dice, "r", count, Use::Value))
            }
        };
        let pool = |dice: &mut Dice, columns: &[Column], count: usize| -> Vec<Vec<String>> {
            let key = |dice: &mut Dice| {
                columns
                    .iter()
                    .map(|(_, kind)| literals::of_column(dice, kind, has_empty))
                    .collect()
            };
            (0..count).map(|_| key(dice)).collect()
        };
        let count = *dice.pick(&[1, 3, 12]);
        let partitions = pool(&mut dice, &partition, count);
        let count = *dice.pick(&[1, 4, 20]);
        let rows = pool(&mut dice, &clustering, count);
        let descending = clustering.iter().map(|_| dice.chance(0.4)).collect();
        let compressor = *dice.pick(COMPRESSORS);
        let options = options(&mut dice, compressor, has_counters);
        Self {
            relation: Relation {
                keyspace: keyspace.to_owned(),
                name: name.to_owned(),
            },
            udts,
            partition,
            clustering,
            statics,
            regulars,
            has_counters,
            has_empty,
            compressor,
            has_view: false,
            added: 0,
            descending,
            options,
            partitions,
            rows,
            log: Vec::new(),
            dice,
        }
    }

    /// A materialized view, whose rows get deletions of a kind of their own, and what makes it; of some tables only.
    pub(crate) fn view(&mut self) -> Option<(Relation, String)> {
        // Cassandra wants time to deliver what it owes a view.
        let has_no_grace = self.options.iter().any(|option| option == "gc_grace_seconds = 0");
        if self.has_counters || has_no_grace || self.dice.chance(0.5) {
            return None;
        }
        let is_key = |kind: &CqlType| types::SCALARS.contains(kind) && *kind != CqlType::Duration;
        let candidates: Vec<&Column> = self.regulars.iter().filter(|(_, kind)| is_key(kind)).collect();
        let moved = match candidates.is_empty() || self.dice.chance(0.2) {
            true => None,
            false => Some(self.dice.pick(&candidates).0.clone()),
        };
        let keys = [writes::names(&self.clustering), writes::names(&self.partition)].concat();
        let mut order: Vec<String> = moved.into_iter().chain(keys).collect();
        let turned = self.dice.below(order.len());
        order.rotate_left(turned);
        let relation = Relation {
            keyspace: self.relation.keyspace.clone(),
            name: format!("{}_view", self.relation.name),
        };
        let not_null: Vec<String> = order.iter().map(|name| format!("{name} IS NOT NULL")).collect();
        self.has_view = true;
        // A view has no static columns.
        let columns = match self.statics.is_empty() {
            true => "*".to_owned(),
            false => [order.clone(), writes::names(&self.regulars)].concat().join(", "),
        };
        let statement = format!(
            "CREATE MATERIALIZED VIEW {} AS SELECT {columns} FROM {} WHERE {} PRIMARY KEY ({})",
            relation.full_name(),
            self.relation.full_name(),
            not_null.join(" AND "),
            order.join(", ")
        );
        Some((relation, statement))
    }

    /// What makes the types and the table.
    pub(crate) fn schema(&self) -> Vec<String> {
        let declared = |columns: &[Column], suffix: &str| -> Vec<String> {
            columns
                .iter()
                .map(|(name, kind)| format!("{name} {kind}{suffix}"))
                .collect()
        };
        let mut statements: Vec<String> = self
            .udts
            .iter()
            .map(|udt| {
                format!(
                    "CREATE TYPE {}.{} ({})",
                    udt.keyspace,
                    udt.name,
                    declared(&udt.fields, "").join(", ")
                )
            })
            .collect();
        let columns = [
            declared(&self.partition, ""),
            declared(&self.clustering, ""),
            declared(&self.regulars, ""),
            declared(&self.statics, " static"),
        ]
        .concat();
        let partition = format!("({})", writes::names(&self.partition).join(", "));
        let key = [vec![partition], writes::names(&self.clustering)]
            .concat()
            .join(", ");
        let mut options = self.options.clone();
        if !self.clustering.is_empty() {
            let order = |(descending, (name, _)): (&bool, &Column)| {
                format!("{name} {}", if *descending { "DESC" } else { "ASC" })
            };
            let orders: Vec<String> = self.descending.iter().zip(&self.clustering).map(order).collect();
            options.insert(0, format!("CLUSTERING ORDER BY ({})", orders.join(", ")));
        }
        let (table, columns, options) = (
            self.relation.full_name(),
            columns.join(", "),
            options.join(" AND "),
        );
        statements.push(format!(
            "CREATE TABLE {table} ({columns}, PRIMARY KEY ({key})) WITH {options}"
        ));
        statements
    }

    /// Changes columns or types, in CQL. What is on disk by then does not know of it.
    pub(crate) fn alter(&mut self) -> Vec<String> {
        let table = self.relation.full_name();
        if self.has_counters {
            let name = format!("r{}", self.regulars.len());
            self.regulars.push((name.clone(), CqlType::Counter));
            return vec![format!("ALTER TABLE {table} ADD {name} counter")];
        }
        if !self.udts.is_empty() && self.dice.chance(0.5) {
            return vec![self.widen()];
        }
        // Cassandra keeps the columns of a view's table.
        if !self.has_view && self.dice.chance(0.5) {
            return self.drop_column();
        }
        let kind = types::column(&mut self.dice, &self.udts, Use::Value);
        let is_static = !self.clustering.is_empty() && !self.has_view && self.dice.chance(0.3);
        let (columns, prefix, suffix) = match is_static {
            true => (&mut self.statics, "s", " static"),
            false => (&mut self.regulars, "r", ""),
        };
        self.added += 1;
        let name = format!("{prefix}_added{}", self.added);
        columns.push((name.clone(), kind.clone()));
        vec![format!("ALTER TABLE {table} ADD {name} {kind}{suffix}")]
    }

    /// Adds a field to a type.
    fn widen(&mut self) -> String {
        let at = self.dice.below(self.udts.len());
        let kind = types::field(&mut self.dice, &self.udts[..at]);
        let udt = &self.udts[at];
        let (type_name, field) = (udt.name.clone(), (format!("f{}", udt.fields.len()), kind));
        let statement = format!(
            "ALTER TYPE {}.{type_name} ADD {} {}",
            self.relation.keyspace, field.0, field.1
        );
        for udt in &mut self.udts {
            let mut whole = CqlType::Udt(udt.clone());
            types::widen(&mut whole, &type_name, &field);
            if let CqlType::Udt(widened) = whole {
                *udt = widened;
            }
        }
        for (_, kind) in self.regulars.iter_mut().chain(&mut self.statics) {
            types::widen(kind, &type_name, &field);
        }
        statement
    }

    /// Drops a column, and adds some of them again: then what was written to it up to its drop stays void.
    fn drop_column(&mut self) -> Vec<String> {
        let is_static = !self.statics.is_empty() && self.dice.chance(0.3);
        let columns = if is_static { &self.statics } else { &self.regulars };
        // To Cassandra a user-defined type is another one when its column is added again.
        let candidates: Vec<usize> = (0..columns.len())
            .filter(|at| !types::has_udt(&columns[*at].1))
            .collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        let at = *self.dice.pick(&candidates);
        let (name, kind) = columns[at].clone();
        // By default, now: after most that was written.
        let using = match self.dice.chance(0.5) {
            true => format!(" USING TIMESTAMP {}", writes::time(&mut self.dice)),
            false => String::new(),
        };
        let drop = format!("ALTER TABLE {} DROP {name}", self.relation.full_name());
        if self.dice.chance(0.7) {
            let suffix = if is_static { " static" } else { "" };
            let add = format!(
                "ALTER TABLE {} ADD {name} {kind}{suffix}",
                self.relation.full_name()
            );
            return vec![format!("{drop}{using}"), add];
        }
        let columns = if is_static {
            &mut self.statics
        } else {
            &mut self.regulars
        };
        columns.remove(at);
        // Cassandra fails to read a row with a cell that is later than the drop of its column, unless that is there again.
        vec![format!("{drop} USING TIMESTAMP {}", writes::LAST_MICROS)]
    }
}

fn udts(dice: &mut Dice, keyspace: &str, table: &str) -> Vec<Udt> {
    let mut udts: Vec<Udt> = Vec::new();
    for number in 0..*dice.pick(&[0, 1, 2]) {
        let fields = (0..*dice.pick(&[1, 2, 4])).map(|at| (format!("f{at}"), types::field(dice, &udts)));
        let fields = fields.collect();
        udts.push(Udt {
            keyspace: keyspace.to_owned(),
            name: format!("{table}_u{number}"),
            fields,
        });
    }
    udts
}

fn counters(prefix: &str, count: usize) -> Vec<Column> {
    (0..count)
        .map(|at| (format!("{prefix}{at}"), CqlType::Counter))
        .collect()
}

fn options(dice: &mut Dice, compressor: Option<&str>, has_counters: bool) -> Vec<String> {
    let compression = match compressor {
        Some(class) => {
            let kilobytes = dice.pick(&[4, 4, 16, 64]);
            // Chunks that gain less than this are stored raw.
            let ratio = dice.pick(&[
                "",
                "",
                ", 'min_compress_ratio': '1.1'",
                ", 'min_compress_ratio': '2.0'",
            ]);
            format!("compression = {{'class': '{class}', 'chunk_length_in_kb': '{kilobytes}'{ratio}}}")
        }
        None => "compression = {'enabled': 'false'}".to_owned(),
    };
    let strategy = dice.pick(&[
        "SizeTieredCompactionStrategy",
        "LeveledCompactionStrategy",
        "UnifiedCompactionStrategy",
    ]);
    let grace = dice.pick(&[864_000, 864_000, 0, 1]);
    let mut options = vec![
        compression,
        format!("compaction = {{'class': '{strategy}'}}"),
        format!("gc_grace_seconds = {grace}"),
    ];
    if !has_counters && dice.chance(0.1) {
        options.push(format!("default_time_to_live = {}", dice.pick(&[3, 100_000])));
    }
    options
}
