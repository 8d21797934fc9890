//! `namespace`: data sets and their settings.

use anabranch_proto::admin::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest,
    Namespace as Message, SealTimeSlicesRequest, UnsealTimeSlicesRequest, UpdateNamespaceRequest,
};
use prost_types::FieldMask;

use super::{Session, blocks, namespace_settings, print_sheet, say, slices};
use crate::cli::{Namespace, NamespaceSettings};
use crate::client::{Client, patient};
use crate::exit::{Exit, Failure};
use crate::messages;
use crate::output::{Sheet, ask, flatten, print_one};
use crate::units::format_time;

const MESSAGE: &str = "anabranch.admin.v1.Namespace";

pub(super) async fn run(session: &Session, command: Namespace) -> Result<(), Failure> {
    match command {
        Namespace::Create { name, settings } => create(session, name, &settings).await,
        Namespace::List => list(session).await,
        Namespace::Show { name } => {
            let namespace = get(&mut session.client().await?, name).await?;
            print(session, &namespace)
        }
        Namespace::Update {
            name,
            settings,
            unset,
        } => update(session, name, &settings, unset).await,
        Namespace::Delete { name, yes } => delete(session, name, yes).await,
        Namespace::Seal { name, before } => seal(session, name, before.as_deref()).await,
        Namespace::Unseal { name, after } => unseal(session, name, after.as_deref()).await,
        Namespace::Block { name, id, reason } => blocks::block(session, name, id, reason).await,
        Namespace::Unblock { name, id } => blocks::unblock(session, name, id).await,
        Namespace::Blocked { name } => blocks::list(session, name).await,
    }
}

async fn create(session: &Session, name: String, settings: &NamespaceSettings) -> Result<(), Failure> {
    let given = namespace_settings::read(settings)?;
    let namespace = Message {
        name,
        ..namespace_settings::message(&given)?
    };
    let request = CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    let created = session.client().await?.admin.create_namespace(request).await?;
    print(session, &created.into_inner())
}

async fn get(client: &mut Client, name: String) -> Result<Message, Failure> {
    let answer = client.admin.get_namespace(GetNamespaceRequest { name }).await?;
    Ok(answer.into_inner())
}

async fn update(
    session: &Session,
    name: String,
    settings: &NamespaceSettings,
    unset: Vec<String>,
) -> Result<(), Failure> {
    let given = namespace_settings::read(settings)?;
    let mut namespace = namespace_settings::message(&given)?;
    let mut paths = namespace_settings::paths(&given);
    if paths.is_empty() && unset.is_empty() {
        return Err(Failure::usage(
            "nothing to change: give --set, --unset or --config",
        ));
    }
    let mut client = session.client().await?;
    if paths.iter().any(|path| path == "field_mapping") && settings.config.is_none() {
        // A mask can not name one key of a map: keep the others as they are.
        let before = get(&mut client, name.clone()).await?;
        for (key, field_type) in before.field_mapping {
            namespace.field_mapping.entry(key).or_insert(field_type);
        }
    }
    namespace.name = name;
    paths.extend(unset);
    let request = UpdateNamespaceRequest {
        namespace: Some(namespace),
        update_mask: Some(FieldMask { paths }),
    };
    let updated = client.admin.update_namespace(patient(request)).await?;
    print(session, &updated.into_inner())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let mut sheet = Sheet::new(&["name", "time_slice", "time_bucket", "accept_limit", "create_time"]);
    let mut page_token = String::new();
    loop {
        let request = ListNamespacesRequest {
            page_size: 1_000,
            page_token,
        };
        let answer = client.admin.list_namespaces(request).await?.into_inner();
        for namespace in &answer.namespaces {
            let cells = vec![
                namespace.name.clone(),
                format!("{}s", namespace.seconds_per_time_slice.unwrap_or_default()),
                format!("{}s", namespace.seconds_per_time_bucket.unwrap_or_default()),
                format!("{}s", namespace.accept_limit.unwrap_or_default().seconds),
                namespace
                    .create_time
                    .as_ref()
                    .map(format_time)
                    .unwrap_or_default(),
            ];
            sheet.row(cells, messages::to_json(MESSAGE, namespace, false));
        }
        if answer.next_page_token.is_empty() {
            return print_sheet(session, &sheet);
        }
        page_token = answer.next_page_token;
    }
}

async fn delete(session: &Session, name: String, yes: bool) -> Result<(), Failure> {
    let mut client = session.client().await?;
    if !yes {
        let question = format!(
            "Delete namespace `{name}` with every event in it? There is no way back. Type its name to go on:"
        );
        if ask(&question).is_some_and(|answer| answer != name) {
            say("nothing was deleted");
            return Err(Failure::said(Exit::Usage));
        }
    }
    client
        .admin
        .delete_namespace(patient(DeleteNamespaceRequest { name: name.clone() }))
        .await?;
    say(format!("namespace `{name}` is deleted"));
    Ok(())
}

async fn seal(session: &Session, namespace: String, before: Option<&str>) -> Result<(), Failure> {
    let before = before.map(|text| session.time("--before", text)).transpose()?;
    let request = SealTimeSlicesRequest { namespace, before };
    let answer = session.client().await?.admin.seal_time_slices(request).await?;
    slices::print(session, &answer.into_inner().time_slices)
}

async fn unseal(session: &Session, namespace: String, after: Option<&str>) -> Result<(), Failure> {
    let after = after.map(|text| session.time("--after", text)).transpose()?;
    let request = UnsealTimeSlicesRequest { namespace, after };
    let answer = session
        .client()
        .await?
        .admin
        .unseal_time_slices(patient(request))
        .await?;
    slices::print(session, &answer.into_inner().time_slices)
}

/// Prints a namespace by the names that `--set` takes.
fn print(session: &Session, namespace: &Message) -> Result<(), Failure> {
    let json = messages::to_json(MESSAGE, namespace, true);
    let fields: Vec<_> = flatten(&json)
        .into_iter()
        .map(|(name, value)| (namespace_settings::snake(&name), value))
        .collect();
    print_one(session.format, &fields, &json)
}
