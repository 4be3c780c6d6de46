//! Policy permits the exchange, within bounds.

use super::BoundExchange;
use super::task::TaskMembership;
use crate::assertion::{AssertionError, Confirmation};
use crate::audit::AuditTrail;
use crate::domain::{Lifetime, Scope, Scopes, Timestamp};
use crate::error::Error;
use crate::form::{RequestError, TaskParameter};
use crate::policy::{Decision, Facts, Hints, Policy, Question, TaskFacts};
use crate::rates::{RateLimiter, WithinIssuerRate};
use crate::token::LifetimeRule;
use std::net::IpAddr;
use std::sync::Arc;

/// A bound exchange that policy permits, with the scopes and the expiry that it permits. Only this file makes one, and
/// no other file can change it.
pub struct AuthorizedExchange {
    bound: BoundExchange,
    scopes: Scopes,
    expires: Timestamp,
    purpose_tested: bool,
    _issuer_rate: WithinIssuerRate,
}

impl AuthorizedExchange {
    /// Asks `policy` about each scope of `bound`. The grant never exceeds what the request asks for, what the target
    /// knows and what a presented token of ours holds. It expires with the shortest of the target's, the permits' and
    /// the requested lifetime and the subject token; a task expires at its deadline instead of with the subject token.
    ///
    /// # Errors
    /// - [`Error::TargetDenied`] if policy permits nothing, [`Error::ScopeDenied`] if it permits less than was asked
    ///   for.
    /// - [`Error::ConfirmationRequired`] for a task without a confirmation key, unless policy allows that.
    /// - [`Error::Throttled`] if the issuer's workloads together ask too often.
    pub(super) fn ask(
        bound: BoundExchange,
        (policy, rates): (&Policy, &RateLimiter),
        peer: IpAddr,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Self, Error> {
        let answer = Answered::by(policy, &bound, peer, now);
        let (denied, granted) = (answer.denied, answer.granted());
        let asked = || format!("permits {}", asked_text(&bound));
        let refusal = if granted.is_empty() { Error::TargetDenied } else { Error::ScopeDenied };
        let permitted = trail.require("policy", !denied, asked, || granted_text(&granted), refusal);
        let (tested, max_lifetime) = (answer.tested(), answer.max_lifetime());
        trail.decided(answer.question, answer.decision);
        permitted?;
        let opens = matches!(bound.task(), TaskMembership::Opens(_));
        let is_tested = |fact: &str| tested.iter().any(|tested| tested == fact);
        if opens && bound.confirmation().is_none() && !is_tested("confirmation") {
            return Err(Error::ConfirmationRequired);
        }
        let scopes = granted.iter().filter_map(|scope| scope.parse().ok()).collect();
        let expires = now.plus(lifetime(&bound, max_lifetime, now)?);
        let issuer = &bound.subject().workload().issuer;
        let issuer_rate = rates.check_issuer(issuer).inspect_err(|_| trail.count_only())?;
        let purpose_tested = is_tested("purpose");
        Ok(Self { bound, scopes, expires, purpose_tested, _issuer_rate: issuer_rate })
    }

    /// The bound exchange that policy was asked about.
    pub(super) fn bound(&self) -> &BoundExchange {
        &self.bound
    }

    /// The granted scopes.
    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The expiry of the token.
    pub(super) fn expires(&self) -> Timestamp {
        self.expires
    }

    /// True if a permit tested the purpose that the task is said to have.
    pub(super) fn purpose_tested(&self) -> bool {
        self.purpose_tested
    }
}

/// The question to policy and its answer.
struct Answered {
    question: Question,
    decision: Decision,
    denied: bool,
}

impl Answered {
    fn by(policy: &Policy, bound: &BoundExchange, peer: IpAddr, now: Timestamp) -> Self {
        let (asked, offered) = (bound.requested().scopes(), offered(bound));
        let known = |scope: &&Scope| offered.iter().any(|offered| offered == scope.as_str());
        let wanted: Vec<String> = match asked.is_empty() {
            true => offered.clone(),
            false => asked.iter().filter(known).map(ToString::to_string).collect(),
        };
        let all_known = asked.iter().all(|scope| known(&scope));
        let mut question = question(bound, wanted, peer, now);
        let decision = policy.decide(&question);
        if asked.is_empty() {
            let denied = decision.verdicts.iter().all(|verdict| !verdict.permitted);
            return Self { question, decision, denied };
        }
        let denied = !all_known || decision.verdicts.iter().any(|verdict| !verdict.permitted);
        if !denied {
            return Self { question, decision, denied };
        }
        // Asked again about every scope of the target: the caller learns that a scope or the whole target is denied,
        // and nothing else.
        question.scopes = offered;
        let decision = policy.decide(&question);
        Self { question, decision, denied }
    }

