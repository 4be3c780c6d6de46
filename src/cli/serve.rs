//! `countersign serve`.

use super::output::Output;
use super::{Failure, Logs, installation};
use crate::domain::{SystemClock, SystemEntropy};
use crate::telemetry::{self, Tracing};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn run(config: &Path, output: Output, logs: Logs) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    raise_file_limit();
    crate::app::install_crypto();
    let tracing = installation.traces().map(|traces| Tracing::start(&traces)).transpose()?;
    telemetry::install(logs.level, logs.format, tracing.as_ref());
    let served = crate::http::block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let listening = installation.listen(Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
        let address = listening.address().map(|address| address.to_string()).unwrap_or_default();
        let management = listening.management_address().map(|address| address.to_string());
        let issuer = installation.issuer();
        let beside = management.as_ref().map(|address| format!(", management on {address}")).unwrap_or_default();
        output.print(
            &format!("{issuer} listens on {address}{beside}"),
            &json!({"issuer": issuer, "listen": address, "management": management}),
        );
        let stop = async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("stopping");
        };
        // One that waits is as good as several.
        let (reload, reloads) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let _ = reload.try_send(());
            }
        });
        listening.serve(stop, reloads).await?;
        Ok(ExitCode::SUCCESS)
    });
    if let Some(tracing) = tracing {
        tracing.stop();
    }
    served
}

/// Raises the limit of open files to what the system allows: each connection is a file.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(fault) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%fault, "the limit of open files was not raised");
    }
}

/// Keys and tokens are in this process's memory: no core dump of it, and no other process of the same user reads it.
pub(super) fn keep_memory_in() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    for fault in [setrlimit(Resource::Core, none), set_dumpable_behavior(DumpableBehavior::NotDumpable)] {
        if let Err(fault) = fault {
            tracing::warn!(%fault, "core dumps were not turned off");
        }
    }
}
