//! What a run found: tables for people, in Markdown as they are put into `docs/`, and one document for programs.

use std::fmt::Write;

use serde::Serialize;

use super::cloud::Limits;
use super::direct::Op;
use super::heal::SplitSeen;
use super::options::{Format, Options, Regime};
use super::ordinary::Felt;
use super::pages::Cell;
use super::walk::Walks;
use crate::latency::Percentiles;
use crate::machine::{Machine, Neighbours};
use crate::window::{Series, median};

/// Others may use this much of the machine before a figure is theirs rather than ours.
const OTHERS_CORES_MAX: f64 = 0.1;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct WideReport {
    /// Version of this program.
    pub version: &'static str,
    /// True for a build without optimizations: its figures say nothing.
    pub debug_build: bool,
    /// Where it ran.
    pub machine: Machine,
    /// When the run ended, in seconds since the Unix epoch.
    pub unix_seconds: u64,
    /// How long it took.
    pub seconds: f64,
    /// What was asked for.
    pub options: Options,
    /// One a format.
    pub formats: Vec<OfFormat>,
}

/// What was found with one format of SSTables.
#[derive(Clone, Debug, Serialize)]
pub struct OfFormat {
    /// The format.
    pub format: Format,
    /// Pages and walks.
    pub regimes: Vec<OfRegime>,
    /// Splits as their records have them, after a while in the stage COMPARE.
    pub gains: Vec<(Regime, SplitSeen)>,
    /// First answers, before anything was split.
    pub first: Vec<FirstAnswer>,
    /// The service beside the driver alone.
    pub direct: Vec<Op>,
    /// Ordinary ids while a partition is split.
    pub foreground: Vec<Felt>,
    /// Name, SSTables and bytes on the disk of each table, once everything was split.
    pub tables: Vec<(String, usize, u64)>,
    /// Limits of the cloud disk, and the bytes of files that the node had in memory at the end.
    pub cloud: Option<(Limits, u64)>,
    /// Why it ended early, if it did: a call that failed, or an answer that was wrong.
    pub failed: Option<String>,
    /// What could not be measured, and why.
    pub not_measured: Vec<String>,
    /// What stays on nodes that are not the bench's own, as the statements and commands that remove it.
    pub left_behind: Vec<String>,
    /// Who else used the machine.
    pub neighbours: Vec<Neighbours>,
}

/// One id in one regime.
#[derive(Clone, Debug, Serialize)]
pub struct OfRegime {
    /// The regime.
    pub regime: Regime,
    /// The namespace: how the id was written.
    pub namespace: String,
    /// The id.
    pub id: String,
    /// Pages that were held against each other besides, and found equal.
    pub agreed: u64,
    /// What was measured.
    pub measured: Measured,
}

/// What was measured of an id.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// Pages at random times.
    Pages(Vec<Cell>),
    /// All of it.
    Walks {
        /// By so many walkers.
        walks: Vec<Walks>,
        /// What a delay added to each call of the store, if there was one.
        round_trip_millis: Option<f64>,
    },
}

/// How soon a partition answers that nobody has split.
#[derive(Clone, Debug, Serialize)]
pub struct FirstAnswer {
    /// The namespace.
    pub namespace: String,
    /// Size of the partition.
    pub megabytes: u64,
    /// The very first page, in milliseconds.
    pub first_millis: f64,
    /// Pages after it.
    pub next: Percentiles,
}

impl OfFormat {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            regimes: Vec::new(),
            gains: Vec::new(),
            first: Vec::new(),
            direct: Vec::new(),
            foreground: Vec::new(),
            tables: Vec::new(),
            cloud: None,
            failed: None,
            not_measured: Vec::new(),
            left_behind: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    fn cells(&self) -> impl Iterator<Item = (&OfRegime, &Cell)> {
        self.regimes.iter().flat_map(|of| match &of.measured {
            Measured::Pages(cells) => cells.iter().map(|cell| (of, cell)).collect::<Vec<_>>(),
            Measured::Walks { .. } => Vec::new(),
        })
    }

    fn walks(&self) -> impl Iterator<Item = (&OfRegime, &Walks, Option<f64>)> {
        self.regimes.iter().flat_map(|of| match &of.measured {
            Measured::Pages(_) => Vec::new(),
            Measured::Walks {
                walks,
                round_trip_millis,
            } => walks
                .iter()
                .map(|walk| (of, walk, *round_trip_millis))
                .collect::<Vec<_>>(),
        })
    }
}

