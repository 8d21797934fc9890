//! Which number is divided by which, and what the ratio should be.
//!
//! The goals are those of the project for a machine of two cores. They are ratios within one run, because only
//! ratios travel to another machine; the absolute values beside them are for reading.

use crate::latency::millis;
use crate::reads::{Pages, Wide};
use crate::report::{Floors, Goal, Line, Tail, Walk};
use crate::window::{Series, median};

pub(crate) const RAW: &str = "raw engine";
pub(crate) const NULL_SYNC: &str = "null sync";
pub(crate) const NULL_INGEST: &str = "null ingest";
pub(crate) const SYNC: &str = "sync";
pub(crate) const INGEST: &str = "ingest";
pub(crate) const NULL_SINGLE: &str = "null single";
pub(crate) const SINGLE: &str = "single";

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    pub(crate) floors: Floors,
    pub(crate) batches: Vec<Series>,
    pub(crate) singles: Vec<Series>,
    pub(crate) tail: Tail,
    pub(crate) pages: Vec<Pages>,
    pub(crate) walk: Walk,
}

/// Every comparison, in the order of the goals.
pub(crate) fn lines(findings: &Findings, wide: &Wide) -> Vec<Line> {
    let mut lines = batch_lines(&findings.batches);
    lines.extend(single_lines(findings));
    lines.extend(tail_lines(&findings.tail));
    lines.extend(page_lines(findings, wide));
    lines.extend(walk_lines(findings));
    lines
}

