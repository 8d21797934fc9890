//! `namespace block`, `unblock` and `blocked`: ids that answer neither reads nor writes.

use anabranch_proto::admin::v1::{
    BlockTimeSeriesIdsRequest, BlockedTimeSeriesId, ListBlockedTimeSeriesIdsRequest,
    UnblockTimeSeriesIdsRequest,
};

use super::{Session, print_sheet, say};
use crate::exit::Failure;
use crate::messages;
use crate::output::Sheet;
use crate::units::{counted, format_time};

pub(super) async fn block(
    session: &Session,
    namespace: String,
    ids: Vec<String>,
    reason: String,
) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let request = BlockTimeSeriesIdsRequest {
        namespace,
        time_series_ids: ids,
        reason,
    };
    let answer = client.admin.block_time_series_ids(request).await?.into_inner();
    print(session, &answer.blocked_time_series_ids)
}

pub(super) async fn unblock(session: &Session, namespace: String, ids: Vec<String>) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let request = UnblockTimeSeriesIdsRequest {
        namespace,
        time_series_ids: ids,
    };
    let answer = client.admin.unblock_time_series_ids(request).await?.into_inner();
    say(format!(
        "{} unblocked",
        counted(u64::try_from(answer.unblocked).unwrap_or(0), "id")
    ));
    Ok(())
}

pub(super) async fn list(session: &Session, namespace: String) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let mut blocks = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListBlockedTimeSeriesIdsRequest {
            namespace: namespace.clone(),
            page_size: 1_000,
            page_token,
        };
        let answer = client
            .admin
            .list_blocked_time_series_ids(request)
            .await?
            .into_inner();
        blocks.extend(answer.blocked_time_series_ids);
        if answer.next_page_token.is_empty() {
            return print(session, &blocks);
        }
        page_token = answer.next_page_token;
    }
}

fn print(session: &Session, blocks: &[BlockedTimeSeriesId]) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&["time_series_id", "block_time", "reason"]);
    for block in blocks {
        let cells = vec![
            block.time_series_id.clone(),
            block.block_time.as_ref().map(format_time).unwrap_or_default(),
            block.reason.clone(),
        ];
        let json = messages::to_json("anabranch.admin.v1.BlockedTimeSeriesId", block, false);
        sheet.row(cells, json);
    }
    print_sheet(session, &sheet)
}
