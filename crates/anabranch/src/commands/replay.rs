//! `replay`: the events that a query finds, sent to a Kafka topic.
//!
//! ```text
//! query names ids ─▶ walk: pages in event order ─────────────────────────────┐
//! any other ─▶ scan: pages in partition order ─▶ ids not seen yet ─▶ batch ─▶ walk of those ids ─▶ send ─▶ topic
//!                                                                          └▶ newest of each ──┘
//! ```
//!
//! - Events of one id are sent in event order, oldest first, keyed by their id. A scan meets an id in several places, so it
//!   only tells which ids there are; each is then walked from end to end, once.
//! - A page is sent only when every message of the page before is confirmed, and stored in the checkpoint only when all of
//!   its own are: a replay that went on after a stop repeats at most the page that was under way, and leaves nothing out.
//! - `--one-per-id` sends the newest event that the query finds of each id; after a stop it repeats at most a batch of ids.

mod checkpoint;
mod send;
mod source;

use std::collections::HashSet;

use anabranch_bus::kafka::{Connection, Field, KafkaError, Outlet, Properties};
use anabranch_proto::timeseries::v1::TimeInterval;
use anabranch_runtime::{Clock, error_chain};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use self::checkpoint::{Begun, Checkpoint, Progress as Done};
use self::send::Sender;
use self::source::Source;
use super::Session;
use super::search::parse_query;
use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::output::Sheet;
use crate::output::progress::Progress;
use crate::units::{counted, format_elapsed, format_size, format_time, parse_time};

/// Ids that are walked at once. Their events are merged by time, so each stays in order.
const BATCH: usize = 64;

pub(super) async fn run(session: &Session, replay: Replay) -> Result<(), Failure> {
    let query = parse_query(replay.query.as_deref())?;
    let begun = Begun {
        namespace: replay.namespace.clone(),
        query: replay.query.clone(),
        start: replay.start.clone(),
        end: replay.end.clone(),
        topic: replay.topic.clone(),
        one_per_id: replay.one_per_id,
        from: format_time(&session.time("--start", &replay.start)?),
        to: format_time(&session.time("--end", &replay.end)?),
    };
    let connection = connection(&replay)?;
    let (checkpoint, done) = Checkpoint::open(replay.checkpoint.as_deref(), begun).map_err(Failure::usage)?;
    let progress = Progress::open_ended();
    if done.finished {
        progress.say("this replay was finished; to send everything again, remove the checkpoint");
        return Ok(());
    }
    if !done.is_new() {
        progress.say(&format!(
            "going on where it was: {} are done",
            counted(done.seen.len() as u64, "id")
        ));
    }
    // The times that it began with: what is relative to now stays what it was.
    let interval = TimeInterval {
        start: Some(resolved(checkpoint.from())?),
        end: Some(resolved(checkpoint.to())?),
    };
    let client = session.client().await?;
    let outlet = Outlet::open(&connection, &replay.topic)
        .await
        .map_err(|error| failure(&error))?;
    let started = session.clock.elapsed();
    let source = Source {
        clock: session.clock.clone(),
        events: client.events,
        namespace: replay.namespace.clone(),
        query,
        interval,
        retry_for: replay.retry_for,
    };
    let sender = Sender::new(session.clock.clone(), outlet, &replay, progress);
    let mut replaying = Replaying {
        one_per_id: replay.one_per_id,
        source,
        sender,
        checkpoint,
        seen: done.seen.clone(),
    };
    let ended = replaying.go_on(done).await;
    let Replaying { sender, .. } = replaying;
    let sent = sender.finish().await;
    let took = session.clock.elapsed().saturating_sub(started);
    super::say(format!(
        "sent {} of {} ({}) to {} in {}",
        counted(sent.events, "event"),
        counted(sent.ids, "id"),
        format_size(sent.bytes),
        replay.topic,
        format_elapsed(took)
    ));
    if let Err(mut failure) = ended {
        failure.text.push_str(match replay.checkpoint {
            Some(_) => "\n  run the same command again to go on",
            None => "\n  with --checkpoint FILE it would go on where it was; without, it begins again",
        });
        return Err(failure);
    }
    let mut sheet = Sheet::new(&["namespace", "topic", "events", "ids", "bytes"]);
    let cells = vec![
        replay.namespace.clone(),
        replay.topic.clone(),
        sent.events.to_string(),
        sent.ids.to_string(),
        sent.bytes.to_string(),
    ];
    let json = json!({
        "namespace": replay.namespace,
        "topic": replay.topic,
        "events": sent.events,
        "ids": sent.ids,
        "bytes": sent.bytes,
    });
    sheet.row(cells, json);
    sheet.print(session.format)
}

