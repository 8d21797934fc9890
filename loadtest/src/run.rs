//! One run, part by part.
//!
//! ```text
//! floors ─▶ load ids ─▶ pages and walks ─▶ batches ─▶ single events ─▶ tail ─▶ report
//! ```
//!
//! What is divided by something else is measured in turns with it, and each part starts when the work that the
//! one before left behind (flushes, compactions) is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_runtime::Tasks;
use anyhow::{Context, Result};

use crate::child::{Scratch, Service, tail};
use crate::client::{self, Client};
use crate::clock::{self, now};
use crate::floors;
use crate::judge::{self, Findings};
use crate::latency::Percentiles;
use crate::machine::{Family, Machine, Neighbours, Watch, cpu_of, peak_rss_of};
use crate::options::Options;
use crate::raw::{Raw, write_row_bytes};
use crate::reads::{self, Answerer, Desk, Pages, Wide};
use crate::report::{Floors, Report, ServerMemory, Tail, Walk};
use crate::window::{Series, Shape, Window};
use crate::writes::{self, Source};

/// 2 connections with 16 batches of 100 events each.
const BATCHES: Shape = Shape {
    connections: 2,
    in_flight: 16,
    batch_events: 100,
};
/// 2 connections with 32 single events each.
const SINGLES: Shape = Shape {
    connections: 2,
    in_flight: 32,
    batch_events: 1,
};
const PAGES: usize = 2_000;
/// The open loop runs for this many windows in all, in turns with its floor.
const TAIL_WINDOWS: f64 = 6.0;
const TAIL_TURNS: u32 = 2;
const SETTLE_WITHIN: Duration = Duration::from_secs(20);

/// Measures everything. `say` is told what is going on.
pub async fn run(options: Options, say: &(dyn Fn(&str) + Send + Sync)) -> Result<Report> {
    options.check()?;
    let began = now();
    let scratch = Scratch::make(&options.folder)?;
    let log = scratch.0.join("server.log");
    let mut bench = Bench::start(options, &scratch, say).await?;
    let report = bench.measure(began).await;
    // What the server said last may be why.
    report.with_context(|| format!("the server's log ends with:\n{}", tail(&log)))
}

struct Bench<'a> {
    options: Options,
    scratch: &'a Scratch,
    say: &'a (dyn Fn(&str) + Send + Sync),
    tasks: Tasks,
    machine: Machine,
    family: Family,
    server: Service,
    null: Service,
    raw: Arc<Raw>,
    to_server: Vec<Client>,
    to_null: Vec<Client>,
    neighbours: Vec<Neighbours>,
}

impl<'a> Bench<'a> {
    async fn start(
        options: Options,
        scratch: &'a Scratch,
        say: &'a (dyn Fn(&str) + Send + Sync),
    ) -> Result<Self> {
        say("starting the server and the null service");
        let server = Service::server(&options.server, scratch).await?;
        let (program, args) = &options.null;
        let null = Service::start(program, args, &scratch.0.join("null.log"), 2).await?;
        client::create_namespace(&server.url).await?;
        let (mut to_server, mut to_null) = (Vec::new(), Vec::new());
        for _ in 0..BATCHES.connections {
            to_server.push(client::connect(&server.url).await?);
            to_null.push(client::connect(&null.url).await?);
        }
        Ok(Self {
            machine: Machine::look(&scratch.0),
            family: Family(vec![server.pid(), null.pid()]),
            raw: Arc::new(Raw::open(&scratch.0.join("raw"))?),
            tasks: Tasks::new(),
            neighbours: Vec::new(),
            options,
            scratch,
            say,
            server,
            null,
            to_server,
            to_null,
        })
    }

