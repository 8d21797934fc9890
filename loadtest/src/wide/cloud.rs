//! A disk as a cloud sells it, and little memory for pages of files: by control groups, where the machine lets us.
//!
//! What a process of the group reads from the disk waits for its share of operations and bytes, and pages of files that
//! it has read count against the group's memory. What a node holds of its own grows under load, and by how much depends on
//! the format of its files: the group gets that, the code that the node runs (some 130 MiB: without it the node is ended, or
//! reads its own code again and again), and so much for files, and is measured again all the time.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::clock;

const OPERATIONS_PER_SECOND: u64 = 3_000;
const BYTES_PER_SECOND: u64 = 125 << 20;
/// Memory of a group until it is squeezed: a node starts in it.
const START_BYTES: u64 = 2 << 30;
/// Between two looks at what a node holds of its own. What it takes meanwhile, pages of files make room for.
const SQUEEZE_EVERY: Duration = Duration::from_millis(100);

/// Groups that a node is started in. They are removed when this is dropped, and nobody is in them any more.
#[derive(Debug)]
pub(super) struct CloudDisk {
    groups: Vec<PathBuf>,
    memory: PathBuf,
    pub(super) limits: Limits,
}

/// What the groups allow.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Reads of the disk a second.
    pub operations_per_second: u64,
    /// Bytes read from the disk a second.
    pub bytes_per_second: u64,
    /// Memory for pages of files, besides what the node holds of its own, and its code.
    pub files_bytes: u64,
    /// Memory for its code: what of files it has mapped when its limit begins.
    pub code_bytes: u64,
    /// Version of the control groups.
    pub version: u8,
}

impl CloudDisk {
    /// Makes the groups for the disk under a folder. An error says why this machine can not.
    pub(super) fn make(folder: &Path, files_bytes: u64) -> Result<Self, String> {
        let device = disk_of(folder)?;
        let name = format!("anabranch-bench-{}", std::process::id());
        let (version, groups) = if Path::new("/sys/fs/cgroup/blkio").is_dir() {
            (
                1,
                ["blkio", "memory"]
                    .map(|of| Path::new("/sys/fs/cgroup").join(of).join(&name))
                    .to_vec(),
            )
        } else if Path::new("/sys/fs/cgroup/cgroup.controllers").is_file() {
            let root = Path::new("/sys/fs/cgroup");
            write(&root.join("cgroup.subtree_control"), "+io +memory")?;
            (2, vec![root.join(&name)])
        } else {
            return Err("there are no control groups here".to_owned());
        };
        for group in &groups {
            fs::create_dir_all(group)
                .map_err(|error| format!("can not make the control group {}: {error}", group.display()))?;
        }
        let memory = groups.last().cloned().unwrap_or_default();
        let made = Self {
            memory,
            limits: Limits {
                operations_per_second: OPERATIONS_PER_SECOND,
                bytes_per_second: BYTES_PER_SECOND,
                files_bytes,
                code_bytes: 0,
                version,
            },
            groups,
        };
        let (operations, bytes) = (OPERATIONS_PER_SECOND, BYTES_PER_SECOND);
        // The first is that of the disk; in version 2 it is that of the memory, too.
        let disk = &made.groups[0];
        if version == 2 {
            write(
                &disk.join("io.max"),
                &format!("{device} riops={operations} rbps={bytes}"),
            )?;
        } else {
            write(
                &disk.join("blkio.throttle.read_iops_device"),
                &format!("{device} {operations}"),
            )?;
            write(
                &disk.join("blkio.throttle.read_bps_device"),
                &format!("{device} {bytes}"),
            )?;
        }
        write(&made.memory_limit(), &START_BYTES.to_string())?;
        Ok(made)
    }

    /// Files that the number of a process is written to, to put it in.
    pub(super) fn entrances(&self) -> Vec<String> {
        let entrance = |group: &PathBuf| group.join("cgroup.procs").display().to_string();
        self.groups.iter().map(entrance).collect()
    }

    /// The name that something has in this version, of its names in both.
    fn named<'a>(&self, [first, second]: [&'a str; 2]) -> &'a str {
        if self.limits.version == 1 { first } else { second }
    }

    fn memory_limit(&self) -> PathBuf {
        self.memory
            .join(self.named(["memory.limit_in_bytes", "memory.max"]))
    }

    /// Takes what is mapped now for the code that the node runs.
    pub(super) fn allow_code(&mut self) {
        self.limits.code_bytes = self.statistic(["mapped_file", "file_mapped"]);
    }

    /// Leaves the group what its node holds of its own, its code, and its memory for files. Goes on until it is dropped.
    pub(super) async fn squeeze(&self) -> Infallible {
        let allowed = self.limits.code_bytes + self.limits.files_bytes;
        loop {
            if let Some(used) = self.used_bytes() {
                let limit = used.saturating_sub(self.page_cache_bytes()) + allowed;
                // What can not be let go of at this moment can be at the next.
                let _ = fs::write(self.memory_limit(), limit.to_string());
            }
            clock::sleep(SQUEEZE_EVERY).await;
        }
    }

    /// Bytes that the group uses now, pages of files among them.
    fn used_bytes(&self) -> Option<u64> {
        let name = self.named(["memory.usage_in_bytes", "memory.current"]);
        fs::read_to_string(self.memory.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Bytes of files that the group keeps in memory now.
    pub(super) fn page_cache_bytes(&self) -> u64 {
        self.statistic(["cache", "file"])
    }

    /// A number of the group's memory, by its name in each version; 0 if it is not known.
    fn statistic(&self, names: [&str; 2]) -> u64 {
        let name = self.named(names);
        let text = fs::read_to_string(self.memory.join("memory.stat")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines
            .find(|(of, _)| *of == name)
            .and_then(|(_, bytes)| bytes.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for CloudDisk {
    fn drop(&mut self) {
        for group in &self.groups {
            // With somebody in it, it stays until they end: an empty folder of the kernel's.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Pages of files that were read before do not count against a group: lets go of them.
pub(super) fn drop_page_cache() -> Result<(), String> {
    rustix::fs::sync();
    write(Path::new("/proc/sys/vm/drop_caches"), "3")
}

/// Number of the whole disk that a folder lies on, as MAJOR:MINOR.
fn disk_of(folder: &Path) -> Result<String, String> {
    let stat = rustix::fs::stat(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if !device.exists() {
        return Err(format!(
            "{} does not lie on a disk of its own ({major}:{minor})",
            folder.display()
        ));
    }
    let whole = if device.join("partition").exists() {
        device.join("../dev")
    } else {
        device.join("dev")
    };
    let number = fs::read_to_string(&whole).map_err(|error| format!("{}: {error}", whole.display()))?;
    Ok(number.trim().to_owned())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("can not write `{text}` to {}: {error}", file.display()))
}
