//! The background jobs of a broker that serves: a table, and the tasks that run them. Listeners, and the reload that a
//! signal asks for, are in `running.rs`.

use crate::admin::Operator;
use crate::domain::Clock;
use crate::http::Certificate;
use crate::telemetry::Job;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The period of the jobs that look each second.
const SECOND: Duration = Duration::from_secs(1);

/// A row of the table of background jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobRow {
    /// The job. Its name is the label `job` of `countersign_job_runs_total`.
    pub job: Job,
    /// How often it runs, for people.
    pub period: &'static str,
    /// What happens if it fails, for people.
    pub if_it_fails: &'static str,
}

/// Every background job.
pub const JOBS: [JobRow; 5] = [
    JobRow {
        job: Job::SigningKeys,
        period: "each second, and when a key is revoked",
        if_it_fails: "the keys stay as they are; the broker is not ready once a key is missing",
    },
    JobRow {
        job: Job::AuditLog,
        period: "each second",
        if_it_fails: "events are still written; checkpoints and old segments wait",
    },
    JobRow {
        job: Job::IssuerKeys,
        period: "each issuer and client: `keys.refresh_every`",
        if_it_fails: "the last key set stays until `keys.max_stale`; asked again after a second, then less often",
    },
    JobRow {
        job: Job::Revocations,
        period: "all the time, with a shared store",
        if_it_fails: "the broker answers 503 after `revocation.max_staleness`; the log is asked again with back-off",
    },
    JobRow {
        job: Job::Certificate,
        period: "each second, with TLS",
        if_it_fails: "the old certificate is served; read again when a file changes",
    },
];

/// Starts the jobs that run as long as the broker serves. The keys of issuers and clients follow the configuration:
/// [`super::running`] starts their job for each.
pub(super) fn start(
    operator: &Arc<Operator>,
    clock: &Arc<dyn Clock>,
    certificate: Option<&Arc<Certificate>>,
) -> Vec<JoinHandle<()>> {
    let mut jobs = vec![
        tokio::spawn(tend_keys(Arc::clone(operator), Arc::clone(clock))),
        tokio::spawn(tend_audit(Arc::clone(operator), Arc::clone(clock))),
    ];
    let metrics = operator.broker().metrics();
    let ran = metrics.job(Job::Revocations);
    jobs.push(tokio::spawn(Arc::clone(operator.broker().revocations()).follow(ran)));
    if let Some(certificate) = certificate {
        let ran = metrics.job(Job::Certificate);
        jobs.push(tokio::spawn(Arc::clone(certificate).keep_current(Arc::clone(clock), ran)));
    }
    jobs
}

async fn tend_audit(operator: Arc<Operator>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(SECOND).await;
        operator.tend_audit().await;
    }
}

async fn tend_keys(operator: Arc<Operator>, clock: Arc<dyn Clock>) {
    loop {
        // At once where a key was revoked, by another broker too.
        tokio::select! {
            () = clock.sleep(SECOND) => {}
            () = operator.broker().revocations().key_revoked() => {}
        }
        operator.tend_keys().await;
    }
}
