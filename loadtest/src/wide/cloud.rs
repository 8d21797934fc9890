//! A disk as a cloud sells it, and little memory for pages of files: by control groups, where the machine lets us.
//!
//! What a process of the group reads from the disk waits for its share of operations and bytes, and pages of files that
//! it has read count against the group's memory.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

const OPERATIONS_PER_SECOND: u64 = 3_000;
const BYTES_PER_SECOND: u64 = 125 << 20;

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
    /// Memory of the node: its heap, its code, and pages of files.
    pub memory_bytes: u64,
    /// Version of the control groups.
    pub version: u8,
}

impl CloudDisk {
    /// Makes the groups for the disk under a folder. An error says why this machine can not.
    pub(super) fn make(folder: &Path, memory_bytes: u64) -> Result<Self, String> {
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
                memory_bytes,
                version,
            },
            groups,
        };
        let (operations, bytes) = (OPERATIONS_PER_SECOND, BYTES_PER_SECOND);
        for group in &made.groups {
            if version == 2 {
                write(
                    &group.join("io.max"),
                    &format!("{device} riops={operations} rbps={bytes}"),
                )?;
                write(&group.join("memory.max"), &memory_bytes.to_string())?;
            } else if *group == made.memory {
                write(&group.join("memory.limit_in_bytes"), &memory_bytes.to_string())?;
            } else {
                write(
                    &group.join("blkio.throttle.read_iops_device"),
                    &format!("{device} {operations}"),
                )?;
                write(
                    &group.join("blkio.throttle.read_bps_device"),
                    &format!("{device} {bytes}"),
                )?;
            }
        }
        Ok(made)
    }

    /// Files that the number of a process is written to, to put it in.
    pub(super) fn entrances(&self) -> Vec<String> {
        let entrance = |group: &PathBuf| group.join("cgroup.procs").display().to_string();
        self.groups.iter().map(entrance).collect()
    }

    /// Bytes of files that the group keeps in memory now.
    pub(super) fn page_cache_bytes(&self) -> u64 {
        let name = if self.limits.version == 1 { "cache" } else { "file" };
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
