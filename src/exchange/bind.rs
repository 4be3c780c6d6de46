//! Subject, client, confirmation key, target and task belong together, and nothing of them is suspended.

use super::Snapshot;
use super::client_auth::Caller;
use super::request::Requested;
use super::task::{TaskMembership, may_present};
use crate::assertion::{AssertionError, Confirmation, SubjectToken, Verified};
use crate::audit::AuditTrail;
use crate::client::{Client, ClientError};
use crate::domain::{FirstUse, FirstUses, Network, Scopes, Target, Targets, TokenType};
use crate::error::Error;
use crate::form::RequestError;
use crate::policy::Action;
use crate::rates::{RateLimiter, WithinWorkloadRate};
use crate::revocation::{Fresh, NotSuspended, Revocations};
use crate::token::TokenShape;
use countersign_verify::AccessToken;
use countersign_verify::claims::MAX_LINEAGE;
use countersign_verify::revocation::Kind;
use std::sync::Arc;

/// A verified subject with a client that may present it, for one target. Only this file makes one, and no other file
/// can change it.
pub struct BoundExchange {
    subject: Verified<SubjectToken>,
    client: Option<Arc<Client>>,
    client_first_use: Option<FirstUse>,
    confirmation: Option<Confirmation>,
    target: Arc<Target>,
    shape: TokenShape,
    action: Action,
    task: TaskMembership,
    ceiling: Option<Scopes>,
    requested: Requested,
    proofs: BindProofs,
}

/// Proofs that the checks of this stage, and those before it, were made.
struct BindProofs {
    fresh: Fresh,
    _workload_rate: WithinWorkloadRate,
    _not_suspended: [NotSuspended; 3],
}

/// The data that the checks of this stage use.
#[derive(Clone, Copy)]
pub(super) struct BindContext<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) revocations: &'a Revocations,
    pub(super) rates: &'a RateLimiter,
    /// The network that the request came from.
    pub(super) network: Network,
}

impl BoundExchange {
    /// Binds `subject` to the caller and to the one target that the request names. `fresh` proves that the view of
    /// revocations was current when the exchange began.
    ///
    /// # Errors
    /// - [`Error::Throttled`] if the workload asks too often.
    /// - [`Error::Proof`] if a token is bound to a key that the caller did not prove.
    /// - [`ClientError::Required`] if the issuer's entry requires an authenticated client.
    /// - [`Error::NotItsAudience`] if one of our tokens is presented by a client that its `aud` does not name.
    /// - [`Error::UnknownTarget`] and [`Error::SeveralTargets`] if the request does not name one target.
    /// - [`Error::Suspended`] if workload, issuer or target is suspended.
    /// - [`RequestError::RequestedTokenType`] if a token for the target has another type than the request asks for.
    /// - The errors of [`TaskMembership::bind`].
    pub(super) fn bind(
        requested: Requested,
        (subject, fresh): (Verified<SubjectToken>, Fresh),
        (caller, confirmation): (Caller, Option<Confirmation>),
        context: BindContext<'_>,
        trail: &mut AuditTrail,
    ) -> Result<Self, Error> {
        let BindContext { snapshot, revocations, rates, network } = context;
        let workload_rate =
            rates.check_workload(&subject.workload().name, network).inspect_err(|_| trail.count_only())?;
        for needed in [subject.bound_to(), caller.bound_to()] {
            Confirmation::fits(confirmation.as_ref(), needed, trail)?;
        }
        if subject.client_required() {
            require_client(caller.client(), ClientError::Required, trail)?;
        }
        if let Some(parent) = subject.parent() {
            check_presenter(parent, caller.client(), snapshot, trail)?;
        }
        // Before the target is looked up: a suspended workload learns nothing about targets.
        let workload = not_suspended(Kind::Workload, &subject.workload().name, revocations, trail)?;
        let issuer = not_suspended(Kind::Issuer, &subject.origin().iss, revocations, trail)?;
        let target = one_target(requested.targets(), &snapshot.targets, trail)?;
        if target.client_required {
            require_client(caller.client(), Error::TargetNeedsClient, trail)?;
        }
        let parent = subject.parent().map(AccessToken::claims);
        let shape = TokenShape::choose(target.audience.as_str() == snapshot.issuer, requested.token_type());
        let presented = || requested.token_type().map_or("any", TokenType::urn);
        let unsupported = RequestError::RequestedTokenType;
        let shape =
            shape.ok_or_else(|| trail.refusal("token type", || "a type of the target", presented, unsupported))?;
        let task = TaskMembership::bind(requested.task(), &target, parent, snapshot, trail)?;
        let of_target = not_suspended(Kind::Target, target.audience.as_str(), revocations, trail)?;
        let ceiling = ceiling(&subject, &target, requested.scopes());
        // The workload acts for itself with its own assertion or task token, and with a token of ours that it exchanges
        // for the same target. An authenticated client that presents anything else impersonates the workload.
        let at_first_hand = parent.is_none_or(|parent| parent.aud == snapshot.issuer);
        let is_own = caller.client().is_none() || (caller.is(subject.workload()) && at_first_hand) || ceiling.is_some();
        let action = match task {
            TaskMembership::Opens(_) => Action::OpenTask,
            _ if is_own => Action::Exchange,
            _ => Action::Impersonate,
        };
        let proofs = BindProofs { fresh, _workload_rate: workload_rate, _not_suspended: [workload, issuer, of_target] };
        Ok(Self {
            subject,
            client_first_use: caller.first_use(),
            client: caller.into_client(),
            confirmation,
            target,
            shape,
            action,
            task,
            ceiling,
            requested,
            proofs,
        })
    }

