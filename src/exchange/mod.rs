//! The exchange, from what was presented to what is issued. Each stage is a type that only its own file can make and
//! that the next stage consumes, so that an exchange that skips a check does not compile, in this folder as little as
//! elsewhere.
//!
//! The order has reasons. Whatever is refused from memory alone comes first. The signature is verified before any claim
//! is believed, and before policy is asked, so that a stranger learns nothing of it. The reservation comes last, so
//! that a refusal consumes nothing.

mod authorize;
mod bind;
mod client_auth;
#[cfg(intruder = "alters")]
#[path = "../../tests/intruder/alters.rs"]
mod intruder;
#[cfg(intruder = "constructs")]
#[path = "../../tests/intruder/constructs.rs"]
mod intruder;
mod mint;
mod record;
mod request;
mod task;

pub use authorize::AuthorizedExchange;
use bind::BindContext;
pub use bind::BoundExchange;
pub use client_auth::{AuthRequest, Caller, ClientAuth};
use mint::MintContext;
pub use mint::{Mint, MintedToken};
use record::RecordStores;
pub use record::{Issued, token_type};
pub use request::{CLIENT_CREDENTIALS, ExchangeRequest, GRANT_TYPE};

pub use crate::assertion::Proofs;

use crate::assertion::{Confirmation, Issuers, OwnTokens};
use crate::audit::{AuditLog, AuditTrail, EventKind, Outcome, Refused};
use crate::client::{Clients, Credentials};
use crate::domain::{Clock, DecisionId, Entropy, Lifetime, Targets, Timestamp};
use crate::error::{Error, Unavailable};
use crate::form::{Form, RequestError};
use crate::policy::Policy;
use crate::rates::RateLimiter;
use crate::revocation::Revocations;
use crate::store::{Reservations, TaskRecords};
use crate::telemetry::{Metrics, Stage, StageTimer, TraceParent, adopt};
use arc_swap::ArcSwap;
use countersign_verify::claims::AccessClaims;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::{Instrument as _, field};

/// The data that a caller presented. Nothing of it is believed yet.
#[derive(Debug)]
pub struct Presented {
    /// The form, or why it cannot be read.
    pub form: Result<Form, Error>,
    /// The credentials of the `Authorization` header.
    pub credentials: Option<Credentials>,
    /// A part of the request's head that this version does not support.
    pub unsupported: Option<RequestError>,
    /// Proofs that the caller holds a key.
    pub proofs: Option<Proofs>,
    /// The address that the request came from.
    pub peer: IpAddr,
    /// The caller's span, from `traceparent`.
    pub trace: Option<TraceParent>,
}

/// The configuration in force. One snapshot serves a whole exchange, so that a reload never splits one.
pub struct Snapshot {
    /// This broker's issuer identifier.
    pub issuer: String,
    /// The issuers whose assertions are accepted.
    pub issuers: Issuers,
    /// The targets that tokens are minted for.
    pub targets: Targets,
    /// The registered clients.
    pub clients: Clients,
    /// The policies.
    pub policy: Policy,
    /// The longest time for which a task may be idle.
    pub task_idle: Lifetime,
    /// The time at which the configuration was loaded.
    pub loaded: Timestamp,
}

impl Snapshot {
    /// Returns true if the issuer, and every target and client, that one of our tokens names is still configured: what
    /// is removed from the configuration takes its tokens with it.
    pub(crate) fn knows(&self, token: &AccessClaims) -> bool {
        if !self.issuers.vouches_as(&token.origin.iss) {
            return false;
        }
        let above = token.lineage.iter().map(|above| (&above.aud, &above.client_id));
        above.chain([(&token.aud, &token.client_id)]).all(|(aud, client)| {
            self.targets.find(aud).is_some() && (*client == token.sub || self.clients.find(client).is_some())
        })
    }
}

/// The parts of a [`Broker`].
pub struct Parts {
    /// This replica's name: six letters, digits, `-` or `_`.
    pub replica: String,
    /// The configuration in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Verifies tokens of this broker.
    pub own_tokens: Arc<OwnTokens>,
    /// Authenticates clients.
    pub client_auth: ClientAuth,
    /// Signs tokens.
    pub mint: Mint,
    /// The revocations in force.
    pub revocations: Arc<Revocations>,
    /// First uses and task budgets.
    pub reservations: Arc<dyn Reservations>,
    /// The tasks that were opened.
    pub tasks: Arc<dyn TaskRecords>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The rate limits.
    pub rates: Arc<RateLimiter>,
}

/// The broker: exchanges tokens.
pub struct Broker(Parts);

