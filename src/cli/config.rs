//! `countersign config`: the configuration as the broker understands it, and its schema.

use super::output::Output;
use super::{Failure, installation};
use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

/// Print the configuration or its schema.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigArguments {
    /// Print the resolved configuration: every default and every path, but no secret.
    Show,
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

pub(super) fn run(arguments: &ConfigArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    match arguments {
        ConfigArguments::Show => {
            let shown = installation(config)?.show();
            output.print(crate::app::as_toml(&shown).trim_end(), &shown);
        }
        ConfigArguments::Schema => {
            let schema = crate::app::configuration_schema();
            output.print(&serde_json::to_string_pretty(&schema)?, &schema);
        }
    }
    Ok(ExitCode::SUCCESS)
}
