//! Calls of any kind, in a closed loop that finds the most there is, and in an open loop that asks what one then costs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_runtime::Tasks;
use anyhow::{Result, anyhow, ensure};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tonic::Code;

use crate::clock::now;
use crate::pacer;
use crate::window::Window;
use crate::writes::{Tail, answer_arrivals};

/// Makes the call of a number.
pub(super) type Call = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<(), Code>> + Send + Sync>;

/// Room for every arrival of a run: the pacer never waits, and none is left out.
const WAITING_MAX: usize = 1_000_000;

/// As many calls as go, so many at once. Numbers go on where the counter stands.
pub(super) async fn closed(
    tasks: &Tasks,
    call: &Call,
    next: &Arc<AtomicU64>,
    in_flight: usize,
    window: Duration,
) -> Result<Window> {
    let began = now();
    let mut loops = Vec::new();
    for _ in 0..in_flight {
        let (call, next) = (call.clone(), next.clone());
        loops.push(tasks.spawn("closed-loop", async move {
            let mut part = Window::new()?;
            while began.elapsed() < window {
                let sent = now();
                let outcome = call(next.fetch_add(1, Ordering::Relaxed)).await;
                part.done(outcome, sent.elapsed(), 1);
            }
            anyhow::Ok(part)
        }));
    }
    let mut parts = Vec::new();
    for part in loops {
        parts.push(part.await??);
    }
    Window::of_parts(&parts, began.elapsed())
}

/// Until when an open loop goes on.
#[derive(Clone, Debug)]
pub(super) enum Until {
    /// So long.
    After(Duration),
    /// Somebody says so.
    Stopped(Arc<AtomicBool>),
}

/// Calls when they are due, however many wait.
pub(super) async fn open(
    tasks: &Tasks,
    call: Call,
    next: Arc<AtomicU64>,
    per_second: f64,
    until: Until,
) -> Result<Tail> {
    const DAY: f64 = 86_400.0;
    let (send, arrivals) = mpsc::channel(WAITING_MAX);
    let (seconds, stop) = match until {
        Until::After(window) => (window.as_secs_f64(), Arc::default()),
        Until::Stopped(stop) => (DAY, stop),
    };
    let answering = tasks.spawn(
        "open-loop",
        answer_arrivals(move || call(next.fetch_add(1, Ordering::Relaxed)), arrivals),
    );
    let pacer = pacer::start(per_second, seconds, move |_, intended| {
        if stop.load(Ordering::Relaxed) || send.try_send(intended).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    let mut tail = answering.await??;
    tail.lateness = pacer.join().map_err(|_| anyhow!("the pacer ended early"))??;
    ensure!(
        tail.outcomes.sent == tail.lateness.summary().n,
        "arrivals were lost between the pacer and the connections"
    );
    Ok(tail)
}
