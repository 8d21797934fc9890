//! One line and one measurement for each call, when its answer has left.
//!
//! Names follow OpenTelemetry's RPC conventions, so they carry no prefix of ours.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::Clock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;
use tracing::{debug, info, trace};

use super::admission::Admission;
use crate::errors::Reason;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
}

/// What is measured of calls. Clones share it.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    registry: Arc<Registry>,
    duration: Family<Labels, Histogram>,
    in_flight: Gauge,
    in_flight_bytes: Gauge,
}

const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

impl CallMetrics {
    /// Nothing measured yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let duration =
            Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS.iter().copied()));
        let (in_flight, in_flight_bytes) = (Gauge::default(), Gauge::default());
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Time from a call's arrival until its answer has left",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register("rpc_server_calls_in_flight", "Calls under way", in_flight.clone());
        registry.register(
            "rpc_server_request_bytes_in_flight",
            "Bytes of requests under way",
            in_flight_bytes.clone(),
        );
        Self {
            registry: Arc::new(registry),
            duration,
            in_flight,
            in_flight_bytes,
        }
    }

    /// The metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self, admission: &Admission) -> Result<String, std::fmt::Error> {
        self.in_flight
            .set(i64::try_from(admission.calls_in_flight()).unwrap_or(i64::MAX));
        self.in_flight_bytes
            .set(i64::try_from(admission.bytes_in_flight()).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Two texts of metrics as one: only the last may end in the mark of the end.
pub(super) fn joined(first: &str, second: &str) -> Result<String, std::fmt::Error> {
    let mut all = String::with_capacity(first.len() + second.len());
    write!(all, "{}{second}", first.strip_suffix("# EOF\n").unwrap_or(first))?;
    Ok(all)
}

/// A call under way. Measured and logged when dropped.
#[derive(Debug)]
pub(super) struct Call {
    metrics: CallMetrics,
    clock: Arc<dyn Clock>,
    method: &'static str,
    quiet: bool,
    arrived: Duration,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
struct Outcome {
    code: Code,
    reason: Option<Reason>,
    message: String,
}

impl Call {
    /// A call that has just arrived. It counts as cancelled until it says something else.
    pub(super) fn arrived(
        metrics: CallMetrics,
        clock: Arc<dyn Clock>,
        method: &'static str,
        quiet: bool,
    ) -> Self {
        Self {
            metrics,
            arrived: clock.elapsed(),
            clock,
            method,
            quiet,
            outcome: Outcome {
                code: Code::Cancelled,
                reason: None,
                message: "caller went away".to_owned(),
            },
        }
    }

    /// How it ended.
    pub(super) fn ended(&mut self, code: Code, reason: Option<Reason>, message: &str) {
        self.outcome = Outcome {
            code,
            reason,
            message: message.to_owned(),
        };
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let taken = self.clock.elapsed().saturating_sub(self.arrived).as_secs_f64();
        let Outcome {
            code,
            reason,
            message,
        } = &self.outcome;
        let labels = Labels {
            rpc_method: self.method,
            rpc_response_status_code: code_name(*code),
        };
        self.metrics.duration.get_or_create(&labels).observe(taken);
        let (method, code) = (self.method, labels.rpc_response_status_code);
        match reason {
            _ if self.quiet => trace!(method, code, seconds = taken, "answered"),
            None if self.outcome.code == Code::Ok => debug!(method, code, seconds = taken, "answered"),
            reason => {
                let reason = reason.map_or("", Reason::name);
                info!(
                    method,
                    code,
                    reason,
                    seconds = taken,
                    "answered with an error: {message}"
                );
            }
        }
    }
}

/// A code as OpenTelemetry and `google.rpc.Code` spell it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
