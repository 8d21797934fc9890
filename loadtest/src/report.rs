//! What a run found: one table for people, one document for programs.
//!
//! A goal is met or not met by the exact ratio. Printed ratios are rounded away from the goal, never towards it.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::judge;
use crate::latency::{Percentiles, millis};
use crate::machine::{Machine, Neighbours};
use crate::options::Options;
use crate::reads::Pages;
use crate::window::Series;
use crate::writes::TailSummary;

/// Others may use this much of the machine before a figure is theirs rather than ours.
const OTHERS_CORES_MAX: f64 = 0.1;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// The commit it was built from, if the build knew.
    pub commit: Option<&'static str>,
    /// True for a build without optimizations: its figures say nothing.
    pub debug_build: bool,
    /// When the run ended, in seconds since the Unix epoch.
    pub unix_seconds: u64,
    /// How long it took.
    pub seconds: f64,
    /// What was asked for.
    pub options: Options,
    /// Where it ran.
    pub machine: Machine,
    /// What the machine can do.
    pub floors: Floors,
    /// Batches of 100 events.
    pub batches: Vec<Series>,
    /// Single events.
    pub singles: Vec<Series>,
    /// The cost of a write at half of saturation.
    pub tail: Tail,
    /// Newest pages.
    pub pages: Vec<Pages>,
    /// The whole wide id.
    pub walk: Walk,
    /// The most memory the server had at once, in bytes.
    pub server_peak_rss_bytes: ServerMemory,
    /// What was compared with what.
    pub lines: Vec<Line>,
    /// Who else used the machine.
    pub neighbours: Vec<Neighbours>,
}

/// What the machine can do.
#[derive(Clone, Debug, Serialize)]
pub struct Floors {
    /// Appending 4 KiB and syncing it, before everything else.
    pub fdatasync: Percentiles,
    /// The same as a rate, just before each round of single writes.
    pub fdatasync_per_second: Vec<f64>,
    /// 200 bytes to another process and back.
    pub tcp: Percentiles,
    /// 200 bytes by gRPC to another process and back.
    pub echo: Percentiles,
    /// The newest 1,000 rows of the wide id, by the engine in this process.
    pub raw_page: Percentiles,
    /// All rows of the wide id, by the engine in this process.
    pub raw_scan_seconds: f64,
}

/// The cost of a write at half of saturation.
#[derive(Clone, Debug, Serialize)]
pub struct Tail {
    /// Batches a second that were sent.
    pub batches_per_second: f64,
    /// Bytes of a batch in the log.
    pub batch_bytes: usize,
    /// The server.
    pub server: TailSummary,
    /// A bare log with the same arrivals, beside flushes of as many bytes.
    pub bare_log: Percentiles,
    /// How late the pacer of the bare log was.
    pub bare_log_lateness: Percentiles,
}

/// The whole wide id, page by page.
#[derive(Clone, Debug, Serialize)]
pub struct Walk {
    /// Events that were read.
    pub events: u64,
    /// How long, in pages of 1,000.
    pub seconds: f64,
    /// How long with every byte checked.
    pub verified_seconds: f64,
    /// How long as many null pages took.
    pub null_seconds: f64,
    /// How long it took to write them.
    pub load_seconds: f64,
}

