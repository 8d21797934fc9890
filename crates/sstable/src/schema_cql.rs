//! The schema as CQL: what the files of a table do not say of it, and the rules that its rows live by.
//!
//! ```text
//! CREATE TYPE ks.u (…);  CREATE TABLE ks.t (…, PRIMARY KEY (…)) WITH …;
//! ALTER TABLE ks.t DROP c USING TIMESTAMP µs;  ALTER TABLE ks.t ADD c …;
//! CREATE MATERIALIZED VIEW ks.v AS SELECT … FROM ks.t WHERE … PRIMARY KEY (…);
//! ```
//!
//! Cassandra writes such a text for each table beside every snapshot of it (`SchemaCQLHelper`): its types, then the table with
//! every column it ever had, those that were dropped, and those of them that were added again. `DESCRIBE` and backups have
//! the same statements for many tables, without the dropped columns. Other statements say nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::cql::{Column, CqlType, Schema, Udt};
use crate::error::{Result, SstableError};
use crate::merge::Rules;
use parse::{Key, Name, Statement, TableColumn};
use tokens::Token;

mod folder;
mod parse;
mod tokens;

pub use folder::of_folder;

/// A table or materialized view, as its schema has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Columns of the partition key, in order.
    pub partition: Vec<Column>,
    /// Clustering columns, in order; which of them descend is not said.
    pub clustering: Vec<Column>,
    /// Static columns.
    pub statics: Vec<Column>,
    /// All others.
    pub regulars: Vec<Column>,
    /// What its rows live by.
    pub rules: Rules,
}

/// Tables and views of one or more texts.
#[derive(Clone, Debug, Default)]
pub struct SchemaCql {
    files: Vec<Arc<str>>,
    types: BTreeMap<Name, Result<Udt, String>>,
    tables: BTreeMap<Name, Described>,
}

#[derive(Clone, Debug)]
enum Described {
    Table {
        columns: Vec<TableColumn>,
        key: Key,
        dropped: BTreeMap<Bytes, i64>,
    },
    View {
        base: Name,
        columns: Option<Vec<String>>,
        key: Key,
    },
}

impl SchemaCql {
    /// Takes up what a text says; `file` is what errors name. A type or table that is known already is replaced.
    pub fn add(&mut self, file: &str, text: &str) -> Result<()> {
        self.files.push(file.into());
        let tokens = tokens::tokens(text);
        let mut statements: Vec<_> = tokens.split(|token| *token == Token::Sign(';')).collect();
        // Half a time is a time too: each statement must have its end.
        if statements.pop().is_some_and(|rest| !rest.is_empty()) {
            return Err(self.wrong("it ends in the middle of a statement".into()));
        }
        for statement in statements {
            if let Some(statement) = parse::statement(statement).map_err(|what| self.wrong(what))? {
                self.take(statement)?;
            }
        }
        Ok(())
    }

