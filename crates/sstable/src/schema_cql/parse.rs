//! Statements of a schema, from their tokens. What is wrong with one is said in words.

use super::tokens::Token;
use crate::cql::{CqlType, Udt};
use crate::marshal;

/// Deeper nesting than any type's; it bounds the stack.
const DEPTH_MAX: u32 = 64;

/// A keyspace and a name in it.
pub(super) type Name = (String, String);

/// A statement that says something of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// `CREATE TYPE`
    Type {
        name: Name,
        fields: Vec<(String, TypeName)>,
    },
    /// `CREATE TABLE`
    Table {
        name: Name,
        columns: Vec<TableColumn>,
        key: Key,
    },
    /// `CREATE MATERIALIZED VIEW`; without columns it has all of the table's.
    View {
        name: Name,
        base: Name,
        columns: Option<Vec<String>>,
        key: Key,
    },
    /// `ALTER TABLE … DROP`, with the time up to which cells are void.
    Drop { table: Name, column: String, at: i64 },
    /// `ALTER TABLE … ADD`
    Add { table: Name, column: TableColumn },
}

/// The columns of a primary key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) partition: Vec<String>,
    pub(super) clustering: Vec<String>,
}

impl Key {
    /// All of them, in order.
    pub(super) fn columns(&self) -> impl Iterator<Item = &String> {
        self.partition.iter().chain(&self.clustering)
    }

    pub(super) fn has(&self, name: &String) -> bool {
        self.columns().any(|column| column == name)
    }
}

/// A column as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) type_name: TypeName,
    pub(super) is_static: bool,
}

/// A type as it is written: what a user-defined one is, other statements say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TypeName {
    /// Of Cassandra's own.
    Own(CqlType),
    /// User-defined; without a keyspace, in that of what it is used by.
    Udt(Option<String>, String),
    /// `frozen<…>`, `list<…>` and so on, with the dimension of a vector.
    Of(String, Vec<TypeName>, Option<usize>),
    /// A Java class that is not known here.
    Custom(String),
}

/// The statement that these tokens are, without their semicolon; `None` for one that says nothing of a table.
pub(super) fn statement(tokens: &[Token]) -> Result<Option<Statement>, String> {
    let mut parser = Parser { rest: tokens };
    if parser.takes("CREATE") {
        if parser.takes("TYPE") {
            return parser.create_type().map(Some);
        }
        if parser.takes("TABLE") {
            return parser.create_table().map(Some);
        }
        if parser.takes("MATERIALIZED") {
            return parser.create_view().map(Some);
        }
    } else if parser.takes("ALTER") && parser.takes("TABLE") {
        return parser.alter_table();
    }
    Ok(None)
}

