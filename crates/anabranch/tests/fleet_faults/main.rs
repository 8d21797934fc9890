//! A fleet whose servers are killed, paused and restarted under it (R1, R2, R3, W1, W2, S2).
//!
//! ```text
//! 3 × Cassandra (RF 3, LOCAL_QUORUM), 1 × Kafka      killed, paused for 30 s, restarted: in turn, node after node
//! 2 × planner, 2 × splitter                          killed at random, all the time
//! 2 × serve ◀─ writes, streams, queued writes, reads of what was written and split just now
//! ```
//!
//! Throughout: `acked ⊆ returned ⊆ acked ∪ unknown`, each event once, in order, byte for byte, both ways; what a read showed
//! stays there; no error but those that a fault explains. With one node gone, from five seconds later until it is started
//! again, 99.9 % of requests meet the deadline that they carry. While Kafka is down no read fails of it. At the end every split has come to rest, no
//! target was ever found wrong, and targets and originals answer alike.
//!
//! `ANABRANCH_FAULTS` says how many events (`dev/test`: 3; `dev/soak fleet_faults`: 30). It takes three nodes of its own,
//! which `dev/cluster` starts, and 4 GiB.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs real processes in real time"
)]

mod crew;
mod data;
#[path = "../harness/mod.rs"]
mod harness;
mod load;
mod rest;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1::split::State;
use harness::Server;
use harness::cluster::{Cluster, NODES, Node};
use harness::fleet::Fleet;
use harness::ledger::{Kind, Ledger, Tally, Window};
use harness::made::{Dice, mix};
use tokio::task::JoinSet;

use crate::crew::Crew;
use crate::data::Data;
use crate::load::{Client, DEADLINE, Load};

const SERVERS: u64 = 2;
const READERS: u64 = 3;
/// How long a node that was killed stays away.
const GONE: Duration = Duration::from_secs(12);
const PAUSED: Duration = Duration::from_secs(30);
/// How long a node that is restarted stays away: it is stopped first, which takes a moment too.
const RESTARTED: Duration = Duration::from_secs(8);
/// Within this of a node's going, requests may miss their deadlines.
const ALLOWED: Duration = Duration::from_secs(5);
/// Between two events.
const WHOLE: Duration = Duration::from_secs(5);
/// How long reads are measured before Kafka goes, and while it is away.
const MEASURED: Duration = Duration::from_secs(20);
/// Kafka goes before the first event, and after as many more.
const EVENTS_A_KAFKA: u64 = 10;
/// The first splits must have come about by then.
const FIRST_SPLITS: Duration = Duration::from_secs(240);

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Killed,
    Paused,
    Restarted,
}

/// A node starts, and takes processors from the others on this machine, which those of a cluster have for themselves.
const COMES_BACK: &str = "one that comes back";

const EVENTS: [Event; 3] = [Event::Killed, Event::Paused, Event::Restarted];

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Paused => "paused",
            Self::Restarted => "restarted",
        }
    }
}

#[test]
fn a_fleet_outlives_its_servers() {
    let Ok(events) = std::env::var("ANABRANCH_FAULTS") else {
        harness::fleet::not_run(
            "fleet_faults",
            "it starts and kills servers of its own for minutes; ANABRANCH_FAULTS=3 does so with three events",
        );
        return;
    };
    let events = events.parse().expect("ANABRANCH_FAULTS is a number of events");
    let seed = harness::number("ANABRANCH_SEED", 0xfa_0175);
    let place = harness::folder("fleet-faults");
    let cluster = Cluster::start(place.path()).unwrap();
    let fleet = Fleet::on(place.path(), &cluster.cassandra(), &cluster.kafka());
    if let Err(why) = run(&cluster, &fleet, events, seed) {
        panic!("seed {seed}: {why}\n{}", last_words(&fleet));
    }
}

