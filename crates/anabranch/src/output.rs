//! What a command says: data on stdout in one of four forms, talk on stderr.
//!
//! - A table is for a person; the other forms are for programs and never decorated.
//! - Without `-o`, a terminal gets the table and a pipe gets `ndjson`.
//! - This is the only module that writes to stdout and stderr.

pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod ndjson;
pub(crate) mod progress;
pub(crate) mod records;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::exit::Failure;

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for a person.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
}

impl Format {
    /// What was asked for, or what fits where stdout goes.
    pub(crate) fn or_fitting(asked: Option<Self>) -> Self {
        asked.unwrap_or_else(|| {
            if io::stdout().is_terminal() {
                Self::Table
            } else {
                Self::Ndjson
            }
        })
    }
}

/// A list of things in every form: cells for columns, JSON for programs.
#[derive(Debug)]
pub(crate) struct Sheet {
    columns: Vec<&'static str>,
    rows: Vec<(Vec<String>, Value)>,
}

impl Sheet {
    /// No rows yet. Columns are named as in JSON; the table shows them in capitals.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One more row: its cells, and what it is in JSON.
    pub(crate) fn row(&mut self, cells: Vec<String>, json: Value) {
        self.rows.push((cells, json));
    }

    /// A row whose JSON is its cells.
    pub(crate) fn cells(&mut self, cells: Vec<String>) {
        let json = self
            .columns
            .iter()
            .zip(&cells)
            .map(|(column, cell)| ((*column).to_owned(), Value::from(cell.clone())))
            .collect();
        self.row(cells, Value::Object(json));
    }

    /// Prints every row.
    pub(crate) fn print(&self, format: Format) -> Result<(), Failure> {
        let mut out = stdout();
        match format {
            Format::Table => {
                let head = self.columns.iter().map(|column| column.to_uppercase()).collect();
                let rows = self.rows.iter().map(|(cells, _)| cells.clone()).collect();
                table::write(&mut out, Some(head), rows, table::width())?;
            }
            Format::Csv => {
                csv::write_row(&mut out, &self.columns)?;
                for (cells, _) in &self.rows {
                    csv::write_row(&mut out, cells)?;
                }
            }
            Format::Ndjson => {
                for (_, json) in &self.rows {
                    writeln!(out, "{json}")?;
                }
            }
            Format::Json => {
                let rows: Vec<&Value> = self.rows.iter().map(|(_, json)| json).collect();
                json::write(&mut out, &rows)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// Prints one thing: its fields line by line for a person, one object for programs.
pub(crate) fn print_one(format: Format, fields: &[(String, String)], value: &Value) -> Result<(), Failure> {
    let mut out = stdout();
    match format {
        Format::Table => {
            let rows = fields
                .iter()
                .map(|(name, value)| vec![name.clone(), value.clone()])
                .collect();
            table::write(&mut out, None, rows, table::width())?;
        }
        Format::Csv => {
            csv::write_row(&mut out, &["name", "value"])?;
            for (name, value) in fields {
                csv::write_row(&mut out, &[name, value])?;
            }
        }
        Format::Ndjson => writeln!(out, "{value}")?,
        Format::Json => json::write(&mut out, value)?,
    }
    Ok(out.flush()?)
}

/// Prints text as it is, a line.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    let mut out = stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Empties the screen, if stdout is one.
pub(crate) fn clear_screen() -> Result<(), Failure> {
    let mut out = stdout();
    if io::stdout().is_terminal() {
        out.write_all(b"\x1b[H\x1b[2J")?;
    }
    Ok(out.flush()?)
}

/// Stdout, with a buffer. What writes to it must flush it.
pub(crate) fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Says a line to the person, on stderr. One that can not be said is lost; nothing else fails for it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks the person for a line. Nothing when there is nobody to ask.
pub(crate) fn ask(question: &str) -> Option<String> {
    if !io::stdin().is_terminal() || !is_watched() {
        return None;
    }
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question} ");
    let _ = err.flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

/// Whether somebody watches stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// The leaves of a JSON object as dotted names and texts, for a person.
pub(crate) fn flatten(value: &Value) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let name = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    walk(&name, value, out);
                }
            }
            Value::String(text) => out.push((prefix.to_owned(), text.clone())),
            Value::Null => out.push((prefix.to_owned(), "-".to_owned())),
            other => out.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}

/// This program as a shell in this folder can call it again: by the path it was called with.
pub(crate) fn program() -> String {
    std::env::args()
        .next()
        .filter(|called| called.contains('/'))
        .unwrap_or_else(|| "anabranch".to_owned())
}
