//! What becomes of a split when a statement goes wrong: in every state, for whoever comes upon it, each statement that is
//! sent, each way in which it may fail. On a real Cassandra behind proxies that speak CQL.
//!
//! ```text
//! state ─▶ dry run: which statements ─▶ for each, for each fault: the state again ─▶ fault ─▶ outcome
//!                                                            └─▶ converges past the proxies: S1, S2, nothing left over, R2
//! ```
//!
//! The outcomes are those of the table in `docs/faults.md`, which is made from the one here.
//!
//! `ANABRANCH_MATRIX=all` runs every cell, `ANABRANCH_MATRIX=2/6` the second of six parts; without it one in 29.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reports on stdout"
)]

mod harness;
#[path = "../../storage/tests/cluster/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anabranch_runtime::{Clock, Randomness, SystemClock};
use anabranch_server::context::ServedFrom;
use anabranch_storage::cassandra::names::KeyspaceName;
use bytes::Bytes;
use harness::pipeline::{ACTORS, Actor, Outcome, Pipeline, STATES, State, namespace, store};
use proxy::faults::{Fault, faults};
use scylla::client::session_builder::SessionBuilder;
use scylla_proxy::{Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule, RunningProxy};
use tokio::task::JoinSet;

const LIST: &str = include_str!("../../storage/src/cassandra/statements.cql");
const DOCS: &str = include_str!("../../../docs/faults.md");

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    ReadRecord,
    ListRecords,
    ChangeRecord,
    ReadMarker,
    MoveMarker,
    NoteSlice,
    ScanOriginal,
    ScanTarget,
    WriteTarget,
    RemoveTarget,
}

const CLASSES: [(Class, &str); 10] = [
    (Class::ReadRecord, "read of a record"),
    (Class::ListRecords, "list of records"),
    (Class::ChangeRecord, "change of a record"),
    (Class::ReadMarker, "read of a marker"),
    (Class::MoveMarker, "move of a marker"),
    (Class::NoteSlice, "note that a slice has splits"),
    (Class::ScanOriginal, "scan of an original"),
    (Class::ScanTarget, "scan of a target"),
    (Class::WriteTarget, "write of a target"),
    (Class::RemoveTarget, "removal of a target"),
];

fn class_of(text: &str) -> Class {
    let of_targets = text.contains(".wide_data_");
    if text.contains(".wide_row_marker") && !text.starts_with("SELECT time_slice") {
        return if text.starts_with("SELECT") {
            Class::ReadMarker
        } else {
            Class::MoveMarker
        };
    }
    match text.split(' ').next() {
        Some("DELETE") => Class::RemoveTarget,
        Some("UPDATE") => Class::ChangeRecord,
        Some("INSERT") if text.ends_with("IF NOT EXISTS") => Class::ChangeRecord,
        Some("INSERT") if of_targets => Class::WriteTarget,
        Some("INSERT") => Class::NoteSlice,
        _ if text.starts_with("SELECT version, record, writer") => Class::ReadRecord,
        _ if text.starts_with("SELECT event_time") && of_targets => Class::ScanTarget,
        _ if text.starts_with("SELECT event_time") => Class::ScanOriginal,
        _ => Class::ListRecords,
    }
}

/// Faults that come to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Late,
    Unprepared,
    Refused,
    Error,
    Unanswered,
    Broken,
}

const GROUPS: [(Group, &str); 6] = [
    (Group::Late, "late"),
    (Group::Unprepared, "UNPREPARED"),
    (Group::Refused, "refused"),
    (Group::Error, "any other error"),
    (Group::Unanswered, "no answer, applied or not"),
    (Group::Broken, "connection breaks"),
];

fn group_of(fault: &Fault) -> Group {
    use scylla::errors::DbError::{
        AlreadyExists, AuthenticationError, ConfigError, Invalid, SyntaxError, Unauthorized, Unprepared,
    };
    match fault {
        Fault::Delay => Group::Late,
        Fault::Answer(Unprepared { .. }) => Group::Unprepared,
        Fault::Answer(
            AlreadyExists { .. } | AuthenticationError | ConfigError | Invalid | SyntaxError | Unauthorized,
        ) => Group::Refused,
        Fault::Answer(_) => Group::Error,
        Fault::Hang | Fault::LostReply => Group::Unanswered,
        Fault::Disconnect => Group::Broken,
    }
}