fn run(cluster: &Cluster, fleet: &Fleet, events: u64, seed: u64) -> Result<(), String> {
    let since = Instant::now();
    let runtime = harness::runtime();
    // The first server makes what all share.
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(fleet.try_start("serve")?);
    }
    let all = [
        Arc::new(Data::busy(mix(&[seed, 1]))),
        Arc::new(Data::growing(mix(&[seed, 2]))),
    ];
    let load = Arc::new(Load::new());
    let client = runtime.block_on(async {
        for data in &all {
            create(&servers[0], data).await?;
        }
        let mut clients = Vec::new();
        for server in &servers {
            clients.push(server.events().await);
        }
        Ok::<_, String>(Client {
            servers: clients,
            deadline: DEADLINE,
            load: load.clone(),
            dice: Dice::new(mix(&[seed, 3])),
        })
    })?;
    let crew = Crew::start(fleet)?;
    let mut dice = Dice::new(mix(&[seed, 4]));
    let mut run = Run {
        cluster,
        servers: &servers,
        all: &all,
        load: &load,
        runtime: &runtime,
        tasks: start(&runtime, &client, &all),
        in_flight: Vec::new(),
    };
    let kills = std::thread::scope(|scope| {
        let killer = scope.spawn(|| crew.kill_at_random(fleet, &load.stop, Dice::new(mix(&[seed, 5]))));
        let ended = run.events(events, &mut dice);
        load.stop.store(true, Ordering::Relaxed);
        let killed = killer.join().unwrap();
        ended.and(killed)
    })?;
    run.finish()?;
    report(&load, events, kills, &run.in_flight, since);
    runtime.block_on(rest::comes_to_rest(&servers, &client, &all))?;
    crew.stop()?;
    for server in servers {
        if !server.stop().success() {
            return Err("a server that was asked to stop did not end well".to_owned());
        }
    }
    rest::logs_are_clean(fleet)?;
    judge(&load.ledger)?;
    println!("everything took {:.0?}", since.elapsed());
    Ok(())
}

/// Makes a namespace. Making its tables may take a busy machine longer than a call has.
async fn create(server: &Server, data: &Data) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let request = anabranch_proto::admin::v1::CreateNamespaceRequest {
            namespace: Some(data.settings()),
        };
        match server.admin().await.create_namespace(request).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(()),
            Err(status) if since.elapsed() > FIRST_SPLITS => return Err(format!("{status}")),
            Err(_) => {}
        }
    }
}

/// Every series has a writer; most write batches, one streams, one queues.
fn start(
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    all: &[Arc<Data>],
) -> JoinSet<Result<(), String>> {
    let _inside = runtime.enter();
    let mut tasks = JoinSet::new();
    let mut number = 0;
    let mut another = || {
        number += 1;
        Client {
            dice: Dice::new(mix(&[client.dice.clone().next(), number])),
            ..client.clone()
        }
    };
    for data in all {
        for series in 0..data.series {
            let client = another();
            match series {
                2 => tasks.spawn(client.ingest(data.clone(), series)),
                3 => tasks.spawn(client.write_queued(data.clone(), series)),
                _ => tasks.spawn(client.write_sync(data.clone(), series)),
            };
        }
    }
    for _ in 0..READERS {
        tasks.spawn(another().read(all.to_vec()));
    }
    tasks
}

/// A run under way.
struct Run<'a> {
    cluster: &'a Cluster,
    servers: &'a [Server],
    all: &'a [Arc<Data>],
    load: &'a Arc<Load>,
    runtime: &'a tokio::runtime::Runtime,
    tasks: JoinSet<Result<(), String>>,
    /// Splits that were under way as each event began.
    in_flight: Vec<usize>,
}

