//! What became of every request of a run, and what was wrong with the servers meanwhile.
//!
//! Requests are kept as they come; what is asked about them is asked at the end, by windows of time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Read,
    Write,
}

#[derive(Clone, Debug)]
struct Request {
    sent: Duration,
    took: Duration,
    kind: Kind,
    outcome: &'static str,
}

/// An answer that is good.
pub(crate) const OK: &str = "OK";
/// A good answer that was cut, so that it came in time.
pub(crate) const PARTIAL: &str = "OK, partial";
/// A good answer that came after its deadline.
pub(crate) const LATE: &str = "late";

/// Every request of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    began: Instant,
    requests: Mutex<Vec<Request>>,
    windows: Mutex<Vec<Window>>,
}

/// A stretch of a run in which something was, or was not, the matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// What.
    pub(crate) name: String,
    from: Duration,
    to: Duration,
}

/// What became of the requests of one kind that were sent in some windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By outcome.
    outcomes: BTreeMap<&'static str, u64>,
    /// Of good answers, ascending.
    took: Vec<Duration>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            requests: Mutex::default(),
            windows: Mutex::default(),
        }
    }

    /// Since the ledger was begun.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A request that was sent then has ended just now.
    pub(crate) fn note(&self, sent: Duration, kind: Kind, outcome: &'static str) {
        let took = self.now().saturating_sub(sent);
        self.requests.lock().unwrap().push(Request {
            sent,
            took,
            kind,
            outcome,
        });
    }

    /// From then until now something was the matter.
    pub(crate) fn window(&self, name: &str, from: Duration) -> Window {
        let window = Window {
            name: name.to_owned(),
            from,
            to: self.now(),
        };
        self.windows.lock().unwrap().push(window.clone());
        window
    }

    /// Every window of these names.
    pub(crate) fn windows(&self, names: &[&str]) -> Vec<Window> {
        let windows = self.windows.lock().unwrap();
        let named = windows.iter().filter(|window| names.contains(&&*window.name));
        named.cloned().collect()
    }

    /// The requests of a kind that were sent in one of these windows.
    pub(crate) fn tally(&self, windows: &[Window], kind: Kind) -> Tally {
        let mut tally = Tally::default();
        for request in self.requests.lock().unwrap().iter() {
            let inside = |window: &Window| window.from <= request.sent && request.sent < window.to;
            if request.kind == kind && windows.iter().any(inside) {
                *tally.outcomes.entry(request.outcome).or_default() += 1;
                if is_good(request.outcome) {
                    tally.took.push(request.took);
                }
            }
        }
        tally.took.sort_unstable();
        tally
    }

    /// Those of the whole run.
    pub(crate) fn whole(&self, kind: Kind) -> Tally {
        let whole = Window {
            name: String::new(),
            from: Duration::ZERO,
            to: Duration::MAX,
        };
        self.tally(&[whole], kind)
    }
}

impl Tally {
    pub(crate) fn all(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Those that were not answered well in time.
    pub(crate) fn missed(&self) -> u64 {
        let missed = self.outcomes.iter().filter(|(outcome, _)| !is_good(outcome));
        missed.map(|(_, count)| count).sum()
    }

    /// Of the good answers, the time below which this share of them came.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let place = (self.took.len() as f64 * share) as usize;
        let last = self.took.len().saturating_sub(1);
        self.took.get(place.min(last)).copied().unwrap_or_default()
    }
}

fn is_good(outcome: &str) -> bool {
    [OK, PARTIAL].contains(&outcome)
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |share| self.quantile(share).as_secs_f64() * 1e3;
        write!(
            f,
            "{} requests, p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms; {:?}",
            self.all(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.outcomes
        )
    }
}