/// What may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    /// Nothing is noticed: a split that serves goes on serving.
    Done,
    /// The round ends, or the attempt is recorded as failed; either is tried again by itself.
    Again,
    /// One or the other.
    Either,
    /// The call is answered with an error.
    Error,
    /// The one or the other.
    DoneOrError,
    /// The original is read instead.
    Original,
    /// It is, if its node can be reached again by then.
    OriginalOrError,
    /// It is never sent.
    Never,
}

impl Expected {
    fn words(self) -> &'static str {
        match self {
            Self::Done => "passes",
            Self::Again => "tried again",
            Self::Either => "passes or tried again",
            Self::Error => "error",
            Self::DoneOrError => "passes or error",
            Self::Original => "original",
            Self::OriginalOrError => "original or error",
            Self::Never => "–",
        }
    }

    /// `usual`: what comes of it when nothing goes wrong.
    fn allows(self, outcome: &Outcome, usual: &Outcome) -> bool {
        let again = matches!(
            outcome,
            Outcome::Ended(_) | Outcome::AttemptFailed | Outcome::Left
        );
        let error = matches!(outcome, Outcome::Ended(_));
        let done = outcome == usual;
        let original = matches!(outcome, Outcome::Read(from) if from.contains(&Some(ServedFrom::Original)));
        match self {
            Self::Done => done,
            Self::Original => original,
            Self::OriginalOrError => original || error,
            Self::Again => again,
            Self::Either => done || again,
            Self::Error => error,
            Self::DoneOrError => done || error,
            Self::Never => false,
        }
    }
}

/// Who meets the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Worker,
    Reader,
    Operator,
}

const WHO: [(Who, &str); 3] = [
    (Who::Worker, "planner, splitter"),
    (Who::Reader, "read"),
    (Who::Operator, "operator's call"),
];

fn who(actor: Actor) -> Who {
    match actor {
        Actor::Planner | Actor::Splitter => Who::Worker,
        Actor::Read => Who::Reader,
        Actor::Retry | Actor::Invalidate => Who::Operator,
    }
}

/// The documented outcome.
fn expected(who: Who, class: Class, group: Group) -> Expected {
    use Class::{
        ChangeRecord, MoveMarker, NoteSlice, ReadMarker, ReadRecord, ScanOriginal, ScanTarget, WriteTarget,
    };
    let sent = match who {
        Who::Worker => true,
        Who::Reader => matches!(class, ReadRecord | ScanOriginal | ScanTarget),
        Who::Operator => matches!(
            class,
            ReadRecord | ChangeRecord | NoteSlice | ReadMarker | MoveMarker
        ),
    };
    let passes = match group {
        Group::Late => true,
        // Prepared anew and sent again; one of a batch is not.
        Group::Unprepared => class != WriteTarget,
        _ => false,
    };
    // Settled by reading.
    let changes = matches!(class, ChangeRecord | MoveMarker);
    let settled = changes && matches!(group, Group::Error | Group::Unanswered | Group::Unprepared);
    let may_be_settled = changes && group == Group::Broken;
    match who {
        _ if !sent => Expected::Never,
        _ if passes || settled => Expected::Done,
        Who::Worker if may_be_settled => Expected::Either,
        Who::Operator if may_be_settled => Expected::DoneOrError,
        // The record that it tells of is stored: it may have been the last thing to do.
        Who::Worker if matches!(class, ReadMarker | MoveMarker) => Expected::Either,
        Who::Worker => Expected::Again,
        Who::Operator => Expected::Error,
        // It may have been the only thing between the page and its events.
        Who::Reader if class == ScanOriginal => Expected::Error,
        Who::Reader if group == Group::Broken => Expected::OriginalOrError,
        Who::Reader => Expected::Original,
    }
}