fn batch_lines(batches: &[Series]) -> Vec<Line> {
    let of = |name: &str| batches.iter().find(|series| series.name == name);
    let line = |what: &str, name: &str, floor: &str, goal: Option<Goal>| {
        let (series, floor) = (of(name)?, of(floor)?);
        let line = Line::plain(
            "ingest",
            what,
            format!("{}/s", thousands(series.per_second_median)),
            format!("{} {}/s", floor.name, thousands(floor.per_second_median)),
            Some(series.ratio_to(&floor.per_second)),
        );
        Some(match goal {
            Some(goal) => line.judged(goal),
            None => line,
        })
    };
    let raw_goal = Some(Goal::AtLeast(0.95));
    [
        line(
            "durable events, batches of 100, IngestEventRecords",
            INGEST,
            RAW,
            raw_goal,
        ),
        line("the same by the calls alone", INGEST, NULL_INGEST, None),
        line(
            "durable events, batches of 100, WriteEventRecordsSync",
            SYNC,
            RAW,
            raw_goal,
        ),
        line("the same by the calls alone", SYNC, NULL_SYNC, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn single_lines(findings: &Findings) -> Vec<Line> {
    let of = |name: &str| findings.singles.iter().find(|series| series.name == name);
    let (Some(single), Some(null)) = (of(SINGLE), of(NULL_SINGLE)) else {
        return Vec::new();
    };
    let value = format!("{}/s", thousands(single.per_second_median));
    let syncs = &findings.floors.fdatasync_per_second;
    vec![
        Line::plain(
            "single",
            "durable single-event writes, 64 in flight",
            value.clone(),
            format!("fdatasync {}/s", thousands(median(syncs))),
            Some(single.ratio_to(syncs)),
        )
        .judged(Goal::AtLeast(9.0)),
        Line::plain(
            "single",
            "the same by the calls alone",
            value,
            format!("null {}/s", thousands(null.per_second_median)),
            Some(single.ratio_to(&null.per_second)),
        ),
    ]
}

fn tail_lines(tail: &Tail) -> Vec<Line> {
    let (seen, floor) = (&tail.server.response, &tail.bare_log);
    let line = |what: &str, value: u64, floor: u64| {
        let ratio = value as f64 / floor.max(1) as f64;
        Line::plain(
            "tail",
            what,
            millis(value),
            format!("bare log {}", millis(floor)),
            Some(ratio),
        )
        .judged(Goal::AtMost(1.3))
    };
    let p999 = match (seen.p999_micros, floor.p999_micros) {
        (Some(value), Some(floor)) => line("write p99.9 at half of saturation", value, floor),
        _ => Line::plain(
            "tail",
            "write p99.9 at half of saturation",
            format!("not from {} samples", seen.n),
            String::new(),
            None,
        ),
    };
    vec![
        line(
            "write p99 at half of saturation",
            seen.p99_micros,
            floor.p99_micros,
        ),
        p999,
    ]
}

fn page_lines(findings: &Findings, wide: &Wide) -> Vec<Line> {
    let of = |name: &str, size: u64| {
        let mut pages = findings.pages.iter();
        pages.find(|pages| pages.name == name && pages.page_size == size)
    };
    let small = Wide::of_megabytes(1);
    let (Some(null), Some(page), Some(small_page)) =
        (of("null", 1_000), of(&wide.id, 1_000), of(&small.id, 1_000))
    else {
        return Vec::new();
    };
    let raw = &findings.floors.raw_page;
    let line = |name: &'static str, what: &str, value: u64, floor_name: &str, floor: u64| {
        let ratio = value as f64 / floor.max(1) as f64;
        Line::plain(
            name,
            what,
            millis(value),
            format!("{floor_name} {}", millis(floor)),
            Some(ratio),
        )
    };
    let from_wide = format!("from {}", wide.id);
    let mut lines = vec![
        line(
            "page",
            &format!("newest page of 1,000 {from_wide}, p50"),
            page.latency.p50_micros,
            "null page",
            null.latency.p50_micros,
        )
        .judged(Goal::AtMost(1.2)),
        line(
            "page",
            "the same, p99",
            page.latency.p99_micros,
            "null page",
            null.latency.p99_micros,
        )
        .judged(Goal::AtMost(2.0)),
        line(
            "page",
            "the same by the engine alone, p50",
            page.latency.p50_micros,
            "raw page",
            raw.p50_micros,
        ),
    ];
    if let Some(ten) = of(&wide.id, 10) {
        let echo = findings.floors.echo.p50_micros;
        lines.push(
            line(
                "small page",
                &format!("newest page of 10 {from_wide}, p50"),
                ten.latency.p50_micros,
                "echo",
                echo,
            )
            .judged(Goal::AtMost(1.25)),
        );
        if let Some(null) = of("null", 10) {
            let floor = null.latency.p50_micros;
            lines.push(line(
                "small page",
                "the same in turns",
                ten.latency.p50_micros,
                "null page of 10",
                floor,
            ));
        }
    }
    lines.push(
        line(
            "flat",
            &format!("flat: page of 1,000 {from_wide}, p50"),
            page.latency.p50_micros,
            &small.id,
            small_page.latency.p50_micros,
        )
        .judged(Goal::AtMost(1.1)),
    );
    lines.push(
        line(
            "flat",
            "the same, p99",
            page.latency.p99_micros,
            &small.id,
            small_page.latency.p99_micros,
        )
        .judged(Goal::AtMost(1.5)),
    );
    lines
}

fn walk_lines(findings: &Findings) -> Vec<Line> {
    let walk = &findings.walk;
    let megabytes = (walk.events * crate::data::PAGE_EVENT_BYTES) as f64 / 1e6;
    let value = format!(
        "{:.2} s, {:.0} MB/s",
        walk.seconds,
        megabytes / walk.seconds.max(1e-6)
    );
    let line = |what: &str, floor_name: &str, floor: f64| {
        let ratio = floor / walk.seconds.max(1e-6);
        Line::plain(
            "",
            what,
            value.clone(),
            format!("{floor_name} {floor:.2} s"),
            Some(ratio),
        )
    };
    vec![
        line(
            "whole wide id in pages of 1,000, rate",
            "null pages",
            walk.null_seconds,
        ),
        line(
            "the same by the engine alone",
            "raw scan",
            findings.floors.raw_scan_seconds,
        ),
        Line::plain(
            "",
            "writing the wide id, batches of 500",
            format!(
                "{:.2} s, {}/s",
                walk.load_seconds,
                thousands(walk.events as f64 / walk.load_seconds.max(1e-6))
            ),
            String::new(),
            None,
        ),
    ]
}

/// `312k`, rounded down.
fn thousands(number: f64) -> String {
    if number >= 100_000.0 {
        format!("{:.0}k", (number / 1_000.0).floor())
    } else if number < 1_000.0 {
        format!("{:.0}", number.floor())
    } else {
        format!("{:.1}k", (number / 100.0).floor() / 10.0)
    }
}
