//! `countersign reload`: asks the running broker to take over configuration and policies.

use super::output::{GOOD, Output};
use super::{Failure, installation, perform};
use crate::admin::AdminRequest;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    perform(&installation, AdminRequest::Reload {})
        .map_err(|Failure(message)| Failure(format!("not reloaded, and what was in force stays: {message}")))?;
    let text = format!("{GOOD}reloaded{GOOD:#}: configuration and policies are in force");
    output.print(&text, &json!({"reloaded": true}));
    Ok(ExitCode::SUCCESS)
}