impl Run<'_> {
    fn events(&mut self, events: u64, dice: &mut Dice) -> Result<(), String> {
        self.first_splits()?;
        for number in 0..events {
            if number % EVENTS_A_KAFKA == 0 {
                self.without_kafka()?;
            }
            let kind = usize::try_from(number % 3).unwrap();
            // Every node meets every event.
            let node = usize::try_from((number + number / 3) % NODES as u64).unwrap();
            let kafka_too = EVENTS[kind] == Event::Killed && number > 0 && dice.below(3) == 0;
            self.event(number, events, EVENTS[kind], node, kafka_too)?;
        }
        Ok(())
    }

    /// So that there is something to go on with when the first server goes.
    fn first_splits(&mut self) -> Result<(), String> {
        let since = Instant::now();
        loop {
            let states = self.splits();
            let completed = states.iter().filter(|state| **state == State::Completed).count();
            if completed > 0 {
                println!(
                    "{completed} splits completed {:.0?} after the first write",
                    since.elapsed()
                );
                return Ok(());
            }
            if since.elapsed() > FIRST_SPLITS {
                return Err(format!("nothing is split after {FIRST_SPLITS:?}: {states:?}"));
            }
            self.wait(Duration::from_secs(1))?;
        }
    }

    fn event(
        &mut self,
        number: u64,
        events: u64,
        kind: Event,
        node: usize,
        kafka_too: bool,
    ) -> Result<(), String> {
        let (ledger, cluster) = (&self.load.clone().ledger, self.cluster);
        self.in_flight.push(in_flight(&self.splits()));
        let gone = ledger.now();
        let victim = Node::Cassandra(node);
        match kind {
            Event::Killed => {
                cluster.kill(victim)?;
                if kafka_too {
                    cluster.kill(Node::Kafka)?;
                }
                self.wait(GONE)?;
            }
            Event::Paused => {
                cluster.pause(victim)?;
                let waited = self.wait(PAUSED);
                cluster.go_on(victim)?;
                waited?;
            }
            Event::Restarted => {
                cluster.stop(victim)?;
                self.wait(RESTARTED)?;
            }
        }
        let gone = ledger.window(kind.name(), gone + ALLOWED);
        let comes = ledger.now();
        cluster.up()?;
        let comes = ledger.window(COMES_BACK, comes);
        println!(
            "event {} of {events}: node {} {}{}: {} from {ALLOWED:?} after it went; {} while it came back; {} splits under way as it began",
            number + 1,
            node + 1,
            kind.name(),
            if kafka_too { ", and Kafka with it" } else { "" },
            missed(ledger, &[gone]),
            missed(ledger, &[comes]),
            self.in_flight.last().unwrap(),
        );
        let back = ledger.now();
        self.wait(WHOLE)?;
        ledger.window("whole", back);
        Ok(())
    }

    fn without_kafka(&mut self) -> Result<(), String> {
        let (ledger, cluster) = (&self.load.clone().ledger, self.cluster);
        let before = ledger.now();
        self.wait(MEASURED)?;
        let before = ledger.window("before Kafka goes", before);
        cluster.kill(Node::Kafka)?;
        let down = ledger.now();
        self.wait(MEASURED)?;
        let down = ledger.window("Kafka down", down);
        cluster.up()?;
        let reads = |window: &Window| ledger.tally(std::slice::from_ref(window), Kind::Read);
        let (before, down) = (reads(&before), reads(&down));
        println!("reads before Kafka goes: {before}");
        println!("reads while Kafka is down: {down}");
        println!("while Kafka is down, of before: {}", ratio(&down, &before));
        if down.missed() > before.missed() {
            return Err(format!("{} reads fail while Kafka is down", down.missed()));
        }
        Ok(())
    }

    /// The states of all splits, as a server that answers says.
    fn splits(&self) -> Vec<State> {
        self.runtime.block_on(async {
            let mut states = Vec::new();
            for data in self.all {
                let splits = harness::splits(&self.servers[0], data.namespace).await;
                states.extend(splits.iter().map(|split| split.state()));
            }
            states
        })
    }

    /// Lets the load go on for a while; fails when any of it has failed.
    fn wait(&mut self, wait: Duration) -> Result<(), String> {
        let tasks = &mut self.tasks;
        self.runtime.block_on(async {
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    ended.map_err(|error| error.to_string())??;
                    Err("a part of the load has ended by itself".to_owned())
                }
                () = tokio::time::sleep(wait) => Ok(()),
            }
        })
    }

    /// Ends the load, which was told to stop.
    fn finish(&mut self) -> Result<(), String> {
        let tasks = &mut self.tasks;
        self.runtime.block_on(async {
            while let Some(ended) = tasks.join_next().await {
                ended.map_err(|error| error.to_string())??;
            }
            Ok(())
        })
    }
}

