//! Random writes and deletions of every kind, as CQL.

use anabranch_sstable::CqlType;

use super::dice::Dice;
use super::literals;
use super::table::{Column, RandomTable};

/// Most writes have a time close to this, so that many have the same.
const START_MICROS: i128 = 1_700_000_000_000_000;

/// No write has a later time.
pub(crate) const LAST_MICROS: i128 = 1 << 62;

/// A time like those of most writes.
pub(crate) fn time(dice: &mut Dice) -> i128 {
    START_MICROS + dice.between(0, 40)
}

/// The names of columns.
pub(crate) fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|(name, _)| name.clone()).collect()
}

impl RandomTable {
    /// The next statement.
    pub(crate) fn write(&mut self) -> String {
        let statement = match (self.has_counters, self.dice.below(100)) {
            (true, 0..85) => self.count(),
            (true, _) => self.delete(),
            (false, 0..40) => self.insert(),
            (false, 40..75) => self.update(),
            (false, _) => self.delete(),
        };
        self.log.push(statement.clone());
        statement
    }

    fn using(&mut self, with_ttl: bool) -> String {
        if self.has_counters {
            return String::new();
        }
        let dice = &mut self.dice;
        let mut parts = Vec::new();
        if dice.chance(0.8) {
            let time = match dice.chance(0.02) {
                true => *dice.pick(&[-5, 0, LAST_MICROS]),
                false => time(dice),
            };
            parts.push(format!("TIMESTAMP {time}"));
        }
        if with_ttl && dice.chance(0.2) {
            parts.push(format!(
                "TTL {}",
                dice.pick(&[0, 1, 2, 5, 10, 1_000, 86_400, 300_000_000, 630_720_000])
            ));
        }
        match parts.is_empty() {
            true => String::new(),
            false => format!(" USING {}", parts.join(" AND ")),
        }
    }

    fn partition_where(&mut self) -> String {
        equal(&self.partition, self.dice.pick::<Vec<String>>(&self.partitions))
    }

    fn row_where(&mut self) -> String {
        let partition = self.partition_where();
        match self.clustering.is_empty() {
            true => partition,
            false => format!(
                "{partition} AND {}",
                equal(&self.clustering, self.dice.pick::<Vec<String>>(&self.rows))
            ),
        }
    }

    fn insert(&mut self) -> String {
        let (mut columns, mut values) = (names(&self.partition), self.dice.pick(&self.partitions).clone());
        let is_static = !self.statics.is_empty() && self.dice.chance(0.15);
        let chance = *self.dice.pick(&[0.1, 0.5, 1.0]);
        let mut chosen = Vec::new();
        if is_static || self.dice.chance(0.2) {
            chosen = self.dice.some(&self.statics, chance);
        }
        if is_static && chosen.is_empty() {
            chosen = self.statics[..1].to_vec();
        }
        if !is_static {
            columns.extend(names(&self.clustering));
            values.extend(self.dice.pick(&self.rows).clone());
            chosen.extend(self.dice.some(&self.regulars, chance));
        }
        for (name, kind) in chosen {
            columns.push(name);
            values.push(self.value_or_null(&kind));
        }
        let (table, columns, values) = (self.relation.full_name(), columns.join(", "), values.join(", "));
        let end = match self.dice.chance(0.02) {
            true => " IF NOT EXISTS".to_owned(),
            false => self.using(true),
        };
        format!("INSERT INTO {table} ({columns}) VALUES ({values}){end}")
    }

    fn value_or_null(&mut self, kind: &CqlType) -> String {
        match self.dice.chance(0.1) {
            true => "null".to_owned(),
            false => literals::of_column(&mut self.dice, kind, self.has_empty),
        }
    }

    fn update(&mut self) -> String {
        if self.regulars.is_empty() {
            return self.insert();
        }
        let is_static = !self.statics.is_empty() && self.dice.chance(0.2);
        let columns = if is_static { &self.statics } else { &self.regulars };
        let most = *self.dice.pick(&[1, 2, 5]);
        let mut chosen: Vec<Column> = Vec::new();
        for _ in 0..most {
            let column = self.dice.pick(columns);
            if !chosen.contains(column) {
                chosen.push(column.clone());
            }
        }
        let sets: Vec<String> = chosen
            .iter()
            .map(|(name, kind)| self.assignment(name, kind))
            .collect();
        let place = if is_static {
            self.partition_where()
        } else {
            self.row_where()
        };
        format!(
            "UPDATE {}{} SET {} WHERE {place}",
            self.relation.full_name(),
            self.using(true),
            sets.join(", ")
        )
    }

