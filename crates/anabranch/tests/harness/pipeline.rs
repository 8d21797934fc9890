//! The split pipeline in this process, on a real Cassandra: planner, splitter and server over stores that are reached
//! through proxies, and a store past them by which records are brought into any state and the truth is looked at.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_bus::{Detection, DetectionBus, StoreBus};
use anabranch_catalog::{NamespaceRecord, SliceRecord, Stored, ground, store_slice};
use anabranch_model::namespace::Rollout;
use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName,
    NamespaceSettings, PartitionKey, PartitionSettings, SliceName, TimeInterval, TimeSeriesId, TimeSlice,
    WideTable,
};
use anabranch_planner::{Planner, PlannerMetrics, PlannerParts, PlannerSettings, RoundError, TimedFreezer};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock, Tasks};
use anabranch_server::context::ServedFrom;
use anabranch_server::core::Core;
use anabranch_server::read::request::{EventPage, Latency, Paging, ReadRequest};
use anabranch_server::settings::ServerSettings;
use anabranch_split::{
    Aim, Copied, EventBucketSplit, Lease, RetryPolicy, SplitReason, SplitRecord, SplitState, Step, SurveyTask,
};
use anabranch_splitter::{Splitter, SplitterMetrics, SplitterParts, SplitterSettings};
use anabranch_storage::cassandra::names::KeyspaceName;
use anabranch_storage::cassandra::settings::CassandraSettings;
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    CasOutcome, EventBounds, Moved, PartitionAppend, RecordKey, SplitRecords, SplitSlot, Store, StoredSplit,
    TableKind, TableName, Walk, open,
};
use bytes::Bytes;
use tokio::sync::Notify;

/// Events of a partition, and bytes of each one's value.
const EVENTS: i64 = 12;
const VALUE_BYTES: usize = 700;
/// An hour of long ago, in microseconds.
const HOUR: i64 = 470_000;
const HOUR_MICROS: i64 = 3_600_000_000;

pub(crate) fn namespace() -> NamespaceName {
    NamespaceName::new("pipeline").unwrap()
}

fn slice() -> SliceName {
    SliceName::new("all").unwrap()
}

fn table(kind: TableKind) -> TableName {
    TableName {
        namespace: namespace(),
        kind,
        slice: slice(),
    }
}

/// Where a record stands when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// There is none; a detection waits.
    Free,
    Detected,
    /// Its time has come.
    Parked,
    /// By a planner that has died.
    Planning,
    Planned,
    /// By a splitter that has died.
    Splitting,
    /// The same, with every target written.
    Verifying,
    Completed,
    /// The slice was opened again since.
    Outdated,
    NotWorthIt,
    /// Its time has come.
    Failed,
    Quarantined,
    /// By an operator, with targets that are to be removed.
    Invalidated,
    /// Because a read found it damaged; its targets are gone.
    Retired,
}

pub(crate) const STATES: [State; 14] = [
    State::Free,
    State::Detected,
    State::Parked,
    State::Planning,
    State::Planned,
    State::Splitting,
    State::Verifying,
    State::Completed,
    State::Outdated,
    State::NotWorthIt,
    State::Failed,
    State::Quarantined,
    State::Invalidated,
    State::Retired,
];

/// Who comes upon the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Planner,
    Splitter,
    /// A server that reads the partition.
    Read,
    /// A server that is asked to send the split round again.
    Retry,
    /// A server that is asked to take it back.
    Invalidate,
}

pub(crate) const ACTORS: [Actor; 5] = [
    Actor::Planner,
    Actor::Splitter,
    Actor::Read,
    Actor::Retry,
    Actor::Invalidate,
];

/// The pipeline.
pub(crate) struct Pipeline {
    /// Past the proxies.
    direct: Store,
    splits: SplitRecords,
    workers: Store,
    core: Arc<Core>,
    clock: Arc<SystemClock>,
    _tasks: Tasks,
    next: u64,
}

/// A partition of the test, and what is written in it.
pub(crate) struct Case {
    pub(crate) partition: PartitionKey,
    events: Vec<Event>,
    bus: Arc<StoreBus>,
}

