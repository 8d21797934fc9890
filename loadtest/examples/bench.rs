//! The load test against any server: `bench SERVER_PROGRAM [SECONDS] [WIDE_MB] [JSON_FILE]`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use anabranch_loadtest::{Options, null, run};
use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let server = args.next().context("which program is the server?")?;
    if server == "--floor" {
        return null::serve(|line| {
            println!("{line}");
            Ok(())
        })
        .await;
    }
    let mut options = Options::of_this_program(&["--floor"])?;
    options.server = server.into();
    if let Some(seconds) = args.next() {
        options.seconds = seconds.parse()?;
    }
    if let Some(wide_mb) = args.next() {
        options.wide_mb = wide_mb.parse()?;
    }
    let report = run(options, &|what| eprintln!("{what}")).await?;
    print!("{}", report.table());
    if let Some(json) = args.next() {
        std::fs::write(json, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
