//! `countersign audit verify`.

use super::output::{GOOD, Output};
use super::{Failure, installation};
use crate::audit;
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Look after the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Walk the chain and name the first line that was edited, deleted or moved.
    Verify {
        /// The log's directory, where it is not the configuration's.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Audit, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let Audit::Verify { directory } = arguments;
    let directory = match directory {
        Some(directory) => directory.clone(),
        None => installation(config)?.audit().to_owned(),
    };
    match audit::verify(&directory) {
        Ok(report) => {
            let (events, head) = (report.head.next, report.head.hash);
            let text = format!("{GOOD}the chain holds{GOOD:#}: {events} events, head {head}");
            output.print(&text, &json!({"holds": true, "events": events, "head": head, "torn_bytes": report.torn}));
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) if output.json => {
            output.print("", &json!({"holds": false, "error": fault.to_string()}));
            Ok(ExitCode::FAILURE)
        }
        Err(fault) => Err(Failure(format!("{}: {fault}", directory.display()))),
    }
}
