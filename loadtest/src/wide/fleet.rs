//! The fleet under test: this program as two servers, a planner and a splitter on one store.
//!
//! The switch between original and targets is a setting of a server (`server.divert_reads`): one server has it on and one
//! off, so that both ways are open at once, see the same store, and take turns of a second or two. A namespace's rollout
//! would need every server to learn of it at each turn.

use std::path::{Path, PathBuf};

use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::admin::v1::{
    CreateNamespaceRequest, GetSplitRequest, InvalidateSplitRequest, ListSplitsRequest,
    ListTimeSlicesRequest, Namespace, Partition, PlanSplitRequest, SealTimeSlicesRequest, Split,
    UpdateNamespaceRequest, WidePartition,
};
use anyhow::{Context, Result};
use tonic::transport::Channel;

use super::node::Node;
use crate::child::Service;
use crate::client::{self, Client};

/// Below the smallest partition that is measured, above a page of it.
pub(super) const DETECT_BYTES: u64 = 8 << 20;
/// A rate that nothing on this machine reaches.
pub(super) const UNTHROTTLED: u64 = 8 << 30;
const CONNECTIONS: usize = 4;

/// Which way a server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Partitions as they were written.
    Original,
    /// What they were split into.
    Targets,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Original, Self::Targets];

    pub(super) fn at(self) -> usize {
        self as usize
    }
}

/// A server and connections to it.
#[derive(Debug)]
pub(super) struct Server {
    service: Service,
    pub(super) clients: Vec<Client>,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.service.pid()
    }

    pub(super) fn url(&self) -> &str {
        &self.service.url
    }

    pub(super) async fn admin(&self) -> Result<Admin> {
        Ok(Admin(AdminServiceClient::new(client::channel(self.url()).await?)))
    }
}

/// Every process of ours. Ended when this is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    folder: PathBuf,
    program: PathBuf,
    /// Of `store.cassandra.keyspace`.
    pub(super) keyspace: String,
    /// By [`Side::at`].
    pub(super) servers: [Server; 2],
    planner: Service,
    splitter: Service,
}

impl Fleet {
    pub(super) async fn start(program: &Path, folder: &Path, node: &Node, keyspace: &str) -> Result<Self> {
        let servers = servers(program, folder, node, keyspace, None).await?;
        let config = config(folder, "workers", node, keyspace, None, true)?;
        let planner = worker(program, folder, "planner", &config).await?;
        let splitter = worker(program, folder, "splitter", &config).await?;
        Ok(Self {
            folder: folder.to_path_buf(),
            program: program.to_path_buf(),
            keyspace: keyspace.to_owned(),
            servers,
            planner,
            splitter,
        })
    }

    /// Two more servers, which reach the node through another address.
    pub(super) async fn servers_through(&self, node: &Node, address: &str) -> Result<[Server; 2]> {
        servers(&self.program, &self.folder, node, &self.keyspace, Some(address)).await
    }

    /// A way in by the server that diverts.
    pub(super) fn client(&self, side: Side) -> Client {
        self.servers[side.at()].clients[0].clone()
    }

    pub(super) async fn admin(&self) -> Result<Admin> {
        self.servers[Side::Targets.at()].admin().await
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let servers = self.servers.iter().map(Server::pid);
        servers.chain([self.planner.pid(), self.splitter.pid()]).collect()
    }
}

/// The end of every log in a folder.
pub(super) fn log_tails(folder: &Path) -> String {
    let logs = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = logs
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|of| of == "log"));
    let text = |log: PathBuf| {
        let name = log.file_name().map(|name| name.to_string_lossy().into_owned());
        format!("{}:\n{}\n", name.unwrap_or_default(), crate::child::tail(&log))
    };
    logs.map(text).collect()
}

async fn servers(
    program: &Path,
    folder: &Path,
    node: &Node,
    keyspace: &str,
    through: Option<&str>,
) -> Result<[Server; 2]> {
    let mut started = Vec::new();
    for side in Side::BOTH {
        let role = match (side, through) {
            (Side::Original, None) => "originals",
            (Side::Targets, None) => "targets",
            (Side::Original, Some(_)) => "originals-delayed",
            (Side::Targets, Some(_)) => "targets-delayed",
        };
        let config = config(folder, role, node, keyspace, through, side == Side::Targets)?;
        let args = ["serve", "--listen", "127.0.0.1:0", "--config"].map(str::to_owned);
        let args: Vec<String> = args.into_iter().chain([config.display().to_string()]).collect();
        let service = Service::start(program, &args, &folder.join(format!("{role}.log")), 1).await?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(client::connect(&service.url).await?);
        }
        started.push(Server { service, clients });
    }
    started.try_into().ok().context("two servers were started")
}

async fn worker(program: &Path, folder: &Path, role: &str, config: &Path) -> Result<Service> {
    let args = [role, "--listen", "127.0.0.1:0", "--config"].map(str::to_owned);
    let args: Vec<String> = args.into_iter().chain([config.display().to_string()]).collect();
    Service::start(program, &args, &folder.join(format!("{role}.log")), 1).await
}

