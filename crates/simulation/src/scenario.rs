//! What a world is like, drawn from its seed.

use std::time::Duration;

use anabranch_model::namespace::{Retention, Rollout, Slo};
use anabranch_model::{EventTime, NamespaceSettings, TimeSeriesId};
use anabranch_planner::PlannerSettings;
use anabranch_server::namespaces::NamespacesSettings;
use anabranch_server::settings::ServerSettings;
use anabranch_server::slices::SlicesSettings;
use anabranch_split::RetryPolicy;
use anabranch_splitter::SplitterSettings;

use crate::dice::Dice;

const HOUR: u64 = 3_600;

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What everybody's clock should show when the world begins, in microseconds.
    pub(crate) begins: i64,
    /// How long things are done before it is left alone.
    pub(crate) length: Duration,
    pub(crate) servers: usize,
    pub(crate) planners: usize,
    pub(crate) splitters: usize,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    pub(crate) ids: Vec<TimeSeriesId>,
    /// Events that each writer sends.
    pub(crate) events: u64,
    /// Largest value of an item.
    pub(crate) value_bytes_max: u64,
    /// How far back history goes, where any time is accepted.
    pub(crate) history: Duration,
    pub(crate) settings: NamespaceSettings,
    pub(crate) server: ServerSettings,
    pub(crate) planner: PlannerSettings,
    pub(crate) splitter: SplitterSettings,
    /// Failing store calls in a thousand, on a quiet day.
    pub(crate) failing: u32,
    /// Clocks are wrong by at most this.
    pub(crate) skew: Duration,
    /// Processes are killed, paused and told other times.
    pub(crate) chaos: bool,
    /// Targets lose events that were written.
    pub(crate) damage: bool,
    /// Operators seal, unseal and change limits.
    pub(crate) operators: bool,
    /// They seal and open often, and right at events.
    pub(crate) exact: bool,
    /// Walks take no more than two rows a page, and it takes several of these to find something wide.
    pub(crate) sips: bool,
    /// The store ends its pages after a few events, whatever is asked for.
    pub(crate) short_pages: bool,
    /// At the end it is read until all that is wide is split.
    pub(crate) heals: bool,
    /// One process does everything, as with an embedded store: it is the server, and nobody else uses the store.
    pub(crate) alone: bool,
}

/// The longest that a request may take.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(30);

impl Scenario {
    /// `later` is of what worlds have not always had: with a stream of its own it leaves the older choices as they were.
    pub(crate) fn draw(dice: &Dice, later: &Dice) -> Self {
        let bucket: i64 = *dice.pick(&[600, 1_800, 3_600]).unwrap_or(&3_600);
        let slice: i64 = *dice.pick(&[3_600, 7_200, 0]).unwrap_or(&3_600);
        // Any time, then sealed; or a small limit and a partition that goes on growing.
        let limit = match dice.below(3) {
            0 => Duration::ZERO,
            1 => dice.duration(Duration::from_secs(60), Duration::from_secs(300)),
            _ => dice.duration(Duration::from_secs(300), Duration::from_secs(1_800)),
        };
        let close_after = Duration::from_secs(2 * HOUR);
        let retention = match slice != 0 && dice.chance(100) {
            true => Retention {
                close_after: Some(close_after),
                delete_after: Some(close_after + Duration::from_secs(900)),
            },
            false => Retention::default(),
        };
        let mut settings = NamespaceSettings {
            seconds_per_time_slice: slice,
            seconds_per_time_bucket: bucket,
            event_buckets: *dice.pick(&[1, 1, 2, 3]).unwrap_or(&1),
            accept_limit: limit,
            accept_ahead_limit: Duration::from_secs(*dice.pick(&[60, 3_600]).unwrap_or(&60)),
            retention,
            read_slo: Slo {
                target: Duration::from_secs(1),
                max: Duration::from_secs(20),
            },
            ..NamespaceSettings::default()
        };
        let wide = &mut settings.wide_partition;
        wide.detect_bytes = 1 << 10;
        wide.target_bytes = 1 << 10 << dice.below(2);
        wide.targets_max = *dice.pick(&[2, 4, 16, 64]).unwrap_or(&16);
        wide.rollout = match dice.chance(150) {
            true => Rollout::Compare,
            false => Rollout::Serve,
        };
        wide.compare_ratio = 1.0;
        let servers = 1 + usize::from(dice.chance(600));
        let ids = ["a", "b/2", "c"]
            .iter()
            .take(1 + usize::try_from(dice.below(3)).unwrap_or(0))
            .filter_map(|id| TimeSeriesId::new(*id).ok())
            .collect();
        let skew = match dice.below(3) {
            0 => Duration::ZERO,
            1 => Duration::from_secs(30),
            _ => Duration::from_secs(HOUR),
        };
        let server = server_settings();
        // At times after every page, so that workers are taken over in the middle.
        let checkpoint_bytes = *dice.pick(&[1, 4 << 10, 1 << 20]).unwrap_or(&1);
        let (sips, alone, short_pages) = (later.chance(100), later.chance(250), later.chance(300));
        let checkpoint_bytes = if short_pages { 1 } else { checkpoint_bytes };
        if sips {
            settings.wide_partition.detect_bytes = 8 << 10;
        }
        let exact = later.chance(if alone { 700 } else { 250 });
        let scenario = Self {
            sips,
            heals: sips || later.chance(80),
            exact,
            alone,
            short_pages,
            // Some minutes past noon, so that slices end at different moments of a world.
            begins: 1_774_699_200_000_000 + dice.within(0, 7_200) * 1_000_000,
            length: dice.duration(Duration::from_secs(HOUR / 3), Duration::from_secs(HOUR * 5 / 4)),
            servers,
            planners: 1 + usize::from(dice.chance(500)),
            splitters: 1 + usize::from(dice.chance(500)),
            writers: 2,
            readers: 2,
            ids,
            events: 20 + dice.below(100),
            value_bytes_max: *dice.pick(&[100, 600, 3_000]).unwrap_or(&600),
            history: Duration::from_secs(*dice.pick(&[HOUR, HOUR, 6 * HOUR]).unwrap_or(&HOUR)),
            settings,
            server,
            planner: planner_settings(checkpoint_bytes),
            splitter: splitter_settings(server.slices.settle, checkpoint_bytes),
            failing: *dice.pick(&[1, 5, 20]).unwrap_or(&5),
            skew,
            chaos: dice.chance(700),
            damage: dice.chance(150),
            operators: limit.is_zero() || dice.chance(500) || exact,
        };
        if alone { scenario.alone() } else { scenario }
    }

