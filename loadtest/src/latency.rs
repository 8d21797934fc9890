//! How long things took: a histogram of microseconds, and the few numbers of it that are printed.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::micros;

const MICROS_MAX: u64 = 60_000_000;
/// Below so many samples there is no p99.9 to speak of.
const P999_SAMPLES_MIN: u64 = 10_000;

/// Durations from 1 µs to a minute, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MICROS_MAX, 3)?))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(micros(took).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(crate) fn summary(&self) -> Percentiles {
        let n = self.0.len();
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles {
            n,
            p50_micros: at(0.5),
            p90_micros: at(0.9),
            p99_micros: at(0.99),
            p999_micros: (n >= P999_SAMPLES_MIN).then(|| at(0.999)),
            max_micros: self.0.max(),
        }
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Samples.
    pub n: u64,
    /// Half of the samples took no longer.
    pub p50_micros: u64,
    /// 90 % of the samples took no longer.
    pub p90_micros: u64,
    /// 99 % of the samples took no longer.
    pub p99_micros: u64,
    /// 99.9 % of the samples took no longer; only of 10,000 samples or more.
    pub p999_micros: Option<u64>,
    /// The longest.
    pub max_micros: u64,
}

/// A duration for people: `0.23 ms`.
pub(crate) fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1_000.0;
    match micros {
        0..1_000 => format!("{millis:.3} ms"),
        1_000..100_000 => format!("{millis:.2} ms"),
        _ => format!("{millis:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_percentile_needs_many_samples() {
        let mut latencies = Latencies::new().unwrap();
        for n in 1..10_000 {
            latencies.record(Duration::from_micros(n));
        }
        assert_eq!(latencies.summary().p999_micros, None);
        latencies.record(Duration::from_micros(10_000));
        let summary = latencies.summary();
        assert_eq!((summary.n, summary.p50_micros / 100), (10_000, 50));
        assert!(summary.p999_micros.is_some_and(|p| (9_980..=10_000).contains(&p)));
    }
}
