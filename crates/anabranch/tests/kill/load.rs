//! Writers of every kind and readers, on a server that is about to be killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_proto::timeseries::v1 as wire;

use crate::check::read_series;
use crate::harness::fates::{Fate, Known};
use crate::harness::made::{Dice, Maker, mix};
use crate::harness::{self, Events, Server};
use crate::{Folder, INGEST_WRITERS, NAMESPACE, READERS, SERIES_A_WRITER, SYNC_WRITERS, Totals, WRITERS};

/// Writers and readers that run until the server is gone.
pub(crate) struct Load {
    tasks: tokio::task::JoinSet<Result<(), String>>,
    counts: Arc<Counts>,
    known: Arc<Known>,
}

#[derive(Default)]
struct Counts {
    acked: AtomicU64,
    reads: AtomicU64,
}

impl Load {
    pub(crate) async fn start(server: &Server, folder: &Folder, seed: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = tokio::task::JoinSet::new();
        let maker = folder.maker;
        for writer in 0..WRITERS {
            let client = server.events().await;
            let work = Work {
                client,
                maker,
                known: folder.known.clone(),
                counts: counts.clone(),
                dice: Dice::new(mix(&[seed, writer])),
                sealed: folder.sealed,
                series: (writer * SERIES_A_WRITER..(writer + 1) * SERIES_A_WRITER).collect(),
            };
            if writer < SYNC_WRITERS {
                tasks.spawn(work.sync());
            } else if writer < SYNC_WRITERS + INGEST_WRITERS {
                tasks.spawn(work.ingest());
            } else {
                tasks.spawn(work.queued());
            }
        }
        for reader in 0..READERS {
            let work = Work {
                client: server.events().await,
                maker,
                known: folder.known.clone(),
                counts: counts.clone(),
                dice: Dice::new(mix(&[seed, 1_000 + reader])),
                sealed: folder.sealed,
                series: (0..folder.known.len() as u64).collect(),
            };
            tasks.spawn(work.read());
        }
        Self {
            tasks,
            counts,
            known: folder.known.clone(),
        }
    }

    pub(crate) async fn stop(mut self, totals: &Totals) -> Result<(), String> {
        let ends = async {
            while let Some(end) = self.tasks.join_next().await {
                end.map_err(|error| error.to_string())??;
            }
            Ok::<(), String>(())
        };
        tokio::time::timeout(Duration::from_secs(30), ends)
            .await
            .map_err(|_| "a call that never ends though its server is gone".to_owned())??;
        totals
            .acked
            .fetch_add(self.counts.acked.load(Ordering::Relaxed), Ordering::Relaxed);
        totals
            .live_reads
            .fetch_add(self.counts.reads.load(Ordering::Relaxed), Ordering::Relaxed);
        let in_doubt = self.known.iter().map(|known| known.lock().unwrap().in_doubt());
        totals.unknown.fetch_add(in_doubt.sum(), Ordering::Relaxed);
        Ok(())
    }
}

struct Work {
    client: Events,
    maker: Maker,
    known: Arc<Known>,
    counts: Arc<Counts>,
    dice: Dice,
    series: Vec<u64>,
    sealed: u64,
}

/// Events of a write: which, and as they are sent.
type Batch = (Vec<(u64, u64)>, Vec<wire::EventRecord>);

/// Batches of a stream without an answer: their events, and how many were sent.
type Waiting = BTreeMap<String, (Vec<(u64, u64)>, usize)>;

impl Work {
    /// New events of one or several series, marked as sent; now and then some that are there already.
    fn batch(&mut self) -> Batch {
        let (mut numbers, mut events) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.dice.below(2) {
            let series = *self.dice.pick(&self.series);
            let count = 1 + self.dice.below(40);
            let mut known = self.known[usize::try_from(series).unwrap()].lock().unwrap();
            let open = known.len() - self.sealed;
            if open > 0 && self.dice.below(8) == 0 {
                // Writing what is there changes nothing (W2). Only what is certain: the rest must stay in doubt.
                let n = self.sealed + self.dice.below(open);
                if known.of(n) == Fate::There {
                    events.push(self.maker.event(series, n));
                }
            }
            for _ in 0..count {
                let n = known.len();
                known.send(n);
                numbers.push((series, n));
                events.push(self.maker.event(series, n));
            }
        }
        (numbers, events)
    }

    fn acked(&self, numbers: &[(u64, u64)]) {
        for &(series, n) in numbers {
            let known = &self.known[usize::try_from(series).unwrap()];
            known.lock().unwrap().acked(n);
        }
        self.counts
            .acked
            .fetch_add(numbers.len() as u64, Ordering::Relaxed);
    }

