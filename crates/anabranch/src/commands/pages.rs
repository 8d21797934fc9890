//! Walks the pages of an answer and prints them.
//!
//! - Without `--all` one page is printed, and the command that prints the next one is said.
//! - A page cut by its time limit is printed as it is; exit code 6 says so when nothing follows it.

use std::future::Future;
use std::time::Duration;

use anabranch_proto::timeseries::v1::{EventRecord, ResponseContext, TimeInterval};
use anabranch_runtime::Clock;
use tonic::Status;

use super::{Session, explain, say};
use crate::cli::Paging;
use crate::exit::{Exit, Failure};
use crate::output::records::Records;
use crate::output::{Format, program, stdout};
use crate::problem;
use crate::units::{counted, format_time};

/// Times that a page is asked for again when the server can not be reached; only with `--all`, where a walk
/// of an hour should not end by a hiccup.
const TRIES_MAX: u32 = 5;

/// A page of events.
pub(super) struct Page {
    pub(super) records: Vec<EventRecord>,
    pub(super) next_page_token: String,
    pub(super) context: Vec<ResponseContext>,
}

/// Prints one page, or all of them.
pub(super) async fn print<F, Fut>(
    session: &Session,
    paging: &Paging,
    interval: Option<&TimeInterval>,
    with_ids: bool,
    mut fetch: F,
) -> Result<(), Failure>
where
    F: FnMut(String) -> Fut,
    Fut: Future<Output = Result<Page, Status>>,
{
    let mut records = Records::new(stdout(), session.format, with_ids);
    let mut token = paging.page_token.clone();
    loop {
        let page = fetch_page(session, paging.all, &token, &mut fetch).await?;
        records.page(&page.records)?;
        explain::context(&page.context, paging.explain);
        token = page.next_page_token;
        if !token.is_empty() && paging.all {
            continue;
        }
        let printed = records.finish()?;
        let partial = page.context.iter().any(|context| context.partial);
        if !token.is_empty() {
            if session.format == Format::Table {
                say(format!("{}, and more", counted(printed, "event")));
            }
            say(format!(
                "next page: {}",
                next_command(&program(), std::env::args().skip(1), interval, &token)
            ));
        } else if session.format == Format::Table {
            say(counted(printed, "event"));
        }
        return if partial && !token.is_empty() {
            Err(Failure::said(Exit::Partial))
        } else {
            Ok(())
        };
    }
}

async fn fetch_page<F, Fut>(
    session: &Session,
    again: bool,
    token: &str,
    fetch: &mut F,
) -> Result<Page, Failure>
where
    F: FnMut(String) -> Fut,
    Fut: Future<Output = Result<Page, Status>>,
{
    let mut tries = 1;
    loop {
        match fetch(token.to_owned()).await {
            Ok(page) => return Ok(page),
            Err(status) => match problem::retry(&status) {
                Some(delay) if again && tries < TRIES_MAX => {
                    let delay = delay.unwrap_or(Duration::from_millis(200 << tries));
                    session.clock.sleep(delay).await;
                    tries += 1;
                }
                _ => return Err(status.into()),
            },
        }
    }
}

/// The command line that prints the next page: this one with a token, and with the times that it meant,
/// because the token belongs to exactly these.
fn next_command(
    program: &str,
    args: impl Iterator<Item = String>,
    interval: Option<&TimeInterval>,
    token: &str,
) -> String {
    let mut words = vec![quote(program)];
    let mut skip_value = false;
    for arg in args {
        if std::mem::take(&mut skip_value) {
            continue;
        }
        let name = arg.split_once('=').map_or(&*arg, |(name, _)| name);
        if ["--page-token", "--start", "--end"].contains(&name) {
            skip_value = name == arg;
            continue;
        }
        words.push(quote(&arg));
    }
    for (flag, time) in [
        ("--start", interval.and_then(|interval| interval.start)),
        ("--end", interval.and_then(|interval| interval.end)),
    ] {
        if let Some(time) = time {
            words.push(format!("{flag} {}", format_time(&time)));
        }
    }
    words.push(format!("--page-token {}", quote(token)));
    words.join(" ")
}

/// A word as a shell reads it back.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_with_the_times_that_were_meant() {
        let args = [
            "read",
            "demo",
            "--id",
            "it's",
            "--start",
            "-7d",
            "--page-token=old",
            "--explain",
        ];
        let interval = TimeInterval {
            start: Some(prost_types::Timestamp {
                seconds: 60,
                nanos: 0,
            }),
            end: None,
        };
        assert_eq!(
            next_command(
                "anabranch",
                args.iter().map(ToString::to_string),
                Some(&interval),
                "new"
            ),
            r"anabranch read demo --id 'it'\''s' --explain --start 1970-01-01T00:01:00Z --page-token new"
        );
    }
}
