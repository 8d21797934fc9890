//! `errors`: the catalogue of errors, which every server of this version answers with.

use anabranch_server::errors::{Entry, Reason};
use anabranch_server::http::code_name;
use serde_json::json;

use super::{Session, print_sheet};
use crate::exit::Failure;
use crate::output::{Format, Sheet, print_one};
use crate::problem;

pub(super) fn run(session: &Session, reason: Option<&str>) -> Result<(), Failure> {
    match reason {
        Some(reason) => one(session, reason),
        None => all(session),
    }
}

fn one(session: &Session, reason: &str) -> Result<(), Failure> {
    let wanted = reason.to_uppercase();
    let Some(entry) = problem::entry(&wanted) else {
        let known = Reason::ALL.iter().map(|reason| reason.entry().reason);
        let hint = anabranch_server::errors::did_you_mean(&wanted, known);
        return Err(Failure::usage(format_args!(
            "there is no error `{reason}`{hint}\n  more:  anabranch errors"
        )));
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = vec![
        field("reason", entry.reason),
        field("means", entry.summary),
        field("fix", entry.fix),
        field("code", &format!("{}, HTTP {}", code_name(entry.code), entry.http)),
        field("detail", &format!("{:?}", entry.detail)),
        field("for example", entry.example),
    ];
    if let Some(delay) = entry.retry_after_ms {
        fields.push(field(
            "again",
            &format!("after {delay} ms, or what the answer says"),
        ));
    }
    if session.format == Format::Table {
        // Sentences are not cut to the terminal.
        let text: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name:<13}{value}"))
            .collect();
        return crate::output::print_line(&text.join("\n"));
    }
    print_one(session.format, &fields, &json_of(entry))
}

fn all(session: &Session) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&["reason", "code", "http", "summary"]);
    for reason in Reason::ALL {
        let entry = reason.entry();
        let cells = vec![
            entry.reason.to_owned(),
            code_name(entry.code).to_owned(),
            entry.http.to_string(),
            entry.summary.to_owned(),
        ];
        sheet.row(cells, json_of(entry));
    }
    print_sheet(session, &sheet)
}

fn json_of(entry: &Entry) -> serde_json::Value {
    json!({
        "reason": entry.reason,
        "code": code_name(entry.code),
        "http": entry.http,
        "detail": format!("{:?}", entry.detail),
        "retryAfterMs": entry.retry_after_ms,
        "summary": entry.summary,
        "fix": entry.fix,
        "example": entry.example,
    })
}
