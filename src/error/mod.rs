//! Why we refused, and the one table from there to what the caller is told. Before a signature is verified a caller
//! learns a generic reason; after it, how its own token compares with public values; never what policy says.

mod reasons;
mod table;

pub use reasons::{page, reasons};

use crate::assertion::{AssertionError, ProofFault};
use crate::client::ClientError;
use crate::form::{HttpError, RequestError};
use crate::rates::Throttled;
use crate::store::StoreError;
use countersign_verify::jws::MAX_TOKEN_BYTES;
use countersign_verify::revocation::Kind;

/// Why an exchange, a revocation or an introspection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is malformed, or asks for what this version does not do.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The caller is not who it says.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The subject token is refused, or cannot be judged.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// The caller does not prove the key that it should, or not for this request.
    #[error(transparent)]
    Proof(#[from] ProofFault),
    /// Our own access token is presented by someone whom its `aud` does not name.
    #[error("the token's `aud` is not an audience of the client that presents it")]
    NotItsAudience,
    /// Our own access token has the maximum number of tokens above it.
    #[error("the token already has the maximum number of tokens above it")]
    LineageTooLong,
    /// The token would be larger than resource servers read.
    #[error("the minted token would be larger than {MAX_TOKEN_BYTES} bytes, the size that resource servers read")]
    TokenTooLarge,
    /// No target has this name.
    #[error("no target has the name that was asked for")]
    UnknownTarget,
    /// The names that were asked for are not all of one target.
    #[error("the `audience` and `resource` values do not all name one target")]
    SeveralTargets,
    /// Policy permits nothing for this target.
    #[error("no policy permits this workload anything at this target")]
    TargetDenied,
    /// Policy permits something, but not every scope that was asked for.
    #[error("policy does not permit every scope that was asked for")]
    ScopeDenied,
    /// The target gives tokens to authenticated clients alone.
    #[error("the target's entry requires an authenticated client")]
    TargetNeedsClient,
    /// A task would be bound to no key, and policy does not allow that.
    #[error(
        "opening a task requires a DPoP proof, unless a permit tests `context.confirmation` and allows the request without one"
    )]
    ConfirmationRequired,
    /// A token of ours would open a task.
    #[error("opening a task requires an assertion, and a token of this broker was presented")]
    TaskInTask,
    /// The task was opened for other targets.
    #[error("the task was opened for other targets")]
    OutsideTask,
    /// The task's budget is used up.
    #[error("the task's budget is used up")]
    TaskSpent,
    /// The limit of open tasks is reached.
    #[error("the limit of open tasks is reached, for this workload or in total")]
    TooManyTasks,
    /// The task was idle for too long.
    #[error("the task was idle for longer than `tasks.idle`, so it has ended")]
    TaskIdle,
    /// The store does not know the task.
    #[error("the store does not know this task, so the tokens that it used are not known")]
    TaskUnknown,
    /// Something that the request names is suspended, so that nothing new is issued.
    #[error("the {0} is suspended; `countersign revocations` shows since when and why")]
    Suspended(Kind),
    /// The assertion was exchanged before.
    #[error("the assertion was exchanged before, and its issuer's entry allows one exchange")]
    Replayed,
    /// More than may be asked in a second, or at once.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Something that the broker depends on is down.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<HttpError> for Error {
    fn from(fault: HttpError) -> Self {
        Self::Request(fault.into())
    }
}

/// The dependency that is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log: what cannot be written is not given.
    #[error("the audit log cannot be written, so no token is issued")]
    Audit,
    /// The signing key cannot be used.
    #[error("the signing key cannot be used")]
    Signing,
    /// The source of randomness.
    #[error("the source of randomness failed")]
    Entropy,
    /// The limit of requests in progress is reached.
    #[error("the limit of requests in progress is reached")]
    Busy,
}

/// The answer that the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// HTTP status.
    pub status: u16,
    /// `error` (RFC 6749 §5.2, RFC 8693 §2.2.2).
    pub error: &'static str,
    /// `reason`: a stable code.
    pub reason: &'static str,
    /// `error_description`.
    pub description: &'static str,
}

const fn wire(status: u16, error: &'static str, reason: &'static str, description: &'static str) -> Wire {
    Wire { status, error, reason, description }
}