/// What came of a worker's round, or of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done as if nothing had been.
    Done,
    /// The round ended with an error, or the call was answered with one: its kind, or its reason.
    Ended(String),
    /// The attempt failed: it is recorded, and tried again.
    AttemptFailed,
    /// It was left for the next round.
    Left,
    /// Every event was read, from there, in each direction.
    Read([Option<ServedFrom>; 2]),
}

/// How long is waited for what a proxy does not answer. A node that is busy for a moment answers sooner.
const UNANSWERED: Duration = Duration::from_secs(3);

/// A store that is reached by these addresses of its nodes, or past the proxies if there are none.
pub(crate) async fn store(
    keyspace: &KeyspaceName,
    points: &[String],
    map: &HashMap<SocketAddr, SocketAddr>,
) -> Store {
    let through = |point: &String| {
        let node: SocketAddr = point.parse().unwrap();
        map.get(&node).copied().unwrap_or(node)
    };
    let mut settings = CassandraSettings {
        contact_points: points.iter().map(|point| through(point).to_string()).collect(),
        address_map: map.iter().map(|(node, proxy)| (node.ip(), *proxy)).collect(),
        replication_factor: 1,
        ..CassandraSettings::new(points.to_vec(), keyspace.clone())
    };
    if !map.is_empty() {
        settings.request_timeout = UNANSWERED;
        settings.speculative_delay = Duration::from_millis(100);
    }
    let randomness = Randomness::from_system().unwrap();
    let metrics = Metrics::default();
    Box::pin(open::cassandra(
        &settings,
        SystemClock::new(),
        randomness,
        &metrics,
    ))
    .await
    .unwrap()
}

fn at_once() -> RetryPolicy {
    RetryPolicy {
        wait: Duration::ZERO,
        wait_max: Duration::ZERO,
        attempts_max: 100,
    }
}

impl Pipeline {
    /// A namespace with one slice of all time, and nothing in it.
    pub(crate) async fn start(direct: Store, workers: Store, servers: Store) -> Self {
        let clock = SystemClock::new();
        let mut of = NamespaceSettings {
            seconds_per_time_slice: 0,
            seconds_per_time_bucket: 3_600,
            ..NamespaceSettings::default()
        };
        of.wide_partition.rollout = Rollout::Serve;
        of.wide_partition.target_bytes = 2 << 10;
        of.wide_partition.split_bytes_per_second = 1 << 30;
        let record = NamespaceRecord::new(of, 1, EventTime::from_micros(0));
        let key = NamespaceRecord::key(&namespace());
        let bytes = record.encode().unwrap();
        direct
            .records
            .compare_and_set(&key, 0, Some(bytes))
            .await
            .unwrap();
        let buckets = PartitionSettings {
            seconds_per_time_bucket: 3_600,
            event_buckets: 1,
        };
        let mut made = TimeSlice::cut(slice(), TimeInterval::ALL, buckets);
        made.wide_table = WideTable::Made;
        let record = SliceRecord::new(made, 1);
        store_slice(&*direct.records, &namespace(), 0, &record)
            .await
            .unwrap();
        for kind in [TableKind::Data, TableKind::Wide] {
            direct.events.create_table(&table(kind)).await.unwrap();
        }
        let (tasks, metrics, randomness) = (Tasks::new(), Metrics::default(), Randomness::from_seed(1));
        let bus = Arc::new(StoreBus::new(Arc::new(MemoryStore::new()), &Metrics::default()));
        let core = Core::start(
            servers,
            bus,
            clock.clone(),
            &randomness,
            &tasks,
            &metrics,
            quiet(),
        );
        let core = Box::pin(core).await.unwrap();
        Self {
            splits: SplitRecords::new(direct.records.clone()),
            direct,
            workers,
            core,
            clock,
            _tasks: tasks,
            next: 0,
        }
    }

    fn now(&self) -> EventTime {
        EventTime::from_micros(anabranch_runtime::Clock::unix_micros(&*self.clock))
    }

