//! The last stage before a token leaves: first use is claimed and the grant is on the audit log.

use super::MintedToken;
use super::task::Counted;
use crate::assertion::{AssertionError, FirstUse, ProofFault};
use crate::audit::Trail;
use crate::client::ClientError;
use crate::domain::{Clock, Lifetime, Timestamp};
use crate::error::{Error, Unavailable};
use crate::store::{FirstUses, Spending, Spent, StoreError, TaskRecords};
use countersign_verify::key::Algorithm;
use std::fmt;

/// A token that may leave. The only thing that the HTTP layer can render.
pub struct Issued {
    access_token: String,
    expires_in: i64,
    scope: String,
    algorithm: Algorithm,
    is_bound: bool,
}

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Issued(for {} s)", self.expires_in)
    }
}

impl Issued {
    /// Claims first use, and its place in its task, then writes the grant. A refusal consumes nothing; where the grant cannot be written the mark is
    /// taken back, and where that fails too the assertion counts as used.
    ///
    /// # Errors
    /// [`Error::Replayed`] when someone else was first, [`Unavailable`] when mark or grant cannot be written.
    pub(super) async fn record(
        minted: MintedToken,
        claims: Claims<'_>,
        clock: &dyn Clock,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        let MintedToken { token, expires, scope, granted, algorithm, first_uses: marks, counted, .. } = minted;
        let is_bound = granted.jkt.is_some();
        let now = clock.now();
        let expires_in = expires.since(now);
        if expires_in <= 0 {
            return Err(AssertionError::Expired.into());
        }
        let [subject, client, proof] = marks;
        // One assertion can be both: then it is used once.
        let client = client.filter(|client| subject.is_none_or(|subject| subject.key != client.key));
        let mut held = Held { claims, marks: Vec::new(), token: None, until: expires };
        for (mark, name) in [(subject, "first use"), (client, "client first use"), (proof, "proof's first use")] {
            let Some(mark) = mark else { continue };
            let first = match claims.first_uses.claim(mark.key, mark.until, now).await {
                Ok(first) => first,
                Err(fault) => return Err(held.release(Unavailable::Store(fault).into()).await),
            };
            trail.check(
                name,
                first,
                || "not exchanged before".to_owned(),
                || if first { "not exchanged before" } else { "exchanged before" }.to_owned(),
            );
            if !first {
                // So can whoever saw the assertion: what is used up says nothing new.
                trail.counted();
                let fault = match name {
                    "first use" => Error::Replayed,
                    "client first use" => ClientError::Replayed.into(),
                    _ => ProofFault::Replayed.into(),
                };
                return Err(held.release(fault).await);
            }
            held.marks.push(mark);
        }
        if let Err(fault) = held.count(counted, now, trail).await {
            return Err(held.release(fault).await);
        }
        if let Err(fault) = trail.grant(granted) {
            tracing::error!(%fault, "grant not written, so not given");
            return Err(held.release(Unavailable::Audit.into()).await);
        }
        Ok(Self { access_token: token, expires_in, scope, algorithm, is_bound })
    }

    /// What it is signed with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How it is presented: `DPoP` where it is bound to a key, and else `Bearer` (RFC 9449 §5).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        token_type(self.is_bound)
    }

    /// The token.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    /// How long it lives, in seconds.
    #[must_use]
    pub fn expires_in(&self) -> i64 {
        self.expires_in
    }

    /// What was granted.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

/// `token_type` of a token of ours.
#[must_use]
pub fn token_type(is_bound: bool) -> &'static str {
    if is_bound { "DPoP" } else { "Bearer" }
}

/// What is claimed before a token leaves.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) first_uses: &'a dyn FirstUses,
    pub(super) tasks: &'a dyn TaskRecords,
    /// How long a task may ask for no token.
    pub(super) idle: Lifetime,
}

/// What was claimed so far.
struct Held<'a> {
    claims: Claims<'a>,
    marks: Vec<FirstUse>,
    token: Option<HeldToken>,
    /// When the token ends.
    until: Timestamp,
}

/// A token that was counted, or a task that was opened.
enum HeldToken {
    Used(String, u32),
    Opened(String),
}

impl Held<'_> {
    /// Counts the token in its task, or keeps the task that it opens.
    async fn count(&mut self, counted: Counted, now: Timestamp, trail: &mut Trail) -> Result<(), Error> {
        let Claims { tasks, idle, .. } = self.claims;
        match counted {
            Counted::Nothing => Ok(()),
            Counted::Opened(record) => {
                let id = record.id.clone();
                tasks.open(*record, now).await.map_err(|fault| match fault {
                    StoreError::TooManyTasks => Error::TooManyTasks,
                    other => Unavailable::Store(other).into(),
                })?;
                self.token = Some(HeldToken::Opened(id));
                Ok(())
            }
            Counted::Used(task) => {
                let spending = Spending { task: task.clone(), idle, until: self.until };
                let spent = tasks.spend(spending, now).await.map_err(Unavailable::Store)?;
                let (found, fault) = match spent {
                    Spent::Counted(slot) => {
                        self.token = Some(HeldToken::Used(task, slot));
                        ("known, in use and within its budget", None)
                    }
                    Spent::Budget => ("its budget is used up", Some(Error::TaskSpent)),
                    Spent::Idle => ("idle for too long", Some(Error::TaskIdle)),
                    Spent::Unknown => ("not known", Some(Error::TaskUnknown)),
                };
                trail.check("task's use", fault.is_none(), || "known, in use and within its budget", || found);
                fault.map_or(Ok(()), Err)
            }
        }
    }

    /// Takes back what was claimed, and for which nothing is given because of `fault`. What stays counts as used.
    async fn release(self, fault: Error) -> Error {
        let Claims { first_uses, tasks, .. } = self.claims;
        for mark in self.marks {
            if let Err(fault) = first_uses.release(mark.key, mark.until).await {
                tracing::error!(%fault, "first-use mark not taken back");
            }
        }
        let released = match &self.token {
            None => Ok(()),
            Some(HeldToken::Used(task, slot)) => tasks.give_back(task, *slot).await,
            Some(HeldToken::Opened(task)) => tasks.forget(task).await,
        };
        if let Err(fault) = released {
            tracing::error!(%fault, "a token that was not given is counted in its task");
        }
        fault
    }
}
