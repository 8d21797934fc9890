use std::collections::BTreeSet;

use super::*;

/// A record in each state as version 1 stores it, one a line.
const V1: &str = include_str!("v1.jsonl");

#[test]
fn bytes_of_version_1_are_read_and_written_as_they_were() {
    let mut states = BTreeSet::new();
    for line in V1.lines() {
        let record = SplitRecord::decode(line.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record.encode().unwrap()).unwrap(), line);
        states.insert(record.state.name());
    }
    assert_eq!(states.len(), 12, "{states:?}");
}

#[test]
fn bytes_of_no_known_version_are_refused() {
    let line = V1.lines().next().unwrap();
    let unknown = [
        line.replacen("v1", "v9", 1),
        line.replacen("\"fence\"", "\"fense\"", 1),
        line[..line.len() - 1].to_owned(),
        String::new(),
    ];
    for bytes in unknown {
        assert!(SplitRecord::decode(bytes.as_bytes()).is_err(), "{bytes}");
    }
}

#[test]
fn what_version_1_did_not_say_has_a_default() {
    let line = V1.lines().next().unwrap();
    let bytes = line.replace("\"detail\":\"\",", "").replace(",\"gain\":null", "");
    assert_ne!(bytes, line);
    assert_eq!(
        SplitRecord::decode(bytes.as_bytes()).unwrap(),
        SplitRecord::decode(line.as_bytes()).unwrap()
    );
}