    fn granted(&self) -> Vec<String> {
        let permitted = self.decision.verdicts.iter().filter(|verdict| verdict.permitted);
        permitted.map(|verdict| verdict.scope.clone()).collect()
    }

    /// The facts that some permit tested.
    fn tested(&self) -> Vec<String> {
        self.decision.verdicts.iter().flat_map(|verdict| verdict.compared.clone()).collect()
    }

    /// The shortest lifetime of the permitted scopes, in seconds.
    fn max_lifetime(&self) -> Option<i64> {
        let permitted = self.decision.verdicts.iter().filter(|verdict| verdict.permitted);
        permitted.filter_map(|verdict| verdict.max_lifetime).min()
    }
}

/// Returns the lifetime of the token, in seconds.
fn lifetime(bound: &BoundExchange, max_lifetime: Option<i64>, now: Timestamp) -> Result<i64, Error> {
    // A task may outlive the assertion that opens it; nothing else does.
    let (left, expired): (_, Error) = match bound.shape().lifetime_rule() {
        LifetimeRule::UntilDeadline => (
            bound.task().deadline().map(|deadline| deadline.since(now)),
            RequestError::TaskParameter(TaskParameter::Deadline).into(),
        ),
        LifetimeRule::WithinSubjectToken => {
            (Some(bound.subject().expires().since(now)), AssertionError::Expired.into())
        }
    };
    let asked = bound.requested().lifetime().map(Lifetime::seconds);
    let bounds = [Some(bound.target().max_lifetime.seconds()), max_lifetime, asked, left];
    bounds.into_iter().flatten().min().filter(|lifetime| *lifetime > 0).ok_or(expired)
}

/// Returns the scopes that could be granted at all, a question each; `""` for a target without scopes.
fn offered(bound: &BoundExchange) -> Vec<String> {
    let scopes = &bound.target().scopes;
    if scopes.is_empty() {
        return vec![String::new()];
    }
    let within = |scope: &&Scope| bound.ceiling().is_none_or(|ceiling| ceiling.contains(scope));
    scopes.iter().filter(within).map(ToString::to_string).collect()
}

fn question(bound: &BoundExchange, scopes: Vec<String>, peer: IpAddr, now: Timestamp) -> Question {
    let requested = bound.requested();
    let (task_purpose, task) = match bound.task() {
        TaskMembership::Opens(terms) => (terms.purpose.clone(), None),
        TaskMembership::Within { id, purpose } => (None, Some(TaskFacts { id: id.clone(), purpose: purpose.clone() })),
        TaskMembership::Implicit => (None, None),
    };
    Question {
        principal: Arc::clone(bound.subject().workload()),
        action: bound.action(),
        resource: Facts::from(bound.target()),
        scopes,
        client: bound.client().map(|client| client.id.to_string()),
        confirmation: bound.confirmation().map(Confirmation::key).cloned(),
        lifetime: requested.lifetime().map(Lifetime::seconds),
        now: now.seconds(),
        network: peer.to_canonical().to_string(),
        hints: Hints {
            client_id: requested.claimed_client().filter(|_| bound.client().is_none()).map(str::to_owned),
            task_purpose,
        },
        task,
    }
}

fn asked_text(bound: &BoundExchange) -> String {
    let asked = bound.requested().scopes();
    let scopes = if asked.is_empty() { "any scope".to_owned() } else { asked.to_string() };
    format!("{scopes} at {} to {}", bound.target().audience, bound.subject().workload().name)
}

fn granted_text(granted: &[String]) -> String {
    match granted {
        [] => "permits nothing".to_owned(),
        [one] if one.is_empty() => "permits the target".to_owned(),
        scopes => format!("permits {}", scopes.join(" ")),
    }
}
