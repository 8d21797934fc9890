//! `split`: what has happened to wide partitions, and what an operator can do about it.

mod partition;
mod watch;

use anabranch_proto::admin::v1::split::State;
use anabranch_proto::admin::v1::{
    GetSplitRequest, InvalidateSplitRequest, ListSplitsRequest, PlanSplitRequest, RetrySplitRequest,
    Split as Message, SplitPreview, SplitTarget,
};

pub(crate) use partition::text as partition_text;

use super::{Session, print_sheet};
use crate::cli::Split;
use crate::client::Client;
use crate::exit::Failure;
use crate::messages;
use crate::output::{Format, Sheet, flatten, print_line, print_one};
use crate::units::{format_count, format_size, format_time};

const MESSAGE: &str = "anabranch.admin.v1.Split";
const PREVIEW: &str = "anabranch.admin.v1.SplitPreview";

pub(super) async fn run(session: &Session, command: Split) -> Result<(), Failure> {
    let mut client = session.client().await?;
    match command {
        Split::List { namespace, state } => {
            let splits = list(&mut client, &namespace, state.unwrap_or_default()).await?;
            print_sheet(session, &sheet(&splits))
        }
        Split::Show { which } => {
            let partition = partition::of(session, &mut client, &which).await?;
            let request = GetSplitRequest {
                namespace: which.namespace,
                partition: Some(partition),
            };
            print(session, &client.admin.get_split(request).await?.into_inner())
        }
        Split::Watch {
            namespace,
            every,
            stop_after,
        } => watch::run(session, &mut client, &namespace, every, stop_after).await,
        Split::Plan { which, dry_run } => {
            let partition = partition::of(session, &mut client, &which).await?;
            let request = PlanSplitRequest {
                namespace: which.namespace,
                partition: Some(partition),
                dry_run,
            };
            let answer = client.admin.plan_split(request).await?.into_inner();
            match (answer.split, answer.preview) {
                (Some(split), _) => print(session, &split),
                (None, Some(preview)) => print_preview(session, &preview),
                (None, None) => Err(Failure::internal(
                    "the server's answer holds neither split nor plan",
                )),
            }
        }
        Split::Retry { which } => {
            let partition = partition::of(session, &mut client, &which).await?;
            let request = RetrySplitRequest {
                namespace: which.namespace,
                partition: Some(partition),
            };
            let answer = client.admin.retry_split(request).await?.into_inner();
            print(session, &answer.split.unwrap_or_default())
        }
        Split::Invalidate { which } => {
            let partition = partition::of(session, &mut client, &which).await?;
            let request = InvalidateSplitRequest {
                namespace: which.namespace,
                partition: Some(partition),
            };
            let answer = client.admin.invalidate_split(request).await?.into_inner();
            print(session, &answer.split.unwrap_or_default())
        }
    }
}

/// A state of the command line: as the server names it, in any case.
pub(crate) fn parse_state(text: &str) -> Result<State, String> {
    let name = text.to_uppercase().replace('-', "_");
    State::from_str_name(&name)
        .filter(|state| *state != State::Unspecified)
        .ok_or_else(|| {
            let known: Vec<&str> = (1..)
                .map_while(|number| State::try_from(number).ok())
                .map(|state| state.as_str_name())
                .collect();
            format!("`{text}` is no state of a split; use one of {}", known.join(", "))
        })
}

/// Every split of a namespace, of those in a state if it is not `STATE_UNSPECIFIED`.
async fn list(client: &mut Client, namespace: &str, state: State) -> Result<Vec<Message>, Failure> {
    let (mut splits, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSplitsRequest {
            namespace: namespace.to_owned(),
            state: state.into(),
            page_size: 1_000,
            page_token,
        };
        let answer = client.admin.list_splits(request).await?.into_inner();
        splits.extend(answer.splits);
        if answer.next_page_token.is_empty() {
            return Ok(splits);
        }
        page_token = answer.next_page_token;
    }
}