    fn planner(&self, store: &Store, bus: Arc<StoreBus>) -> Planner {
        let parts = PlannerParts {
            events: store.events.clone(),
            records: store.records.clone(),
            bus,
            freezer: Arc::new(TimedFreezer::new(
                store.records.clone(),
                self.clock.clone(),
                Duration::ZERO,
            )),
            clock: self.clock.clone(),
            foreground: None,
            nudge: Arc::new(Notify::new()),
            planned: Arc::new(Notify::new()),
        };
        let settings = PlannerSettings {
            sole_owner: true,
            retry: at_once(),
            ..PlannerSettings::default()
        };
        let metrics = PlannerMetrics::new(&Metrics::default());
        Planner::new(parts, &Randomness::from_seed(2), metrics, settings)
    }

    fn splitter(&self, store: &Store) -> Splitter {
        let parts = SplitterParts {
            events: store.events.clone(),
            records: store.records.clone(),
            clock: self.clock.clone(),
            foreground: None,
            nudge: Arc::new(Notify::new()),
            completed: Arc::new(Notify::new()),
        };
        let settings = SplitterSettings {
            sole_owner: true,
            retire_after: Duration::ZERO,
            retry: at_once(),
            ..SplitterSettings::default()
        };
        let metrics = SplitterMetrics::new(&Metrics::default());
        Splitter::new(parts, &Randomness::from_seed(3), metrics, settings)
    }

    /// A partition of its own with events in it, whose record is in a state.
    pub(crate) async fn prepare(&mut self, state: State) -> Case {
        self.next += 1;
        let partition = PartitionKey {
            slice: slice(),
            time_series_id: TimeSeriesId::new(format!("id{}", self.next)).unwrap(),
            time_bucket: HOUR,
            event_bucket: 0,
        };
        let count = if state == State::NotWorthIt { 1 } else { EVENTS };
        let events: Vec<Event> = (0..count).map(event).collect();
        let part = PartitionAppend {
            table: table(TableKind::Data),
            partition: partition.clone(),
            events: events.clone(),
            consistency: Consistency::default(),
        };
        self.direct.events.append(vec![part]).await.unwrap();
        let case = Case {
            partition,
            events,
            bus: Arc::new(StoreBus::new(Arc::new(MemoryStore::new()), &Metrics::default())),
        };
        self.bring(&case, state).await;
        self.core.splits.refresh_now().await;
        case
    }

    async fn bring(&self, case: &Case, state: State) {
        if state == State::Free {
            let detection = Detection {
                namespace: namespace(),
                partition: case.partition.clone(),
                bytes: 1 << 20,
                immutable: true,
            };
            return case.bus.publish(&detection).await.unwrap();
        }
        let record = SplitRecord::detected(case.partition.clone(), 1 << 20, self.now());
        let created = self.splits.create(&namespace(), 0, record).await.unwrap();
        assert!(matches!(created, Moved::To(_)));
        let lease = Lease { owner: 99 };
        match state {
            State::Free | State::Detected => {}
            State::Parked => {
                let due = EventTime::from_micros(0);
                let reason = SplitReason::Mutable;
                self.step(case, Step::Park { due, reason }).await;
            }
            State::Planning => self.survey(case, lease).await,
            State::Failed | State::Quarantined => {
                self.survey(case, lease).await;
                let fence = self.stored(case).await.unwrap().record.fence;
                let attempts_max = if state == State::Failed { 100 } else { 0 };
                let fail = Step::Fail {
                    fence,
                    reason: SplitReason::StoreFailed,
                    detail: String::new(),
                    retry: RetryPolicy {
                        attempts_max,
                        ..at_once()
                    },
                };
                self.step(case, fail).await;
            }
            State::Planned | State::NotWorthIt => self.plan(case).await,
            State::Splitting => {
                self.plan(case).await;
                self.step(case, Step::Split { lease }).await;
            }
            State::Verifying => {
                self.plan(case).await;
                self.step(case, Step::Split { lease }).await;
                self.copy(case).await;
                let fence = self.stored(case).await.unwrap().record.fence;
                self.step(case, Step::Verify { fence }).await;
            }
            State::Completed => self.complete(case).await,
            State::Outdated => {
                self.complete(case).await;
                self.age(case).await;
            }
            State::Invalidated => {
                self.complete(case).await;
                let reason = SplitReason::Operator;
                self.step(case, Step::Invalidate { reason }).await;
            }
            State::Retired => {
                self.complete(case).await;
                let reason = SplitReason::TargetDamaged;
                self.step(case, Step::Invalidate { reason }).await;
                self.splitter(&self.direct).round().await.unwrap();
            }
        }
        let expected = match state {
            State::Outdated => "COMPLETED".to_owned(),
            State::NotWorthIt => "NOT_WORTH_IT".to_owned(),
            other => format!("{other:?}").to_uppercase(),
        };
        assert_eq!(self.stored(case).await.unwrap().record.state.name(), expected);
    }

