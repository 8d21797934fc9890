//! One run, format by format, regime by regime.

use std::path::Path;
use std::time::Duration;

use anabranch_runtime::Tasks;
use anyhow::{Context, Result};

use super::cloud::CloudDisk;
use super::direct::{self, Place};
use super::fleet::{Fleet, Server, Side, UNTHROTTLED, log_tails};
use super::load::{self, Ground};
use super::node::Node;
use super::options::{Format, Options, Regime};
use super::pages::{self, Shape};
use super::report::{FirstAnswer, Measured, OfFormat, OfRegime, WideReport};
use super::{delay, heal, ordinary, walk};
use crate::child::Scratch;
use crate::clock::{self, now};
use crate::latency::Latencies;
use crate::machine::{Family, Machine, Watch};
use crate::reads::Wide;

const COMPACTED: &str = "compacted";
const SCATTERED: &str = "scattered";
/// Pages that are held against each other, of each id and direction.
const AGREE_PAGES: u64 = 20;
/// Pages of the first answers, after the very first.
const FIRST_PAGES: u64 = 100;
/// Walkers over one id at once, besides one.
const WALKERS: u64 = 8;
/// How long ordinary ids are watched with nothing beside, in turns.
const REST_TURNS: f64 = 7.5;
/// Memory for files in the cloud: one in so many bytes of what is read there.
const CLOUD_FILES: u64 = 4;
const COMES_BACK_WITHIN: Duration = Duration::from_secs(60);
type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Measures everything that is asked for. `say` is told what is going on.
pub async fn run(options: Options, say: Say<'_>) -> Result<WideReport> {
    options.check()?;
    let began = now();
    let scratch = Scratch::make(&options.folder)?;
    let mut formats = Vec::new();
    for format in options.formats.clone() {
        let folder = scratch.0.join(format.to_string());
        std::fs::create_dir(&folder)?;
        let measured = Box::pin(measure(&options, format, &folder, say)).await;
        let measured = measured.with_context(|| log_tails(&folder))?;
        let failed = measured.failed.is_some();
        formats.push(measured);
        if failed {
            break;
        }
    }
    Ok(WideReport {
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        machine: Machine::look(&scratch.0),
        unix_seconds: clock::unix_seconds(),
        seconds: began.elapsed().as_secs_f64(),
        options,
        formats,
    })
}

async fn measure(options: &Options, format: Format, folder: &Path, say: Say<'_>) -> Result<OfFormat> {
    say(&format!("{format}: a node and a fleet"));
    let node = Node::start(&options.source, format, folder).await?;
    // A keyspace of its own, so that nodes that are somebody's keep theirs.
    let keyspace = format!("bench{}", clock::unix_seconds() % 1_000_000_000);
    let fleet = Fleet::start(&options.program, folder, &node, &keyspace).await?;
    let tasks = Tasks::new();
    let mut bench = Bench {
        options,
        format,
        say,
        tasks: &tasks,
        family: Family(
            fleet
                .pids()
                .into_iter()
                .chain(node.pid())
                .chain(node.kafka_pid())
                .collect(),
        ),
        found: OfFormat::new(format),
        node: &node,
        fleet: &fleet,
    };
    // What was found before something failed is kept: it took long to find.
    let failed = Box::pin(bench.measure(folder)).await.err();
    let mut found = bench.found;
    found.failed = failed.map(|error| format!("{error:#}\n{}", log_tails(folder)));
    if node.pid().is_none() {
        found.left_behind = left_behind(&fleet.keyspace);
    }
    drop(fleet);
    node.end().await?;
    Ok(found)
}

/// What removes the traces of a run.
fn left_behind(keyspace: &str) -> Vec<String> {
    let of_events = [COMPACTED, SCATTERED, direct::WRITES].map(|namespace| format!("{keyspace}_{namespace}"));
    let keyspaces = of_events.into_iter().chain([keyspace.to_owned()]);
    let mut all: Vec<String> = keyspaces
        .map(|name| format!("DROP KEYSPACE IF EXISTS {name};"))
        .collect();
    all.push(format!("the topics {keyspace}.detections and {keyspace}.dead"));
    all
}

struct Bench<'a> {
    options: &'a Options,
    format: Format,
    say: Say<'a>,
    tasks: &'a Tasks,
    node: &'a Node,
    fleet: &'a Fleet,
    family: Family,
    found: OfFormat,
}

