//! A server on a free port over the memory store, and a plain HTTP/1 client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, SystemClock, Tasks};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::core::Core;
use crate::serve::{Port, ServeError, ServeSettings, bind};
use crate::settings::ServerSettings;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) core: Arc<Core>,
    pub(super) draining: CancellationToken,
    pub(super) served: JoinHandle<Result<(), ServeError>>,
    tasks: Tasks,
}

/// What a plain HTTP/1 request was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The reason of the one `ErrorInfo`.
    pub(super) fn reason(&self) -> String {
        let json = self.json();
        let infos: Vec<&Value> = json["details"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo")
            .collect();
        assert_eq!(infos.len(), 1, "{json}");
        assert_eq!(infos[0]["domain"], "anabranch.dev");
        infos[0]["reason"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(ServeSettings::default()).await
    }

    pub(super) async fn with(settings: ServeSettings) -> Self {
        Self::of(settings, None).await
    }

    /// A server of other services, if any are given.
    pub(super) async fn of(settings: ServeSettings, services: Option<Routes>) -> Self {
        let settings = ServeSettings {
            listen: "127.0.0.1:0".to_owned(),
            ..settings
        };
        let clock: Arc<dyn Clock> = SystemClock::new();
        let (tasks, metrics, draining) = (Tasks::new(), Metrics::default(), CancellationToken::new());
        let store = anabranch_storage::open::memory();
        let bus = anabranch_bus::StoreBus::new(store.records.clone(), &metrics);
        let core = Core::start(
            store,
            Arc::new(bus),
            clock.clone(),
            &Randomness::from_seed(1),
            &tasks,
            &metrics,
            ServerSettings::default(),
        )
        .await
        .unwrap();
        let listener = bind(&settings).await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port::new(settings, clock, metrics, draining.clone()).unwrap();
        let services = services.unwrap_or_else(|| crate::grpc::services(&core, &port));
        let served = tasks.spawn("serve", async move { port.serve(listener, services).await });
        Self {
            address,
            core,
            draining,
            served,
            tasks,
        }
    }

    pub(super) async fn stop(self) {
        self.draining.cancel();
        self.served.await.unwrap().unwrap();
        self.core.stop().await;
        assert!(
            self.tasks
                .stop(&*SystemClock::new(), Duration::from_secs(5))
                .await
        );
    }

    pub(super) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(super) async fn events(&self) -> TimeSeriesServiceClient<Channel> {
        TimeSeriesServiceClient::new(self.channel().await)
    }

    pub(super) async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    pub(super) async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read a body that is too large.
        let _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        parse(&bytes)
    }

    /// A JSON call of a method, by its short name.
    pub(super) async fn call(&self, method: &str, body: Value) -> Answer {
        self.call_text(method, &body.to_string()).await
    }

    pub(super) async fn call_text(&self, method: &str, body: &str) -> Answer {
        let service = if method.ends_with("EventRecords") || method.ends_with("RecordsSync") {
            "anabranch.timeseries.v1.TimeSeriesService"
        } else {
            "anabranch.admin.v1.AdminService"
        };
        let path = format!("/api/{service}/{method}");
        self.http(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        )
        .await
    }

    pub(super) async fn create(&self, name: &str) {
        let namespace = json!({"name": name, "acceptLimit": "0s", "secondsPerTimeSlice": "0"});
        let answer = self
            .call("CreateNamespace", json!({"namespace": namespace}))
            .await;
        assert_eq!(answer.code, 200, "{}", answer.text());
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = &bytes[split + 4..];
    let mut body = Vec::new();
    if head.contains("transfer-encoding: chunked") {
        while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 4 + size..];
        }
    } else {
        body.extend_from_slice(rest);
    }
    Answer { code, head, body }
}