    async fn survey(&self, case: &Case, lease: Lease) {
        // What is surveyed is frozen.
        let ground = ground(&*self.direct.records, &namespace(), &slice())
            .await
            .unwrap()
            .unwrap();
        let aim = Aim {
            target_bytes: ground.settings.wide_partition.target_bytes,
            targets_max: ground.settings.wide_partition.targets_max,
        };
        let task = SurveyTask {
            basis: ground.basis,
            extends: false,
            boundary: EventTime::from_micros((HOUR + 1) * HOUR_MICROS),
            aim,
            survey: EventBucketSplit { aim, kept: 0 }.survey(),
        };
        self.step(case, Step::Survey { lease, task }).await;
    }

    async fn plan(&self, case: &Case) {
        self.planner(&self.direct, case.bus.clone())
            .round()
            .await
            .unwrap();
    }

    async fn complete(&self, case: &Case) {
        self.plan(case).await;
        self.splitter(&self.direct).round().await.unwrap();
    }

    /// Writes the targets of a plan by hand.
    async fn copy(&self, case: &Case) {
        let stored = self.stored(case).await.unwrap();
        let plan = stored.record.plan().unwrap().clone();
        for target in &plan.targets {
            let events = case
                .events
                .iter()
                .filter(|event| (&target.oldest..=&target.newest).contains(&&event.key));
            let part = PartitionAppend {
                table: table(TableKind::Wide),
                partition: target.partition(&case.partition),
                events: events.cloned().collect(),
                consistency: Consistency::default(),
            };
            self.direct.events.append(vec![part]).await.unwrap();
        }
        let copied = Copied {
            targets: u32::try_from(plan.targets.len()).unwrap(),
            ..Copied::default()
        };
        let fence = stored.record.fence;
        self.step(case, Step::Copied { fence, copied }).await;
    }

    /// Has what is served rest on an epoch that is over.
    async fn age(&self, case: &Case) {
        let mut stored = self.stored(case).await.unwrap();
        let serving = stored.record.serving.as_mut().unwrap();
        serving.basis.epoch += 1_000;
        let key = RecordKey::Split {
            namespace: namespace(),
            partition: case.partition.clone(),
        };
        let bytes = Bytes::from(stored.record.encode().unwrap());
        let put = self
            .direct
            .records
            .compare_and_set(&key, stored.version, Some(bytes))
            .await;
        assert!(matches!(put.unwrap(), CasOutcome::Applied { .. }));
    }

    async fn step(&self, case: &Case, step: Step) {
        let stored = self.stored(case).await.unwrap();
        let moved = self
            .splits
            .step(&namespace(), &stored, step, self.now())
            .await
            .unwrap();
        assert!(matches!(moved, Moved::To(_)), "{moved:?}");
    }

    pub(crate) async fn stored(&self, case: &Case) -> Option<StoredSplit> {
        match self.splits.get(&namespace(), &case.partition).await.unwrap() {
            SplitSlot::Taken(stored) => Some(stored),
            SplitSlot::Free { .. } => None,
            SplitSlot::Unreadable(unreadable) => panic!("{unreadable:?}"),
        }
    }