impl Bench<'_> {
    async fn measure(&mut self, folder: &Path) -> Result<()> {
        let asked = |regime| self.options.asks_for(regime);
        let only_first_format = self.options.formats.first() == Some(&self.format);
        let scattered_wanted = asked(Regime::Scattered) || asked(Regime::Cloud);
        let foreground_wanted = asked(Regime::Foreground) && only_first_format;
        let direct_wanted = asked(Regime::Direct) && only_first_format;
        let (first_wanted, walk_wanted) = (asked(Regime::First), asked(Regime::Walk));
        let (compacted_wanted, delayed_wanted, cloud_wanted) = (
            asked(Regime::Compacted),
            asked(Regime::WalkDelayed),
            asked(Regime::Cloud),
        );
        if !self.node.has_nodetool() {
            self.skip(
                "one SSTable, scattered, cloud",
                "there is no nodetool: name one by --nodetool",
            );
        }

        let compacted = self.load_compacted(foreground_wanted).await?;
        let scattered = if scattered_wanted && self.node.has_nodetool() {
            Some(self.load_scattered().await?)
        } else {
            None
        };
        if first_wanted {
            for ground in [Some(&compacted), scattered.as_ref()].into_iter().flatten() {
                self.first(ground).await?;
            }
        }
        self.split(&compacted, scattered.as_ref(), foreground_wanted)
            .await?;

        if compacted_wanted {
            self.pages(Regime::Compacted, &compacted).await?;
            self.gains(Regime::Compacted, &compacted).await?;
        }
        if walk_wanted {
            self.walks(Regime::Walk, &compacted, &self.fleet.servers, None)
                .await?;
        }
        if delayed_wanted {
            self.walks_delayed(&compacted).await?;
        }
        if direct_wanted {
            self.direct(&compacted).await?;
        }
        if let Some(scattered) = &scattered {
            self.pages(Regime::Scattered, scattered).await?;
            self.gains(Regime::Scattered, scattered).await?;
            if walk_wanted {
                self.walks(Regime::Walk, scattered, &self.fleet.servers, None)
                    .await?;
            }
            if cloud_wanted {
                self.cloud(folder, scattered).await?;
            }
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        (self.say)(&format!("{}: {what}", self.format));
    }

    fn skip(&mut self, what: &str, why: &str) {
        self.found.not_measured.push(format!("{what}: {why}"));
    }

    fn ids(&self) -> Vec<Wide> {
        self.options
            .megabytes
            .iter()
            .map(|size| Wide::of_megabytes(*size))
            .collect()
    }

    fn widest(&self) -> Wide {
        Wide::of_megabytes(self.options.widest())
    }

    fn watch(&self) -> Watch {
        Watch::start(&self.family)
    }

    async fn load_compacted(&mut self, ordinary: bool) -> Result<Ground> {
        self.say("writing in order of time, compacting");
        let watch = self.watch();
        self.fleet.admin().await?.create(COMPACTED, UNTHROTTLED).await?;
        let mut ids = self.ids();
        if ordinary {
            ids.extend(ordinary::ids());
        }
        let ground = load::in_order(self.fleet, self.node, COMPACTED, self.options.seed, &ids).await?;
        self.node.settle().await?;
        self.found
            .neighbours
            .push(watch.end("load compacted", &self.family));
        Ok(ground)
    }

    async fn load_scattered(&mut self) -> Result<Ground> {
        let flushes = self.options.flushes;
        self.say(&format!(
            "writing out of order of time, {flushes} flushes, no compaction"
        ));
        let watch = self.watch();
        self.fleet.admin().await?.create(SCATTERED, UNTHROTTLED).await?;
        let ids = self.ids();
        let ground =
            load::scattered(self.fleet, self.node, SCATTERED, self.options.seed, &ids, flushes).await?;
        self.found
            .neighbours
            .push(watch.end("load scattered", &self.family));
        Ok(ground)
    }

    /// The first answers from the widest id, before anything is split.
    async fn first(&mut self, ground: &Ground) -> Result<()> {
        self.say(&format!(
            "first answers of a partition that nobody has split, {}",
            ground.namespace
        ));
        let shape = self.shape(ground, self.widest(), true, 1);
        let mut client = self.fleet.client(Side::Original);
        let first = pages::one(&mut client, &shape, 0).await?;
        let mut latencies = Latencies::new()?;
        for page in 1..=FIRST_PAGES {
            latencies.record(pages::one(&mut client, &shape, page).await?);
        }
        self.found.first.push(FirstAnswer {
            namespace: ground.namespace.clone(),
            megabytes: self.options.widest(),
            first_millis: first.as_secs_f64() * 1e3,
            next: latencies.summary(),
        });
        Ok(())
    }

    /// Has everything split.
    async fn split(
        &mut self,
        compacted: &Ground,
        scattered: Option<&Ground>,
        foreground: bool,
    ) -> Result<()> {
        let mut admin = self.fleet.admin().await?;
        let (seed, ids) = (self.options.seed, self.ids());
        for ground in [Some(compacted), scattered].into_iter().flatten() {
            admin.seal(&ground.namespace).await?;
        }
        if foreground {
            self.say("ordinary ids beside a split, with a pace and without");
            let watch = self.watch();
            ordinary::set_pace(&mut admin, COMPACTED, ordinary::THROTTLED).await?;
            let wide = self.widest();
            let rest = Duration::from_secs_f64(self.options.seconds * REST_TURNS);
            let felt = ordinary::measure(self.tasks, self.fleet, COMPACTED, &wide, seed, rest).await?;
            self.found.foreground = felt;
            self.found.neighbours.push(watch.end("foreground", &self.family));
        }
        self.say("splitting");
        let watch = self.watch();
        for ground in [Some(compacted), scattered].into_iter().flatten() {
            let rest = |id: &&Wide| {
                !(foreground && ground.namespace == COMPACTED && id.events == self.widest().events)
            };
            let rest: Vec<Wide> = ids.iter().filter(rest).cloned().collect();
            heal::detect(self.fleet, &ground.namespace, &rest).await?;
        }
        for ground in [Some(compacted), scattered].into_iter().flatten() {
            heal::completed(self.fleet, &ground.namespace, &ids).await?;
            self.node
                .nodetool(&["flush", &ground.keyspace, &ground.wide_table])
                .await?;
        }
        self.node.settle().await?;
        self.found.neighbours.push(watch.end("split", &self.family));
        for ground in [Some(compacted), scattered].into_iter().flatten() {
            for table in [&ground.data_table, &ground.wide_table] {
                if let Some((files, bytes)) = self.node.tables(&ground.keyspace, table) {
                    let of = if table == &ground.data_table {
                        "originals"
                    } else {
                        "targets"
                    };
                    self.found
                        .tables
                        .push((format!("{} {of}", ground.namespace), files, bytes));
                }
            }
        }
        Ok(())
    }

    fn shape(&self, ground: &Ground, id: Wide, newest_first: bool, readers: usize) -> Shape {
        Shape {
            namespace: ground.namespace.clone(),
            id,
            newest_first,
            readers,
            seed: self.options.seed,
        }
    }

    /// Pages of every size, both directions, by so many readers each.
    async fn pages(&mut self, regime: Regime, ground: &Ground) -> Result<()> {
        for id in self.ids() {
            self.say(&format!("{regime}: pages of {}", id.id));
            let watch = self.watch();
            let mut agreed = 0;
            for newest_first in [true, false] {
                let shape = self.shape(ground, id.clone(), newest_first, 1);
                agreed += pages::agree(&self.fleet.servers, &shape, AGREE_PAGES).await?;
            }
            let mut cells = Vec::new();
            for readers in self.options.readers.clone() {
                for newest_first in [true, false] {
                    let shape = self.shape(ground, id.clone(), newest_first, readers);
                    let Options { rounds, seconds, .. } = *self.options;
                    let cell = pages::compare(self.tasks, &self.fleet.servers, &shape, rounds, seconds);
                    cells.push(cell.await?);
                }
            }
            self.found.regimes.push(OfRegime {
                regime,
                namespace: ground.namespace.clone(),
                id: id.id.clone(),
                agreed,
                measured: Measured::Pages(cells),
            });
            let part = format!("{regime} {}", id.id);
            self.found.neighbours.push(watch.end(&part, &self.family));
        }
        Ok(())
    }

    /// What the stage COMPARE says of each split.
    async fn gains(&mut self, regime: Regime, ground: &Ground) -> Result<()> {
        self.say(&format!("{regime}: the gain as COMPARE measures it"));
        let gains = heal::gains(self.fleet, &ground.namespace, &self.ids(), self.options.seed).await?;
        self.found
            .gains
            .extend(gains.into_iter().map(|gain| (regime, gain)));
        Ok(())
    }

    async fn walks(
        &mut self,
        regime: Regime,
        ground: &Ground,
        servers: &[Server; 2],
        round_trip_millis: Option<f64>,
    ) -> Result<()> {
        let id = self.widest();
        self.say(&format!("{regime}: all of {}, {}", id.id, ground.namespace));
        let watch = self.watch();
        let mut walks = Vec::new();
        for walkers in [1, WALKERS] {
            let shape = self.shape(ground, id.clone(), true, 1);
            walks.push(walk::compare(self.tasks, servers, &shape, walkers, self.options.rounds).await?);
        }
        self.found.regimes.push(OfRegime {
            regime,
            namespace: ground.namespace.clone(),
            id: id.id,
            agreed: 0,
            measured: Measured::Walks {
                walks,
                round_trip_millis,
            },
        });
        let part = format!("{regime} {}", ground.namespace);
        self.found.neighbours.push(watch.end(&part, &self.family));
        Ok(())
    }

    async fn walks_delayed(&mut self, ground: &Ground) -> Result<()> {
        if self.node.contact_points.contains(',') {
            self.skip(
                "walk-delayed",
                "the delay stands before one node, and there are several",
            );
            return Ok(());
        }
        let delayed = Tasks::new();
        let delay = Duration::from_millis(self.options.delay_millis);
        let through = delay::start(&delayed, self.node.contact_points.clone(), delay).await?;
        let without = delay::round_trip(&self.node.contact_points).await?;
        let with = delay::round_trip(&through.to_string()).await?;
        let added = with.saturating_sub(without).as_secs_f64() * 1e3;
        let servers = self
            .fleet
            .servers_through(self.node, &through.to_string())
            .await?;
        await_targets(&servers, &self.shape(ground, self.widest(), true, 1)).await?;
        let family = self.family.clone();
        self.family.0.extend(servers.iter().map(Server::pid));
        let walked = self
            .walks(Regime::WalkDelayed, ground, &servers, Some(added))
            .await;
        self.family = family;
        delayed.kill();
        walked
    }

    /// The scattered partitions on a disk of few operations, with little memory.
    async fn cloud(&mut self, folder: &Path, ground: &Ground) -> Result<()> {
        if self.node.pid().is_none() {
            self.skip(
                "cloud",
                "nodes that are not the bench's own are not started again",
            );
            return Ok(());
        }
        self.say("cloud: the node starts again on a slow disk");
        let tables = [&ground.data_table, &ground.wide_table];
        let bytes = tables.map(|table| {
            self.node
                .tables(&ground.keyspace, table)
                .map_or(0, |(_, bytes)| bytes)
        });
        let mut disk = match CloudDisk::make(folder, bytes.iter().sum::<u64>() / CLOUD_FILES) {
            Ok(disk) => disk,
            Err(why) => {
                self.skip("cloud", &why);
                return Ok(());
            }
        };
        if let Err(why) = self.node.restart_in(&disk).await {
            self.skip("cloud", &format!("{why:#}"));
            return Ok(());
        }
        self.family = Family(
            self.fleet
                .pids()
                .into_iter()
                .chain(self.node.pid())
                .chain(self.node.kafka_pid())
                .collect(),
        );
        await_targets(&self.fleet.servers, &self.shape(ground, self.widest(), true, 1)).await?;
        disk.allow_code();
        let measured = tokio::select! {
            measured = self.pages(Regime::Cloud, ground) => measured,
            never = disk.squeeze() => match never {},
        };
        self.found.cloud = Some((disk.limits.clone(), disk.page_cache_bytes()));
        self.node.restart().await?;
        measured
    }

    async fn direct(&mut self, ground: &Ground) -> Result<()> {
        self.say("the service beside the driver alone");
        let watch = self.watch();
        let id = self.widest();
        let splits = heal::completed(self.fleet, &ground.namespace, std::slice::from_ref(&id)).await?;
        let partition = splits.into_iter().next().and_then(|split| split.partition);
        let place = Place {
            namespace: ground.namespace.clone(),
            id,
            partition: partition.context("a split without a partition")?,
        };
        let Options {
            seed,
            rounds,
            seconds,
            ..
        } = *self.options;
        let ops = direct::measure(self.tasks, self.node, self.fleet, place, seed, rounds, seconds);
        self.found.direct = ops.await?;
        self.found.neighbours.push(watch.end("direct", &self.family));
        Ok(())
    }
}

/// Waits until both servers answer, each from its own side, after they or the node have started.
async fn await_targets(servers: &[Server; 2], shape: &Shape) -> Result<()> {
    let began = now();
    loop {
        let pages = pages::both_answer(servers, shape).await;
        match pages {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > COMES_BACK_WITHIN => return Err(error),
            Err(_) => clock::sleep(Duration::from_millis(500)).await,
        }
    }
}
