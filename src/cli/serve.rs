//! `countersign serve`.

use super::output::Output;
use super::{Failure, installation};
use crate::domain::{SystemClock, SystemEntropy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn run(config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    raise_file_limit();
    crate::http::block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listening = installation.listen(Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
        let address = listening.address().map(|address| address.to_string()).unwrap_or_default();
        let issuer = installation.issuer();
        output.print(&format!("{issuer} listens on {address}"), &json!({"issuer": issuer, "listen": address}));
        let stop = async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("stopping");
        };
        listening.serve(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// As many open files as the system allows this process: each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(fault) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%fault, "the limit of open files was not raised");
    }
}
