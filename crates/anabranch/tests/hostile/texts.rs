//! The list of statements, and texts as it has them.

use std::collections::BTreeSet;

const LIST: &str = include_str!("../../../storage/src/cassandra/statements.cql");

/// The statements of the list.
pub(crate) fn listed() -> BTreeSet<String> {
    LIST.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// Statements of the list that this fleet has no use for: its bus is Kafka, no list is longer than a page of it, and what is
/// retired is removed only when it was left alone for two minutes.
pub(crate) fn is_unused(text: &str) -> bool {
    let detections = text.contains("<keyspace>.detection ") && !text.starts_with("CREATE");
    let next_page = text.starts_with("SELECT ") && text.contains("> (?");
    let others = ["UPDATE <keyspace>.store_record ", "DELETE FROM "];
    detections || next_page || others.iter().any(|part| text.starts_with(part))
}

/// A text as the list has it: names made of checked parts, ids of tables, the data centre and copies taken out.
pub(crate) fn general(text: &str, keyspace: &str) -> String {
    let is_name = |word: &str| {
        word.bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let is_table = |word: &str| {
        let slice = word.strip_prefix("wide_").unwrap_or(word).strip_prefix("data_");
        slice.is_some_and(|slice| {
            let digits =
                |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
            slice == "all"
                || digits(slice, 8)
                || slice
                    .split_once('_')
                    .is_some_and(|(day, hour)| digits(day, 8) && digits(hour, 2))
        })
    };
    let of_namespace = format!("{keyspace}_");
    let words = text.split(' ').map(|word| match word.split_once('.') {
        Some((space, table)) if space.starts_with(&of_namespace) && is_name(space) && is_table(table) => {
            "<events>.<table>".to_owned()
        }
        Some((space, table)) if space == keyspace && is_name(table) => format!("<keyspace>.{table}"),
        None if word.starts_with(&of_namespace) && is_name(word) => "<events>".to_owned(),
        None if word == keyspace => "<keyspace>".to_owned(),
        _ => word.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let text = match text.split_once("'NetworkTopologyStrategy', ") {
        Some((before, _)) => format!("{before}'NetworkTopologyStrategy', '<datacenter>': <copies>}}"),
        None => text,
    };
    match text.split_once(" ID = ") {
        Some((before, after)) => {
            let (id, after) = after.split_at(36);
            assert!(
                id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                "{text}"
            );
            format!("{before} ID = <id>{after}")
        }
        None => text,
    }
}