    async fn sync(mut self) -> Result<(), String> {
        loop {
            let (numbers, events) = self.batch();
            let sent = events.len();
            let request = wire::WriteEventRecordsSyncRequest {
                namespace: NAMESPACE.into(),
                events,
            };
            match self.client.write_event_records_sync(request).await {
                Ok(answer) => {
                    let written = answer.into_inner().written;
                    if usize::try_from(written) != Ok(sent) {
                        return Err(format!("{written} of {sent} written"));
                    }
                    self.acked(&numbers);
                }
                Err(status) => {
                    if ends(&status)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn queued(mut self) -> Result<(), String> {
        loop {
            // Queued events stay in doubt: they may be lost in a crash.
            let (_, events) = self.batch();
            let request = wire::WriteEventRecordsRequest {
                namespace: NAMESPACE.into(),
                events,
            };
            if let Err(status) = self.client.write_event_records(request).await
                && ends(&status)?
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(20))).await;
        }
    }

    async fn ingest(mut self) -> Result<(), String> {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let batches = tokio_stream::wrappers::ReceiverStream::new(receive);
        let mut client = self.client.clone();
        let mut waiting = Waiting::new();
        let mut next = 0_u64;
        // The first batch goes ahead of the call: a server may answer nothing before it has one.
        let first = self.send_batch(&send, &mut waiting, &mut next).await;
        debug_assert!(first);
        let mut answers = match client.ingest_event_records(batches).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return ends(&status).map(|_| ()),
        };
        loop {
            while waiting.len() < 8 {
                if !self.send_batch(&send, &mut waiting, &mut next).await {
                    break;
                }
            }
            match answers.message().await {
                Ok(None) => return Ok(()),
                Err(status) => return ends(&status).map(|_| ()),
                Ok(Some(answer)) => {
                    let Some((numbers, sent)) = waiting.remove(&answer.batch_id) else {
                        return Err(format!(
                            "an answer to batch `{}`, which is not in flight",
                            answer.batch_id
                        ));
                    };
                    match answer.status {
                        None if usize::try_from(answer.written) == Ok(sent) => self.acked(&numbers),
                        None => return Err(format!("{} of {sent} written", answer.written)),
                        // In doubt, as any failed write.
                        Some(status) => {
                            if status.code == i32::from(tonic::Code::Internal) {
                                return Err(format!("a batch failed: {status:?}"));
                            }
                        }
                    }
                }
            }
        }
    }

    async fn send_batch(
        &mut self,
        send: &tokio::sync::mpsc::Sender<wire::IngestEventRecordsRequest>,
        waiting: &mut Waiting,
        next: &mut u64,
    ) -> bool {
        let (numbers, events) = self.batch();
        let batch_id = format!("batch {next}");
        *next += 1;
        waiting.insert(batch_id.clone(), (numbers, events.len()));
        send.send(wire::IngestEventRecordsRequest {
            namespace: NAMESPACE.into(),
            batch_id,
            events,
        })
        .await
        .is_ok()
    }

    async fn read(mut self) -> Result<(), String> {
        loop {
            let series = *self.dice.pick(&self.series);
            // Whatever is certain before the read begins has to be on it.
            let before = self.known[usize::try_from(series).unwrap()]
                .lock()
                .unwrap()
                .there(0..u64::MAX);
            let ascending = self.dice.below(2) == 0;
            let page_size = *self.dice.pick(&[3_i32, 50, 1_000]);
            if page_size == 3 && before.len() > 300 {
                continue;
            }
            match read_series(&mut self.client, self.maker, series, ascending, page_size).await {
                Ok(mut returned) => {
                    returned.sort_unstable();
                    if let Some(lost) = before.iter().find(|n| returned.binary_search(n).is_err()) {
                        return Err(format!(
                            "series {series}: acked event {lost} is not on a read that began later"
                        ));
                    }
                    self.counts.reads.fetch_add(1, Ordering::Relaxed);
                }
                // Broken rules say so; everything else is the server going away.
                Err(why) if why.contains("out of order") || why.contains("an event") => return Err(why),
                Err(why) if why.contains("INTERNAL") || why.contains("UNKNOWN:") => return Err(why),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// True when the connection is gone; false when the server refuses for now. Anything else that a server says is wrong.
fn ends(status: &tonic::Status) -> Result<bool, String> {
    match harness::reason(status).as_deref() {
        None => Ok(true),
        Some("SERVER_OVERLOADED" | "STORE_OVERLOADED" | "WRITE_QUEUE_FULL" | "DEADLINE_EXCEEDED") => {
            Ok(false)
        }
        Some("SERVER_DRAINING" | "STORE_UNREACHABLE" | "STORE_OUTCOME_UNKNOWN" | "WRITE_PARTLY_FAILED") => {
            Ok(true)
        }
        Some(_) => Err(format!("a write failed: {status:?}")),
    }
}