    /// The verified subject token.
    pub(super) fn subject(&self) -> &Verified<SubjectToken> {
        &self.subject
    }

    /// The authenticated client; none if the caller did not authenticate.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }

    /// The key that the minted token is bound to.
    pub(super) fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// The target that the token is for.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The shape of the token.
    pub(super) fn shape(&self) -> TokenShape {
        self.shape
    }

    /// The action that policy is asked about.
    pub(super) fn action(&self) -> Action {
        self.action
    }

    /// The relation of the exchange to a task.
    pub(super) fn task(&self) -> &TaskMembership {
        &self.task
    }

    /// The scopes of the presented token of ours, which the new token must not exceed.
    pub(super) fn ceiling(&self) -> Option<&Scopes> {
        self.ceiling.as_ref()
    }

    /// The contents of the request.
    pub(super) fn requested(&self) -> &Requested {
        &self.requested
    }

    /// The position in the revocation log that this replica had applied before it decided anything.
    pub(super) fn position(&self) -> u64 {
        self.proofs.fresh.position()
    }

    /// The first uses to reserve: of the subject token, of the client's assertion and of the proof of possession. An
    /// assertion that is both the subject's and the client's is used once.
    pub(super) fn first_uses(&self) -> FirstUses {
        let subject = self.subject.first_use();
        let client = self.client_first_use.filter(|client| subject.is_none_or(|subject| subject.key != client.key));
        [subject, client, self.confirmation.as_ref().map(Confirmation::first_use)].into_iter().flatten().collect()
    }
}

fn require_client<E>(client: Option<&Client>, refusal: E, trail: &mut AuditTrail) -> Result<(), E> {
    trail.require("client", client.is_some(), || "an authenticated client", || name_of(client), refusal)
}

/// Checks that `client` may present our token `parent`, and that whatever the token names is still configured.
fn check_presenter(
    parent: &AccessToken,
    client: Option<&Client>,
    snapshot: &Snapshot,
    trail: &mut AuditTrail,
) -> Result<(), Error> {
    let claims = parent.claims();
    let of_task = claims.aud == snapshot.issuer;
    let serves =
        if of_task { may_present(claims, client) } else { client.is_some_and(|client| client.serves(&claims.aud)) };
    let expected = || match of_task {
        true => "the client that opened the task".to_owned(),
        false => format!("a client that serves {}", claims.aud),
    };
    if !serves && client.is_none() {
        // Anyone who saw the token can send it as often as they like, so the refusal may be counted instead of written.
        trail.count_only();
    }
    trail.require("presenter", serves, expected, || name_of(client), Error::NotItsAudience)?;
    let known = snapshot.knows(claims);
    let presented = || if known { "configured" } else { "removed from the configuration" };
    trail.require("token's target and client", known, || "configured", presented, AssertionError::Withdrawn)?;
    let above = claims.lineage.len();
    let expected = || format!("fewer than {MAX_LINEAGE} tokens above it");
    trail.require(
        "lineage",
        above < MAX_LINEAGE,
        expected,
        || format!("{above} tokens above it"),
        Error::LineageTooLong,
    )
}

fn not_suspended(
    kind: Kind,
    id: &str,
    revocations: &Revocations,
    trail: &mut AuditTrail,
) -> Result<NotSuspended, Error> {
    let suspended = || format!("{id} is suspended");
    let refuse = || trail.refusal(kind.name(), || "not suspended", suspended, Error::Suspended(kind));
    revocations.not_suspended(kind, id).ok_or_else(refuse)
}

fn name_of(client: Option<&Client>) -> String {
    client.map_or_else(|| "no client".to_owned(), |client| client.id.to_string())
}

/// Returns the scopes of the presented token of ours, if the request asks for the same target and for no other scope.
fn ceiling(subject: &Verified<SubjectToken>, target: &Target, asked: &Scopes) -> Option<Scopes> {
    let parent = subject.parent()?.claims();
    let scopes: Scopes = parent.scope.parse().ok()?;
    (parent.aud == target.audience.as_str() && asked.is_subset(&scopes)).then_some(scopes)
}

/// Returns the one target that all of `names` name.
fn one_target(names: &[String], targets: &Targets, trail: &mut AuditTrail) -> Result<Arc<Target>, Error> {
    let found: Vec<_> = names.iter().map(|name| targets.find(name)).collect();
    let first = found.first().copied().flatten();
    let one = first.filter(|_| found.iter().all(|other| *other == first));
    let refusal = || match names.iter().any(|name| Some(name) != names.first()) {
        true => Error::SeveralTargets,
        false => Error::UnknownTarget,
    };
    let target =
        trail.require_ok("target", one.ok_or_else(refusal), || "one registered target", |_| names.join(", "))?;
    Ok(Arc::clone(target))
}
