//! What the machine itself can do, measured in the same run: the disk, the loopback, and a bare log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::clock::now;
use crate::data;
use crate::latency::Latencies;
use crate::pacer;

/// Appends 4 KiB and syncs them, over and over.
pub(crate) fn fdatasync(folder: &Path, window: Duration) -> Result<Latencies> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path)?;
    let block = data::payload(0, "fdatasync", 0, 4_096);
    let mut latencies = Latencies::new()?;
    let start = now();
    while start.elapsed() < window {
        let began = now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.record(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(latencies)
}

/// Sends 200 bytes to another process and waits for them to come back, over and over.
pub(crate) fn tcp_ping_pong(address: &str, window: Duration) -> Result<Latencies> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = [7; 200];
    let mut latencies = Latencies::new()?;
    let start = now();
    while start.elapsed() < window {
        let began = now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        latencies.record(began.elapsed());
    }
    Ok(latencies)
}

const SEGMENT_BYTES: usize = 64 << 20;
const STEP: usize = 1 << 20;
/// Most bytes of one sync, as a store would bound a group.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// How long a bare log takes for the same arrivals: everything that waits is written into a pre-written file and
/// synced at once. Beside it, for every 64 MiB logged, another thread writes a file of 64 MiB and syncs it.
pub(crate) fn bare_log(
    folder: &Path,
    per_second: f64,
    seconds: f64,
    frame_bytes: usize,
) -> Result<(Latencies, Latencies)> {
    let segment_path = folder.join("bare-log");
    let segment = prewritten(&segment_path)?;
    let (flush, flushes) = sync_channel(64);
    let flusher = {
        let folder = folder.to_path_buf();
        thread::Builder::new()
            .name("bare-flush".to_owned())
            .spawn(move || flush_files(&folder, &flushes))?
    };
    let (send, arrivals) = sync_channel::<Instant>(1 << 20);
    let pacer = pacer::start(per_second, seconds, move |_, intended| {
        // Room for a minute of arrivals; the log thread takes all that wait at once.
        let _ = send.send(intended);
        ControlFlow::Continue(())
    })?;
    let latencies = log(&segment, &arrivals, &flush, frame_bytes)?;
    drop(flush);
    let lateness = pacer.join().map_err(|_| anyhow!("the pacer ended early"))??;
    flusher
        .join()
        .map_err(|_| anyhow!("the flush thread ended early"))??;
    std::fs::remove_file(segment_path)?;
    Ok((latencies, lateness))
}

fn log(
    segment: &File,
    arrivals: &Receiver<Instant>,
    flush: &SyncSender<()>,
    frame_bytes: usize,
) -> Result<Latencies> {
    let frame = data::payload(0, "frame", 0, frame_bytes);
    let mut latencies = Latencies::new()?;
    let (mut at, mut since_flush) = (0, 0);
    let mut group = Vec::new();
    while let Ok(first) = arrivals.recv() {
        group.clear();
        group.push(first);
        let most = (GROUP_BYTES_MAX / frame_bytes).max(1);
        group.extend(arrivals.try_iter().take(most - 1));
        if at + group.len() * frame_bytes > SEGMENT_BYTES {
            at = 0;
        }
        for _ in &group {
            segment.write_all_at(&frame, at as u64)?;
            at += frame_bytes;
        }
        segment.sync_data()?;
        for intended in &group {
            latencies.record(now().saturating_duration_since(*intended));
        }
        since_flush += group.len() * frame_bytes;
        if since_flush >= SEGMENT_BYTES {
            since_flush -= SEGMENT_BYTES;
            // A flush that has fallen 64 files behind has shown what it can.
            let _ = flush.try_send(());
        }
    }
    Ok(latencies)
}

fn flush_files(folder: &Path, flushes: &Receiver<()>) -> Result<()> {
    let block = data::payload(0, "flush", 0, STEP);
    let mut last: Option<PathBuf> = None;
    for (n, ()) in flushes.iter().enumerate() {
        let path = folder.join(format!("bare-flush-{n}"));
        let mut file = File::create(&path)?;
        for _ in 0..SEGMENT_BYTES / STEP {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        if let Some(last) = last.replace(path) {
            std::fs::remove_file(last)?;
        }
    }
    last.map_or(Ok(()), |last| Ok(std::fs::remove_file(last)?))
}

fn prewritten(path: &Path) -> Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("can not make {}", path.display()))?;
    let zeros = vec![0; STEP];
    for _ in 0..SEGMENT_BYTES / STEP {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(file)
}
