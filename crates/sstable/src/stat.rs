//! Writes what SSTables say of themselves: counts, bounds, compression and schema, without reading the data.

use std::io::{self, Write};
use std::path::Path;

use crate::components::Component;
use crate::error::{Result, SstableError};
use crate::json;
use crate::table::Table;
use crate::text::{self, Unit};
use crate::token::token;

/// Describes the SSTable that `path` names, or every SSTable of a folder.
pub fn run(path: &Path, out: &mut dyn Write) -> Result<()> {
    let tables = Table::open_all(path)?;
    for (at, table) in tables.iter().enumerate() {
        if at > 0 {
            line(out, "")?;
        }
        write(table, out)?;
    }
    Ok(())
}

/// Describes one SSTable.
pub fn write(table: &Table, out: &mut dyn Write) -> Result<()> {
    for (name, value) in facts(table)? {
        line(out, &format!("{name:<26}{value}"))?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|source: io::Error| SstableError::Output { source })
}

fn facts(table: &Table) -> Result<Vec<(String, String)>> {
    let (statistics, schema) = (table.statistics(), table.schema());
    let (length, compression) = table.data()?;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));

    fact("sstable", table.descriptor().to_string());
    fact("data", table.file(Component::Data));
    fact("uncompressed bytes", length.to_string());
    fact("compression", compression);
    if statistics.compression_ratio >= 0.0 {
        fact(
            "compression ratio",
            format!("{:.3}", statistics.compression_ratio),
        );
    }
    fact("partitions", statistics.partitions.to_string());
    fact(
        "largest partition",
        format!("at most {} bytes", statistics.partition_bytes_max),
    );
    fact("rows", statistics.rows.to_string());
    fact("columns set", statistics.columns_set.to_string());
    let micros = |time| text::instant(Unit::Microseconds, time);
    fact("smallest timestamp", micros(statistics.timestamps.0));
    fact("largest timestamp", micros(statistics.timestamps.1));
    let seconds =
        |time: Option<i64>| time.map_or("never".to_owned(), |time| text::instant(Unit::Seconds, time));
    fact(
        "first deletion or expiry",
        seconds(statistics.local_deletion_times.0),
    );
    fact(
        "last deletion or expiry",
        seconds(statistics.local_deletion_times.1),
    );
    fact("smallest TTL", statistics.ttls.0.to_string());
    fact("largest TTL", statistics.ttls.1.to_string());
    if let Some(any) = statistics.has_partition_deletions {
        fact("partition deletions", if any { "yes" } else { "no" }.to_owned());
    }
    if let Some((first, last)) = &statistics.keys {
        let show = |key: &[u8]| format!("0x{} (token {})", json::hex(key), token(key));
        fact("first key", show(first));
        fact("last key", show(last));
    }
    fact("level", statistics.level.to_string());
    fact(
        "repaired at",
        match statistics.repaired_at {
            0 => "never".to_owned(),
            millis => text::timestamp(millis),
        },
    );
    if let Some(session) = &statistics.pending_repair {
        fact("pending repair", json::dashed(session));
    }
    if statistics.is_transient {
        fact("transient", "yes".to_owned());
    }
    if let Some(host) = &statistics.originating_host {
        fact("written by", json::dashed(host));
    }
    fact("partitioner", statistics.partitioner.clone());
    fact(
        "bloom filter chance",
        statistics.bloom_filter_fp_chance.to_string(),
    );
    fact("partition key", schema.partition_key.to_string());
    for cql_type in &schema.clustering {
        fact("clustering", cql_type.to_string());
    }
    for column in &schema.statics {
        fact("static", format!("{} {}", column.label(), column.cql_type));
    }
    for column in &schema.regulars {
        fact("regular", format!("{} {}", column.label(), column.cql_type));
    }
    Ok(facts)
}
