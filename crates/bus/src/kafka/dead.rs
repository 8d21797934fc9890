//! Messages that are no detections: kept in a topic of their own, with the reason.
//!
//! A dead letter is dealt with once the dead-letter topic has it. It is tried some times; then the log says where in the
//! topic the message is and it is passed over: it was a hint, and the next wide read gives it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::producer::{Outcome, Outgoing, Producer};
use super::shared::Shared;
use super::window::Place;

/// The reason, in words.
pub const REASON_HEADER: &str = "anabranch-reason";
/// The topic that the message was read from.
pub const TOPIC_HEADER: &str = "anabranch-topic";
/// The partition of that topic.
pub const PARTITION_HEADER: &str = "anabranch-partition";
/// The message's offset in there.
pub const OFFSET_HEADER: &str = "anabranch-offset";

/// Wait after an attempt that failed; as often as there were attempts.
const ATTEMPT_WAIT: Duration = Duration::from_secs(1);

/// A message to be sent to the dead-letter topic as it came.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) place: Place,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) reason: String,
    pub(super) attempts: u32,
    /// Not before this, on the clock's elapsed time.
    pub(super) due: Duration,
}

/// Where dead letters go.
#[derive(Debug)]
pub(super) struct DeadLetters {
    pub(super) producer: Arc<Producer>,
    pub(super) shared: Arc<Shared>,
    /// Where they were read from.
    pub(super) topic: String,
    /// Where they go.
    pub(super) to: String,
    pub(super) attempts_max: u32,
}

impl DeadLetters {
    /// Sends those that are due.
    pub(super) fn send_due(&self, now: Duration) {
        let due: VecDeque<DeadLetter> = {
            let dead = &mut self.shared.state().dead;
            let (due, later) = dead.drain(..).partition(|letter| letter.due <= now);
            *dead = later;
            due
        };
        for letter in due {
            self.send(letter, now);
        }
    }

    fn send(&self, letter: DeadLetter, now: Duration) {
        let (partition, offset) = (
            letter.place.topic_partition.to_string(),
            letter.place.offset.to_string(),
        );
        let headers = [
            (REASON_HEADER, letter.reason.as_bytes()),
            (TOPIC_HEADER, self.topic.as_bytes()),
            (PARTITION_HEADER, partition.as_bytes()),
            (OFFSET_HEADER, offset.as_bytes()),
        ];
        let message = Outgoing {
            topic: &self.to,
            key: &letter.key,
            value: letter.value.as_deref(),
            headers: &headers,
        };
        let sent = {
            let (shared, letter) = (self.shared.clone(), letter.clone());
            let (topic, attempts_max) = (self.topic.clone(), self.attempts_max);
            self.producer.send(message, move |outcome| {
                settle(&shared, letter, &topic, attempts_max, now, outcome);
            })
        };
        if let Err(error) = sent {
            warn!(%error, "dead letter waits");
            let due = now + ATTEMPT_WAIT;
            self.shared.state().dead.push_back(DeadLetter { due, ..letter });
        }
    }
}

fn settle(
    shared: &Shared,
    mut letter: DeadLetter,
    topic: &str,
    attempts_max: u32,
    sent: Duration,
    outcome: Outcome,
) {
    let Err(code) = outcome else {
        shared.state().window.done(letter.place);
        shared.metrics.dead_letter();
        return;
    };
    letter.attempts += 1;
    if letter.attempts < attempts_max {
        letter.due = sent + ATTEMPT_WAIT * letter.attempts;
        shared.state().dead.push_back(letter);
        return;
    }
    error!(
        topic,
        partition = letter.place.topic_partition,
        offset = letter.place.offset,
        reason = letter.reason,
        %code,
        "the dead-letter topic does not take a message; it is passed over"
    );
    shared.state().window.done(letter.place);
    shared.metrics.dead_letter_lost();
}
