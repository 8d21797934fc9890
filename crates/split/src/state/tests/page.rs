//! `docs/splits.md` lists every edge that the transition function takes, and no other.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::{World, steps};
use super::*;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/splits.md"));

type Edge = (String, String, String);

#[test]
fn the_page_lists_every_edge_and_no_other() {
    let (taken, listed) = (edges_taken(), edges_listed());
    let missing: Vec<&Edge> = taken.difference(&listed).collect();
    let surplus: Vec<&Edge> = listed.difference(&taken).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "docs/splits.md lacks {missing:#?} and has {surplus:#?} too much"
    );
}

/// Follows every kind of step from every kind of record that there can be.
fn edges_taken() -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    let mut kinds = BTreeMap::from([(kind(&detected()), detected())]);
    let mut open = vec![detected()];
    while let Some(record) = open.pop() {
        let mut world = World::at(&record);
        for epoch in [1, 2] {
            world.basis.epoch = epoch;
            for step in steps(&record, &world) {
                let name = step.name();
                let Ok(next) = record.after(step, world.now) else {
                    continue;
                };
                edges.insert((
                    record.state.name().to_owned(),
                    name.to_owned(),
                    next.state.name().to_owned(),
                ));
                kinds.entry(kind(&next)).or_insert_with(|| {
                    open.push(next.clone());
                    next
                });
            }
        }
    }
    edges
}

/// What a step's outcome may depend on.
fn kind(record: &SplitRecord) -> String {
    let served_epoch = record.serving.as_ref().map(|serving| serving.basis.epoch);
    let (task, copied) = match &record.state {
        SplitState::Planning { task, .. } => (Some((task.extends, task.basis.epoch)), 0),
        SplitState::Splitting { copied, .. } => (None, copied.targets),
        _ => (None, 0),
    };
    format!(
        "{} {} {served_epoch:?} {task:?} {copied} {:?} {}",
        record.state.name(),
        record.attempts.min(3),
        record.plan().map(|plan| plan.extends),
        record.retiring.len().min(2),
    )
}

fn edges_listed() -> BTreeSet<Edge> {
    let table = PAGE
        .split("| from | step | to | when |")
        .nth(1)
        .expect("there is a table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut edges = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, from, step, to, ..] = cells[..] else {
            panic!("{row} is not a row of the table");
        };
        for from in from.split(", ") {
            let to = if to == "the same" { from } else { to };
            let edge = (from.to_owned(), step.to_owned(), to.to_owned());
            assert!(edges.insert(edge), "{row} is there twice");
        }
    }
    edges
}
