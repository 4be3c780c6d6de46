//! The event of one exchange while it is made. It is written when it is closed, or when it is dropped: a caller that
//! goes away, and a fault that unwinds, leave their event too.

use super::event::{Asked, Check, Event, EventKind, Granted, Outcome, Refused, Subject};
use super::log::{AuditError, AuditLog};
use crate::domain::{ClientId, DecisionId, Timestamp};
use crate::policy::{Decision, Question};
use crate::telemetry::{Stage, StageTimer};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// Limit of a presented value, in bytes.
const MAX_PRESENTED: usize = 256;

/// Proof that a grant is on the audit log. Only [`AuditTrail::grant`] makes one.
#[derive(Debug)]
pub struct GrantWritten {
    _written: (),
}

/// An event in the making.
pub struct AuditTrail {
    event: Event,
    log: Option<Arc<AuditLog>>,
    timer: Option<StageTimer>,
    /// True if an issuer vouches for the workload. Events of unverified callers are rate-limited.
    vouched: bool,
    /// True if the event may be counted instead of written, even for a known caller.
    counted: bool,
}

impl AuditTrail {
    /// Begins the audit event of the request whose decision has the id `decision`.
    #[must_use]
    pub fn begin(
        kind: EventKind,
        decision: &DecisionId,
        peer: Option<IpAddr>,
        now: Timestamp,
        log: &Arc<AuditLog>,
    ) -> Self {
        let mut trail = Self::of(kind, decision.as_str(), peer, now);
        trail.log = Some(Arc::clone(log));
        trail
    }

    /// Returns the trail with a timer for the stages that it passes.
    #[must_use]
    pub fn timed(mut self, timer: StageTimer) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Ends `stage` and notes its duration.
    pub fn lap(&mut self, stage: Stage) {
        if let Some(timer) = &mut self.timer {
            timer.lap(stage);
        }
    }

    /// Discards the event: nothing happened that has to be recorded.
    pub fn discard(mut self) {
        self.log = None;
    }

    /// An event that is never written: for an operator who looks at a token and asks for nothing.
    #[must_use]
    pub fn unwritten(now: Timestamp) -> Self {
        Self::of(EventKind::Exchange, "", None, now)
    }

