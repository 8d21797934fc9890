//! What the machine is, and who else is using it.
//!
//! A figure taken beside a busy neighbour is a figure of the neighbour. So every part of a run is told how many
//! cores were busy with something that is not the bench, its server or its floors. Work that the kernel does for
//! us in its own threads (writing back pages) counts as somebody else's.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::now;

/// Linux counts processor time in hundredths of a second for programs, whatever the kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Facts of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Version of the kernel.
    pub kernel: String,
    /// How its TCP controls congestion, on loopback too: where it paces what is sent (`bbr`) short calls have longer tails than
    /// where it does not (`cubic`).
    pub tcp: String,
    /// Model of the processor.
    pub processor: String,
    /// Cores that the bench may use. Client, server and floors share them.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// True when the data folder is in memory: no figure of a sync means anything then.
    pub data_in_memory: bool,
}

impl Machine {
    /// Looks at this machine, and at the file system of a folder.
    pub(crate) fn look(folder: &Path) -> Self {
        let line_of = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = line_of("/proc/meminfo", "MemTotal");
        let kib = memory.split_whitespace().next().and_then(|n| n.parse().ok());
        Self {
            kernel: kernel_version(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()),
            tcp: fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            processor: line_of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib.unwrap_or(0_u64) * 1_024,
            data_in_memory: rustix::fs::statfs(folder).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC),
        }
    }
}

/// The number alone, without what a builder has added: `6.18.44` of `6.18.44-amd64`.
fn kernel_version(release: &str) -> String {
    release.trim().split('-').next().unwrap_or_default().to_owned()
}

/// Processor time of a process and of its threads.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything; after it come the state and then numbers.
    let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |at: usize| -> f64 {
        let field = numbers.split_whitespace().nth(at);
        field.and_then(|f| f.parse().ok()).unwrap_or(0.0)
    };
    Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// The most memory that a process has had at once, in bytes.
pub(crate) fn peak_rss_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

/// Processor time of the whole machine since it started: (busy, stolen by other machines).
fn machine_cpu() -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse().unwrap_or(0.0))
        .collect();
    let at = |n: usize| ticks.get(n).copied().unwrap_or(0.0);
    // user nice system idle iowait irq softirq steal
    let busy = at(0) + at(1) + at(2) + at(5) + at(6);
    let time = |ticks: f64| Duration::from_secs_f64(ticks / TICKS_PER_SECOND);
    (time(busy), time(at(7)))
}

/// The processes that belong to the bench.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family(pub(crate) Vec<u32>);

impl Family {
    pub(crate) fn cpu(&self) -> Duration {
        let own = cpu_of(std::process::id());
        self.0.iter().map(|pid| cpu_of(*pid)).sum::<Duration>() + own
    }
}

/// What others did during a part of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Neighbours {
    /// The part.
    pub part: String,
    /// How long it took.
    pub seconds: f64,
    /// Cores that others kept busy, on average.
    pub others_cores: f64,
    /// Cores that other machines took from this one, on average.
    pub stolen_cores: f64,
    /// Cores that the bench, its server and its floors kept busy, on average.
    pub own_cores: f64,
}

/// Watches the neighbours from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Instant,
    machine: (Duration, Duration),
    own: Duration,
}

impl Watch {
    pub(crate) fn start(family: &Family) -> Self {
        Self {
            since: now(),
            machine: machine_cpu(),
            own: family.cpu(),
        }
    }

    pub(crate) fn end(&self, part: &str, family: &Family) -> Neighbours {
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        let (busy, stolen) = machine_cpu();
        let own = family.cpu().saturating_sub(self.own).as_secs_f64();
        let busy = busy.saturating_sub(self.machine.0).as_secs_f64();
        Neighbours {
            part: part.to_owned(),
            seconds,
            others_cores: (busy - own).max(0.0) / seconds,
            stolen_cores: stolen.saturating_sub(self.machine.1).as_secs_f64() / seconds,
            own_cores: own / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_the_machine_has_cores() {
        let pid = std::process::id();
        assert!(peak_rss_of(pid) > 1 << 20);
        let machine = Machine::look(Path::new("/"));
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && !machine.kernel.is_empty());
        let watch = Watch::start(&Family::default());
        let spin = now();
        while spin.elapsed() < Duration::from_millis(100) {}
        let seen = watch.end("spin", &Family::default());
        assert!(seen.own_cores > 0.3, "{seen:?}");
    }
}
