//! `anabranch.admin.v1.AdminService`.

use std::sync::Arc;

use anabranch_model::{NamespaceName, TimeSeriesId};
use anabranch_proto::admin::v1 as pb;
use anabranch_proto::admin::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::deadline_of;
use crate::admin::{BlockedId, PageRequest};
use crate::core::Core;
use crate::errors::{Reason, ServiceError};
use crate::http::Admission;
use crate::namespaces::NamespaceInfo;
use crate::wire::{fields, namespace, read, slice, split};

/// Ids in one request to block or unblock, at most.
const IDS_MAX: usize = 1_000;
/// Bytes of the reason of a block, at most.
const REASON_BYTES_MAX: usize = 1_024;

/// The service over a core.
#[derive(Clone, Debug)]
pub struct AdminEdge {
    core: Arc<Core>,
    admission: Admission,
}

impl AdminEdge {
    /// The service over a core; the status says how much of `admission` is taken.
    pub fn new(core: Arc<Core>, admission: Admission) -> Self {
        Self { core, admission }
    }
}

fn info(info: &NamespaceInfo) -> pb::Namespace {
    namespace::namespace(&info.name, &info.settings, info.created, info.updated)
}

fn page(page_size: i32, page_token: String) -> Result<PageRequest, ServiceError> {
    let paging = read::paging(page_size, page_token, 0)?;
    Ok(PageRequest {
        page_size: paging.page_size,
        page_token: paging.page_token,
    })
}

fn ids(ids: &[String]) -> Result<Vec<TimeSeriesId>, ServiceError> {
    if ids.is_empty() || ids.len() > IDS_MAX {
        let problem = format!("has {} ids; give 1 to {IDS_MAX}", ids.len());
        return Err(ServiceError::of_field(
            Reason::InvalidTimeSeriesId,
            "time_series_ids",
            problem,
        ));
    }
    let id = |(index, id): (usize, &String)| fields::time_series_id(&format!("time_series_ids[{index}]"), id);
    ids.iter().enumerate().map(id).collect()
}

fn blocked(block: BlockedId) -> pb::BlockedTimeSeriesId {
    pb::BlockedTimeSeriesId {
        time_series_id: block.time_series_id.into(),
        reason: block.reason,
        block_time: fields::timestamp(block.since),
    }
}

fn named(name: &str) -> Result<NamespaceName, ServiceError> {
    fields::namespace("name", name)
}

fn of_namespace(name: &str) -> Result<NamespaceName, ServiceError> {
    fields::namespace("namespace", name)
}

