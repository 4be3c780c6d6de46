//! The runs of background jobs, as `/metrics` shows them.

use prometheus_client::metrics::counter::Counter;

/// A background job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Makes, promotes and removes signing keys.
    SigningKeys,
    /// Seals the audit log, begins segments and deletes old ones.
    AuditLog,
    /// Fetches the keys of issuers and clients.
    IssuerKeys,
    /// Follows the shared revocation log.
    Revocations,
    /// Takes over a certificate that was renewed.
    Certificate,
}

impl Job {
    /// Every job.
    pub const ALL: [Self; 5] =
        [Self::SigningKeys, Self::AuditLog, Self::IssuerKeys, Self::Revocations, Self::Certificate];

    /// Its name in `/metrics`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SigningKeys => "signing_keys",
            Self::AuditLog => "audit_log",
            Self::IssuerKeys => "issuer_keys",
            Self::Revocations => "revocations",
            Self::Certificate => "certificate",
        }
    }
}

/// Counts the runs of one job.
#[derive(Debug, Clone)]
pub struct JobRuns {
    pub(super) ok: Counter,
    pub(super) failed: Counter,
}

impl JobRuns {
    /// Counts a run.
    pub fn count(&self, succeeded: bool) {
        if succeeded {
            self.ok.inc()
        } else {
            self.failed.inc()
        };
    }
}
