//! Do subject, client and target belong together? And what then is to be asked of policy.

use super::Snapshot;
use super::caller::Caller;
use super::request::Asked;
use super::task::{Belongs, may_present};
use crate::assertion::{AssertionError, Confirmation, SubjectToken, Verified};
use crate::audit::Trail;
use crate::client::{Client, ClientError};
use crate::domain::{FirstUse, Lifetime, Scopes, Target, Targets};
use crate::error::Error;
use crate::policy::Action;
use crate::revocation::Revocations;
use countersign_verify::AccessToken;
use countersign_verify::claims::MAX_LINEAGE;
use countersign_verify::revocation::Kind;
use std::sync::Arc;

/// A verified subject with a client that may present it, for one target.
pub struct BoundExchange {
    pub(super) subject: Verified<SubjectToken>,
    pub(super) client: Option<Arc<Client>>,
    /// The key that what is minted is bound to.
    pub(super) confirmation: Option<Confirmation>,
    pub(super) target: Arc<Target>,
    pub(super) action: Action,
    /// How it belongs to a task.
    pub(super) task: Belongs,
    pub(super) asked: Scopes,
    /// The scopes of our own token that was presented, where the answer must not have more.
    pub(super) ceiling: Option<Scopes>,
    pub(super) lifetime: Option<Lifetime>,
    pub(super) claimed_client: Option<String>,
    /// The scope that stands for every scope of the target, as it was asked for.
    pub(super) every_scope: Option<String>,
    /// What has to be claimed before the client's own assertion counts.
    pub(super) client_first_use: Option<FirstUse>,
    /// Private to this file, so that nothing else makes one.
    _seal: (),
}

/// What an exchange is bound by, beside what was presented.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) revocations: &'a Revocations,
    /// Our issuer identifier.
    pub(super) issuer: &'a str,
}

impl BoundExchange {
    /// Binds `subject` to the client that calls and to the one target that was asked for.
    ///
    /// # Errors
    /// [`Error::Proof`] where what is presented is bound to a key that was not proved, [`ClientError::Required`] where the issuer's entry asks for a client, [`Error::NotItsAudience`] when our own token is presented by anyone but a client that its `aud` names,
    /// [`Error::UnknownTarget`] when no one target was asked for, and what [`Belongs::bind`] says of tasks, [`Error::Suspended`] where nothing new is given.
    pub(super) fn bind(
        asked: Asked,
        subject: Verified<SubjectToken>,
        caller: Caller,
        confirmation: Option<Confirmation>,
        ground: Ground<'_>,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        let Ground { snapshot, issuer, revocations } = ground;
        let Asked { targets: names, scopes, lifetime, claimed_client, task: terms, every_scope } = asked;
        let client_first_use = caller.first_use();
        // What was handed to the holder of a key is of no use to another one, and nothing below it loses that.
        for needed in [subject.bound_to(), caller.bound_to()] {
            Confirmation::fits(confirmation.as_ref(), needed, trail)?;
        }
        // The client is the subject itself, where one issuer vouched for both.
        let is_subject = caller.is(subject.workload());
        let client = caller.client;
        if subject.client_required() {
            trail.check("client", client.is_some(), || "an authenticated client", || name_of(client.as_deref()));
            if client.is_none() {
                return Err(ClientError::Required.into());
            }
        }
        if let Some(parent) = subject.parent() {
            let aud = &parent.claims().aud;
            let of_task = aud == issuer;
            let serves = if of_task {
                may_present(parent.claims(), client.as_deref())
            } else {
                client.as_ref().is_some_and(|client| client.serves(aud))
            };
            let expected =
                || if of_task { "who opened the task".to_owned() } else { format!("a client that serves {aud}") };
            trail.check("presenter", serves, expected, || name_of(client.as_deref()));
            if !serves {
                if client.is_none() {
                    // Whoever saw the token can send it as often as he likes.
                    trail.counted();
                }
                return Err(Error::NotItsAudience);
            }
            let known = snapshot.knows(parent.claims());
            trail.check(
                "token's target and client",
                known,
                || "configured",
                || if known { "configured" } else { "gone" },
            );
            if !known {
                return Err(AssertionError::Withdrawn.into());
            }
            if parent.claims().lineage.len() >= MAX_LINEAGE {
                return Err(Error::LineageTooLong);
            }
        }
        // Ahead of targets: who is suspended learns nothing of them.
        not_suspended(Kind::Workload, &subject.workload().name, revocations, trail)?;
        not_suspended(Kind::Issuer, &subject.origin().iss, revocations, trail)?;
        let target = one_target(&names, &snapshot.targets, trail)?;
        if target.client_required {
            trail.check("client", client.is_some(), || "an authenticated client", || name_of(client.as_deref()));
            if client.is_none() {
                return Err(Error::TargetNeedsClient);
            }
        }
        let parent = subject.parent().map(AccessToken::claims);
        let task = Belongs::bind(terms, &target, parent, snapshot, issuer, trail)?;
        not_suspended(Kind::Target, target.audience.as_str(), revocations, trail)?;
        let ceiling = ceiling(&subject, &target, &scopes);
        // Its own assertion, or less of a token for the very same target: anything else an authenticated client asks in
        // the workload's name.
        let at_first_hand = parent.is_none_or(|parent| parent.aud == issuer);
        let own = client.is_none() || (is_subject && at_first_hand) || ceiling.is_some();
        let action = match task {
            Belongs::Opens(_) => Action::OpenTask,
            _ if own => Action::Exchange,
            _ => Action::Impersonate,
        };
        Ok(Self {
            subject,
            client,
            confirmation,
            target,
            action,
            task,
            asked: scopes,
            ceiling,
            lifetime,
            claimed_client,
            every_scope,
            client_first_use,
            _seal: (),
        })
    }
}

fn not_suspended(kind: Kind, id: &str, revocations: &Revocations, trail: &mut Trail) -> Result<(), Error> {
    if revocations.suspends(kind, id) {
        trail.check(kind.name(), false, || "not suspended", || format!("{id} is suspended"));
        return Err(Error::Suspended(kind));
    }
    Ok(())
}

fn name_of(client: Option<&Client>) -> String {
    client.map_or_else(|| "nobody in particular".to_owned(), |client| client.id.to_string())
}

/// The scopes of the presented token, where the same target is asked for the same or less.
fn ceiling(subject: &Verified<SubjectToken>, target: &Target, asked: &Scopes) -> Option<Scopes> {
    let parent = subject.parent()?.claims();
    let scopes: Scopes = parent.scope.parse().ok()?;
    (parent.aud == target.audience.as_str() && asked.is_subset(&scopes)).then_some(scopes)
}

fn one_target(names: &[String], targets: &Targets, trail: &mut Trail) -> Result<Arc<Target>, Error> {
    let found: Vec<_> = names.iter().map(|name| targets.find(name)).collect();
    let first = found.first().copied().flatten();
    let same = first.is_some() && found.iter().all(|other| other.is_some_and(|other| Some(other) == first));
    trail.check("target", same, || "one registered target".to_owned(), || names.join(", "));
    match first {
        Some(target) if same => Ok(Arc::clone(target)),
        _ if names.iter().any(|name| Some(name) != names.first()) => Err(Error::SeveralTargets),
        _ => Err(Error::UnknownTarget),
    }
}
