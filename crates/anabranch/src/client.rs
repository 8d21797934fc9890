//! The connection to a server.

use std::time::Duration;

use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::exit::{Exit, Failure};

/// Where a server listens unless it is told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7600";

/// Largest answer taken: a page of the largest events, and some.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How long a change of a namespace may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Both services of a server, over one connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Events.
    pub(crate) events: TimeSeriesServiceClient<Channel>,
    /// Namespaces and the server itself.
    pub(crate) admin: AdminServiceClient<Channel>,
}

impl Client {
    /// Connects, so that a server that is not there is noticed before anything else happens.
    pub(crate) async fn connect(server: &str) -> Result<Self, Failure> {
        let channel = endpoint(server)?.connect().await.map_err(|error| Failure {
            exit: Exit::Unavailable,
            text: format!(
                "error: no server answers at {server}: {}\n  fix:   start one with `anabranch serve` or `anabranch demo`, \
                 or name another with --server or ANABRANCH_SERVER",
                innermost(&error)
            ),
        })?;
        Ok(Self::over(channel))
    }

    fn over(channel: Channel) -> Self {
        Self {
            events: TimeSeriesServiceClient::new(channel.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
            admin: AdminServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
        }
    }
}

/// A request that has to wait until every server knows what it changes: on a shared store that is longer than the time that a
/// server gives to a call whose caller does not say.
pub(crate) fn patient<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn endpoint(server: &str) -> Result<Endpoint, Failure> {
    let url = if server.contains("://") {
        server.to_owned()
    } else {
        format!("http://{server}")
    };
    if !url.starts_with("http://") {
        return Err(Failure::usage(format_args!(
            "`{server}` is not a server's address; use http://HOST:PORT"
        )));
    }
    let endpoint = Endpoint::from_shared(url).map_err(|error| {
        Failure::usage(format_args!(
            "`{server}` is not a server's address ({error}); use http://HOST:PORT"
        ))
    })?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(4 << 20);
    let agent = concat!("anabranch-cli/", env!("CARGO_PKG_VERSION"));
    Ok(endpoint.clone().user_agent(agent).unwrap_or(endpoint))
}

/// The last cause of an error: the one that says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