    /// The checks so far.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.event.checks
    }

    fn of(kind: EventKind, decision: &str, peer: Option<IpAddr>, now: Timestamp) -> Self {
        let event = Event {
            time: now.seconds(),
            decision: decision.to_owned(),
            kind,
            outcome: Outcome::Abandoned,
            peer: peer.map(|address| address.to_string()),
            client: None,
            subject: None,
            checks: Vec::with_capacity(16),
            asked: None,
            question: None,
            answer: None,
            refused: None,
            granted: None,
            revoked: None,
            token: None,
            change: None,
        };
        Self { event, log: None, timer: None, vouched: false, counted: false }
    }

    /// Records the check `name` and returns `refusal` if it does not hold, so that no check can be recorded without
    /// being enforced, or enforced without being recorded. `expected` is called only for a check that does not hold.
    ///
    /// # Errors
    /// `refusal`.
    #[expect(clippy::too_many_arguments, reason = "each is read at the check, and none belongs to another")]
    pub fn require<F, E: Into<Cow<'static, str>>, P: Into<Cow<'static, str>>>(
        &mut self,
        name: &'static str,
        holds: bool,
        expected: impl FnOnce() -> E,
        presented: impl FnOnce() -> P,
        refusal: F,
    ) -> Result<(), F> {
        if !holds {
            return Err(self.refusal(name, expected, presented, refusal));
        }
        self.event.checks.push(Check { name: name.into(), presented: cut(presented().into()), expected: None });
        Ok(())
    }

    /// Records that the check `name` does not hold and returns `refusal`: for a check that is recorded only if it
    /// fails.
    pub fn refusal<F, E: Into<Cow<'static, str>>, P: Into<Cow<'static, str>>>(
        &mut self,
        name: &'static str,
        expected: impl FnOnce() -> E,
        presented: impl FnOnce() -> P,
        refusal: F,
    ) -> F {
        let (presented, expected) = (cut(presented().into()), Some(cut(expected().into())));
        self.event.checks.push(Check { name: name.into(), presented, expected });
        refusal
    }

    /// Records the check `name`, which holds if `found` is `Ok`, and returns `found`. As [`AuditTrail::require`], for a
    /// check whose value is used afterwards.
    ///
    /// # Errors
    /// The error of `found`.
    pub fn require_ok<T, F, E: Into<Cow<'static, str>>, P: Into<Cow<'static, str>>>(
        &mut self,
        name: &'static str,
        found: Result<T, F>,
        expected: impl FnOnce() -> E,
        presented: impl FnOnce(&Result<T, F>) -> P,
    ) -> Result<T, F> {
        // Its own refusal is in `found`.
        let _ = self.require(name, found.is_ok(), expected, || presented(&found), ());
        found
    }

    /// Notes the client that authenticated.
    pub fn client(&mut self, client: &ClientId) {
        self.event.client = Some(client.to_string());
    }

    /// Notes whom a verified assertion is from and about.
    pub fn subject(&mut self, iss: &str, sub: &str, jti: Option<&str>) {
        self.event.subject = Some(Subject {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
            jti: jti.map(|jti| cut(jti.to_owned().into()).into_owned()),
        });
    }

    /// Notes that a configured issuer vouches for somebody whom its entry accepts. Anyone can get a token of a public
    /// issuer.
    pub fn vouched(&mut self) {
        self.vouched = true;
    }

    /// Lets the event be counted instead of written if there are too many, so that a caller that asks too often cannot
    /// fill the log.
    pub fn count_only(&mut self) {
        self.counted = true;
    }

    /// Notes what the caller asked for. It is kept where policy was not reached; a question of policy says more.
    pub fn asked(&mut self, asked: Asked) {
        self.event.asked = Some(asked);
    }

    /// Notes what policy was asked and what it answered.
    pub fn decided(&mut self, question: Question, answer: Decision) {
        self.event.asked = None;
        self.event.question = Some(question);
        self.event.answer = Some(answer);
    }

    /// Notes the token, or the key, that was revoked.
    pub fn revoked(&mut self, id: &str) {
        self.event.revoked = Some(id.to_owned());
    }

    /// Notes what an operator changed.
    pub fn changed(&mut self, what: String) {
        self.event.change = Some(cut(what.into()).into_owned());
    }

    /// Notes a keyed digest of a `token` that nobody vouched for.
    pub fn unverified(&mut self, token: &str) {
        if self.event.subject.is_none() {
            self.event.token = self.log.as_ref().map(|log| log.digest(token));
        }
    }

    /// Writes that `granted` is given. Only after this may it leave.
    ///
    /// # Errors
    /// [`AuditError`] when the event is not written: then nothing may leave. The event can still be closed as refused.
    pub fn grant(&mut self, granted: Granted) -> Result<GrantWritten, AuditError> {
        let began = StageTimer::now();
        self.event.granted = Some(granted);
        let written = self.done(Outcome::Granted);
        if let Some(timer) = &self.timer {
            timer.audited(began);
        }
        written.map(|()| GrantWritten { _written: () })
    }

    /// Writes how something ended that gives no token.
    ///
    /// # Errors
    /// As [`AuditTrail::grant`].
    pub fn done(&mut self, outcome: Outcome) -> Result<(), AuditError> {
        self.event.outcome = outcome;
        // A revocation of nothing, by nobody: a stranger can send as many as he likes.
        let bounded = outcome == Outcome::NoEffect && !self.is_known();
        match self.log.take() {
            Some(log) if bounded => log.append_bounded(&self.event, "no_effect"),
            Some(log) => log.append(&self.event).inspect_err(|_| {
                self.event.granted = None;
                self.log = Some(log);
            }),
            None => Ok(()),
        }
    }

    /// Writes why nothing is given. A refusal that cannot be written is still a refusal.
    pub fn refuse(mut self, outcome: Outcome, refused: Refused, expected: &'static str) {
        // A refusal that compared nothing in particular is told as a check as well, so that the list always ends with
        // it.
        if self.event.checks.iter().all(Check::holds) {
            let presented = cut(refused.message.clone().into());
            let name = refused.reason.clone().into();
            self.event.checks.push(Check { name, presented, expected: Some(expected.into()) });
        }
        self.event.outcome = outcome;
        self.event.refused = Some(refused);
        self.write();
    }

    /// Returns true if the event names an authenticated workload or client, or an operator.
    fn is_known(&self) -> bool {
        !self.counted && (self.vouched || self.event.client.is_some() || self.event.peer.is_none())
    }

    /// Writes the event. Events of authenticated callers and of operators are written whole; the others share a rate
    /// limit.
    fn write(&mut self) {
        let Some(log) = self.log.take() else { return };
        let reason = self.event.refused.as_ref().map_or("abandoned", |refused| refused.reason.as_str());
        let written = if self.is_known() { log.append(&self.event) } else { log.append_bounded(&self.event, reason) };
        if let Err(fault) = written {
            tracing::error!(decision = %self.event.decision, %fault, "event not written");
        }
    }
}

impl Drop for AuditTrail {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.event.outcome = Outcome::Abandoned;
        }
        self.write();
    }
}

fn cut(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= MAX_PRESENTED {
        return text;
    }
    let end = (0..=MAX_PRESENTED).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default()).into()
}
