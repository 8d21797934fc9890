//! Damage to the components of SSTables, by one seed.
//!
//! `DAMAGE_CASES` says how many cases there are, `DAMAGE_SEED` (1) which.

use anabranch_sstable::{Component, Components, InMemory, SstableError};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What a file may suffer.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip {
        at: prop::sample::Index,
        bit: u8,
    },
    Replace {
        at: prop::sample::Index,
        by: u8,
    },
    Truncate {
        at: prop::sample::Index,
    },
    Append {
        bytes: Vec<u8>,
    },
    Swap {
        one: prop::sample::Index,
        other: prop::sample::Index,
        length: usize,
    },
    Zero {
        at: prop::sample::Index,
        length: usize,
    },
}

/// Any damage.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => (index(), any::<u8>()).prop_map(|(at, by)| Damage::Replace { at, by }),
        2 => index().prop_map(|at| Damage::Truncate { at }),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Damage::Append { bytes }),
        1 => (index(), index(), 1..300_usize)
            .prop_map(|(one, other, length)| Damage::Swap { one, other, length }),
        1 => (index(), 1..100_usize).prop_map(|(at, length)| Damage::Zero { at, length }),
    ]
}

impl Damage {
    /// Its kind.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "flip",
            Self::Replace { .. } => "replace",
            Self::Truncate { .. } => "truncate",
            Self::Append { .. } => "append",
            Self::Swap { .. } => "swap",
            Self::Zero { .. } => "zero",
        }
    }

    /// Does it.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        let length_of = bytes.len();
        match self {
            Self::Flip { at, bit } => bytes[at.index(length_of)] ^= 1 << bit,
            Self::Replace { at, by } => bytes[at.index(length_of)] = *by,
            Self::Truncate { at } => bytes.truncate(at.index(length_of)),
            Self::Append { bytes: more } => bytes.extend_from_slice(more),
            Self::Swap { one, other, length } => {
                let (one, other) = (one.index(length_of), other.index(length_of));
                for step in 0..*length {
                    if one.max(other) + step < length_of {
                        bytes.swap(one + step, other + step);
                    }
                }
            }
            Self::Zero { at, length } => {
                bytes
                    .iter_mut()
                    .skip(at.index(length_of))
                    .take(*length)
                    .for_each(|byte| *byte = 0);
            }
        }
    }
}

/// An error must say which file, and that must be one of this table's.
pub(crate) fn names_a_file(error: &SstableError, table: &InMemory) -> bool {
    let text = error.to_string();
    Component::ALL
        .iter()
        .any(|component| text.contains(&table.name(*component)))
}

/// The same cases from the same seed.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&setting("DAMAGE_SEED").unwrap_or(1_u64).to_be_bytes());
    let config = Config {
        cases: setting("DAMAGE_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap()),
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}
