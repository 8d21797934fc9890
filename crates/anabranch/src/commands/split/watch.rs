//! `split watch`: how splits change, as they do.
//!
//! A person gets the table again and again; a program gets a line for each split that changed, and one that says
//! `removed` for each that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_proto::admin::v1::split::State;
use anabranch_proto::admin::v1::{Partition, Split as Message};
use anabranch_runtime::{Clock, Deadline};
use serde_json::json;

use super::{MESSAGE, Session, list, partition_text, sheet};
use crate::client::Client;
use crate::commands::say;
use crate::exit::{Exit, Failure};
use crate::messages;
use crate::output::{Format, clear_screen, print_line};
use crate::units::counted;

pub(super) async fn run(
    session: &Session,
    client: &mut Client,
    namespace: &str,
    every: Duration,
    stop_after: Option<Duration>,
) -> Result<(), Failure> {
    let clock = &*session.clock;
    let ends = stop_after.map(|wait| Deadline::after(clock, wait));
    let mut seen = BTreeMap::new();
    let mut silent = false;
    loop {
        match list(client, namespace, State::Unspecified).await {
            Ok(splits) => {
                silent = false;
                if session.format == Format::Table {
                    draw(session, namespace, &splits)?;
                } else {
                    tell(&mut seen, &splits)?;
                }
            }
            // The server may be starting again.
            Err(failure) if failure.exit == Exit::Unavailable => {
                if !silent {
                    say(&failure.text);
                }
                silent = true;
            }
            Err(failure) => return Err(failure),
        }
        let wait = ends.map_or(every, |ends| ends.left(clock).min(every));
        if wait.is_zero() {
            return Ok(());
        }
        clock.sleep(wait).await;
    }
}

fn draw(session: &Session, namespace: &str, splits: &[Message]) -> Result<(), Failure> {
    clear_screen()?;
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for split in splits {
        *states.entry(split.state().as_str_name()).or_default() += 1;
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    print_line(&format!(
        "{namespace}: {}  {}",
        counted(splits.len() as u64, "split"),
        states.join(", ")
    ))?;
    sheet(splits).print(session.format)
}

/// Prints what is not as it was seen last.
fn tell(seen: &mut BTreeMap<String, Message>, splits: &[Message]) -> Result<(), Failure> {
    for line in changes(seen, splits) {
        print_line(&line)?;
    }
    Ok(())
}

fn changes(seen: &mut BTreeMap<String, Message>, splits: &[Message]) -> Vec<String> {
    let mut lines = Vec::new();
    let now: BTreeMap<String, Message> = splits
        .iter()
        .map(|split| {
            let text = split.partition.as_ref().map(partition_text);
            (text.unwrap_or_default(), split.clone())
        })
        .collect();
    for (partition, split) in &now {
        if seen.get(partition) != Some(split) {
            lines.push(messages::to_json(MESSAGE, split, false).to_string());
        }
    }
    for (partition, split) in &*seen {
        if !now.contains_key(partition) {
            let partition: &Partition = &split.partition.clone().unwrap_or_default();
            let partition = messages::to_json("anabranch.admin.v1.Partition", partition, false);
            lines.push(json!({"partition": partition, "removed": true}).to_string());
        }
    }
    *seen = now;
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(id: &str, state: State) -> Message {
        Message {
            partition: Some(Partition {
                time_slice: "20260101".to_owned(),
                time_series_id: id.to_owned(),
                ..Partition::default()
            }),
            state: state.into(),
            ..Message::default()
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut seen = BTreeMap::new();
        let first = [split("a", State::Planning), split("b", State::Completed)];
        assert_eq!(changes(&mut seen, &first).len(), 2);
        assert_eq!(changes(&mut seen, &first), [""; 0]);
        let second = [split("a", State::Planned), split("b", State::Completed)];
        let told = changes(&mut seen, &second);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("\"PLANNED\""), "{}", told[0]);
        // An object's keys have no order: which one they are printed in depends on how serde_json was built.
        let told: Vec<serde_json::Value> = changes(&mut seen, &second[..1])
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            told,
            [json!({"partition": {"timeSlice": "20260101", "timeSeriesId": "b"}, "removed": true})]
        );
    }
}
