//! Keeps batches under way, sends again what has to be, and knows how far everything is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::{Clock, SystemClock};
use tokio::sync::mpsc;
use tonic::Status;
use tonic_types::StatusExt;

use super::report::Report;
use super::send::{Answer, Sender};
use crate::exit::{Exit, Failure};
use crate::input::batches::{Batch, Item};
use crate::input::resume::Checkpoint;
use crate::problem;

const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// What an upload may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Batches under way at once.
    pub(super) in_flight: usize,
    /// How long to try again without any batch getting through.
    pub(super) retry_for: Duration,
    /// Whether events that can not be written are passed over.
    pub(super) skip: bool,
}

/// An upload under way.
pub(super) struct Upload {
    clock: Arc<SystemClock>,
    sender: Sender,
    limits: Limits,
    report: Report,
    checkpoint: Option<Checkpoint>,
    checkpoint_at: Duration,
    next_id: u64,
    /// Sent and not answered, by id.
    under_way: BTreeMap<u64, Batch>,
    /// To be sent again, oldest first, not before `resume_at`.
    again: VecDeque<Batch>,
    resume_at: Duration,
    back_off: Duration,
    /// Since when nothing got through.
    stuck_since: Option<Duration>,
    /// The last line that was taken from the input.
    line: u64,
    /// The first line that can not be written, when that ends the upload.
    stop_at: Option<u64>,
    input_ended: bool,
}

impl Upload {
    pub(super) fn new(
        clock: Arc<SystemClock>,
        sender: Sender,
        limits: Limits,
        report: Report,
        checkpoint: Option<Checkpoint>,
    ) -> Self {
        let line = checkpoint.as_ref().map_or(0, Checkpoint::line);
        Self {
            checkpoint_at: clock.elapsed(),
            clock,
            sender,
            limits,
            report,
            checkpoint,
            next_id: 0,
            under_way: BTreeMap::new(),
            again: VecDeque::new(),
            resume_at: Duration::ZERO,
            back_off: BACK_OFF_MIN,
            stuck_since: None,
            line,
            stop_at: None,
            input_ended: false,
        }
    }

    /// Runs to the end of the input, or to the first thing that ends it earlier.
    pub(super) async fn run(mut self, mut input: mpsc::Receiver<Item>) -> Result<(), Failure> {
        let ended = self.pump(&mut input).await;
        self.keep_checkpoint(true)?;
        match ended {
            Ok(()) => self.report.finish(),
            Err(failure) => {
                self.report.say_written();
                Err(failure)
            }
        }
    }

    async fn pump(&mut self, input: &mut mpsc::Receiver<Item>) -> Result<(), Failure> {
        loop {
            self.send_again().await?;
            if self.input_ended && self.under_way.is_empty() && self.again.is_empty() {
                return Ok(());
            }
            let room = self.again.is_empty() && self.under_way.len() < self.limits.in_flight;
            let waiting = !self.again.is_empty() && self.under_way.is_empty();
            let pause = self.resume_at.saturating_sub(self.clock.elapsed());
            tokio::select! {
                biased;
                answer = self.sender.next(), if !self.under_way.is_empty() => self.answered(answer)?,
                () = self.clock.sleep(pause), if waiting => {}
                item = input.recv(), if room && !self.input_ended => self.taken(item).await?,
            }
            self.keep_checkpoint(false)?;
        }
    }

