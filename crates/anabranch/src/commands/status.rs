//! `status`: what a server is and how it is doing.

use anabranch_proto::admin::v1::GetServerStatusRequest;

use super::Session;
use crate::exit::Failure;
use crate::messages;
use crate::output::{flatten, print_one};

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let status = client
        .admin
        .get_server_status(GetServerStatusRequest {})
        .await?
        .into_inner();
    let json = messages::to_json("anabranch.admin.v1.GetServerStatusResponse", &status, true);
    let mut fields = vec![("server".to_owned(), session.server.clone())];
    fields.extend(flatten(&json));
    print_one(session.format, &fields, &json)
}