    fn assignment(&mut self, name: &str, kind: &CqlType) -> String {
        let dice = &mut self.dice;
        if !kind.is_multi_cell() || dice.chance(0.3) {
            return format!("{name} = {}", self.value_or_null(kind));
        }
        let whole = literals::of(dice, kind);
        match kind {
            CqlType::List(element) => match dice.below(5) {
                0 => format!("{name} = {whole} + {name}"),
                1 => format!("{name}[{}] = {}", dice.below(3), literals::of(dice, element)),
                2 => format!("{name} = {name} - {whole}"),
                _ => format!("{name} = {name} + {whole}"),
            },
            CqlType::Map(key, value) => match dice.below(3) {
                0 => format!("{name} = {name} + {whole}"),
                1 => format!("{name}[{}] = null", literals::of(dice, key)),
                _ => format!(
                    "{name}[{}] = {}",
                    literals::of(dice, key),
                    literals::of(dice, value)
                ),
            },
            CqlType::Udt(udt) => {
                let (field, part) = dice.pick(&udt.fields);
                let value = if dice.chance(0.3) {
                    "null".to_owned()
                } else {
                    literals::of(dice, part)
                };
                format!("{name}.{field} = {value}")
            }
            _ => format!("{name} = {name} {} {whole}", dice.pick(&["+", "-"])),
        }
    }

    fn count(&mut self) -> String {
        let is_static = !self.statics.is_empty() && self.dice.chance(0.3);
        let columns = if is_static { &self.statics } else { &self.regulars };
        let name = self.dice.pick(columns).0.clone();
        let place = if is_static {
            self.partition_where()
        } else {
            self.row_where()
        };
        let (sign, by) = (*self.dice.pick(&["+", "-"]), self.dice.between(0, 1 << 40));
        format!(
            "UPDATE {} SET {name} = {name} {sign} {by} WHERE {place}",
            self.relation.full_name()
        )
    }

    fn delete(&mut self) -> String {
        let (table, mut using) = (self.relation.full_name(), self.using(false));
        let kind = self.dice.below(100);
        if kind < 8 || self.clustering.is_empty() {
            // Of a partition's deletion before 1970, Cassandra makes a file that it cannot read, from `oa` on.
            using = using.replace("TIMESTAMP -5", "TIMESTAMP 5");
        }
        if kind < 8 {
            return format!("DELETE FROM {table}{using} WHERE {}", self.partition_where());
        }
        if kind < 50 && !self.clustering.is_empty() {
            let partition = self.partition_where();
            return format!(
                "DELETE FROM {table}{using} WHERE {partition} AND {}",
                self.range_where()
            );
        }
        if kind < 75 || self.regulars.is_empty() {
            return format!("DELETE FROM {table}{using} WHERE {}", self.row_where());
        }
        let is_static = self.dice.chance(0.3);
        let columns = if is_static { &self.statics } else { &self.regulars };
        let chosen = self.dice.some(columns, 0.4);
        if chosen.is_empty() {
            return format!("DELETE FROM {table}{using} WHERE {}", self.row_where());
        }
        let parts: Vec<String> = chosen.iter().map(|(name, kind)| self.part(name, kind)).collect();
        let place = if is_static {
            self.partition_where()
        } else {
            self.row_where()
        };
        format!("DELETE {} FROM {table}{using} WHERE {place}", parts.join(", "))
    }

    /// A column, or an element of one.
    fn part(&mut self, name: &str, kind: &CqlType) -> String {
        let dice = &mut self.dice;
        if dice.chance(0.5) {
            return name.to_owned();
        }
        match kind {
            CqlType::List(_) => format!("{name}[{}]", dice.below(3)),
            CqlType::Set(key) | CqlType::Map(key, _) => format!("{name}[{}]", literals::of(dice, key)),
            CqlType::Udt(udt) => format!("{name}.{}", dice.pick(&udt.fields).0),
            _ => name.to_owned(),
        }
    }

    /// Several rows of a partition.
    fn range_where(&mut self) -> String {
        let (one, other) = (
            self.dice.pick(&self.rows).clone(),
            self.dice.pick(&self.rows).clone(),
        );
        let (columns, dice) = (&self.clustering, &mut self.dice);
        let equals = dice.below(columns.len());
        let head = equal(&columns[..equals], &one);
        let name = &columns[equals].0;
        let (low, high) = (*dice.pick(&[">", ">="]), *dice.pick(&["<", "<="]));
        let rest = match dice.below(8) {
            // Bounds of several columns at once: where their orders differ, Cassandra makes several ranges of one.
            0 => {
                let many = format!("({})", names(columns).join(", "));
                let fewer = 1 + dice.below(columns.len());
                let few = format!("({})", names(&columns[..fewer]).join(", "));
                return format!(
                    "{many} {low} ({}) AND {few} {high} ({})",
                    one.join(", "),
                    other[..fewer].join(", ")
                );
            }
            1 if equals > 0 => return head,
            2 => format!("{name} IN ({}, {})", one[equals], other[equals]),
            3 | 4 => format!("{name} {low} {}", one[equals]),
            5 => format!("{name} {high} {}", one[equals]),
            _ => format!("{name} {low} {} AND {name} {high} {}", one[equals], other[equals]),
        };
        match head.is_empty() {
            true => rest,
            false => format!("{head} AND {rest}"),
        }
    }
}

fn equal(columns: &[Column], values: &[String]) -> String {
    let pairs = columns
        .iter()
        .zip(values)
        .map(|((name, _), value)| format!("{name} = {value}"));
    pairs.collect::<Vec<_>>().join(" AND ")
}