/// The answer about a token before its signature is verified, and about a token that its issuer's entry does not
/// accept.
const REFUSED: Wire = wire(
    400,
    "invalid_request",
    "subject_token_refused",
    "the subject token is not accepted; the operator can explain this decision",
);
/// The answer about a target that is unknown or denied, and about names that are not all of one target: a stranger does
/// not learn which.
const NO_TARGET: Wire = wire(
    400,
    "invalid_target",
    "target_refused",
    "the target is not available to this workload, or not all names are of one target; the operator can explain this decision",
);

impl Error {
    /// The one table. Exhaustive on purpose: a new error has to say here what it tells.
    #[must_use]
    pub fn wire(&self) -> Wire {
        let invalid = |reason, description| wire(400, "invalid_request", reason, description);
        match self {
            Self::Request(fault) => table::request(*fault),
            Self::Client(fault) => table::client(fault),
            Self::Assertion(fault) => table::assertion(&table::SUBJECT_TOKEN, fault),
            Self::Proof(fault) => table::proof(fault),
            Self::NotItsAudience => invalid(
                "presenter_not_audience",
                "an access token of this broker can be exchanged by an authenticated client that its aud names",
            ),
            Self::LineageTooLong => invalid(
                "lineage_too_long",
                "the subject token has as many tokens above it as one may have; exchange an earlier one",
            ),
            Self::TokenTooLarge => invalid(
                "token_too_large",
                "the token would be larger than resource servers read; name fewer targets in task_target, or exchange an earlier token",
            ),
            Self::UnknownTarget
            | Self::SeveralTargets
            | Self::TargetNeedsClient
            | Self::TargetDenied
            | Self::OutsideTask
            | Self::Suspended(Kind::Target) => NO_TARGET,
            Self::ConfirmationRequired => {
                invalid("confirmation_required", "opening a task requires a DPoP proof; send one")
            }
            Self::TaskInTask => invalid(
                "task_subject_refused",
                "a task is opened by an assertion of the platform; a token of this broker opens none",
            ),
            Self::TaskSpent => invalid(
                "task_budget_spent",
                "the task has received the number of tokens that it was opened for; open another one",
            ),
            Self::TooManyTasks => wire(
                429,
                "temporarily_unavailable",
                "too_many_tasks",
                "too many tasks are open; end those that are done with, by posting their tokens to /revoke",
            ),
            Self::TaskIdle => {
                invalid("task_idle", "the task asked for no token for too long and has ended; open another one")
            }
            Self::TaskUnknown | Self::Suspended(_) => REFUSED,
            Self::ScopeDenied => wire(
                400,
                "invalid_scope",
                "scope_refused",
                "not every scope that was asked for is available to this workload; ask for fewer, or leave scope out",
            ),
            Self::Replayed => invalid(
                "subject_token_replayed",
                "the subject token was exchanged before and can be exchanged once; get a new one",
            ),
            Self::Throttled(fault) => table::throttled(*fault),
            Self::Unavailable(fault) => table::unavailable(fault),
        }
    }

    /// The operator's code, as precise as it is known.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Assertion(fault) => fault.reason(),
            Self::UnknownTarget => "target_unknown",
            Self::SeveralTargets => "several_targets",
            Self::TargetNeedsClient => "client_required_by_target",
            Self::TargetDenied => "target_denied",
            Self::OutsideTask => "target_outside_task",
            Self::TaskUnknown => "task_unknown",
            Self::Suspended(_) | Self::Client(ClientError::Suspended) => "suspended",
            Self::Client(ClientError::Assertion(fault)) => fault.reason(),
            Self::Request(_)
            | Self::Client(_)
            | Self::Proof(_)
            | Self::NotItsAudience
            | Self::LineageTooLong
            | Self::TokenTooLarge
            | Self::ScopeDenied
            | Self::ConfirmationRequired
            | Self::TaskInTask
            | Self::TaskSpent
            | Self::TooManyTasks
            | Self::TaskIdle
            | Self::Replayed
            | Self::Throttled(_)
            | Self::Unavailable(_) => self.wire().reason,
        }
    }

    /// Returns true if the error is not the caller's fault.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Assertion(AssertionError::Keys(_) | AssertionError::Behind))
    }
}