/// An answer with the id of its decision.
#[derive(Debug)]
pub struct Answer<T> {
    /// The decision's id.
    pub decision: DecisionId,
    /// The answer, or why it was refused.
    pub result: Result<T, Error>,
}

impl Broker {
    /// Returns a broker of `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(parts)
    }

    /// Exchanges a token (RFC 8693 §2). Writes one event to the audit log, whatever happens.
    pub async fn exchange(&self, presented: Presented) -> Answer<Issued> {
        let Parts { audit, clock, metrics, .. } = &self.0;
        let (decision, now) = (self.decision(), clock.now());
        let span = tracing::info_span!(
            target: "countersign::exchange", "exchange",
            decision = decision.as_str(), reason = field::Empty, otel.kind = "server"
        );
        if let Some(parent) = &presented.trace {
            adopt(&span, parent);
        }
        let timer = StageTimer::start(Arc::clone(metrics));
        let mut trail =
            AuditTrail::begin(EventKind::Exchange, &decision, Some(presented.peer), now, audit).timed(timer);
        let result = self.stages(presented, &decision, now, &mut trail).instrument(span.clone()).await;
        match &result {
            Ok(issued) => metrics.minted(issued.algorithm().name()),
            Err(fault) => drop(span.record("reason", fault.reason())),
        }
        close(Answer { decision, result }, trail)
    }

    /// The stages of one exchange, in order.
    async fn stages(
        &self,
        presented: Presented,
        decision: &DecisionId,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Issued, Error> {
        let Parts { own_tokens, client_auth, mint, revocations, reservations, tasks, clock, .. } = &self.0;
        let (entropy, rates) = (&*self.0.entropy, &*self.0.rates);
        // Read first: a revocation from here on hits what is decided now.
        let fresh = revocations.fresh().map_err(Unavailable::Store)?;
        let snapshot = self.snapshot();
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;

        let form = form?;
        let request = ExchangeRequest::read(&form, unsupported)?;
        trail.asked(request.summary());
        let calling = AuthRequest { form: &form, peer, snapshot: &snapshot, now };
        let mut caller = client_auth.authenticate(calling, credentials, trail).await?;
        trail.lap(Stage::Parse);

        let (token, requested) = request.into_parts();
        let subject = match token {
            Some(token) => snapshot.issuers.verify(token, own_tokens, now, trail).await?,
            None => caller.take_subject(trail)?,
        };
        let confirmation = proofs.map(|proofs| Confirmation::prove(&proofs, now, trail)).transpose()?;
        trail.lap(Stage::Verify);

        let context = BindContext { snapshot: &snapshot, revocations, rates, network: peer.into() };
        let bound = BoundExchange::bind(requested, (subject, fresh), (caller, confirmation), context, trail)?;
        trail.lap(Stage::Bind);

        let authorized = AuthorizedExchange::ask(bound, (&snapshot.policy, rates), peer, now, trail)?;
        trail.lap(Stage::Decide);

        let minted = mint.mint(&authorized, MintContext { entropy, decision, revocations }, now).await?;
        trail.lap(Stage::Mint);

        let stores =
            RecordStores { reservations: &**reservations, tasks: &**tasks, idle: snapshot.task_idle, revocations };
        let issued = Issued::record(minted, stores, &**clock, trail).await?;
        trail.lap(Stage::Record);
        Ok(issued)
    }

    /// The revocations in force.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.0.revocations
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The rate limits.
    #[must_use]
    pub fn rates(&self) -> &RateLimiter {
        &self.0.rates
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// The parts, for the other use cases of the same broker.
    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    /// Returns a new decision id.
    pub(crate) fn decision(&self) -> DecisionId {
        DecisionId::random(&self.0.replica, &*self.0.entropy)
    }
}

/// Closes the event of `answer` with how it ended.
pub(crate) fn close<T>(answer: Answer<T>, trail: AuditTrail) -> Answer<T> {
    if let Err(fault) = &answer.result {
        let outcome = if fault.is_unavailable() { Outcome::Unavailable } else { Outcome::Refused };
        let wire = fault.wire();
        match outcome {
            Outcome::Unavailable => tracing::warn!(decision = %answer.decision, %fault, "not available"),
            _ => tracing::info!(decision = %answer.decision, reason = fault.reason(), "refused"),
        }
        trail.refuse(
            outcome,
            Refused {
                reason: fault.reason().to_owned(),
                message: fault.to_string(),
                error: wire.error.to_owned(),
                told: wire.reason.to_owned(),
            },
            wire.description,
        );
    }
    answer
}