    /// The state that the record is in.
    pub(crate) async fn state(&self, case: &Case) -> &'static str {
        let stored = self.stored(case).await;
        stored.map_or("none", |stored| stored.record.state.name())
    }

    /// Has an actor come upon the record, through its proxy, once. `done` is where the record is then when nothing is wrong.
    pub(crate) async fn act(&self, actor: Actor, case: &Case, done: Option<&'static str>) -> Outcome {
        let ended: Result<(), String> = match actor {
            Actor::Planner => {
                let mut planner = self.planner(&self.workers, case.bus.clone());
                let round = Box::pin(planner.round()).await;
                round.map(drop).map_err(|error| match error {
                    RoundError::Store(error) => format!("{:?}", error.kind()),
                    other => format!("{other:?}"),
                })
            }
            Actor::Splitter => {
                let mut splitter = self.splitter(&self.workers);
                let round = Box::pin(splitter.round()).await;
                round.map(drop).map_err(|error| format!("{:?}", error.kind()))
            }
            Actor::Read => {
                return match Box::pin(self.read(case)).await {
                    Ok(from) => Outcome::Read(from),
                    Err(reason) => Outcome::Ended(reason),
                };
            }
            Actor::Retry => {
                let retried = self.core.admin.retry_split(&namespace(), &case.partition).await;
                retried.map(drop).map_err(|error| error.reason.name().to_owned())
            }
            Actor::Invalidate => {
                let taken = self
                    .core
                    .admin
                    .invalidate_split(&namespace(), &case.partition)
                    .await;
                taken.map(drop).map_err(|error| error.reason.name().to_owned())
            }
        };
        if let Err(kind) = ended {
            return Outcome::Ended(kind);
        }
        let Some(done) = done else {
            return Outcome::Done;
        };
        let stands = self.stored(case).await;
        if stands
            .as_ref()
            .is_some_and(|stored| stored.record.state.name() == done)
        {
            return Outcome::Done;
        }
        let failed = |stored: StoredSplit| {
            stored.record.attempts > 0 && stored.record.reason == Some(SplitReason::StoreFailed)
        };
        if stands.is_some_and(failed) {
            Outcome::AttemptFailed
        } else {
            Outcome::Left
        }
    }

    /// Reads the partition both ways, and demands that every event is there: from where it came.
    async fn read(&self, case: &Case) -> Result<[Option<ServedFrom>; 2], String> {
        let mut from = [None; 2];
        for (direction, from) in [Direction::Descending, Direction::Ascending]
            .into_iter()
            .zip(&mut from)
        {
            let page = self.page(case, direction).await?;
            *from = page.context.served_from;
            let mut events: Vec<Event> = page.records.into_iter().map(|record| record.event).collect();
            if direction == Direction::Descending {
                events.reverse();
            }
            assert_eq!(events, case.events, "R2: {}", case.partition);
        }
        Ok(from)
    }

    async fn page(&self, case: &Case, direction: Direction) -> Result<EventPage, String> {
        let reason = |error: anabranch_server::errors::ServiceError| error.reason.name().to_owned();
        let view = self
            .core
            .namespaces
            .view_for_read(&namespace())
            .await
            .map_err(reason)?;
        let request = ReadRequest {
            namespace: namespace(),
            time_series_id: case.partition.time_series_id.clone(),
            interval: TimeInterval {
                start: EventTime::from_micros(HOUR * HOUR_MICROS),
                end: EventTime::from_micros((HOUR + 1) * HOUR_MICROS),
            },
            filters: Vec::new(),
            direction,
            paging: Paging::default(),
            latency: Latency {
                slo: Some(Duration::from_secs(60)),
                deadline: None,
            },
        };
        self.core.reader.read(&view, request).await.map_err(reason)
    }

    /// True when both proxies let everything through again.
    pub(crate) async fn reaches(&self) -> bool {
        let key = RecordKey::PageTokenKey;
        let servers = &self.core.store().records;
        self.workers.records.get(&key).await.is_ok() && servers.get(&key).await.is_ok()
    }

    /// Works past the proxies until nothing is left to be done, and demands that all of it is right: the original as it
    /// was, what is served proved, and no target beside it.
    pub(crate) async fn converges(&self, case: &Case, ends: &[&'static str]) {
        let mut stands = None;
        for _ in 0..40 {
            self.planner(&self.direct, case.bus.clone())
                .round()
                .await
                .unwrap();
            self.splitter(&self.direct).round().await.unwrap();
            let stored = self.stored(case).await;
            let at_rest = stored.as_ref().is_some_and(|stored| {
                ends.contains(&stored.record.state.name()) && stored.record.retiring.is_empty()
            });
            stands = stored;
            if at_rest {
                break;
            }
        }
        let record = stands
            .unwrap_or_else(|| panic!("{} has no record", case.partition))
            .record;
        assert!(ends.contains(&record.state.name()), "not {ends:?}: {record:?}");
        assert_eq!(record.retiring, [], "{record:?}");
        assert_eq!(
            self.rows(TableKind::Data, &case.partition).await,
            case.events,
            "S1"
        );
        let mut served = Vec::new();
        let mut buckets = Vec::new();
        for target in record.serving.iter().flat_map(|serving| &serving.targets) {
            let partition = target.partition(&case.partition);
            served.extend(self.rows(TableKind::Wide, &partition).await);
            buckets.push(target.event_bucket);
        }
        assert_eq!(record.serving.is_some(), record.state == SplitState::Completed);
        if record.serving.is_some() {
            assert_eq!(served, case.events, "S2");
        }
        let all = self
            .direct
            .events
            .partitions(&table(TableKind::Wide), None, 1_000)
            .await
            .unwrap();
        let of_it = all
            .iter()
            .filter(|of| of.time_series_id == case.partition.time_series_id);
        let mut left: Vec<u32> = of_it.map(|of| of.event_bucket).collect();
        left.sort_unstable();
        buckets.sort_unstable();
        assert_eq!(left, buckets, "only what is served is left");
        self.core.splits.forget(&namespace(), &case.partition).await;
        self.core.splits.refresh_now().await;
        self.read(case).await.unwrap();
    }

    /// Takes out what a case has made but for its original.
    pub(crate) async fn clear(&self, case: &Case) {
        if let Some(stored) = self.stored(case).await {
            for target in stored.record.serving.iter().flat_map(|serving| &serving.targets) {
                let partition = target.partition(&case.partition);
                let deleted = self
                    .direct
                    .events
                    .delete_partition(&table(TableKind::Wide), &partition)
                    .await;
                deleted.unwrap();
            }
            let key = RecordKey::Split {
                namespace: namespace(),
                partition: case.partition.clone(),
            };
            self.direct
                .records
                .compare_and_set(&key, stored.version, None)
                .await
                .unwrap();
        }
    }

    /// Everything in a partition, oldest first.
    async fn rows(&self, kind: TableKind, partition: &PartitionKey) -> Vec<Event> {
        let bounds = EventBounds::of_interval(TimeInterval::ALL);
        let mut walk = Walk::new(
            table(kind),
            partition.clone(),
            bounds,
            1 << 20,
            Consistency::default(),
        );
        let mut rows = Vec::new();
        while let Some(page) = walk.next(&*self.direct.events).await.unwrap() {
            rows.extend(page.events);
        }
        rows.reverse();
        rows
    }
}

/// A server whose timers never come: every statement of it is one of the call under test.
fn quiet() -> ServerSettings {
    const NEVER: Duration = Duration::from_secs(1 << 20);
    let mut settings = ServerSettings::default();
    settings.namespaces.refresh_interval = NEVER;
    settings.namespaces.settings_lifetime = NEVER;
    settings.slices.keeper_interval = NEVER;
    settings.splits.filter_refresh = NEVER;
    settings.splits.record_cache_ttl = Duration::ZERO;
    settings
}

fn event(n: i64) -> Event {
    Event {
        key: EventKey {
            time: EventTime::from_micros(HOUR * HOUR_MICROS + n * 1_000_000),
            id: EventId::new(format!("e{n}")).unwrap(),
        },
        items: vec![EventItem {
            key: ItemKey::new("k").unwrap(),
            value: Bytes::from(vec![b'a'; VALUE_BYTES]),
        }],
    }
}
