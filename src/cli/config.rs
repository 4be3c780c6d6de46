//! `countersign config`: the configuration as the broker understands it, and its schema.

use super::output::Output;
use super::{Failure, installation};
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

/// Look at the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print it as it is resolved: every default, every path, no secret.
    Show,
    /// Print its JSON Schema, for editors.
    Schema,
}

pub(super) fn run(arguments: &Config, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    match arguments {
        Config::Show => {
            let shown = installation(config)?.show();
            output.print(crate::app::as_toml(&shown).trim_end(), &shown);
        }
        Config::Schema => {
            let schema = crate::app::configuration_schema();
            output.print(&serde_json::to_string_pretty(&schema)?, &schema);
        }
    }
    Ok(ExitCode::SUCCESS)
}
