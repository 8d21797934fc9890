//! `config`: what a server started here would be set to.

use serde_json::json;

use super::{Session, print_sheet, say};
use crate::cli::{Config, SettingsArgs};
use crate::exit::{Exit, Failure};
use crate::output::Sheet;
use crate::settings::{self, KEYS, Loaded, Settings};

pub(super) fn run(session: &Session, command: Config) -> Result<(), Failure> {
    match command {
        Config::Show { settings, origin } => show(session, &settings, origin),
        Config::Check { settings } => {
            load(&settings)?;
            say("the settings are right");
            Ok(())
        }
    }
}

/// Loads settings, or says everything that is wrong with them.
pub(crate) fn load(args: &SettingsArgs) -> Result<(Settings, Vec<Loaded>), Failure> {
    settings::load(args).map_err(|problems| Failure {
        exit: Exit::Usage,
        text: problems
            .iter()
            .map(|problem| format!("error: {problem}"))
            .collect::<Vec<_>>()
            .join("\n"),
    })
}

fn show(session: &Session, args: &SettingsArgs, origin: bool) -> Result<(), Failure> {
    let (_, loaded) = load(args)?;
    let columns: &[&str] = if origin {
        &["setting", "value", "origin", "meaning"]
    } else {
        &["setting", "value", "meaning"]
    };
    let mut sheet = Sheet::new(columns);
    for (one, key) in loaded.iter().zip(&KEYS) {
        let mut cells = vec![one.name.to_owned(), one.value.clone()];
        let mut json = json!({"setting": one.name, "value": one.value, "meaning": key.help});
        if origin {
            cells.push(one.origin.to_string());
            json["origin"] = one.origin.to_string().into();
        }
        cells.push(key.help.to_owned());
        sheet.row(cells, json);
    }
    print_sheet(session, &sheet)
}
