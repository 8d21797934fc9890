//! One measured stretch of a closed loop.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tonic::Code;

use crate::client::Outcomes;
use crate::latency::{Latencies, Percentiles};

/// How a closed loop is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Connections, or threads where there are none.
    pub connections: usize,
    /// Batches in flight on each.
    pub in_flight: usize,
    /// Events in a batch.
    pub batch_events: u64,
}

/// What a closed loop did.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) events: u64,
    pub(crate) took: Duration,
    pub(crate) latencies: Latencies,
    pub(crate) outcomes: Outcomes,
    /// Processor time of the process that served it, where that is another one.
    pub(crate) server_cpu: Duration,
}

impl Window {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            events: 0,
            took: Duration::ZERO,
            latencies: Latencies::new()?,
            outcomes: Outcomes::default(),
            server_cpu: Duration::ZERO,
        })
    }

    /// Counts one call. Only those that did what they should have have a latency.
    pub(crate) fn done(&mut self, outcome: Result<(), Code>, took: Duration, events: u64) {
        self.outcomes.count(outcome);
        if outcome.is_ok() {
            self.events += events;
            self.latencies.record(took);
        }
    }

    pub(crate) fn of_parts(parts: &[Self], took: Duration) -> Result<Self> {
        let mut whole = Self::new()?;
        whole.took = took;
        for part in parts {
            whole.events += part.events;
            whole.latencies.add(&part.latencies)?;
            whole.outcomes.add(&part.outcomes);
        }
        Ok(whole)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64().max(0.001)
    }
}

/// One contender over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Events a second, one number a round.
    pub per_second: Vec<f64>,
    /// The middle of them.
    pub per_second_median: f64,
    /// Latency of a call, over all rounds.
    pub latency: Percentiles,
    /// What became of the calls.
    pub outcomes: Outcomes,
    /// Processor time of the server for each event, in microseconds; 0 where there is no server.
    pub server_cpu_micros_per_event: f64,
}

impl Series {
    pub(crate) fn of(name: &str, windows: &[Window]) -> Result<Self> {
        let whole = Window::of_parts(windows, windows.iter().map(|w| w.took).sum())?;
        let per_second: Vec<f64> = windows.iter().map(Window::per_second).collect();
        let cpu: Duration = windows.iter().map(|w| w.server_cpu).sum();
        Ok(Self {
            name: name.to_owned(),
            per_second_median: median(&per_second),
            per_second,
            latency: whole.latencies.summary(),
            outcomes: whole.outcomes,
            server_cpu_micros_per_event: cpu.as_secs_f64() * 1e6 / (whole.events.max(1) as f64),
        })
    }

    /// The middle of the rounds' ratios to another contender: each round of one stands beside one of the other.
    pub(crate) fn ratio_to(&self, floor: &[f64]) -> f64 {
        let ratios: Vec<f64> = self.per_second.iter().zip(floor).map(|(a, b)| a / b).collect();
        median(&ratios)
    }
}

/// The middle number; of an even count, the mean of the two in the middle.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let window = |events| Window {
            events,
            took: Duration::from_secs(1),
            ..Window::new().unwrap()
        };
        let series = Series::of("a", &[window(50), window(200), window(60)]).unwrap();
        assert_eq!(series.per_second_median, 60.0);
        assert_eq!(series.ratio_to(&[100.0, 200.0, 100.0]), 0.6);
        assert_eq!(median(&[4.0, 2.0]), 3.0);
    }
}