struct Parser<'a> {
    rest: &'a [Token],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let found = self.rest.first().is_some_and(|token| token.is_word(keyword));
        if found {
            self.next();
        }
        found
    }

    fn takes_sign(&mut self, sign: char) -> bool {
        let found = self.rest.first() == Some(&Token::Sign(sign));
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, keyword: &str) -> Result<(), String> {
        match self.takes(keyword) {
            true => Ok(()),
            false => Err(self.wanted(keyword)),
        }
    }

    fn expect_sign(&mut self, sign: char) -> Result<(), String> {
        match self.takes_sign(sign) {
            true => Ok(()),
            false => Err(self.wanted(&sign.to_string())),
        }
    }

    fn wanted(&self, what: &str) -> String {
        match self.rest.first() {
            Some(Token::Word(word) | Token::Quoted(word) | Token::Text(word)) => {
                format!("{what} is wanted and not `{word}`")
            }
            Some(Token::Sign(sign)) => format!("{what} is wanted and not `{sign}`"),
            None => format!("{what} is wanted where a statement ends"),
        }
    }

    /// Plain names are the same in any case.
    fn name(&mut self) -> Result<String, String> {
        let name = match self.rest.first() {
            Some(Token::Word(word)) => word.to_lowercase(),
            Some(Token::Quoted(name)) => name.clone(),
            _ => return Err(self.wanted("a name")),
        };
        self.next();
        Ok(name)
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        let mut names = vec![self.name()?];
        while self.takes_sign(',') {
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// `[IF NOT EXISTS] keyspace.name`
    fn qualified(&mut self) -> Result<Name, String> {
        if self.takes("IF") {
            self.expect("NOT")?;
            self.expect("EXISTS")?;
        }
        let keyspace = self.name()?;
        self.expect_sign('.')?;
        Ok((keyspace, self.name()?))
    }

    fn create_type(&mut self) -> Result<Statement, String> {
        let name = self.qualified()?;
        self.expect_sign('(')?;
        let mut fields = Vec::new();
        loop {
            fields.push((self.name()?, self.type_name(0)?));
            if !self.takes_sign(',') {
                break;
            }
        }
        self.expect_sign(')')?;
        Ok(Statement::Type { name, fields })
    }

    fn create_table(&mut self) -> Result<Statement, String> {
        let name = self.qualified()?;
        self.expect_sign('(')?;
        let (mut columns, mut key) = (Vec::new(), Key::default());
        loop {
            if self.takes("PRIMARY") {
                key = self.key()?;
            } else {
                let column = self.column()?;
                if self.takes("PRIMARY") {
                    self.expect("KEY")?;
                    key.partition = vec![column.name.clone()];
                }
                // `MASKED WITH …` and the like
                self.skip_to_end_of_column();
                columns.push(column);
            }
            if !self.takes_sign(',') {
                break;
            }
        }
        self.expect_sign(')')?;
        match key.partition.is_empty() {
            true => Err(format!("table {} has no primary key", name.1)),
            false => Ok(Statement::Table { name, columns, key }),
        }
    }

    fn create_view(&mut self) -> Result<Statement, String> {
        self.expect("VIEW")?;
        let name = self.qualified()?;
        self.expect("AS")?;
        self.expect("SELECT")?;
        let columns = match self.takes_sign('*') {
            true => None,
            false => Some(self.names()?),
        };
        self.expect("FROM")?;
        let base = self.qualified()?;
        // `WHERE …`, which may be anything.
        while !self.rest.is_empty() && !self.takes("PRIMARY") {
            self.next();
        }
        let key = self.key()?;
        Ok(Statement::View {
            name,
            base,
            columns,
            key,
        })
    }

    fn alter_table(&mut self) -> Result<Option<Statement>, String> {
        let table = self.qualified()?;
        if self.takes("DROP") {
            let column = self.name()?;
            // As Cassandra writes it; a statement of someone else's says nothing of the time.
            self.expect("USING")?;
            self.expect("TIMESTAMP")?;
            let sign = if self.takes_sign('-') { "-" } else { "" };
            let at = format!("{sign}{}", self.name()?);
            let at = at.parse().map_err(|_| format!("`{at}` is no time"))?;
            return Ok(Some(Statement::Drop { table, column, at }));
        }
        if self.takes("ADD") {
            let column = self.column()?;
            return Ok(Some(Statement::Add { table, column }));
        }
        Ok(None)
    }

    fn column(&mut self) -> Result<TableColumn, String> {
        Ok(TableColumn {
            name: self.name()?,
            type_name: self.type_name(0)?,
            is_static: self.takes("STATIC"),
        })
    }

    fn skip_to_end_of_column(&mut self) {
        let mut open = 0_u32;
        while let Some(token) = self.rest.first() {
            match token {
                Token::Sign('(') => open += 1,
                Token::Sign(')' | ',') if open == 0 => return,
                Token::Sign(')') => open -= 1,
                _ => {}
            }
            self.next();
        }
    }

    /// `KEY ((a, b), c, d)`
    fn key(&mut self) -> Result<Key, String> {
        self.expect("KEY")?;
        self.expect_sign('(')?;
        let partition = match self.takes_sign('(') {
            true => {
                let names = self.names()?;
                self.expect_sign(')')?;
                names
            }
            false => vec![self.name()?],
        };
        let clustering = match self.takes_sign(',') {
            true => self.names()?,
            false => Vec::new(),
        };
        self.expect_sign(')')?;
        Ok(Key {
            partition,
            clustering,
        })
    }

    fn type_name(&mut self, depth: u32) -> Result<TypeName, String> {
        if depth > DEPTH_MAX {
            return Err(format!("types are nested deeper than {DEPTH_MAX}"));
        }
        if let Some(Token::Text(class)) = self.rest.first() {
            self.next();
            return Ok(marshal::parse(class).map_or_else(|_| TypeName::Custom(class.clone()), TypeName::Own));
        }
        let is_quoted = matches!(self.rest.first(), Some(Token::Quoted(_)));
        let name = self.name()?;
        if let Some(own) = own(&name).filter(|_| !is_quoted) {
            return Ok(TypeName::Own(own));
        }
        if self.takes_sign('.') {
            return Ok(TypeName::Udt(Some(name), self.name()?));
        }
        if !self.takes_sign('<') {
            return Ok(TypeName::Udt(None, name));
        }
        let (mut parts, mut dimension) = (vec![self.type_name(depth + 1)?], None);
        while self.takes_sign(',') {
            match self.rest.first() {
                Some(Token::Word(word)) if word.parse::<usize>().is_ok() => {
                    dimension = word.parse().ok();
                    self.next();
                }
                _ => parts.push(self.type_name(depth + 1)?),
            }
        }
        self.expect_sign('>')?;
        Ok(TypeName::Of(name, parts, dimension))
    }
}

fn own(name: &str) -> Option<CqlType> {
    Some(match name {
        "ascii" => CqlType::Ascii,
        "bigint" => CqlType::BigInt,
        "blob" => CqlType::Blob,
        "boolean" => CqlType::Boolean,
        "counter" => CqlType::Counter,
        "date" => CqlType::Date,
        "decimal" => CqlType::Decimal,
        "double" => CqlType::Double,
        "duration" => CqlType::Duration,
        "float" => CqlType::Float,
        "inet" => CqlType::Inet,
        "int" => CqlType::Int,
        "smallint" => CqlType::SmallInt,
        "text" | "varchar" => CqlType::Text,
        "time" => CqlType::Time,
        "timestamp" => CqlType::Timestamp,
        "timeuuid" => CqlType::TimeUuid,
        "tinyint" => CqlType::TinyInt,
        "uuid" => CqlType::Uuid,
        "varint" => CqlType::VarInt,
        _ => return None,
    })
}

impl TypeName {
    /// The type, with what `udt` says of a user-defined one. Their nesting is bounded by `udt`.
    pub(super) fn resolve(
        &self,
        keyspace: &str,
        udt: &impl Fn(&str, &str) -> Result<Udt, String>,
    ) -> Result<CqlType, String> {
        let (name, parts, dimension) = match self {
            Self::Own(own) => return Ok(own.clone()),
            Self::Udt(other, name) => {
                return udt(other.as_deref().unwrap_or(keyspace), name).map(CqlType::Udt);
            }
            Self::Of(name, parts, dimension) => (name, parts, *dimension),
            Self::Custom(class) => return Err(format!("type `{class}` is not known")),
        };
        let parts = parts.iter().map(|part| part.resolve(keyspace, udt));
        let mut parts: Vec<CqlType> = parts.collect::<Result<_, _>>()?;
        Ok(match (name.as_str(), parts.as_slice(), dimension) {
            ("tuple", _, None) => CqlType::Tuple(parts),
            ("frozen", [_], None) => CqlType::Frozen(Box::new(parts.remove(0))),
            ("list", [_], None) => CqlType::List(Box::new(parts.remove(0))),
            ("set", [_], None) => CqlType::Set(Box::new(parts.remove(0))),
            ("vector", [_], Some(dimension)) => CqlType::Vector(Box::new(parts.remove(0)), dimension),
            ("map", [_, _], None) => {
                let value = Box::new(parts.remove(1));
                CqlType::Map(Box::new(parts.remove(0)), value)
            }
            _ => return Err(format!("`{name}<…>` is no type, or has the wrong parameters")),
        })
    }
}
