//! stub
use super::Session;
use crate::cli::{Serve, SettingsArgs};
use crate::exit::Failure;
pub(crate) struct Served;
pub(crate) async fn start(_: &SettingsArgs) -> Result<Served, Failure> { Ok(Served) }
pub(super) async fn run(_session: &Session, serve: &Serve) -> Result<(), Failure> {
    super::config::load(&serve.settings)?;
    Ok(())
}