    /// Keyspace and name of each table and view, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.tables.keys();
        names.map(|(keyspace, name)| (keyspace.as_str(), name.as_str()))
    }

    /// The table that a view is made from, when this is a view.
    pub fn base_of(&self, keyspace: &str, name: &str) -> Option<(&str, &str)> {
        match self.tables.get(&(keyspace.to_owned(), name.to_owned()))? {
            Described::View { base, .. } => Some((&base.0, &base.1)),
            Described::Table { .. } => None,
        }
    }

    /// A table or view.
    pub fn table(&self, keyspace: &str, name: &str) -> Result<TableSchema> {
        let full = (keyspace.to_owned(), name.to_owned());
        match self.tables.get(&full) {
            Some(Described::Table {
                columns,
                key,
                dropped,
            }) => self.resolve(keyspace, columns, key, dropped),
            Some(Described::View { base, columns, key }) => self.view(name, base, columns.as_deref(), key),
            None => Err(self.wrong(format!("there is no table {keyspace}.{name} in it"))),
        }
    }

    fn take(&mut self, statement: Statement) -> Result<()> {
        match statement {
            Statement::Type { name, fields } => {
                let resolved = fields.into_iter().map(|(field, type_name)| {
                    Ok((
                        field,
                        type_name.resolve(&name.0, &|keyspace, name| self.udt(keyspace, name))?,
                    ))
                });
                let udt = resolved.collect::<Result<_, String>>().map(|fields| Udt {
                    keyspace: name.0.clone(),
                    name: name.1.clone(),
                    fields,
                });
                self.types.insert(name, udt);
            }
            Statement::Table { name, columns, key } => {
                let dropped = BTreeMap::new();
                let described = Described::Table {
                    columns,
                    key,
                    dropped,
                };
                self.tables.insert(name, described);
            }
            Statement::View {
                name,
                base,
                columns,
                key,
            } => {
                self.tables.insert(name, Described::View { base, columns, key });
            }
            Statement::Drop { table, column, at } => {
                let (columns, dropped) = self.altered(&table)?;
                columns.retain(|other| other.name != column);
                dropped.insert(column.into(), at);
            }
            Statement::Add { table, column } => self.altered(&table)?.0.push(column),
        }
        Ok(())
    }

    fn altered(&mut self, table: &Name) -> Result<(&mut Vec<TableColumn>, &mut BTreeMap<Bytes, i64>)> {
        let error = self.wrong(format!("{}.{} is altered before it is made", table.0, table.1));
        match self.tables.get_mut(table) {
            Some(Described::Table { columns, dropped, .. }) => Ok((columns, dropped)),
            _ => Err(error),
        }
    }

    /// Cassandra 5.0 leaves out of a `schema.cql` the types that no column has as its own, such as those of a list's elements: such
    /// a one has no fields here, and the files say which it has, but for those that it was given after the last of them.
    fn udt(&self, keyspace: &str, name: &str) -> Result<Udt, String> {
        let full = (keyspace.to_owned(), name.to_owned());
        self.types.get(&full).cloned().unwrap_or_else(|| {
            let (keyspace, name) = full;
            Ok(Udt {
                keyspace,
                name,
                fields: Vec::new(),
            })
        })
    }

    fn resolve(
        &self,
        keyspace: &str,
        columns: &[TableColumn],
        key: &Key,
        dropped: &BTreeMap<Bytes, i64>,
    ) -> Result<TableSchema> {
        let column = |column: &TableColumn| -> Result<Column> {
            let udt = |keyspace: &str, name: &str| self.udt(keyspace, name);
            let resolved = column.type_name.resolve(keyspace, &udt);
            let cql_type = resolved.map_err(|what| self.wrong(format!("column {}: {what}", column.name)))?;
            Ok(Column {
                name: column.name.clone().into(),
                cql_type,
            })
        };
        let of_key = |names: &[String]| -> Result<Vec<Column>> {
            let named = names.iter().map(|name| {
                let found = columns.iter().find(|column| column.name == *name);
                column(found.ok_or_else(|| self.wrong(format!("key column {name} is not declared")))?)
            });
            named.collect()
        };
        let others = |is_static: bool| -> Result<Vec<Column>> {
            let others = columns
                .iter()
                .filter(|column| column.is_static == is_static && !key.has(&column.name));
            others.map(column).collect()
        };
        Ok(TableSchema {
            partition: of_key(&key.partition)?,
            clustering: of_key(&key.clustering)?,
            statics: others(true)?,
            regulars: others(false)?,
            rules: Rules {
                needs_marker: false,
                dropped: dropped.clone(),
            },
        })
    }

    /// A view has the types of its table's columns.
    fn view(&self, name: &str, base: &Name, columns: Option<&[String]>, key: &Key) -> Result<TableSchema> {
        let Some(Described::Table {
            columns: of_base,
            key: key_of_base,
            ..
        }) = self.tables.get(base)
        else {
            let (keyspace, base) = base;
            return Err(self.wrong(format!(
                "it does not describe {keyspace}.{base}, and what the rows of its view {name} live by depends on that"
            )));
        };
        let is_selected =
            |name: &String| columns.is_none_or(|columns| columns.contains(name)) || key.has(name);
        let columns: Vec<_> = of_base
            .iter()
            .filter(|column| is_selected(&column.name) && !column.is_static)
            .cloned()
            .collect();
        let mut view = self.resolve(&base.0, &columns, key, &BTreeMap::new())?;
        view.rules.needs_marker = key.columns().any(|name| !key_of_base.has(name));
        Ok(view)
    }

    fn wrong(&self, what: String) -> SstableError {
        let file = self.files.last().cloned().unwrap_or_default();
        SstableError::Schema { file, what }
    }
}

impl TableSchema {
    /// That files with this schema can be this table's; `file` is where the table is described.
    ///
    /// # Errors
    /// When the types of the keys differ, or the files hold a column that the table never had.
    pub fn check(&self, file: &str, of_files: &Schema) -> Result<()> {
        self.fits(of_files).map_err(|what| SstableError::Schema {
            file: file.into(),
            what,
        })
    }

    /// The same table, whose user-defined types have the fields that the files know besides.
    pub(crate) fn with_types_of(mut self, of_files: &Schema) -> Self {
        let keys = [
            (&mut self.partition, of_files.partition_key_types()),
            (&mut self.clustering, of_files.clustering.as_slice()),
        ];
        for (columns, types) in keys {
            let both = columns.iter_mut().zip(types);
            both.for_each(|(column, stored)| column.cql_type.widen(stored));
        }
        for (columns, stored) in [
            (&mut self.statics, &of_files.statics),
            (&mut self.regulars, &of_files.regulars),
        ] {
            for column in columns {
                if let Some(stored) = stored.iter().find(|stored| stored.name == column.name) {
                    column.cql_type.widen(&stored.cql_type);
                }
            }
        }
        self
    }

    fn fits(&self, of_files: &Schema) -> Result<(), String> {
        let declared = |columns: &[Column]| columns.iter().map(|column| column.cql_type.clone()).collect();
        let keys: [(&str, Vec<CqlType>, &[CqlType]); 2] = [
            (
                "partition key",
                declared(&self.partition),
                of_files.partition_key_types(),
            ),
            ("clustering", declared(&self.clustering), &of_files.clustering),
        ];
        for (what, declared, stored) in keys {
            let is_same = declared.len() == stored.len()
                && declared
                    .iter()
                    .zip(stored)
                    .all(|(declared, stored)| declared.is_like(stored));
            if !is_same {
                let shown = |types: &[CqlType]| {
                    types
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                return Err(format!(
                    "its {what} is ({}), and that of the SSTables is ({})",
                    shown(&declared),
                    shown(stored)
                ));
            }
        }
        for (known, stored) in [
            (&self.statics, &of_files.statics),
            (&self.regulars, &of_files.regulars),
        ] {
            let is_unknown = |column: &&Column| {
                known.iter().all(|known| known.name != column.name)
                    && !self.rules.dropped.contains_key(&column.name)
            };
            if let Some(column) = stored.iter().find(is_unknown) {
                let name = column.label();
                return Err(format!(
                    "it neither has nor dropped column {name}, which the SSTables hold"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