/// The most memory the server had at once, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerMemory {
    /// After the ids were written.
    pub after_load: u64,
    /// After pages and walks.
    pub after_reads: u64,
    /// At the end.
    pub after_writes: u64,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Name of the goal.
    pub goal_name: &'static str,
    /// What was measured.
    pub what: String,
    /// The value.
    pub value: String,
    /// What it is compared with.
    pub floor: String,
    /// Value by floor.
    pub ratio: Option<f64>,
    /// What the ratio should be.
    pub goal: Option<Goal>,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Line {
    /// A comparison without a goal.
    pub(crate) fn plain(
        goal_name: &'static str,
        what: &str,
        value: String,
        floor: String,
        ratio: Option<f64>,
    ) -> Self {
        Self {
            goal_name,
            what: what.to_owned(),
            value,
            floor,
            ratio,
            goal: None,
            met: None,
        }
    }

    /// The same, judged.
    pub(crate) fn judged(self, goal: Goal) -> Self {
        let met = self.ratio.map(|ratio| match goal {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        });
        Self {
            goal: Some(goal),
            met,
            ..self
        }
    }

    fn cells(&self) -> [String; 6] {
        let ratio = self.ratio.map(|ratio| {
            let hundreds = ratio * 100.0;
            let away = match self.goal {
                Some(Goal::AtMost(_)) => hundreds.ceil(),
                _ => hundreds.floor(),
            };
            format!("{:.2}", away / 100.0)
        });
        let goal = match self.goal {
            Some(Goal::AtLeast(least)) => format!(">= {least:.2}"),
            Some(Goal::AtMost(most)) => format!("<= {most:.2}"),
            None => String::new(),
        };
        let verdict = match self.met {
            Some(true) => " met",
            Some(false) => " NOT MET",
            None => "",
        };
        [
            self.goal_name.to_owned(),
            self.what.clone(),
            self.value.clone(),
            self.floor.clone(),
            ratio.unwrap_or_default(),
            format!("{goal}{verdict}"),
        ]
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.add_row(["", "WHAT", "VALUE", "FLOOR OF THE SAME RUN", "RATIO", "GOAL"]);
        for line in &self.lines {
            table.add_row(line.cells());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // Writing to a string does not fail.
        let _ = self.write_head(out);
        for line in table.lines() {
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let _ = self.write_tail(out);
        let _ = self.write_warnings(out);
    }

    fn write_head(&self, out: &mut String) -> std::fmt::Result {
        let Machine {
            kernel,
            tcp,
            processor,
            cores,
            ..
        } = &self.machine;
        writeln!(
            out,
            "anabranch {} on {cores} cores ({processor}), Linux {kernel}, TCP {tcp}; client, server and floors share them.",
            self.version
        )?;
        let (floors, sync) = (&self.floors, &self.floors.fdatasync);
        writeln!(
            out,
            "fdatasync of 4 KiB p50 {} p99 {}; TCP ping-pong p50 {}; gRPC echo p50 {}; raw page of 1,000 p50 {}.\n",
            millis(sync.p50_micros),
            millis(sync.p99_micros),
            millis(floors.tcp.p50_micros),
            millis(floors.echo.p50_micros),
            millis(floors.raw_page.p50_micros)
        )
    }

    fn write_tail(&self, out: &mut String) -> std::fmt::Result {
        let tail = &self.tail;
        writeln!(
            out,
            "\nOpen loop of {:.0} batches/s of 100 events for the tail ({} writes):",
            tail.batches_per_second, tail.server.response.n
        )?;
        for (name, seen) in [
            ("response", &tail.server.response),
            ("service", &tail.server.service),
            ("bare log", &tail.bare_log),
            ("pacer late", &tail.server.lateness),
        ] {
            writeln!(out, "  {name:<10}  {}", percentiles(seen))?;
        }
        let memory = &self.server_peak_rss_bytes;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(
            out,
            "Server's peak memory: {} MiB after loading, {} MiB after reading, {} MiB at the end.",
            mib(memory.after_load),
            mib(memory.after_reads),
            mib(memory.after_writes)
        )?;
        writeln!(out, "Processor time of the answering process:")?;
        for series in self.batches.iter().chain(&self.singles) {
            if series.server_cpu_micros_per_event > 0.0 {
                let micros = series.server_cpu_micros_per_event;
                writeln!(out, "  {micros:8.2} µs an event    {}", series.name)?;
            }
        }
        for pages in &self.pages {
            let (micros, size) = (pages.server_cpu_micros, pages.page_size);
            writeln!(
                out,
                "  {micros:8.0} µs a page      {size} events from {}",
                pages.name
            )?;
        }
        writeln!(out, "Who used the machine, in cores:")
    }

    fn write_warnings(&self, out: &mut String) -> std::fmt::Result {
        for part in &self.neighbours {
            let loud = part.others_cores > OTHERS_CORES_MAX || part.stolen_cores > OTHERS_CORES_MAX;
            writeln!(
                out,
                "  {:<8} {:6.1} s   own {:.2}   others {:.2}   stolen {:.2}{}",
                part.part,
                part.seconds,
                part.own_cores,
                part.others_cores,
                part.stolen_cores,
                if loud { "   NOT QUIET" } else { "" }
            )?;
        }
        if self.debug_build {
            writeln!(
                out,
                "WARNING: a build without optimizations; its figures say nothing"
            )?;
        }
        if self.machine.data_in_memory {
            writeln!(
                out,
                "WARNING: the data folder is in memory; no figure with a sync means anything"
            )?;
        }
        for series in self.batches.iter().chain(&self.singles) {
            if !series.outcomes.all_ok() {
                writeln!(out, "WARNING: {}: {:?}", series.name, series.outcomes)?;
            }
        }
        let tail = &self.tail.server;
        if !tail.outcomes.all_ok() {
            writeln!(out, "WARNING: open loop: {:?}", tail.outcomes)?;
        }
        for (name, lateness, response) in [
            ("open loop", &tail.lateness, &tail.response),
            ("bare log", &self.tail.bare_log_lateness, &self.tail.bare_log),
        ] {
            if lateness.p99_micros * 10 > response.p99_micros {
                writeln!(
                    out,
                    "WARNING: {name}: the pacer's lateness (p99 {}) is more than a tenth of the p99: the tail is partly its own",
                    millis(lateness.p99_micros)
                )?;
            }
        }
        let limit = |name: &str| {
            self.batches
                .iter()
                .find(|s| s.name == name)
                .map(|s| s.per_second_median)
        };
        for (name, null) in [
            (judge::SYNC, judge::NULL_SYNC),
            (judge::INGEST, judge::NULL_INGEST),
        ] {
            if let (Some(rate), Some(null)) = (limit(name), limit(null))
                && rate * 2.0 > null
            {
                writeln!(
                    out,
                    "WARNING: {name}: above half of what this generator can send at all"
                )?;
            }
        }
        Ok(())
    }
}

fn percentiles(of: &Percentiles) -> String {
    let p999 = of.p999_micros.map_or_else(|| "-".to_owned(), millis);
    format!(
        "p50 {:<9} p90 {:<9} p99 {:<9} p99.9 {:<9} max {}",
        millis(of.p50_micros),
        millis(of.p90_micros),
        millis(of.p99_micros),
        p999,
        millis(of.max_micros)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_not_rounded_into_a_pass() {
        let line = |ratio| Line::plain("ingest", "", String::new(), String::new(), Some(ratio));
        let cells = |line: Line| (line.cells()[4].clone(), line.met);
        assert_eq!(
            cells(line(0.9499).judged(Goal::AtLeast(0.95))),
            ("0.94".to_owned(), Some(false))
        );
        assert_eq!(
            cells(line(1.2001).judged(Goal::AtMost(1.2))),
            ("1.21".to_owned(), Some(false))
        );
        assert_eq!(cells(line(0.95).judged(Goal::AtLeast(0.95))).1, Some(true));
    }
}
