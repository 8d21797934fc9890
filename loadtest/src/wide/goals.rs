//! What was hoped for, and whether it came: ratios within one run, because only those travel to another machine.

use super::options::Regime;
use super::ordinary::Felt;
use super::pages::Cell;
use super::report::{WideReport, p99_gain, ratio};

/// A goal and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) name: &'static str,
    pub(super) what: String,
    pub(super) value: String,
    pub(super) goal: String,
    pub(super) met: bool,
}

/// Every goal that the run has a figure for.
pub(super) fn judge(report: &WideReport) -> Vec<Judged> {
    let mut judged = Vec::new();
    judged.extend(pages(report));
    judged.extend(walks(report));
    judged.extend(first(report));
    judged.extend(direct(report));
    judged.extend(foreground(report));
    judged
}

fn at_least(name: &'static str, what: String, value: f64, least: f64) -> Judged {
    Judged {
        name,
        what,
        value: ratio(value),
        goal: format!(">= {least}"),
        met: value >= least,
    }
}

fn at_most(name: &'static str, what: String, value: f64, most: f64, unit: &str) -> Judged {
    Judged {
        name,
        what,
        value: format!("{:.2}{unit}", (value * 100.0).ceil() / 100.0),
        goal: format!("<= {most}{unit}"),
        met: value <= most,
    }
}

/// The worst cell of the widest partition decides.
fn pages(report: &WideReport) -> Vec<Judged> {
    let widest = format!("wide-{}mb", report.options.widest());
    let mut judged = Vec::new();
    for format in &report.formats {
        let worst = |regime: Regime, wanted: &dyn Fn(&Cell) -> bool, of: &dyn Fn(&Cell) -> f64| {
            let cells = format
                .regimes
                .iter()
                .filter(|found| found.regime == regime && found.id == widest);
            let values = cells.flat_map(|found| match &found.measured {
                super::Measured::Pages(cells) => cells.iter().filter(|cell| wanted(cell)).map(of).collect(),
                super::Measured::Walks { .. } => Vec::new(),
            });
            values.min_by(f64::total_cmp)
        };
        let (any, many) = (|_: &Cell| true, |cell: &Cell| cell.readers >= 16);
        let (gain, p99) = (|cell: &Cell| cell.gain, p99_gain);
        let of = |what: &str| format!("{what}, {widest}, {}", format.format);
        let lines = [
            (
                worst(Regime::Compacted, &any, &gain),
                "compacted: pages/s, worst cell",
                0.95,
            ),
            (
                worst(Regime::Scattered, &many, &gain),
                "scattered: pages/s at 16 readers, worst cell",
                2.0,
            ),
            (
                worst(Regime::Cloud, &any, &gain),
                "cloud: pages/s, worst cell",
                4.0,
            ),
            (worst(Regime::Cloud, &any, &p99), "cloud: p99, worst cell", 3.0),
        ];
        judged.extend(
            lines
                .into_iter()
                .filter_map(|(value, what, least)| Some(at_least("C3", of(what), value?, least))),
        );
    }
    judged
}

fn walks(report: &WideReport) -> Vec<Judged> {
    let mut judged = Vec::new();
    for format in &report.formats {
        for found in &format.regimes {
            let super::Measured::Walks {
                walks,
                round_trip_millis,
            } = &found.measured
            else {
                continue;
            };
            let least = if round_trip_millis.is_some() { 6.0 } else { 1.8 };
            let Some(alone) = walks.iter().find(|walk| walk.walkers == 1) else {
                continue;
            };
            let beside =
                round_trip_millis.map_or_else(String::new, |millis| format!(", {millis:.1} ms a call"));
            let what = format!(
                "whole walk, {} {}{beside}, {}",
                found.id, found.namespace, format.format
            );
            judged.push(at_least("C3", what, alone.gain, least));
        }
    }
    judged
}

fn first(report: &WideReport) -> Vec<Judged> {
    let firsts = report.formats.iter().flat_map(|format| {
        format.first.iter().map(move |first| {
            let what = format!(
                "first page before any split, {} MB {}, {}",
                first.megabytes, first.namespace, format.format
            );
            at_most("C4", what, first.first_millis, 500.0, " ms")
        })
    });
    firsts.collect()
}

fn direct(report: &WideReport) -> Vec<Judged> {
    let mut judged = Vec::new();
    for format in &report.formats {
        for op in &format.direct {
            let of = |what: &str| format!("{}: {what}, {}", op.name, format.format);
            judged.push(at_least(
                "C1",
                of("throughput by the driver's"),
                op.throughput_ratio,
                0.9,
            ));
            let millis = |of: fn(&crate::latency::Percentiles) -> u64| {
                (of(&op.open_service.response) as f64 - of(&op.open_direct.response) as f64) / 1e3
            };
            judged.push(at_most(
                "C1",
                of("p50 added at half load"),
                millis(|of| of.p50_micros),
                0.25,
                " ms",
            ));
            judged.push(at_most(
                "C1",
                of("p99 added at half load"),
                millis(|of| of.p99_micros),
                1.0,
                " ms",
            ));
            // What is said of an operation is said of a small one.
            if op.name.contains("page of 10 ") || op.name.contains("of 1 event") {
                let cpu = op.service.server_cpu_micros_per_event;
                judged.push(at_most(
                    "C2",
                    of("processor time of the server"),
                    cpu,
                    25.0,
                    " µs",
                ));
            }
        }
    }
    judged
}

/// Against the quietest of the stretches without a split: others on the machine make a stretch slow, and nothing makes
/// one quick.
fn foreground(report: &WideReport) -> Vec<Judged> {
    let mut judged = Vec::new();
    for format in &report.formats {
        let is_split = |felt: &&Felt| felt.beside.starts_with("a split");
        let quiet = || format.foreground.iter().filter(|felt| !is_split(felt));
        let (Some(quiet_reads), Some(quiet_writes)) = (
            quiet().map(|felt| felt.reads.response.p99_micros).min(),
            quiet().map(|felt| felt.writes.response.p99_micros).min(),
        ) else {
            continue;
        };
        for felt in format.foreground.iter().filter(is_split) {
            let by = |a: u64, b: u64| a as f64 / b.max(1) as f64;
            let reads = by(felt.reads.response.p99_micros, quiet_reads);
            let writes = by(felt.writes.response.p99_micros, quiet_writes);
            judged.push(at_most(
                "S7",
                format!("p99 of reads beside {}", felt.beside),
                reads,
                1.5,
                "x",
            ));
            judged.push(at_most(
                "S7",
                format!("p99 of writes beside {}", felt.beside),
                writes,
                1.5,
                "x",
            ));
        }
    }
    judged
}