#[tonic::async_trait]
impl AdminService for AdminEdge {
    async fn create_namespace(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Result<Response<pb::Namespace>, Status> {
        let (name, settings) = namespace::created(request.into_inner().namespace.as_ref())?;
        let created = self.core.admin.create_namespace(&name, settings).await?;
        Ok(Response::new(info(&created)))
    }

    async fn get_namespace(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Result<Response<pb::Namespace>, Status> {
        let name = named(&request.into_inner().name)?;
        Ok(Response::new(info(&self.core.admin.get_namespace(&name).await?)))
    }

    async fn list_namespaces(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Result<Response<pb::ListNamespacesResponse>, Status> {
        let request = request.into_inner();
        let page = page(request.page_size, request.page_token)?;
        let page = self.core.admin.list_namespaces(&page)?;
        Ok(Response::new(pb::ListNamespacesResponse {
            namespaces: page.entries.iter().map(info).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_namespace(
        &self,
        request: Request<pb::UpdateNamespaceRequest>,
    ) -> Result<Response<pb::Namespace>, Status> {
        let request = request.into_inner();
        let wanted = request.namespace.unwrap_or_default();
        let name = fields::namespace("namespace.name", &wanted.name)?;
        let change = namespace::Change::of(&wanted, request.update_mask.as_ref())?;
        let apply = |current: &_| Ok(change.apply(current));
        let updated = self.core.admin.update_namespace(&name, apply).await?;
        Ok(Response::new(info(&updated)))
    }

    async fn delete_namespace(
        &self,
        request: Request<pb::DeleteNamespaceRequest>,
    ) -> Result<Response<pb::DeleteNamespaceResponse>, Status> {
        let name = named(&request.into_inner().name)?;
        self.core.admin.delete_namespace(&name).await?;
        Ok(Response::new(pb::DeleteNamespaceResponse {}))
    }

    async fn list_time_slices(
        &self,
        request: Request<pb::ListTimeSlicesRequest>,
    ) -> Result<Response<pb::ListTimeSlicesResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let page = page(request.page_size, request.page_token)?;
        let page = self.core.admin.list_time_slices(&name, &page).await?;
        Ok(Response::new(pb::ListTimeSlicesResponse {
            time_slices: page.entries.iter().map(slice::time_slice).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn seal_time_slices(
        &self,
        request: Request<pb::SealTimeSlicesRequest>,
    ) -> Result<Response<pb::SealTimeSlicesResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let before = fields::optional_time("before", request.before.as_ref())?;
        let sealed = self.core.admin.seal_time_slices(&name, before).await?;
        Ok(Response::new(pb::SealTimeSlicesResponse {
            time_slices: sealed.iter().map(slice::time_slice).collect(),
        }))
    }

    async fn unseal_time_slices(
        &self,
        request: Request<pb::UnsealTimeSlicesRequest>,
    ) -> Result<Response<pb::UnsealTimeSlicesResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let after = fields::optional_time("after", request.after.as_ref())?;
        let opened = self.core.admin.unseal_time_slices(&name, after).await?;
        Ok(Response::new(pb::UnsealTimeSlicesResponse {
            time_slices: opened.iter().map(slice::time_slice).collect(),
        }))
    }

    async fn block_time_series_ids(
        &self,
        request: Request<pb::BlockTimeSeriesIdsRequest>,
    ) -> Result<Response<pb::BlockTimeSeriesIdsResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let ids = ids(&request.time_series_ids)?;
        let bytes = request.reason.len();
        if bytes > REASON_BYTES_MAX {
            let problem = format!("has {bytes} bytes, at most {REASON_BYTES_MAX} are allowed");
            return Err(ServiceError::of_field(Reason::InvalidReason, "reason", problem).into());
        }
        let admin = &self.core.admin;
        let blocks = admin.block_time_series_ids(&name, &ids, &request.reason).await?;
        Ok(Response::new(pb::BlockTimeSeriesIdsResponse {
            blocked_time_series_ids: blocks.into_iter().map(blocked).collect(),
        }))
    }

    async fn unblock_time_series_ids(
        &self,
        request: Request<pb::UnblockTimeSeriesIdsRequest>,
    ) -> Result<Response<pb::UnblockTimeSeriesIdsResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let ids = ids(&request.time_series_ids)?;
        let unblocked = self.core.admin.unblock_time_series_ids(&name, &ids).await?;
        Ok(Response::new(pb::UnblockTimeSeriesIdsResponse {
            unblocked: fields::wire_i32(unblocked as u64),
        }))
    }

    async fn list_blocked_time_series_ids(
        &self,
        request: Request<pb::ListBlockedTimeSeriesIdsRequest>,
    ) -> Result<Response<pb::ListBlockedTimeSeriesIdsResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let page = page(request.page_size, request.page_token)?;
        let page = self.core.admin.list_blocked_time_series_ids(&name, &page).await?;
        Ok(Response::new(pb::ListBlockedTimeSeriesIdsResponse {
            blocked_time_series_ids: page.entries.into_iter().map(blocked).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_partition_sizes(
        &self,
        request: Request<pb::GetPartitionSizesRequest>,
    ) -> Result<Response<pb::GetPartitionSizesResponse>, Status> {
        let deadline = deadline_of(&request);
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let slice = split::time_slice(&request.time_slice)?;
        let admin = &self.core.admin;
        let sizes = admin.partition_sizes(&name, slice.as_ref(), deadline).await?;
        Ok(Response::new(split::sizes(&sizes)))
    }

    async fn list_splits(
        &self,
        request: Request<pb::ListSplitsRequest>,
    ) -> Result<Response<pb::ListSplitsResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let state = split::state(request.state)?;
        let page = page(request.page_size, request.page_token)?;
        let page = self.core.admin.list_splits(&name, state, &page).await?;
        Ok(Response::new(pb::ListSplitsResponse {
            splits: page.entries.iter().map(split::listed).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_split(&self, request: Request<pb::GetSplitRequest>) -> Result<Response<pb::Split>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let partition = split::partition(request.partition.as_ref())?;
        let found = self.core.admin.get_split(&name, &partition).await?;
        Ok(Response::new(split::listed_with_targets(&found)))
    }

    async fn plan_split(
        &self,
        request: Request<pb::PlanSplitRequest>,
    ) -> Result<Response<pb::PlanSplitResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let partition = split::partition(request.partition.as_ref())?;
        let admin = &self.core.admin;
        let answer = if request.dry_run {
            let previewed = admin.preview_split(&name, &partition).await?;
            pb::PlanSplitResponse {
                split: None,
                preview: Some(split::preview(&previewed)),
            }
        } else {
            let record = admin.plan_split(&name, &partition).await?;
            pb::PlanSplitResponse {
                split: Some(split::split(&record)),
                preview: None,
            }
        };
        Ok(Response::new(answer))
    }

    async fn retry_split(
        &self,
        request: Request<pb::RetrySplitRequest>,
    ) -> Result<Response<pb::RetrySplitResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let partition = split::partition(request.partition.as_ref())?;
        let record = self.core.admin.retry_split(&name, &partition).await?;
        Ok(Response::new(pb::RetrySplitResponse {
            split: Some(split::split(&record)),
        }))
    }

    async fn invalidate_split(
        &self,
        request: Request<pb::InvalidateSplitRequest>,
    ) -> Result<Response<pb::InvalidateSplitResponse>, Status> {
        let request = request.into_inner();
        let name = of_namespace(&request.namespace)?;
        let partition = split::partition(request.partition.as_ref())?;
        let record = self.core.admin.invalidate_split(&name, &partition).await?;
        Ok(Response::new(pb::InvalidateSplitResponse {
            split: Some(split::split(&record)),
        }))
    }

    async fn get_server_status(
        &self,
        _request: Request<pb::GetServerStatusRequest>,
    ) -> Result<Response<pb::GetServerStatusResponse>, Status> {
        let status = self.core.status();
        Ok(Response::new(pb::GetServerStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_kind: status.store_kind.to_owned(),
            ready: status.ready,
            start_time: fields::timestamp(status.started),
            uptime: Some(fields::wire_duration(status.uptime)),
            namespaces: fields::wire_i32(status.namespaces as u64),
            requests_in_flight: fields::wire_i32(self.admission.calls_in_flight() as u64),
            queue_bytes: fields::wire_i64(status.queue_bytes),
            store_facts: status
                .store_facts
                .into_iter()
                .map(|(name, fact)| (name.to_owned(), fact))
                .collect(),
        }))
    }
}
