//! `demo`: a server on an embedded store, filled with data that looks real and has three ids far too wide;
//! shows what reading them is like, how they are found and split, and what to try next.
//!
//! Everything but the server itself goes over the wire, as any client would.

mod data;
mod heal;
mod latency;
mod load;
mod tour;

use crate::cli::Demo;
use crate::client::Client;
use crate::commands::{Session, load_settings, start, start_logs};
use crate::exit::Failure;
use crate::output::{print_line, say};
use crate::settings::Settings;
use data::Size;

/// The namespace that the demo fills.
pub(crate) const NAMESPACE: &str = "demo";

pub(crate) async fn run(session: &Session, demo: Demo) -> Result<(), Failure> {
    if !(demo.scale > 0.0 && demo.scale <= 100.0) {
        return Err(Failure::usage("--scale: use a number above 0 and up to 100"));
    }
    let (settings, _) = load_settings(&demo.settings)?;
    start_logs("warn,lsm_tree=off")?;
    let served = start(session.clock.clone(), &settings).await?;
    let url = served.url().to_owned();
    print_line(&format!("listening on {url}"))?;
    tokio::select! {
        shown = show(session, &settings, &url, Size::of(demo.scale)) => shown?,
        // A load that is cut short is known as such, and started again by the next run.
        () = interrupted() => {
            say("interrupted");
            return served.stop().await;
        }
    }
    if demo.exit {
        return served.stop().await;
    }
    say("serving until Ctrl-C; the data is kept");
    served.until_told().await
}

async fn show(session: &Session, settings: &Settings, url: &str, size: Size) -> Result<(), Failure> {
    print_line(&format!(
        "anabranch {}, one node, {}\n  \
         data      {}   (set with --data-dir)\n  \
         listen    {url}   (set with --listen)\n  \
         auth      none: loopback only\n  \
         metrics   {url}/metrics\n",
        env!("CARGO_PKG_VERSION"),
        settings.store.kind(),
        settings.store.place(),
    ))?;
    let client = Client::connect(url).await?;
    load::ensure(session, &client, size).await?;
    tour::run(session, &client).await?;
    heal::run(session, &client).await?;
    tour::print_next(url)
}

async fn interrupted() {
    // Without signals there is nothing to wait for.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