    /// The same with one process. What it is told of its own changes it need not wait for.
    fn alone(mut self) -> Self {
        (self.servers, self.planners, self.splitters) = (1, 0, 0);
        self.server.slices = SlicesSettings {
            keeper_interval: self.server.slices.keeper_interval,
            ..SlicesSettings::default()
        };
        // Markers are cheap to look at in the own store.
        self.planner.sweep_interval = Duration::from_secs(10);
        self.planner.sole_owner = true;
        self.splitter.sole_owner = true;
        self.splitter.retire_after = RECORD_CACHE_TTL + REQUEST_MAX * 2;
        self
    }

    /// True when retention may have closed what lies at a time, by anyone's clock.
    pub(crate) fn may_be_closed(&self, time: EventTime, now: EventTime) -> bool {
        let Some(close_after) = self.settings.retention.close_after else {
            return false;
        };
        let width = Duration::from_secs(self.settings.seconds_per_time_slice.unsigned_abs());
        now.saturating_add(self.skew).saturating_add(width) >= time.saturating_add(close_after)
    }

    /// How old a view of a namespace may be that a server still goes by.
    pub(crate) fn settings_lifetime(&self) -> Duration {
        self.server.namespaces.settings_lifetime
    }

    /// How long a change of settings takes until everybody goes by it.
    pub(crate) fn settle(&self) -> Duration {
        self.server.slices.settle
    }
}

/// A shared store, with everything that is waited for made longer: a world's hours then cost few timers.
fn server_settings() -> ServerSettings {
    let mut settings = ServerSettings {
        deadline_max: REQUEST_MAX,
        namespaces: NamespacesSettings {
            refresh_interval: Duration::from_secs(100),
            settings_lifetime: Duration::from_secs(240),
        },
        ..ServerSettings::default()
    };
    settings.slices.keeper_interval = Duration::from_secs(100);
    settings.detect.suppress = Duration::from_secs(300);
    settings.splits.filter_refresh = Duration::from_secs(100);
    settings.splits.filter_rebuild = Duration::from_secs(600);
    settings.splits.record_cache_ttl = RECORD_CACHE_TTL;
    settings.splits.compare.store_reads = 3;
    settings.shared(REQUEST_MAX)
}

const RECORD_CACHE_TTL: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(180);
const SWEEP: Duration = Duration::from_secs(100);
const RETRY: RetryPolicy = RetryPolicy {
    wait: Duration::from_secs(10),
    wait_max: Duration::from_secs(300),
    attempts_max: 6,
};

fn planner_settings(checkpoint_bytes: u64) -> PlannerSettings {
    PlannerSettings {
        intake_interval: SWEEP,
        sweep_interval: SWEEP,
        whole_sweep: Duration::from_secs(600),
        lease: LEASE,
        checkpoint_bytes,
        park_interval: Duration::from_secs(600),
        retry: RETRY,
        ..PlannerSettings::default()
    }
}

fn splitter_settings(settle: Duration, checkpoint_bytes: u64) -> SplitterSettings {
    SplitterSettings {
        sweep_interval: SWEEP,
        whole_sweep: Duration::from_secs(600),
        lease: LEASE,
        checkpoint_bytes,
        batch_bytes: 2 << 10,
        retire_after: settle + RECORD_CACHE_TTL,
        retry: RETRY,
        ..SplitterSettings::default()
    }
}
