//! What a run of `bench wide` is asked for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

/// How the node writes its SSTables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The default of Cassandra 5: `nb`.
    Big,
    /// Trie indexes: `da`.
    Bti,
    /// What nodes that are there have: nobody has said.
    Theirs,
}

/// A state that a wide partition is read in, or something else that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// One SSTable, in memory.
    Compacted,
    /// Many SSTables, each with rows of all times; in memory.
    Scattered,
    /// The same on a disk of few operations a second, with little memory for it.
    Cloud,
    /// All of a partition, page after page.
    Walk,
    /// The same with a delay between service and node.
    WalkDelayed,
    /// The first answer, before anything is split.
    First,
    /// The service beside the driver alone.
    Direct,
    /// Ordinary ids while a partition is split.
    Foreground,
}

impl Regime {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Compacted,
        Self::Scattered,
        Self::Cloud,
        Self::Walk,
        Self::WalkDelayed,
        Self::First,
        Self::Direct,
        Self::Foreground,
    ];
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compacted => "compacted",
            Self::Scattered => "scattered",
            Self::Cloud => "cloud",
            Self::Walk => "walk",
            Self::WalkDelayed => "walk-delayed",
            Self::First => "first",
            Self::Direct => "direct",
            Self::Foreground => "foreground",
        })
    }
}

impl FromStr for Regime {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|one| one.to_string() == text) {
            Some(one) => Ok(one),
            None => {
                let all: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
                bail!("there is no regime `{text}`; use some of {}", all.join(","))
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Big => "big",
            Self::Bti => "bti",
            Self::Theirs => "theirs",
        })
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "big" => Ok(Self::Big),
            "bti" => Ok(Self::Bti),
            _ => bail!("there is no format `{text}`; use big, bti, or both: big,bti"),
        }
    }
}

/// Where the cluster comes from.
#[derive(Clone, Debug, Serialize)]
pub enum Source {
    /// A node of one's own for each format, by the program `dev/cluster` of the source tree.
    Started {
        /// The program.
        program: PathBuf,
    },
    /// Nodes that are there, in the one format that they have. Nothing of them is restarted.
    Named {
        /// Nodes to ask for the others: HOST:PORT.
        contact_points: String,
        /// Brokers of the Kafka that detections go through.
        kafka: String,
        /// nodetool with its arguments, to flush and compact.
        nodetool: Option<String>,
        /// Copies of keyspaces that are made.
        replication_factor: u32,
    },
}

/// What a run is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Sizes of the wide partitions, in millions of bytes.
    pub megabytes: Vec<u64>,
    /// Formats of SSTables.
    pub formats: Vec<Format>,
    /// What is measured.
    pub regimes: Vec<Regime>,
    /// How many read at once.
    pub readers: Vec<usize>,
    /// Length of one turn, in seconds.
    pub seconds: f64,
    /// How often each side has its turn in a cell of the table.
    pub rounds: usize,
    /// SSTables that a scattered partition lies in.
    pub flushes: u64,
    /// Delay between service and node in the regime `walk-delayed`, in milliseconds, there and back.
    pub delay_millis: u64,
    /// Where events come from.
    pub seed: u64,
    /// Where the cluster comes from.
    pub source: Source,
    /// A new folder in this one takes everything that is written.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The program that is server, planner and splitter.
    #[serde(skip)]
    pub program: PathBuf,
}

impl Options {
    /// Whether this can be run.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn check(&self) -> Result<()> {
        let within = |what: &str, number: u64, least: u64, most: u64| {
            ensure!(
                (least..=most).contains(&number),
                "{what}: use {least} to {most}, not {number}"
            );
            Ok(())
        };
        ensure!(!self.megabytes.is_empty(), "name a size: 10 or more MB");
        for size in &self.megabytes {
            // Below, there are no two targets.
            within("a size in MB", *size, 10, 100_000)?;
        }
        ensure!(!self.formats.is_empty(), "name a format: big, bti");
        ensure!(!self.readers.is_empty(), "name a number of readers");
        for readers in &self.readers {
            within("readers", *readers as u64, 1, 1_000)?;
        }
        within("rounds", self.rounds as u64, 1, 100)?;
        within("flushes", self.flushes, 2, 1_000)?;
        within("the delay in ms", self.delay_millis, 1, 1_000)?;
        ensure!(
            self.seconds.is_finite() && (0.1..=600.0).contains(&self.seconds),
            "a turn takes between 0.1 and 600 seconds, not {}",
            self.seconds
        );
        Ok(())
    }

    /// True when a regime is asked for.
    pub(super) fn asks_for(&self, regime: Regime) -> bool {
        self.regimes.contains(&regime)
    }

    /// The largest partition.
    pub(super) fn widest(&self) -> u64 {
        self.megabytes.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            megabytes: vec![10, 500, 100],
            formats: vec![Format::Big],
            regimes: vec![Regime::Cloud],
            readers: vec![1],
            seconds: 1.0,
            rounds: 1,
            flushes: 2,
            delay_millis: 5,
            seed: 7,
            source: Source::Started {
                program: PathBuf::new(),
            },
            folder: PathBuf::new(),
            program: PathBuf::new(),
        }
    }

    #[test]
    fn every_regime_is_asked_for_by_its_name() {
        for regime in Regime::ALL {
            assert_eq!(regime.to_string().parse::<Regime>().ok(), Some(regime));
        }
        let refused = "warm".parse::<Regime>().map_err(|error| error.to_string());
        assert!(refused.is_err_and(|error| error.contains("walk-delayed")));
    }

    #[test]
    fn what_can_not_be_split_is_refused() {
        assert!(options().check().is_ok());
        assert_eq!(options().widest(), 500);
        let small = Options {
            megabytes: vec![9],
            ..options()
        };
        assert!(small.check().is_err());
    }
}
