//! A network between service and node: takes connections, and passes on what comes after a delay.
//!
//! Every byte waits as long, so a connection keeps its order and its rate; only the time there and back grows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anabranch_runtime::Tasks;
use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::clock::{self, now};

/// Chunks of one direction of a connection that are under way.
const CHUNKS: usize = 4_096;
const CHUNK_BYTES: usize = 64 << 10;

/// Passes connections to `to` on, half of the delay each way, until the tasks stop. Where it listens.
pub(super) async fn start(tasks: &Tasks, to: String, delay: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let (of, stop) = (tasks.clone(), tasks.stopping());
    tasks.spawn("delay", async move {
        loop {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                taken = listener.accept() => taken,
            };
            let Ok((near, _)) = taken else { continue };
            let Ok(far) = TcpStream::connect(&to).await else {
                continue;
            };
            if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
                continue;
            }
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            pass(&of, near_read, far_write, delay / 2);
            pass(&of, far_read, near_write, delay / 2);
        }
    });
    Ok(at)
}

fn pass(
    tasks: &Tasks,
    mut from: impl AsyncReadExt + Unpin + Send + 'static,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (send, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    tasks.spawn("delay-read", async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read) = from.read(&mut buffer).await {
            let chunk = buffer.get(..read).unwrap_or_default().to_vec();
            if read == 0 || send.send((now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    });
    tasks.spawn("delay-write", async move {
        while let Some((due, chunk)) = chunks.recv().await {
            let early = due.saturating_duration_since(now());
            if !early.is_zero() {
                clock::sleep(early).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    });
}

/// How long it takes to connect to an address and be answered, at best of a few: an OPTIONS of CQL.
pub(super) async fn round_trip(address: &str) -> Result<Duration> {
    // Version 4, no flags, stream 0, OPTIONS, no body.
    const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("can not connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let began = now();
        stream.write_all(&OPTIONS).await?;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let body = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        stream.read_exact(&mut vec![0; usize::try_from(body)?]).await?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_in_order_and_no_sooner() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::new();
        let through = start(&tasks, to, Duration::from_millis(20)).await.unwrap();
        let mut near = TcpStream::connect(through).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let began = now();
        let (mut there, mut back) = (vec![0; sent.len()], [0; 4]);
        let echo = async {
            far.read_exact(&mut there).await.unwrap();
            far.write_all(b"done").await.unwrap();
        };
        let ask = async {
            near.write_all(&sent).await.unwrap();
            near.read_exact(&mut back).await.unwrap();
        };
        tokio::join!(echo, ask);
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert!(there == sent && &back == b"done");
    }
}