fn documented() -> String {
    let mut table = String::new();
    for (who, by) in WHO {
        let heads: Vec<&str> = GROUPS.iter().map(|(_, words)| *words).collect();
        table += &format!(
            "| {by} | {} |\n|---|{}\n",
            heads.join(" | "),
            "---|".repeat(heads.len())
        );
        for (class, words) in CLASSES {
            let cells: Vec<&str> = GROUPS
                .iter()
                .map(|(group, _)| expected(who, class, *group).words())
                .collect();
            if cells.iter().any(|cell| *cell != Expected::Never.words()) {
                table += &format!("| {words} | {} |\n", cells.join(" | "));
            }
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_table_in_the_docs_is_that_of_the_test() {
    let table = documented();
    assert!(
        DOCS.contains(table.trim()),
        "docs/faults.md should hold:\n{table}"
    );
}

/// Who acts on what: workers on every state, servers where they find something to do.
fn acts(actor: Actor, state: State) -> bool {
    match actor {
        Actor::Planner => !matches!(
            state,
            State::Planned | State::Splitting | State::Verifying | State::Invalidated
        ),
        Actor::Splitter => matches!(
            state,
            State::Planned | State::Splitting | State::Verifying | State::Completed | State::Invalidated
        ),
        Actor::Read => matches!(
            state,
            State::Free | State::Splitting | State::Completed | State::Outdated
        ),
        Actor::Retry => matches!(state, State::Quarantined | State::Failed | State::Retired),
        Actor::Invalidate => matches!(
            state,
            State::Detected | State::Planned | State::Splitting | State::Verifying | State::Completed
        ),
    }
}

/// Where a record may come to rest in the end. A call that ended with an error has done what it was for, or nothing.
fn rests(actor: Actor, state: State, outcome: &Outcome) -> &'static [&'static str] {
    let may_be_undone = matches!(outcome, Outcome::Ended(_));
    match (actor, state) {
        (Actor::Invalidate, _) if may_be_undone => &["RETIRED", "COMPLETED"],
        (Actor::Invalidate, _) | (_, State::Invalidated) => &["RETIRED"],
        (_, State::NotWorthIt) => &["NOT_WORTH_IT"],
        (Actor::Retry, State::Quarantined) if may_be_undone => &["QUARANTINED", "COMPLETED"],
        (Actor::Retry, _) => &["COMPLETED"],
        (_, State::Quarantined) => &["QUARANTINED"],
        _ => &["COMPLETED"],
    }
}

/// The number of a statement among those that a call sends, and its text.
type Sent = (usize, String);

struct Matrix {
    pipeline: Pipeline,
    proxies: BTreeMap<Who, RunningProxy>,
    /// Ids of prepared statements.
    texts: HashMap<Bytes, String>,
}

impl Matrix {
    fn proxy(&mut self, actor: Actor) -> &mut RunningProxy {
        let of = match who(actor) {
            Who::Worker => Who::Worker,
            Who::Reader | Who::Operator => Who::Reader,
        };
        self.proxies.get_mut(&of).unwrap()
    }

    /// Each statement that an actor sends in a state when nothing goes wrong, the first time and the last; and where the
    /// record is then. The first change of a record is mostly a claim, the last one what it was all for.
    async fn dry_run(&mut self, actor: Actor, state: State) -> (Vec<Sent>, &'static str, Outcome) {
        let case = self.pipeline.prepare(state).await;
        // Once more unheard, so that everything is prepared.
        self.pipeline.act(actor, &case, None).await;
        self.pipeline.clear(&case).await;
        let case = self.pipeline.prepare(state).await;
        let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
        let rule = RequestRule(
            proxy::executed(),
            RequestReaction::noop().with_feedback_when_performed(heard),
        );
        self.proxy(actor).running_nodes[0].change_request_rules(Some(vec![rule]));
        let outcome = self.pipeline.act(actor, &case, None).await;
        let usual = match (actor, state) {
            (Actor::Read, State::Completed) => Outcome::Read([Some(ServedFrom::Targets); 2]),
            (Actor::Read, _) => Outcome::Read([Some(ServedFrom::Original); 2]),
            _ => Outcome::Done,
        };
        assert_eq!(outcome, usual, "{actor:?} {state:?}");
        self.proxy(actor).turn_off_rules();
        let ends = self.pipeline.state(&case).await;
        let mut all: Vec<Sent> = Vec::new();
        while let Ok((frame, _)) = frames.try_recv() {
            all.push((all.len(), self.texts[&id_of(&frame)].clone()));
        }
        self.pipeline.clear(&case).await;
        let is_known = |text: &str, among: &[Sent]| among.iter().any(|(_, of)| of == text);
        let sent = all.iter().filter(|(n, text)| {
            let (before, after) = (&all[..*n], &all[*n + 1..]);
            !is_known(text, before) || !is_known(text, after)
        });
        (sent.cloned().collect(), ends, usual)
    }

    async fn until_it_works(&self) {
        let clock = SystemClock::new();
        for _ in 0..200 {
            if self.pipeline.reaches().await {
                return;
            }
            clock.sleep(Duration::from_millis(25)).await;
        }
        panic!("the connections do not come back");
    }
}

/// The id of the statement that a frame executes.
fn id_of(frame: &RequestFrame) -> Bytes {
    // Of a batch, that of its first one: type, number, kind.
    let at = if frame.opcode == RequestOpcode::Batch {
        4
    } else {
        0
    };
    let length = usize::from(u16::from_be_bytes([frame.body[at], frame.body[at + 1]]));
    frame.body.slice(at + 2..at + 2 + length)
}

#[test]
fn each_fault_of_each_statement_in_each_state_has_its_outcome() {
    let Some(points) = harness::fleet::Fleet::points("faults of the pipeline") else {
        return;
    };
    if points.len() > 1 {
        eprintln!("!!! NOT RUN: faults of the pipeline: it takes a cluster of 1 node");
        return;
    }
    let part = Part::asked_for();
    let since = Instant::now();
    let of = harness::runtime().block_on(async {
        let mut shards = JoinSet::new();
        for shard in 0..SHARDS {
            shards.spawn(matrix(points.clone(), part, shard));
        }
        let mut of = Found::default();
        for found in shards.join_all().await {
            of.cells = found.cells;
            of.wrong.extend(found.wrong);
            for (cell, count) in found.counts {
                *of.counts.entry(cell).or_default() += count;
            }
        }
        of
    });
    let ran: usize = of.counts.values().sum();
    println!(
        "{ran} of {} cells in {:.0?}: {:#?}",
        of.cells,
        since.elapsed(),
        of.counts
    );
    let asked = (1..=of.cells).filter(|cell| part.holds(*cell)).count();
    assert_eq!(ran, asked);
    assert!(
        of.wrong.is_empty(),
        "{} of {ran}: {:#?}",
        of.wrong.len(),
        of.wrong
    );
}

/// What came of cells.
#[derive(Default)]
struct Found {
    /// How many there are, whoever met them.
    cells: usize,
    wrong: Vec<String>,
    counts: BTreeMap<(Actor, State, String), usize>,
}

/// Matrices at once, each in a keyspace of its own: what is not answered is waited for.
const SHARDS: usize = 4;

/// Which cells are met: one in so many, from one of the first on.
#[derive(Clone, Copy, Debug)]
struct Part {
    first: usize,
    every: usize,
}

impl Part {
    /// As long as it has no factor in common with the number of faults, each fault and each statement gets its turn.
    const SAMPLE: Self = Self { first: 1, every: 29 };
    const ALL: Self = Self { first: 1, every: 1 };

    /// That of `ANABRANCH_MATRIX`.
    fn asked_for() -> Self {
        let Ok(text) = std::env::var("ANABRANCH_MATRIX") else {
            return Self::SAMPLE;
        };
        if text == "all" {
            return Self::ALL;
        }
        let numbers = text
            .split_once('/')
            .map(|(first, every)| (first.parse(), every.parse()));
        match numbers {
            Some((Ok(first), Ok(every))) if (1..=every).contains(&first) => Self { first, every },
            _ => panic!("ANABRANCH_MATRIX={text}: use `all`, or a part like `2/6`"),
        }
    }

    /// True for the cells of this part; they are counted from one.
    fn holds(self, cell: usize) -> bool {
        (cell - 1) % self.every == self.first - 1
    }
}

/// Meets those cells that are this shard's.
async fn matrix(points: Vec<String>, part: Part, shard: usize) -> Found {
    let points = points.as_slice();
    let number = Randomness::from_system().unwrap().next_u64();
    let keyspace = KeyspaceName::new(&format!("t{:015x}", number >> 4)).unwrap();
    let direct = store(&keyspace, points, &HashMap::new()).await;
    let (of_workers, to_workers) = proxy::before(points).await;
    let workers = store(&keyspace, points, &to_workers).await;
    let (of_servers, to_servers) = proxy::before(points).await;
    let servers = store(&keyspace, points, &to_servers).await;
    let pipeline = Pipeline::start(direct, workers, servers).await;
    let mut matrix = Matrix {
        pipeline,
        proxies: BTreeMap::from([(Who::Worker, of_workers), (Who::Reader, of_servers)]),
        texts: texts(points, &keyspace).await,
    };
    let (faults, mut found) = (faults(), Found::default());
    for actor in ACTORS {
        for state in STATES.into_iter().filter(|state| acts(actor, *state)) {
            let (sent, ends, usual) = matrix.dry_run(actor, state).await;
            println!(
                "{shard}: {actor:?} {state:?}: {} statements after {} cells, ends {ends}",
                sent.len(),
                found.cells
            );
            for (n, text) in sent {
                let class = class_of(&text);
                for fault in &faults {
                    found.cells += 1;
                    if !part.holds(found.cells) || found.cells / part.every % SHARDS != shard {
                        continue;
                    }
                    let case = matrix.pipeline.prepare(state).await;
                    fault.inject_at(matrix.proxy(actor), n);
                    let outcome = matrix.pipeline.act(actor, &case, Some(ends)).await;
                    matrix.proxy(actor).turn_off_rules();
                    matrix.until_it_works().await;
                    let expected = expected(who(actor), class, group_of(fault));
                    *found
                        .counts
                        .entry((actor, state, format!("{outcome:?}")))
                        .or_default() += 1;
                    if !expected.allows(&outcome, &usual) {
                        found.wrong.push(format!(
                            "{actor:?} {state:?} {text} {fault:?}: {outcome:?}, not {expected:?}"
                        ));
                    }
                    let ends = rests(actor, state, &outcome);
                    matrix.pipeline.converges(&case, ends).await;
                    matrix.pipeline.clear(&case).await;
                }
            }
        }
    }
    let Matrix {
        pipeline, proxies, ..
    } = matrix;
    drop(pipeline);
    for proxies in proxies.into_values() {
        proxy::finish(proxies).await;
    }
    remove(points, &keyspace).await;
    found
}

/// The id of every statement, as the node makes it of the text.
async fn texts(points: &[String], keyspace: &KeyspaceName) -> HashMap<Bytes, String> {
    let session = SessionBuilder::new().known_nodes(points).build().await.unwrap();
    let mut texts = HashMap::new();
    let statements = LIST.lines().filter(|line| {
        ["SELECT", "INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|word| line.starts_with(word))
    });
    for line in statements {
        for table in ["data_all", "wide_data_all"] {
            let text = line
                .replace("<events>.<table>", &format!("{keyspace}_{}.{table}", namespace()))
                .replace("<keyspace>", &keyspace.to_string());
            let prepared = session.prepare(text.as_str()).await.unwrap();
            texts.insert(prepared.get_id().clone(), text);
        }
    }
    texts
}

async fn remove(points: &[String], keyspace: &KeyspaceName) {
    let session = SessionBuilder::new().known_nodes(points).build().await.unwrap();
    for name in [format!("{keyspace}_{}", namespace()), keyspace.to_string()] {
        let drop = format!("DROP KEYSPACE IF EXISTS {name}");
        session.query_unpaged(drop, ()).await.unwrap();
    }
}
