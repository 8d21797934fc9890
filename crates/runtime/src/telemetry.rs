//! Logs and metrics: where they go.
//!
//! Logs are for people on a terminal and JSON otherwise, always on stderr; `ANABRANCH_LOG` filters
//! them (`info`, `anabranch_server=debug`, …). Metrics are kept in one registry under the prefix
//! `anabranch`.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// Environment variable with the log filter.
pub const LOG_VARIABLE: &str = "ANABRANCH_LOG";

/// Starts logging. Called once, by the binary.
///
/// # Errors
/// When the filter in `ANABRANCH_LOG` does not parse, or logging was started before.
pub fn start_logs(default_filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let text = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| default_filter.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| format!("{LOG_VARIABLE}=`{text}`: {error}"))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.json().try_init()
    }
}

/// The process's metrics. Clones share one registry.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("anabranch"))))
    }
}

impl Metrics {
    /// Lets a component register what it counts.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every metric in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn what_is_registered_is_printed() {
        let metrics = Metrics::default();
        let counter = Counter::<u64>::default();
        metrics.register(|registry| registry.register("writes", "Writes so far", counter.clone()));
        counter.inc();
        assert!(metrics.encode().unwrap().contains("anabranch_writes_total 1"));
    }
}
