//! Does policy permit it, and within what bounds?

use super::task::Belongs;
use super::{BoundExchange, RequestError};
use crate::assertion::AssertionError;
use crate::audit::Trail;
use crate::domain::{Lifetime, Scope, Scopes, Timestamp};
use crate::error::Error;
use crate::policy::{Decision, Facts, Hints, Policy, Question, Task};
use std::net::IpAddr;
use std::sync::Arc;

/// A bound exchange that policy permits, with the scopes and the end that it permits.
pub struct AuthorizedExchange {
    pub(super) bound: BoundExchange,
    pub(super) scopes: Scopes,
    pub(super) expires: Timestamp,
    /// Whether a permit compared what the task is said to be for.
    pub(super) purpose_compared: bool,
    /// Private to this file, so that nothing else makes one.
    _seal: (),
}

impl AuthorizedExchange {
    /// Asks `policy` about each scope. What is granted is never wider than what was asked for, what the target knows, and
    /// what a presented token of ours holds; it ends by the least of the target's, the permits', the asked and the
    /// subject token's own end; a task, which may outlive that, by its deadline.
    ///
    /// # Errors
    /// [`Error::TargetDenied`] when nothing is permitted, [`Error::ScopeDenied`] when less than was asked for is,
    /// [`Error::ConfirmationRequired`] for a task that would be bound to no key without leave.
    pub(super) fn ask(
        bound: BoundExchange,
        policy: &Policy,
        peer: IpAddr,
        now: Timestamp,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        let offered = offered(&bound);
        let (wanted, unknown): (Vec<Scope>, Vec<Scope>) =
            bound.asked.iter().cloned().partition(|scope| offered.iter().any(|offered| offered == scope.as_str()));
        let questions =
            if bound.asked.is_empty() { offered.clone() } else { wanted.iter().map(ToString::to_string).collect() };
        let mut question = question(&bound, questions, peer, now);
        let mut decision = policy.decide(&question);
        let refused = !unknown.is_empty() || decision.verdicts.iter().any(|verdict| !verdict.permitted);
        let denied = if bound.asked.is_empty() { permitted(&decision).is_empty() } else { refused };
        if denied && !bound.asked.is_empty() {
            // Whether a scope is short or the whole target is denied: one answer for each, and nothing between.
            question.scopes = offered;
            decision = policy.decide(&question);
        }
        let granted = permitted(&decision);
        let bound_of_permits = permitted_lifetime(&decision);
        trail.check("policy", !denied, || format!("permits {}", wanted_text(&bound)), || granted_text(&granted));
        let compared = decision.verdicts.iter().flat_map(|verdict| verdict.compared.clone()).collect::<Vec<_>>();
        trail.decided(question, decision);
        if denied {
            return Err(if granted.is_empty() { Error::TargetDenied } else { Error::ScopeDenied });
        }
        let compares = |what: &str| compared.iter().any(|one| one == what);
        if matches!(bound.task, Belongs::Opens(_)) && bound.confirmation.is_none() && !compares("confirmation") {
            return Err(Error::ConfirmationRequired);
        }
        let scopes = granted.iter().filter_map(|scope| scope.parse().ok()).collect();
        // A task may outlive the assertion that opens it; nothing else does.
        let left = match &bound.task {
            Belongs::Opens(terms) => terms.deadline.map(|deadline| deadline.since(now)),
            _ => Some(bound.subject.expires().since(now)),
        };
        let asked = bound.lifetime.map(Lifetime::seconds);
        let bounds = [Some(bound.target.max_lifetime.seconds()), bound_of_permits, asked, left];
        let lifetime = bounds.into_iter().flatten().min().unwrap_or(0);
        if lifetime <= 0 && matches!(bound.task, Belongs::Opens(_)) {
            return Err(RequestError::TaskParameter("task_deadline").into());
        }
        if lifetime <= 0 {
            return Err(AssertionError::Expired.into());
        }
        let purpose_compared = compares("purpose");
        Ok(Self { expires: now.plus(lifetime), bound, scopes, purpose_compared, _seal: () })
    }
}

/// What could be granted at all: one question each, or `""` for a target without scopes.
fn offered(bound: &BoundExchange) -> Vec<String> {
    if bound.target.scopes.is_empty() {
        return vec![String::new()];
    }
    let held = |scope: &&Scope| bound.ceiling.as_ref().is_none_or(|ceiling| ceiling.contains(scope));
    bound.target.scopes.iter().filter(held).map(ToString::to_string).collect()
}

fn question(bound: &BoundExchange, scopes: Vec<String>, peer: IpAddr, now: Timestamp) -> Question {
    Question {
        principal: Arc::clone(bound.subject.workload()),
        action: bound.action,
        resource: Facts::from(&*bound.target),
        scopes,
        client: bound.client.as_ref().map(|client| client.id.to_string()),
        confirmation: bound.confirmation.as_ref().map(|confirmation| confirmation.jkt().to_owned()),
        lifetime: bound.lifetime.map(Lifetime::seconds),
        now: now.seconds(),
        network: peer.to_canonical().to_string(),
        hints: Hints {
            client_id: bound.claimed_client.clone().filter(|_| bound.client.is_none()),
            task_purpose: match &bound.task {
                Belongs::Opens(terms) => terms.purpose.clone(),
                _ => None,
            },
        },
        task: match &bound.task {
            Belongs::Within { id, purpose } => Some(Task { id: id.clone(), purpose: purpose.clone() }),
            _ => None,
        },
    }
}

fn permitted(decision: &Decision) -> Vec<String> {
    decision.verdicts.iter().filter(|verdict| verdict.permitted).map(|verdict| verdict.scope.clone()).collect()
}

/// Of several scopes the shortest.
fn permitted_lifetime(decision: &Decision) -> Option<i64> {
    decision.verdicts.iter().filter(|verdict| verdict.permitted).filter_map(|verdict| verdict.max_lifetime).min()
}

fn wanted_text(bound: &BoundExchange) -> String {
    let what = if bound.asked.is_empty() { "any scope".to_owned() } else { bound.asked.to_string() };
    format!("{what} at {} to {}", bound.target.audience, bound.subject.workload().name)
}

fn granted_text(granted: &[String]) -> String {
    match granted {
        [] => "permits nothing".to_owned(),
        [one] if one.is_empty() => "permits the target".to_owned(),
        scopes => format!("permits {}", scopes.join(" ")),
    }
}
