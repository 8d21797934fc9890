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
    assert_eq!(states, BTreeSet::from(SplitState::NAMES));
}

fn why_not(bytes: &str) -> UnreadableRecord {
    SplitRecord::decode(bytes.as_bytes()).unwrap_err()
}

#[test]
fn a_record_of_a_newer_format_is_told_from_a_damaged_one() {
    for line in V1.lines() {
        let newer = line.replacen("v1", "v9", 1);
        let more = newer.replacen("\"fence\"", "\"tier\":{\"cold\":[1,2]},\"fence\"", 1);
        for bytes in [newer.as_str(), &more, r#"{"v9":null}"#] {
            assert_eq!(why_not(bytes), UnreadableRecord::NewerFormat { format: 9 });
        }
    }
    let line = V1.lines().next().unwrap();
    let damaged = [
        line.replacen("v1", "v0", 1),
        line.replacen("v1", "x9", 1),
        line.replacen("\"fence\"", "\"fense\"", 1),
        format!(r#"{{"v9":{{}},{}"#, &line[1..]),
        line[..line.len() - 1].to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        String::new(),
    ];
    for bytes in damaged {
        let why = why_not(&bytes);
        assert!(matches!(why, UnreadableRecord::Damaged { .. }), "{bytes}: {why}");
    }
}

/// Written again, it would lose that field.
#[test]
fn a_field_that_the_format_does_not_have_is_never_passed_over() {
    let mut places = BTreeSet::new();
    for line in V1.lines() {
        let objects = line.match_indices('{').map(|(at, _)| at).skip(1);
        for at in objects.filter(|at| !line[at + 1..].starts_with('}')) {
            let more = format!("{}\"more\":1,{}", &line[..=at], &line[at + 1..]);
            assert!(SplitRecord::decode(more.as_bytes()).is_err(), "{more}");
            let name = line[..at].rsplit('"').nth(1).unwrap_or_default();
            places.insert(name.to_owned());
        }
    }
    // Every struct that a record is made of, by the name of a field or state that holds it.
    for name in [
        "v1",
        "partition",
        "Planning",
        "lease",
        "task",
        "basis",
        "aim",
        "survey",
        "segments",
        "oldest",
    ] {
        assert!(places.contains(name), "{name}: {places:?}");
    }
    for name in [
        "plan",
        "targets",
        "checksum",
        "copied",
        "serving",
        "retiring",
        "gain",
        "NotWorthIt",
    ] {
        assert!(places.contains(name), "{name}: {places:?}");
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