fn connection(replay: &Replay) -> Result<Connection, Failure> {
    let mut connection = Connection::to(&replay.brokers);
    if let Some(path) = &replay.kafka_properties {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format_args!("--kafka-properties {}: {error}", path.display()))
        })?;
        connection.properties = Properties::parse(&text).map_err(|error| failure(&error))?;
    }
    Ok(connection)
}

/// A time of the checkpoint, which is absolute.
fn resolved(text: &str) -> Result<prost_types::Timestamp, Failure> {
    parse_time(text, 0).map_err(|problem| Failure::usage(format_args!("--checkpoint: {problem}")))
}

/// An error of Kafka, with the flag that it is about.
fn failure(error: &KafkaError) -> Failure {
    let flag = match error.field() {
        Some(Field::Brokers) => "--brokers: ",
        Some(Field::Topic) => "--topic: ",
        Some(Field::Properties) => "--kafka-properties: ",
        _ => "",
    };
    let exit = match error {
        KafkaError::Setting { .. } => Exit::Usage,
        KafkaError::TopicAbsent { .. } | KafkaError::TopicRefused { .. } => Exit::Refused,
        KafkaError::Unreachable { .. } | KafkaError::Unconfirmed { .. } | KafkaError::Full { .. } => {
            Exit::Unavailable
        }
        _ => Exit::Internal,
    };
    Failure {
        exit,
        text: format!("error: {flag}{}", error_chain(error)),
    }
}

/// A replay under way.
struct Replaying {
    one_per_id: bool,
    source: Source,
    sender: Sender,
    checkpoint: Checkpoint,
    /// Ids that are done.
    seen: HashSet<u128>,
}

impl Replaying {
    async fn go_on(&mut self, done: Done) -> Result<(), Failure> {
        let walks = match done.is_new() {
            true => !self.one_per_id && self.source.names_ids().await?,
            false => done.walk.is_some(),
        };
        if walks {
            self.walk(None, done.walk.unwrap_or_default()).await?;
        } else {
            if let Some((ids, token)) = done.batch {
                self.batch(&ids, token).await?;
            }
            self.scan(done.scanned.unwrap_or_default()).await?;
        }
        self.checkpoint.finished().map_err(unkept)
    }

    /// Finds ids, and sends each that was not seen yet.
    async fn scan(&mut self, mut token: String) -> Result<(), Failure> {
        loop {
            let page = self.source.ids(token).await?;
            let mut new: Vec<String> = Vec::new();
            for id in page.ids {
                // A page has the events of an id side by side.
                if new.last() != Some(&id) && !new.contains(&id) && !self.seen.contains(&hash(&id)) {
                    new.push(id);
                }
            }
            for ids in new.chunks(BATCH) {
                self.checkpoint.batch(ids).map_err(unkept)?;
                self.batch(ids, String::new()).await?;
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            self.checkpoint.scanned(&page.next_page_token).map_err(unkept)?;
            token = page.next_page_token;
        }
    }

    /// Sends what there is of some ids.
    async fn batch(&mut self, ids: &[String], token: String) -> Result<(), Failure> {
        if self.one_per_id {
            let newest = self.source.newest(ids).await?;
            self.sender.send(&newest).await?;
        } else {
            self.walk(Some(ids), token).await?;
        }
        self.seen.extend(ids.iter().map(|id| hash(id)));
        self.checkpoint.done().map_err(unkept)
    }

    /// Sends pages in event order, on from a token. The next page is read while one is sent.
    async fn walk(&mut self, ids: Option<&[String]>, token: String) -> Result<(), Failure> {
        let mut page = self.source.page(ids, token).await?;
        loop {
            let next = std::mem::take(&mut page.next_page_token);
            let following = async {
                match next.is_empty() {
                    true => Ok(None),
                    false => self.source.page(ids, next.clone()).await.map(Some),
                }
            };
            let (sent, following) = tokio::join!(self.sender.send(&page.records), following);
            sent?;
            if next.is_empty() {
                return Ok(());
            }
            self.checkpoint.page(&next).map_err(unkept)?;
            match following? {
                Some(following) => page = following,
                None => return Ok(()),
            }
        }
    }
}

fn hash(id: &str) -> u128 {
    xxh3_128(id.as_bytes())
}

fn unkept(error: std::io::Error) -> Failure {
    Failure::internal(format_args!("--checkpoint: can not be written: {error}"))
}
