//! What tests of freezes and openings have in common.

use std::time::Duration;

use anabranch_catalog::{FreezeOutcome, Frozen};
use anabranch_model::{EventTime, NamespaceSettings, TimeSlice};

use crate::core::Core;
use crate::errors::ServiceError;
use crate::testing::{Server, event, name};
use crate::write::WriteRequest;

pub(super) fn any_time() -> NamespaceSettings {
    limit(0)
}

pub(super) fn limit(seconds: u64) -> NamespaceSettings {
    NamespaceSettings {
        accept_limit: Duration::from_secs(seconds),
        ..NamespaceSettings::default()
    }
}

/// Writes an event of the id `a`.
pub(super) async fn write(core: &Core, time: EventTime, event_id: &str) -> Result<(), ServiceError> {
    let request = WriteRequest {
        namespace: name("ns"),
        events: vec![event("a", time, event_id, "x")],
        deadline: None,
    };
    core.writer.write_sync(request).await.map(|_| ())
}

pub(super) async fn write_at(server: &Server, time: EventTime, event_id: &str) -> Result<(), ServiceError> {
    write(&server.core, time, event_id).await
}

/// The slice that holds now, as this server sees it.
pub(super) async fn current(server: &Server) -> TimeSlice {
    let view = server.core.namespaces.view(&name("ns")).await.unwrap();
    view.slice_of(server.now()).unwrap().clone()
}

/// Freezes the slice that holds now.
pub(super) async fn freeze(server: &Server, before: EventTime) -> FreezeOutcome {
    let slice = current(server).await.name;
    let outcome = server.core.keeper.freeze(&name("ns"), &slice, before).await;
    outcome.unwrap()
}

pub(super) fn frozen(outcome: FreezeOutcome) -> Frozen {
    match outcome {
        FreezeOutcome::Frozen(frozen) => frozen,
        other => panic!("{other:?}"),
    }
}
