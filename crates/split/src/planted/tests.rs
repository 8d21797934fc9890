use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Bug;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/splits.md"));

/// Rows of the page's table: bug, where it is, what finds it.
fn rows() -> Vec<[&'static str; 3]> {
    let table = PAGE.split("| bug | where | caught by |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let mut cell = || cells.next().unwrap();
        [cell().trim_matches('`'), cell(), cell()]
    })
    .collect()
}

/// Every source file of the workspace, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = ["crates", "server", "planner", "splitter"]
        .map(PathBuf::from)
        .to_vec();
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in root.join(&folder).read_dir().unwrap() {
            let (entry, path) = entry
                .map(|entry| (entry.file_type().unwrap(), folder.join(entry.file_name())))
                .unwrap();
            if entry.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(root.join(&path)).unwrap();
                sources.insert(path.to_str().unwrap().to_owned(), source);
            }
        }
    }
    sources
}

#[test]
fn the_page_names_all_of_them_and_what_finds_each() {
    let rows = rows();
    let listed: Vec<&str> = rows.iter().map(|[bug, ..]| *bug).collect();
    let all: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    assert_eq!(listed, all);
    for [bug, _, caught_by] in rows {
        assert!(caught_by.len() > 3, "nothing finds {bug}");
    }
}

#[test]
fn each_is_planted_at_one_place_and_there_the_page_says() {
    let sources = sources();
    for [bug, place, _] in rows() {
        let planted = format!("planted(Bug::{bug})");
        let found: Vec<(&str, usize)> = sources
            .iter()
            .map(|(path, source)| (path.as_str(), source.matches(&planted).count()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let file = place.split('`').nth(1).unwrap();
        assert_eq!(found, [(file, 1)], "{bug}");
    }
}

#[test]
fn names_are_told_apart_and_found() {
    let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    assert_eq!(names.len(), Bug::ALL.len());
    for bug in Bug::ALL {
        assert_eq!(Bug::named(bug.name()), Some(*bug));
        assert!(bug.description().ends_with('.'));
    }
    assert_eq!(Bug::named("None"), None);
}

#[cfg(feature = "planted-bugs")]
mod found {
    use std::time::Duration;

    use super::*;
    use crate::planted::plant;
    use crate::state::tests::walk;
    use crate::step::Step;
    use crate::testing::{BASIS, after, at, detected, event, held, id, plan as plan_of, task};
    use crate::{Aim, Checksum, Copied, Decision, EventBucketSplit, Lease, LeaseWatch, RetryPolicy};

    #[test]
    fn each_bug_that_is_planted_in_this_crate_is_found() {
        assert_eq!(look(), Ok(()));
        let here = rows()
            .into_iter()
            .filter(|[_, place, _]| place.starts_with("`crates/split/"));
        for [name, ..] in here {
            plant(Bug::named(name));
            let found = look();
            plant(None);
            assert!(found.is_err(), "{name}");
        }
    }

    /// Short forms of the properties that the tests of each module hold.
    fn look() -> Result<(), String> {
        checksums()?;
        plans()?;
        leases()?;
        detections()?;
        for seed in 1..5 {
            walk::walk(&walk::choices(seed, 4_000))?;
        }
        Ok(())
    }

    fn check(holds: bool, what: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(what.to_owned()) }
    }

    fn of(events: &[anabranch_model::Event]) -> Checksum {
        let mut checksum = Checksum::default();
        events
            .iter()
            .for_each(|event| checksum.add_event(&id("a"), event));
        checksum
    }

    fn checksums() -> Result<(), String> {
        let row = |time, value| event(time, "e", &[("k", value)]);
        let rows = of(&[row(2, "a"), row(1, "b")]);
        check(rows != of(&[row(2, "a"), row(1, "c")]), "a value does not show")?;
        check(rows != of(&[row(1, "b"), row(2, "a")]), "order does not show")
    }

    fn plans() -> Result<(), String> {
        let aim = Aim {
            target_bytes: 500,
            targets_max: 4,
        };
        let strategy = EventBucketSplit { aim, kept: 0 };
        let mut survey = strategy.survey();
        let events: Vec<_> = (0..200)
            .map(|n| event(-n, "e", &[("k", &"v".repeat(100))]))
            .collect();
        events.iter().for_each(|event| survey.add(&id("a"), event));
        check(survey.total() == of(&events), "a survey lost rows")?;
        let Decision::Divide { ranges, .. } = strategy.decide(&survey) else {
            return Err("it is worth it".to_owned());
        };
        let newest_first = ranges.iter().rev().map(|range| range.checksum);
        let planned = newest_first.fold(Checksum::default(), |sum, part| sum.then(&part));
        check(planned == survey.total(), "a plan lost rows")
    }

    fn leases() -> Result<(), String> {
        let mut watch = LeaseWatch::new(Duration::from_secs(1));
        watch.lapsed(&(), 1, Duration::ZERO);
        let lapsed = watch.lapsed(&(), 1, Duration::from_secs(1));
        check(lapsed, "a lease never lapses")
    }

    fn detections() -> Result<(), String> {
        let lease = Lease { owner: 1 };
        let survey = Step::Survey {
            lease,
            task: task(BASIS, false, 100),
        };
        let planning = after(&detected(), survey);
        let plan = plan_of(&planning, 3);
        let read_back = held(&plan);
        let (planner, fence) = (planning.fence, planning.fence + 1);
        let steps = [
            Step::Plan { fence: planner, plan },
            Step::Split { lease },
            Step::Copied {
                fence,
                copied: Copied {
                    targets: 3,
                    ..Copied::default()
                },
            },
            Step::Verify { fence },
            Step::Verified {
                fence,
                read_back,
                retry: RetryPolicy::default(),
            },
        ];
        let completed = steps
            .into_iter()
            .fold(planning, |record, step| after(&record, step));
        check(
            completed.wants_detection(BASIS, at(101)),
            "what grows is not split again",
        )
    }
}