fn in_flight(states: &[State]) -> usize {
    let rests = |state: &&State| !matches!(state, State::Completed | State::NotWorthIt);
    states.iter().filter(rests).count()
}

/// Requests of some windows that missed their deadline, of all.
fn missed(ledger: &Ledger, windows: &[Window]) -> String {
    let of = |kind| ledger.tally(windows, kind);
    let (reads, writes) = (of(Kind::Read), of(Kind::Write));
    format!(
        "{} of {} reads and {} of {} writes missed their deadline",
        reads.missed(),
        reads.all(),
        writes.missed(),
        writes.all()
    )
}

fn ratio(of: &Tally, to: &Tally) -> String {
    let times = |share| of.quantile(share).as_secs_f64() / to.quantile(share).as_secs_f64();
    format!("p50 × {:.2}, p99 × {:.2}", times(0.5), times(0.99))
}

fn report(load: &Load, events: u64, kills: u64, in_flight: &[usize], since: Instant) {
    let ledger = &load.ledger;
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    println!(
        "{events} events, {kills} kills of planners and splitters in {:.0?}; splits under way at an event: {in_flight:?}",
        since.elapsed()
    );
    println!(
        "{} events acked; {} walks checked, {} events in them, {} pages of them through targets; {} walks given up",
        count(&load.acked),
        count(&load.walks),
        count(&load.events_read),
        count(&load.pages_from_targets),
        count(&load.walks_given_up),
    );
    for name in ["whole", "killed", "paused", "restarted", COMES_BACK, "Kafka down"] {
        let windows = ledger.windows(&[name]);
        println!("reads, {name}: {}", ledger.tally(&windows, Kind::Read));
        println!("writes, {name}: {}", ledger.tally(&windows, Kind::Write));
    }
    println!("reads, all: {}", ledger.whole(Kind::Read));
    println!("writes, all: {}", ledger.whole(Kind::Write));
}

/// With one node gone, 99.9 % of requests meet their deadline. A machine on which they do not with all nodes there can not
/// say so.
fn judge(ledger: &Ledger) -> Result<(), String> {
    let gone = Met::of(ledger, &EVENTS.map(Event::name));
    let whole = Met::of(ledger, &["whole", "before Kafka goes"]);
    println!("with all nodes there: {whole}");
    println!("with one node gone, after {ALLOWED:?}: {gone}");
    println!("while it comes back: {}", Met::of(ledger, &[COMES_BACK]));
    if whole.is_enough() && !gone.is_enough() {
        return Err(format!("with one node gone, after {ALLOWED:?}, {gone}"));
    }
    if !whole.is_enough() {
        harness::fleet::not_run(
            "fleet_faults, deadlines with one node gone",
            &format!("this machine is too slow, or too busy: with all nodes there {whole}"),
        );
    }
    Ok(())
}

/// Requests that met their deadline.
struct Met {
    all: u64,
    missed: u64,
}

impl Met {
    fn of(ledger: &Ledger, windows: &[&str]) -> Self {
        let windows = ledger.windows(windows);
        let tallies = [Kind::Read, Kind::Write].map(|kind| ledger.tally(&windows, kind));
        let [all, missed] = [Tally::all, Tally::missed].map(|of| tallies.iter().map(of).sum());
        Self { all, missed }
    }

    fn is_enough(&self) -> bool {
        self.missed * 1_000 <= self.all
    }
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let share = 100.0 * (1.0 - self.missed as f64 / self.all as f64);
        let Self { all, missed } = self;
        write!(
            f,
            "{share:.3} % of {all} requests met their deadline, {missed} did not"
        )
    }
}

/// The last that each role has said.
fn last_words(fleet: &Fleet) -> String {
    let of = |role: &str| {
        let log = fleet.log(role);
        let lines = log.lines().filter(|line| !line.contains("\"INFO\""));
        let lines: Vec<String> = lines.map(|line| line.chars().take(300).collect()).collect();
        format!("{role}:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    };
    ["serve", "planner", "splitter"].map(of).join("\n")
}