impl WideReport {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_all(&mut text);
        text
    }

    /// Why the run ended early, if it did.
    pub fn failed(&self) -> Option<&str> {
        self.formats.iter().find_map(|format| format.failed.as_deref())
    }

    fn write_all(&self, out: &mut String) -> std::fmt::Result {
        self.write_head(out)?;
        self.write_pages(out)?;
        self.write_walks(out)?;
        self.write_gains(out)?;
        self.write_first(out)?;
        self.write_direct(out)?;
        self.write_foreground(out)?;
        self.write_goals(out)?;
        self.write_tables(out)?;
        self.write_warnings(out)
    }

    fn write_head(&self, out: &mut String) -> std::fmt::Result {
        let Machine {
            kernel,
            tcp,
            processor,
            cores,
            memory_bytes,
            ..
        } = &self.machine;
        writeln!(
            out,
            "anabranch {} on {cores} cores ({processor}), {} GiB, Linux {kernel}, TCP {tcp}: Cassandra, Kafka, the fleet and the \
             readers share them. {} rounds of {} s a side, {:.0} minutes in all.",
            self.version,
            memory_bytes >> 30,
            self.options.rounds,
            self.options.seconds,
            self.seconds / 60.0
        )
    }

    fn write_pages(&self, out: &mut String) -> std::fmt::Result {
        if !self.formats.iter().any(|format| format.cells().next().is_some()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### Pages of 1,000 events at a random time\n\n\
             | format | regime | partition | readers | order | original p50 / p99 ms | pages/s | targets p50 / p99 ms \
             | pages/s | gain pages/s | gain p99 | server µs a page |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for format in &self.formats {
            for (of, cell) in format.cells() {
                let Cell {
                    original, targets, ..
                } = cell;
                writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {:.0} | {} | {:.0} | **{}** | {} | {:.0} / {:.0} |",
                    format.format,
                    of.regime,
                    of.id,
                    cell.readers,
                    if cell.newest_first {
                        "newest first"
                    } else {
                        "oldest first"
                    },
                    latency(&original.latency),
                    original.per_second_median,
                    latency(&targets.latency),
                    targets.per_second_median,
                    ratio(cell.gain),
                    ratio(p99_gain(cell)),
                    original.server_cpu_micros_per_event,
                    targets.server_cpu_micros_per_event,
                )?;
            }
        }
        let agreed: u64 = self
            .formats
            .iter()
            .flat_map(|format| &format.regimes)
            .map(|of| of.agreed)
            .sum();
        let pages = |series: &Series| series.outcomes.ok;
        let checked: u64 = self
            .formats
            .iter()
            .flat_map(OfFormat::cells)
            .map(|(_, cell)| pages(&cell.original) + pages(&cell.targets))
            .sum();
        writeln!(
            out,
            "\nEvery byte of {checked} pages was what had been written, and {agreed} pages more were equal between \
             original and targets, record for record."
        )
    }

    fn write_walks(&self, out: &mut String) -> std::fmt::Result {
        if !self.formats.iter().any(|format| format.walks().next().is_some()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### All of a partition, page after page, newest first\n\n\
             | format | partition | lies | added by the network | walkers | pages | original s | targets s | gain |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for format in &self.formats {
            for (of, walk, delay) in format.walks() {
                writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {:.2} | {:.2} | **{}** |",
                    format.format,
                    of.id,
                    of.namespace,
                    delay.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1} ms a call")),
                    walk.walkers,
                    walk.pages,
                    median(&walk.original_seconds),
                    median(&walk.targets_seconds),
                    ratio(walk.gain)
                )?;
            }
        }
        Ok(())
    }

    fn write_gains(&self, out: &mut String) -> std::fmt::Result {
        if self.formats.iter().all(|format| format.gains.is_empty()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### What `COMPARE` measured, as `anabranch split list` shows it\n\n\
             | format | regime | partition | bytes | targets | gain | reads compared |\n|---|---|---|---|---|---|---|"
        )?;
        for format in &self.formats {
            for (regime, seen) in &format.gains {
                writeln!(
                    out,
                    "| {} | {regime} | {} | {} | {} | **{}** | {} |",
                    format.format,
                    seen.id,
                    seen.source_bytes,
                    seen.targets,
                    seen.gain_ratio.map_or_else(|| "-".to_owned(), ratio),
                    seen.compared_reads
                )?;
            }
        }
        Ok(())
    }

    fn write_first(&self, out: &mut String) -> std::fmt::Result {
        if self.formats.iter().all(|format| format.first.is_empty()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### Before any split\n\n| format | lies | partition | first page ms | next {} p50 / p99 ms |\n\
             |---|---|---|---|---|",
            self.formats
                .iter()
                .flat_map(|format| &format.first)
                .map(|first| first.next.n)
                .max()
                .unwrap_or(0)
        )?;
        for format in &self.formats {
            for first in &format.first {
                writeln!(
                    out,
                    "| {} | {} | {} MB | {:.1} | {} |",
                    format.format,
                    first.namespace,
                    first.megabytes,
                    first.first_millis,
                    latency(&first.next)
                )?;
            }
        }
        Ok(())
    }

    fn write_direct(&self, out: &mut String) -> std::fmt::Result {
        if self.formats.iter().all(|format| format.direct.is_empty()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### The service beside the driver alone\n\n\
             | format | call | in flight | driver calls/s | service calls/s | service / driver | server µs a call \
             | at calls/s | driver p50 / p99 ms | service p50 / p99 ms |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        for format in &self.formats {
            for op in &format.direct {
                writeln!(
                    out,
                    "| {} | {} | {} | {:.0} | {:.0} | **{:.2}** | {:.0} | {:.0} | {} | {} |",
                    format.format,
                    op.name,
                    op.in_flight,
                    op.direct.per_second_median,
                    op.service.per_second_median,
                    op.throughput_ratio,
                    op.service.server_cpu_micros_per_event,
                    op.open_per_second,
                    latency(&op.open_direct.response),
                    latency(&op.open_service.response)
                )?;
            }
        }
        Ok(())
    }

    fn write_foreground(&self, out: &mut String) -> std::fmt::Result {
        if self.formats.iter().all(|format| format.foreground.is_empty()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n### Ordinary ids while a partition is split\n\n\
             | format | beside | s | reads | p50 / p99 ms | writes | p50 / p99 ms | failed |\n|---|---|---|---|---|---|---|---|"
        )?;
        for format in &self.formats {
            for felt in &format.foreground {
                let failed = |outcomes: &crate::client::Outcomes| outcomes.sent - outcomes.ok;
                writeln!(
                    out,
                    "| {} | {} | {:.0} | {} | {} | {} | {} | {} |",
                    format.format,
                    felt.beside,
                    felt.seconds,
                    felt.reads.outcomes.ok,
                    latency(&felt.reads.response),
                    felt.writes.outcomes.ok,
                    latency(&felt.writes.response),
                    failed(&felt.reads.outcomes) + failed(&felt.writes.outcomes)
                )?;
            }
        }
        Ok(())
    }

    fn write_goals(&self, out: &mut String) -> std::fmt::Result {
        let goals = super::goals::judge(self);
        if goals.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n### Goals\n\n| goal | what | value | goal | |\n|---|---|---|---|---|"
        )?;
        for goal in goals {
            writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                goal.name,
                goal.what,
                goal.value,
                goal.goal,
                if goal.met { "met" } else { "**not met**" }
            )?;
        }
        Ok(())
    }

    fn write_tables(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n### On the disk\n\n| format | table | SSTables | MB |\n|---|---|---|---|"
        )?;
        for format in &self.formats {
            for (name, files, bytes) in &format.tables {
                writeln!(
                    out,
                    "| {} | {name} | {files} | {} |",
                    format.format,
                    bytes / 1_000_000
                )?;
            }
        }
        for format in &self.formats {
            if let Some((limits, cached)) = &format.cloud {
                writeln!(
                    out,
                    "\nCloud disk ({}): {} reads/s, {} MiB/s, memory for {} MiB of files, a quarter of those that are read, \
                     besides what the node holds of its own and the {} MiB of its code ({} MiB of both at the end); control \
                     groups v{}.",
                    format.format,
                    limits.operations_per_second,
                    limits.bytes_per_second >> 20,
                    limits.files_bytes >> 20,
                    limits.code_bytes >> 20,
                    cached >> 20,
                    limits.version
                )?;
            }
        }
        Ok(())
    }

    fn write_warnings(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out)?;
        for format in &self.formats {
            if format.failed.is_some() {
                writeln!(
                    out,
                    "FAILED ({}): what comes after the parts above was not measured.",
                    format.format
                )?;
            }
            for what in &format.not_measured {
                writeln!(out, "NOT MEASURED ({}): {what}.", format.format)?;
            }
            for what in &format.left_behind {
                writeln!(out, "LEFT BEHIND ({}): {what}", format.format)?;
            }
            for (of, cell) in format.cells() {
                for series in [&cell.original, &cell.targets] {
                    if !series.outcomes.all_ok() {
                        writeln!(
                            out,
                            "WARNING: {} {} {} readers, {}: {:?}",
                            of.regime, of.id, cell.readers, series.name, series.outcomes
                        )?;
                    }
                }
            }
            for part in &format.neighbours {
                if part.others_cores > OTHERS_CORES_MAX || part.stolen_cores > OTHERS_CORES_MAX {
                    writeln!(
                        out,
                        "NOT QUIET ({}): during `{}` ({:.0} s) others used {:.2} cores, {:.2} were stolen.",
                        format.format, part.part, part.seconds, part.others_cores, part.stolen_cores
                    )?;
                }
            }
        }
        if self.debug_build {
            writeln!(
                out,
                "WARNING: a build without optimizations; its figures say nothing."
            )?;
        }
        Ok(())
    }
}

/// p99 from the original by p99 through targets.
pub(super) fn p99_gain(cell: &Cell) -> f64 {
    cell.original.latency.p99_micros as f64 / cell.targets.latency.p99_micros.max(1) as f64
}

/// p50 / p99 in milliseconds.
fn latency(of: &Percentiles) -> String {
    let millis = |micros: u64| {
        let millis = micros as f64 / 1e3;
        if micros < 10_000 {
            format!("{millis:.1}")
        } else {
            format!("{millis:.0}")
        }
    };
    format!("{} / {}", millis(of.p50_micros), millis(of.p99_micros))
}

/// Rounded down: nothing is made to look better.
pub(super) fn ratio(of: f64) -> String {
    format!("{:.2}", (of * 100.0).floor() / 100.0)
}