fn sheet(splits: &[Message]) -> Sheet {
    let mut sheet = Sheet::new(&[
        "partition",
        "state",
        "generation",
        "source",
        "targets",
        "serving",
        "gain",
        "attempts",
        "update_time",
        "reason",
    ]);
    for split in splits {
        let cells = vec![
            split.partition.as_ref().map(partition_text).unwrap_or_default(),
            split.state().as_str_name().to_owned(),
            split.generation.to_string(),
            format_size(count(split.source_bytes)),
            split.target_count.to_string(),
            if split.serving_generation == 0 {
                "-".to_owned()
            } else {
                split.serving_generation.to_string()
            },
            split
                .gain_ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}x")),
            split.attempts.to_string(),
            split.update_time.as_ref().map(format_time).unwrap_or_default(),
            reason(split),
        ];
        sheet.row(cells, messages::to_json(MESSAGE, split, false));
    }
    sheet
}

/// Why it is where it is, and until when it waits.
fn reason(split: &Message) -> String {
    let mut text = split.reason.clone();
    if let Some(time) = &split.retry_time {
        let until = format!("until {}", format_time(time));
        text = [text, until].join(" ").trim().to_owned();
    }
    if !split.detail.is_empty() {
        text = format!("{text}: {}", split.detail);
    }
    text
}

fn print(session: &Session, split: &Message) -> Result<(), Failure> {
    let json = messages::to_json(MESSAGE, split, false);
    let alone = Message {
        targets: Vec::new(),
        ..split.clone()
    };
    let fields = flatten(&messages::to_json(MESSAGE, &alone, false));
    print_one(session.format, &fields, &json)?;
    print_targets(session, &split.targets)
}

fn print_preview(session: &Session, preview: &SplitPreview) -> Result<(), Failure> {
    let json = messages::to_json(PREVIEW, preview, false);
    let alone = SplitPreview {
        targets: Vec::new(),
        ..preview.clone()
    };
    let mut fields = flatten(&messages::to_json(PREVIEW, &alone, false));
    let worth = if preview.targets.is_empty() { "no" } else { "yes" };
    fields.insert(0, ("wouldSplit".to_owned(), worth.to_owned()));
    print_one(session.format, &fields, &json)?;
    print_targets(session, &preview.targets)
}

/// Targets under the thing that has them, for a person; the other forms hold them already.
fn print_targets(session: &Session, targets: &[SplitTarget]) -> Result<(), Failure> {
    if session.format != Format::Table || targets.is_empty() {
        return Ok(());
    }
    print_line("")?;
    let mut sheet = Sheet::new(&[
        "target",
        "generation",
        "serving",
        "size",
        "events",
        "oldest_event_time",
        "newest_event_time",
    ]);
    let time = |time: Option<&prost_types::Timestamp>| time.map(format_time).unwrap_or_default();
    for target in targets {
        sheet.cells(vec![
            target.event_bucket.to_string(),
            target.generation.to_string(),
            if target.serving { "yes" } else { "no" }.to_owned(),
            format_size(count(target.bytes)),
            format_count(count(target.events)),
            time(target.oldest_event_time.as_ref()),
            time(target.newest_event_time.as_ref()),
        ]);
    }
    print_sheet(session, &sheet)
}

/// A number of the wire, which never counts below zero.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_in_any_case() {
        assert_eq!(parse_state("not-worth-it"), Ok(State::NotWorthIt));
        assert_eq!(parse_state("COMPLETED"), Ok(State::Completed));
        let problem = parse_state("STATE_UNSPECIFIED").unwrap_err();
        assert!(problem.contains("QUARANTINED"), "{problem}");
    }

    #[test]
    fn a_split_that_waits_says_until_when() {
        let mut split = Message {
            reason: "STORE_FAILED".to_owned(),
            retry_time: Some(prost_types::Timestamp::default()),
            ..Message::default()
        };
        assert_eq!(reason(&split), "STORE_FAILED until 1970-01-01T00:00:00Z");
        split.retry_time = None;
        split.detail = "disk is gone".to_owned();
        assert_eq!(reason(&split), "STORE_FAILED: disk is gone");
    }
}