fn config(
    folder: &Path,
    role: &str,
    node: &Node,
    keyspace: &str,
    through: Option<&str>,
    divert: bool,
) -> Result<PathBuf> {
    let Node {
        contact_points,
        kafka,
        replication_factor,
        ..
    } = node;
    // Short, because whoever freezes a slice waits until calls of before must have ended.
    let mut text = format!(
        "[server]\ndefault_deadline = \"10s\"\ndeadline_max = \"30s\"\ndivert_reads = {divert}\n[store]\nkind = \"cassandra\"\n[store.cassandra]\n\
         keyspace = \"{keyspace}\"\nreplication_factor = {replication_factor}\n"
    );
    match through {
        None => text.push_str(&format!("contact_points = \"{contact_points}\"\n")),
        Some(address) => {
            let said = contact_points
                .rsplit_once(':')
                .map_or(contact_points.as_str(), |(host, _)| host);
            text.push_str(&format!(
                "contact_points = \"{address}\"\naddress_map = \"{said}={address}\"\n"
            ));
        }
    }
    text.push_str(&format!(
        "[bus]\nkind = \"kafka\"\n[bus.kafka]\nbrokers = \"{kafka}\"\ntopic = \"{keyspace}.detections\"\n\
         dead_letter_topic = \"{keyspace}.dead\"\ngroup = \"{keyspace}\"\ncreate_topics = true\npartitions = 3\n"
    ));
    let file = folder.join(format!("{role}.toml"));
    std::fs::write(&file, text)?;
    Ok(file)
}

/// What an operator does.
#[derive(Clone, Debug)]
pub(super) struct Admin(AdminServiceClient<Channel>);

impl Admin {
    pub(super) async fn create(&mut self, name: &str, split_bytes_per_second: u64) -> Result<()> {
        let namespace = Namespace {
            name: name.to_owned(),
            accept_limit: Some(prost_types::Duration::default()),
            wide_partition: Some(WidePartition {
                detect_bytes: Some(i64::try_from(DETECT_BYTES)?),
                split_bytes_per_second: Some(i64::try_from(split_bytes_per_second)?),
                ..WidePartition::default()
            }),
            ..Namespace::default()
        };
        let request = CreateNamespaceRequest {
            namespace: Some(namespace),
        };
        self.0
            .create_namespace(request)
            .await
            .with_context(|| format!("can not make namespace {name}"))?;
        Ok(())
    }

    /// Changes one field of `wide_partition`.
    pub(super) async fn update(&mut self, name: &str, field: &str, wide: WidePartition) -> Result<()> {
        let request = UpdateNamespaceRequest {
            namespace: Some(Namespace {
                name: name.to_owned(),
                wide_partition: Some(wide),
                ..Namespace::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![format!("wide_partition.{field}")],
            }),
        };
        self.0
            .update_namespace(request)
            .await
            .with_context(|| format!("can not change {field} of {name}"))?;
        Ok(())
    }

    pub(super) async fn seal(&mut self, namespace: &str) -> Result<()> {
        let request = SealTimeSlicesRequest {
            namespace: namespace.to_owned(),
            before: None,
        };
        self.0.seal_time_slices(request).await?;
        Ok(())
    }

    /// The slice of the oldest events there are.
    pub(super) async fn oldest_slice(&mut self, namespace: &str) -> Result<String> {
        let request = ListTimeSlicesRequest {
            namespace: namespace.to_owned(),
            ..ListTimeSlicesRequest::default()
        };
        let slices = self.0.list_time_slices(request).await?.into_inner().time_slices;
        let oldest = slices
            .into_iter()
            .next()
            .with_context(|| format!("{namespace} has no slice"))?;
        Ok(oldest.name)
    }

    pub(super) async fn splits(&mut self, namespace: &str) -> Result<Vec<Split>> {
        let request = ListSplitsRequest {
            namespace: namespace.to_owned(),
            ..ListSplitsRequest::default()
        };
        Ok(self.0.list_splits(request).await?.into_inner().splits)
    }

    pub(super) async fn split(&mut self, namespace: &str, partition: &Partition) -> Result<Split> {
        let request = GetSplitRequest {
            namespace: namespace.to_owned(),
            partition: Some(partition.clone()),
        };
        Ok(self.0.get_split(request).await?.into_inner())
    }

    /// Has a partition split as if a read had found it wide.
    pub(super) async fn plan(&mut self, namespace: &str, partition: &Partition) -> Result<()> {
        let request = PlanSplitRequest {
            namespace: namespace.to_owned(),
            partition: Some(partition.clone()),
            ..PlanSplitRequest::default()
        };
        self.0.plan_split(request).await?;
        Ok(())
    }

    pub(super) async fn invalidate(&mut self, namespace: &str, partition: &Partition) -> Result<()> {
        let request = InvalidateSplitRequest {
            namespace: namespace.to_owned(),
            partition: Some(partition.clone()),
        };
        self.0.invalidate_split(request).await?;
        Ok(())
    }
}