    /// Sends what is to be sent again, once its pause is over.
    async fn send_again(&mut self) -> Result<(), Failure> {
        while self.under_way.len() < self.limits.in_flight && self.clock.elapsed() >= self.resume_at {
            let Some(batch) = self.again.pop_front() else {
                return Ok(());
            };
            self.send(batch).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let sent = self.sender.send(id, &batch).await;
        self.under_way.insert(id, batch);
        match sent {
            Ok(()) => Ok(()),
            Err(status) => self.lost(&status),
        }
    }

    async fn taken(&mut self, item: Option<Item>) -> Result<(), Failure> {
        match item {
            Some(Item::Batch(batch)) => {
                self.line = batch.lines.last().copied().unwrap_or(self.line);
                self.send(batch).await
            }
            Some(Item::Wrong { line, problem }) => {
                self.line = line;
                self.wrong(line, &problem);
                Ok(())
            }
            Some(Item::Unreadable { line, problem }) => {
                // What came before it is good; nothing after it can be had.
                self.report.unreadable(line, &problem);
                self.stop(line);
                Ok(())
            }
            Some(Item::End { lines }) => {
                self.line = lines;
                self.input_ended = true;
                Ok(())
            }
            None => {
                self.input_ended = true;
                Ok(())
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Result<(), Failure> {
        match answer {
            Answer::Done(id) => {
                if let Some(batch) = self.under_way.remove(&id) {
                    self.report.written(&batch);
                }
                self.back_off = BACK_OFF_MIN;
                self.stuck_since = None;
                Ok(())
            }
            Answer::Failed(id, status) => match self.under_way.remove(&id) {
                Some(batch) => self.failed(batch, &status),
                None => Ok(()),
            },
            Answer::Lost(status) => self.lost(&status),
        }
    }

    fn failed(&mut self, batch: Batch, status: &Status) -> Result<(), Failure> {
        if let Some(delay) = problem::retry(status) {
            self.put_back(batch);
            return self.pause(delay, status);
        }
        let refused = refused_events(status, batch.events.len());
        if refused.is_empty() {
            return Err(Failure::from(status.clone()));
        }
        for (index, problem) in &refused {
            self.wrong(batch.lines[*index], problem);
        }
        self.put_back(without(batch, &refused));
        Ok(())
    }

    /// Nothing is known of what is under way: all of it goes again.
    fn lost(&mut self, status: &Status) -> Result<(), Failure> {
        let batches = std::mem::take(&mut self.under_way);
        for batch in batches.into_values().rev() {
            self.put_back(batch);
        }
        match problem::retry(status) {
            Some(delay) => self.pause(delay, status),
            None => Err(Failure::from(status.clone())),
        }
    }

    fn put_back(&mut self, mut batch: Batch) {
        if let Some(stop_at) = self.stop_at {
            let keep = batch.lines.partition_point(|line| *line < stop_at);
            batch.events.truncate(keep);
            batch.lines.truncate(keep);
        }
        if !batch.events.is_empty() {
            self.again.push_front(batch);
        }
    }

    fn pause(&mut self, delay: Option<Duration>, status: &Status) -> Result<(), Failure> {
        let now = self.clock.elapsed();
        let since = *self.stuck_since.get_or_insert(now);
        if now.saturating_sub(since) >= self.limits.retry_for {
            return Err(Failure {
                exit: Exit::Unavailable,
                text: format!(
                    "{}\n  tried again for {}; writing is idempotent: run the same command again when the server is back",
                    problem::text(status),
                    crate::units::format_elapsed(self.limits.retry_for)
                ),
            });
        }
        if since == now {
            self.report.pausing(status);
        }
        let pause = delay.unwrap_or(self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        self.resume_at = self.resume_at.max(now + pause);
        Ok(())
    }

    /// An event that can not be written.
    fn wrong(&mut self, line: u64, problem: &str) {
        self.report.wrong(line, problem);
        if !self.limits.skip {
            self.stop(line);
        }
    }

    /// Takes nothing more; what lies before `line` is still written.
    fn stop(&mut self, line: u64) {
        self.input_ended = true;
        self.stop_at = Some(self.stop_at.map_or(line, |before| before.min(line)));
        for batch in std::mem::take(&mut self.again).into_iter().rev() {
            self.put_back(batch);
        }
    }

    /// The last line up to which everything is done with.
    fn durable_line(&self) -> u64 {
        let open = self.under_way.values().chain(&self.again);
        let first_open = open.filter_map(|batch| batch.lines.first()).min();
        let line = first_open.map_or(self.line, |line| line - 1);
        self.stop_at.map_or(line, |stop_at| line.min(stop_at - 1))
    }

    fn keep_checkpoint(&mut self, now: bool) -> Result<(), Failure> {
        let line = self.durable_line();
        let elapsed = self.clock.elapsed();
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        if now || elapsed.saturating_sub(self.checkpoint_at) >= CHECKPOINT_EVERY {
            self.checkpoint_at = elapsed;
            checkpoint
                .store(line)
                .map_err(|error| Failure::internal(format_args!("can not store the checkpoint: {error}")))?;
        }
        Ok(())
    }
}

/// Which events of a batch a status refuses, and why; none when it is about the request as a whole.
fn refused_events(status: &Status, events: usize) -> Vec<(usize, String)> {
    let details = status.get_error_details();
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    for (subject, problem) in problem::violations(&details) {
        let Some((index, field)) = event_of(&subject).filter(|(index, _)| *index < events) else {
            continue;
        };
        let problem = if field.is_empty() {
            problem
        } else {
            format!("{field}: {problem}")
        };
        refused.entry(index).or_insert(problem);
    }
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    // The server names only so many events; when it refused all of them, so do we.
    let all = info.and_then(|info| info.metadata.get("refused")?.parse::<usize>().ok()) == Some(events);
    if all && !refused.is_empty() {
        for index in 0..events {
            refused
                .entry(index)
                .or_insert_with(|| "for the same reason as the events before it".to_owned());
        }
    }
    refused
        .into_iter()
        .map(|(index, problem)| (index, format!("{problem} ({reason})")))
        .collect()
}

/// `events[3].event_time` is about event 3 and its field `event_time`.
fn event_of(subject: &str) -> Option<(usize, &str)> {
    let (index, rest) = subject.strip_prefix("events[")?.split_once(']')?;
    Some((index.parse().ok()?, rest.trim_start_matches('.')))
}

fn without(batch: Batch, refused: &[(usize, String)]) -> Batch {
    let bytes = batch.bytes;
    let (mut events, mut lines) = (Vec::new(), Vec::new());
    for (index, (event, line)) in batch.events.into_iter().zip(batch.lines).enumerate() {
        if refused.binary_search_by_key(&index, |(index, _)| *index).is_err() {
            events.push(event);
            lines.push(line);
        }
    }
    Batch { events, lines, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic::Code;
    use tonic_types::ErrorDetails;

    #[test]
    fn refused_events_are_found_by_their_index() {
        let mut details = ErrorDetails::with_error_info(
            "EVENT_TOO_OLD",
            "anabranch.dev",
            HashMap::from([("refused".to_owned(), "2".to_owned())]),
        );
        details.add_precondition_failure_violation("EVENT_TOO_OLD", "events[2].event_time", "is too old");
        details.add_precondition_failure_violation("EVENT_TOO_OLD", "events[0].event_time", "is too old");
        details.add_precondition_failure_violation("EVENT_TOO_OLD", "namespace", "is slow");
        let status = Status::with_error_details(Code::FailedPrecondition, "x", details);
        let text = "event_time: is too old (EVENT_TOO_OLD)".to_owned();
        assert_eq!(refused_events(&status, 3), [(0, text.clone()), (2, text.clone())]);
        // Both of two: the server may name fewer than it refused.
        assert_eq!(refused_events(&status, 2).len(), 2);
        assert!(refused_events(&Status::not_found("x"), 3).is_empty());
    }

    #[test]
    fn what_is_left_of_a_batch_keeps_its_lines() {
        let event = |id: &str| anabranch_proto::timeseries::v1::EventRecord {
            event_id: id.to_owned(),
            ..Default::default()
        };
        let batch = Batch {
            events: vec![event("a"), event("b"), event("c")],
            lines: vec![7, 8, 10],
            bytes: 3,
        };
        let left = without(batch, &[(1, String::new())]);
        assert_eq!(left.lines, [7, 10]);
        assert_eq!(left.events[1].event_id, "c");
    }
}
