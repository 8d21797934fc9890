//! stub
use crate::cli::Demo;
use crate::commands::Session;
use crate::exit::Failure;
pub(crate) async fn run(_: &Session, _demo: Demo) -> Result<(), Failure> { Ok(()) }
