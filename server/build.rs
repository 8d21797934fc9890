//! Turns `src/errors.toml` into the enum `Reason` and its table, so that the catalogue can not drift from the code.

use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    error: Vec<Entry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    reason: String,
    code: String,
    detail: String,
    http: Option<u16>,
    retry_after_ms: Option<u64>,
    summary: String,
    fix: String,
    example: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/errors.toml");
    println!("cargo::rerun-if-changed=build.rs");
    let file: File = toml::from_str(&fs::read_to_string("src/errors.toml")?)?;

    let (mut variants, mut all, mut arms) = (String::new(), String::new(), String::new());
    for entry in &file.error {
        let name = camel(&entry.reason);
        writeln!(variants, "/// {}: {}.\n{name},", entry.reason, entry.summary)?;
        writeln!(all, "Reason::{name},")?;
        let http = match entry.http {
            Some(http) => http,
            None => http_of(&entry.code)?,
        };
        writeln!(
            arms,
            "Reason::{name} => &Entry {{ reason: {:?}, code: Code::{}, detail: Detail::{}, http: {http}, \
             retry_after_ms: {:?}, summary: {:?}, fix: {:?}, example: {:?} }},",
            entry.reason,
            camel(&entry.code),
            entry.detail,
            entry.retry_after_ms,
            entry.summary,
            entry.fix,
            entry.example,
        )?;
    }
    let code = format!(
        "/// Why a request failed. Made from `errors.toml`.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\npub enum Reason {{\n{variants}}}\n\
         impl Reason {{\n/// Every reason, in the order of the catalogue.\npub const ALL: &'static [Reason] = &[\n{all}];\n\
         /// What the catalogue says of it.\npub const fn entry(self) -> &'static Entry {{\nmatch self {{\n{arms}}}\n}}\n}}\n"
    );
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("reasons.rs"), code)?;
    Ok(())
}

/// `PAGE_TOKEN_INVALID` to `PageTokenInvalid`.
fn camel(name: &str) -> String {
    let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    name.split('_').map(word).collect()
}

/// The usual HTTP status of a gRPC code, as `google.rpc.Code` lists them.
fn http_of(code: &str) -> Result<u16, String> {
    Ok(match code {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" => 400,
        "NOT_FOUND" => 404,
        "ALREADY_EXISTS" | "ABORTED" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "INTERNAL" | "DATA_LOSS" => 500,
        "UNIMPLEMENTED" => 501,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        other => return Err(format!("errors.toml: code {other} has no HTTP status here")),
    })
}
