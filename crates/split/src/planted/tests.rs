use std::collections::BTreeSet;

use super::Bug;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/splits.md"));

/// Rows of the page's table: bug, where it is, what finds it.
fn rows() -> Vec<(&'static str, &'static str)> {
    let table = PAGE.split("| bug | where | caught by |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        (cells.next().unwrap().trim_matches('`'), cells.next().unwrap())
    })
    .collect()
}

#[test]
fn the_page_says_where_each_of_them_is() {
    let listed: Vec<&str> = rows().into_iter().map(|(bug, _)| bug).collect();
    let all: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    assert_eq!(listed, all);
}

#[test]
fn those_of_this_crate_are_where_the_page_says() {
    let sources = [
        ("checksum.rs", include_str!("../checksum.rs")),
        ("lease.rs", include_str!("../lease.rs")),
        ("state.rs", include_str!("../state.rs")),
        ("strategy.rs", include_str!("../strategy.rs")),
        ("survey.rs", include_str!("../survey.rs")),
        ("target.rs", include_str!("../target.rs")),
    ];
    for (bug, place) in rows() {
        for (file, source) in sources {
            let here = place.starts_with(&format!("`crates/split/src/{file}`"));
            let planted = source.contains(&format!("planted(Bug::{bug})"));
            assert_eq!(planted, here, "{bug} and {file}");
        }
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
    use crate::state::Step;
    use crate::state::tests::walk;
    use crate::testing::{BASIS, after, at, detected, event, held, id, plan as plan_of, task};
    use crate::{Aim, Checksum, Copied, Decision, EventBucketSplit, Lease, LeaseWatch, RetryPolicy};

    #[test]
    fn each_planted_bug_of_this_crate_is_found_and_nothing_else_is() {
        for bug in Bug::ALL {
            plant(Some(*bug));
            let found = look();
            plant(None);
            let here = rows()
                .iter()
                .any(|(name, place)| *name == bug.name() && place.starts_with("`crates/split/"));
            assert_eq!(found.is_err(), here, "{}: {found:?}", bug.name());
        }
        assert_eq!(look(), Ok(()));
    }

    /// Short forms of the properties that the tests of each module hold.
    fn look() -> Result<(), String> {
        checksums()?;
        plans()?;
        leases()?;
        detections()?;
        for seed in 1..3 {
            walk::walk(&walk::choices(seed, 2_000))?;
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