    async fn measure(&mut self, began: Instant) -> Result<Report> {
        let watch = self.begin("the machine at rest");
        clock::sleep(Duration::from_secs(1)).await;
        self.end("rest", &watch);
        let floors = self.floors().await?;
        let small = Wide::of_megabytes(1);
        let wide = Wide::of_megabytes(self.options.wide_mb);
        let load = self.load(&small, &wide).await?;
        let after_load = peak_rss_of(self.server.pid());
        let (raw_page, raw_scan) = self.raw_reads(&wide).await?;
        let (pages, walk) = self.reads(&small, &wide, load).await?;
        let after_reads = peak_rss_of(self.server.pid());
        let batches = self.batches().await?;
        let (singles, fdatasync_per_second) = self.singles().await?;
        let saturation = batches.iter().find(|s| s.name == judge::SYNC);
        let tail = self.tail(saturation.map_or(0.0, |s| s.per_second_median)).await?;
        let findings = Findings {
            floors: Floors {
                fdatasync_per_second,
                raw_page,
                raw_scan_seconds: raw_scan.as_secs_f64(),
                ..floors
            },
            batches,
            singles,
            tail,
            pages,
            walk,
        };
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("ANABRANCH_COMMIT"),
            debug_build: cfg!(debug_assertions),
            unix_seconds: clock::unix_seconds(),
            seconds: began.elapsed().as_secs_f64(),
            options: self.options.clone(),
            machine: self.machine.clone(),
            server_peak_rss_bytes: ServerMemory {
                after_load,
                after_reads,
                after_writes: peak_rss_of(self.server.pid()),
            },
            lines: judge::lines(&findings, &wide),
            floors: findings.floors,
            batches: findings.batches,
            singles: findings.singles,
            tail: findings.tail,
            pages: findings.pages,
            walk: findings.walk,
            neighbours: std::mem::take(&mut self.neighbours),
        })
    }

    fn begin(&self, what: &str) -> Watch {
        (self.say)(what);
        Watch::start(&self.family)
    }

    fn end(&mut self, part: &str, watch: &Watch) {
        self.neighbours.push(watch.end(part, &self.family));
    }

    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }

    /// Waits until flushes and compactions of the part before are done.
    async fn settle(&self) {
        let began = now();
        while began.elapsed() < SETTLE_WITHIN {
            let before = self.family.cpu();
            clock::sleep(Duration::from_millis(250)).await;
            if self.family.cpu().saturating_sub(before) <= Duration::from_millis(20) {
                return;
            }
        }
    }

    async fn floors(&mut self) -> Result<Floors> {
        let watch = self.begin("floors: disk, loopback, gRPC");
        let (folder, window) = (self.scratch.0.clone(), self.window());
        let fdatasync = blocking(move || floors::fdatasync(&folder, window)).await?;
        let address = self.null.echo.clone().context("the null service has no echo")?;
        let tcp = blocking(move || floors::tcp_ping_pong(&address, window / 2)).await?;
        let mut desk = self.null_desk();
        reads::echo(&mut desk, window / 4).await?;
        let echo = reads::echo(&mut desk, window / 2).await?;
        self.end("floors", &watch);
        Ok(Floors {
            fdatasync: fdatasync.summary(),
            fdatasync_per_second: Vec::new(),
            tcp: tcp.summary(),
            echo: echo.summary(),
            raw_page: Percentiles::default(),
            raw_scan_seconds: 0.0,
        })
    }

    async fn load(&mut self, small: &Wide, wide: &Wide) -> Result<Duration> {
        let watch = self.begin(&format!(
            "writing an id of 1 MB and one of {} MB",
            self.options.wide_mb
        ));
        let (client, seed) = (self.to_server[0].clone(), self.options.seed);
        reads::load(&client, seed, small).await?;
        let took = reads::load(&client, seed, wide).await?;
        self.settle().await;
        self.end("load", &watch);
        Ok(took)
    }

    async fn raw_reads(&mut self, wide: &Wide) -> Result<(Percentiles, Duration)> {
        let watch = self.begin("the same id in the raw engine");
        let (raw, seed, id) = (self.raw.clone(), self.options.seed, wide.clone());
        blocking(move || raw.load(seed, &id.id, id.events)).await?;
        self.settle().await;
        let (raw, id) = (self.raw.clone(), wide.clone());
        let found = blocking(move || {
            let page = usize::try_from(id.events.min(1_000))?;
            let pages = raw.newest_pages(&id.id, page, PAGES)?;
            // The first scan warms up.
            raw.whole(&id.id, id.events)?;
            Ok((pages.summary(), raw.whole(&id.id, id.events)?))
        })
        .await?;
        self.end("raw", &watch);
        Ok(found)
    }

    async fn reads(&mut self, small: &Wide, wide: &Wide, load: Duration) -> Result<(Vec<Pages>, Walk)> {
        let watch = self.begin("newest pages of both ids, in turns with null pages");
        let (mut server, mut null, seed) = (self.server_desk(), self.null_desk(), self.options.seed);
        let from = [Answerer::Null, Answerer::Server(small), Answerer::Server(wide)];
        let mut pages = Vec::new();
        for size in [1_000, 10] {
            pages.extend(reads::newest_pages(&mut server, &mut null, seed, &from, size, PAGES).await?);
        }
        self.end("pages", &watch);
        let watch = self.begin("the whole wide id, page by page");
        let verified = reads::walk(&mut server.client, seed, wide, 1_000, true).await?;
        let took = reads::walk(&mut server.client, seed, wide, 1_000, false).await?;
        let null_took = reads::null_walk(&mut null, wide.events, 1_000).await?;
        self.end("walk", &watch);
        let walk = Walk {
            events: wide.events,
            seconds: took.as_secs_f64(),
            verified_seconds: verified.as_secs_f64(),
            null_seconds: null_took.as_secs_f64(),
            load_seconds: load.as_secs_f64(),
        };
        Ok((pages, walk))
    }

    async fn batches(&mut self) -> Result<Vec<Series>> {
        let watch = self.begin("batches of 100 events: raw, null and durable, in turns");
        let (seed, window) = (self.options.seed, self.window());
        let sources = ["n", "m", "s", "i"].map(|name| Source::new(seed, name));
        let [null_sync, null_ingest, sync, ingest] = &sources;
        let names = [
            judge::RAW,
            judge::NULL_SYNC,
            judge::NULL_INGEST,
            judge::SYNC,
            judge::INGEST,
        ];
        let mut windows: [Vec<Window>; 5] = Default::default();
        for round in 0..self.options.rounds {
            for turn in 0..names.len() {
                // Every other round runs backwards, so that nobody always follows the same one.
                let at = if round % 2 == 0 {
                    turn
                } else {
                    names.len() - 1 - turn
                };
                self.settle().await;
                let pid = if at < 3 {
                    self.null.pid()
                } else {
                    self.server.pid()
                };
                let cpu_before = cpu_of(pid);
                let mut measured = match at {
                    0 => {
                        let raw = self.raw.clone();
                        blocking(move || raw.ingest(seed, BATCHES, window)).await?
                    }
                    1 => writes::unary(&self.tasks, &self.to_null, null_sync, BATCHES, window).await?,
                    2 => writes::ingest(&self.tasks, &self.to_null, null_ingest, BATCHES, window).await?,
                    3 => writes::unary(&self.tasks, &self.to_server, sync, BATCHES, window).await?,
                    _ => writes::ingest(&self.tasks, &self.to_server, ingest, BATCHES, window).await?,
                };
                if at > 0 {
                    measured.server_cpu = cpu_of(pid).saturating_sub(cpu_before);
                }
                windows[at].push(measured);
            }
        }
        self.end("batches", &watch);
        names
            .iter()
            .zip(&windows)
            .map(|(name, w)| Series::of(name, w))
            .collect()
    }

    async fn singles(&mut self) -> Result<(Vec<Series>, Vec<f64>)> {
        let watch = self.begin("single events: null and durable, in turns with fdatasync");
        let (seed, window) = (self.options.seed, self.window());
        let (null, server) = (Source::new(seed, "o"), Source::new(seed, "w"));
        let (mut syncs, mut windows) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..self.options.rounds {
            self.settle().await;
            let folder = self.scratch.0.clone();
            let sync = blocking(move || floors::fdatasync(&folder, window / 2)).await?;
            syncs.push(sync.summary().n as f64 / (window / 2).as_secs_f64());
            let cpu_before = cpu_of(self.server.pid());
            let mut durable = writes::unary(&self.tasks, &self.to_server, &server, SINGLES, window).await?;
            durable.server_cpu = cpu_of(self.server.pid()).saturating_sub(cpu_before);
            windows[1].push(durable);
            self.settle().await;
            let cpu_before = cpu_of(self.null.pid());
            let mut nothing = writes::unary(&self.tasks, &self.to_null, &null, SINGLES, window).await?;
            nothing.server_cpu = cpu_of(self.null.pid()).saturating_sub(cpu_before);
            windows[0].push(nothing);
        }
        self.end("singles", &watch);
        let series = vec![
            Series::of(judge::NULL_SINGLE, &windows[0])?,
            Series::of(judge::SINGLE, &windows[1])?,
        ];
        Ok((series, syncs))
    }

    async fn tail(&mut self, saturation: f64) -> Result<Tail> {
        let watch = self.begin("the write tail at half of saturation, in turns with a bare log");
        let batches_per_second = (saturation / 2.0 / BATCHES.batch_events as f64).max(1.0);
        let seconds = self.options.seconds * TAIL_WINDOWS / f64::from(TAIL_TURNS);
        let events = usize::try_from(BATCHES.batch_events)?;
        let batch_bytes = write_row_bytes(&self.raw, self.options.seed)? * events;
        let source = Source::new(self.options.seed, "t");
        let mut seen = writes::Tail::new()?;
        let (mut bare, mut bare_lateness) = (seen.response.clone(), seen.response.clone());
        for _ in 0..TAIL_TURNS {
            self.settle().await;
            let folder = self.scratch.0.clone();
            let (latencies, lateness) =
                blocking(move || floors::bare_log(&folder, batches_per_second, seconds, batch_bytes)).await?;
            bare.add(&latencies)?;
            bare_lateness.add(&lateness)?;
            self.settle().await;
            let events = BATCHES.batch_events;
            let part = writes::tail(
                &self.tasks,
                &self.to_server,
                &source,
                events,
                batches_per_second,
                seconds,
            );
            seen.add(&part.await?)?;
        }
        self.end("tail", &watch);
        Ok(Tail {
            batches_per_second,
            batch_bytes,
            server: seen.summary(),
            bare_log: bare.summary(),
            bare_log_lateness: bare_lateness.summary(),
        })
    }

    fn server_desk(&self) -> Desk {
        Desk {
            client: self.to_server[0].clone(),
            pid: self.server.pid(),
        }
    }

    fn null_desk(&self) -> Desk {
        Desk {
            client: self.to_null[0].clone(),
            pid: self.null.pid(),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
