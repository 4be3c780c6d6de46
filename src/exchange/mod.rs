//! One exchange, from what was presented to what is issued. Each stage is a type that only its own file can make and that
//! the next one consumes, so that a check that is skipped does not compile.

mod authorize;
mod bind;
mod caller;
mod feed;
mod form;
mod mint;
mod operate;
mod record;
mod request;
mod revoke;
mod status;
mod task;
mod tokens;

pub use authorize::AuthorizedExchange;
pub use bind::BoundExchange;
use bind::Ground;
pub use feed::{Fed, Stream, Wanted};
pub use form::{Form, FormBounds};
pub use mint::MintedToken;
use mint::Minting;
pub use operate::{Operator, TaskEnd, list_tasks, revoke_key, rotate_key};
use record::Claims;
pub use record::{Issued, token_type};
pub use request::{CLIENT_CREDENTIALS, ExchangeRequest, GRANT_TYPE, RequestError};
pub use revoke::{Change, change};
pub use status::{STATUS_TTL, StatusDocument};
pub use tokens::Introspection;

pub use crate::assertion::Proofs;
pub use crate::revocation::Heard;

use crate::assertion::{Confirmation, Issuers, OwnTokens};
use crate::audit::{AuditLog, Kind, Outcome, Refused, Trail};
use crate::client::{Attempts, Clients, Credentials};
use crate::domain::{Clock, DecisionId, Entropy, Lifetime, Targets, Timestamp};
use crate::error::{Error, Unavailable};
use crate::policy::Policy;
use crate::rates::Rates;
use crate::revocation::Revocations;
use crate::signing::{KeyRing, Keys};
use crate::store::{TaskRecords, Uses};
use crate::telemetry::{Laps, Metrics, Stage, TraceParent, adopt};
use arc_swap::{ArcSwap, Guard};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::claims::AccessClaims;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::{Instrument as _, field};

/// What a caller presented, before anything of it is believed.
#[derive(Debug)]
pub struct Presented {
    /// The form, or why it cannot be read.
    pub form: Result<Form, Error>,
    /// Credentials from the header, if any were sent.
    pub credentials: Option<Credentials>,
    /// Something in the head of the request that this version does not do.
    pub unsupported: Option<RequestError>,
    /// Proofs that the caller holds a key, if it sent any.
    pub proofs: Option<Proofs>,
    /// The address that asked.
    pub peer: IpAddr,
    /// The caller's span, where it names one.
    pub trace: Option<TraceParent>,
}

/// What an operator configures. One snapshot serves a whole exchange, so that a reload never splits one.
pub struct Snapshot {
    /// Whose assertions are accepted.
    pub issuers: Issuers,
    /// What tokens are minted for.
    pub targets: Targets,
    /// Who may authenticate.
    pub clients: Clients,
    /// What is permitted.
    pub policy: Policy,
    /// How long a task may ask for no token.
    pub task_idle: Lifetime,
}

impl Snapshot {
    /// Whether the issuer, and every target and client, that one of our tokens names is still configured: what is taken out
    /// takes its tokens with it.
    fn knows(&self, token: &AccessClaims) -> bool {
        if !self.issuers.vouches_as(&token.origin.iss) {
            return false;
        }
        let above = token.lineage.iter().map(|above| (&above.aud, &above.client_id));
        above.chain([(&token.aud, &token.client_id)]).all(|(aud, client)| {
            self.targets.find(aud).is_some() && (*client == token.sub || self.clients.find(client).is_some())
        })
    }
}

/// The parts that a [`Broker`] is made of.
pub struct Parts {
    /// Our issuer identifier.
    pub issuer: String,
    /// This replica's name: six letters, digits, `-` or `_`.
    pub replica: String,
    /// What is configured.
    pub snapshot: Snapshot,
    /// Our keys.
    pub keys: Arc<Keys>,
    /// What is revoked.
    pub revocations: Arc<Revocations>,
    /// What was used how often.
    pub uses: Arc<dyn Uses>,
    /// Which tasks were opened.
    pub tasks: Arc<dyn TaskRecords>,
    /// What happened.
    pub audit: Arc<AuditLog>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How often each may ask.
    pub rates: Rates,
}

/// The broker.
pub struct Broker {
    issuer: String,
    replica: String,
    snapshot: ArcSwap<Snapshot>,
    /// Since when the snapshot is in force, in seconds since 1970.
    configured_at: std::sync::atomic::AtomicI64,
    own: OwnTokens,
    attempts: Attempts,
    rates: Rates,
    /// Who follows the revocation feed.
    following: Arc<feed::Following>,
    statuses: status::StatusDocuments,
    metrics: Arc<Metrics>,
    keys: Arc<Keys>,
    revocations: Arc<Revocations>,
    uses: Arc<dyn Uses>,
    tasks: Arc<dyn TaskRecords>,
    audit: Arc<AuditLog>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An answer, and the decision that it is known by.
#[derive(Debug)]
pub struct Answer<T> {
    /// Its id.
    pub decision: DecisionId,
    /// What it is.
    pub result: Result<T, Error>,
}

impl Broker {
    /// Puts a broker together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { issuer, replica, snapshot, keys, revocations, uses, tasks, audit, clock, entropy, metrics, rates } =
            parts;
        let own = OwnTokens::new(issuer.clone(), Arc::clone(&keys), Arc::clone(&revocations));
        Self {
            issuer,
            replica,
            snapshot: ArcSwap::from_pointee(snapshot),
            configured_at: clock.now().seconds().into(),
            own,
            attempts: Attempts::default(),
            following: Arc::default(),
            statuses: status::StatusDocuments::default(),
            rates,
            metrics,
            keys,
            revocations,
            uses,
            tasks,
            audit,
            clock,
            entropy,
        }
    }

    /// Exchanges a token (RFC 8693 §2). Leaves one event on the audit log, whatever happens.
    pub async fn exchange(&self, presented: Presented) -> Answer<Issued> {
        let (decision, now) = (self.decision(), self.clock.now());
        let span = tracing::info_span!(
            target: "countersign::exchange", "exchange",
            decision = decision.as_str(), reason = field::Empty, otel.kind = "server"
        );
        if let Some(parent) = &presented.trace {
            adopt(&span, parent);
        }
        let laps = Laps::start(Arc::clone(&self.metrics));
        let mut trail = Trail::begin(Kind::Exchange, &decision, Some(presented.peer), now, &self.audit).timed(laps);
        let result = self.stages(presented, &decision, now, &mut trail).instrument(span.clone()).await;
        match &result {
            Ok(issued) => self.metrics.minted(issued.algorithm().name()),
            Err(fault) => drop(span.record("reason", fault.reason())),
        }
        Self::close(Answer { decision, result }, trail)
    }

    /// The stages, read aloud.
    async fn stages(
        &self,
        presented: Presented,
        decision: &DecisionId,
        now: Timestamp,
        trail: &mut Trail,
    ) -> Result<Issued, Error> {
        self.revocations.fresh().map_err(Unavailable::Store)?;
        // Read first: what is revoked from here on hits what is decided now.
        let position = self.revocations.position();
        let (snapshot, keys) = (self.snapshot(), self.keys.ring());
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;

        let form = form?;
        let request = ExchangeRequest::read(&form, unsupported)?;
        trail.asked(request.summary());
        let mut caller = self.caller(&form, credentials, peer, &snapshot, now, trail).await?;
        let (token, asked) = request.into_parts();
        trail.lap(Stage::Parse);
        let subject = match token {
            Some(token) => snapshot.issuers.verify(token, &self.own, now, trail).await?,
            None => caller.take_subject(trail)?,
        };
        let confirmation = proofs.map(|proofs| Confirmation::prove(&proofs, now, trail)).transpose()?;
        trail.lap(Stage::Verify);
        let asking = Arc::clone(subject.workload());
        self.rates.of(&asking.name, peer.into()).inspect_err(|_| trail.counted())?;
        let ground = Ground { snapshot: &snapshot, revocations: &self.revocations, issuer: &self.issuer };
        let bound = BoundExchange::bind(asked, subject, caller, confirmation, ground, trail)?;
        trail.lap(Stage::Bind);
        let authorized = AuthorizedExchange::ask(bound, &snapshot.policy, peer, now, trail)?;
        self.rates.vouched_by(&asking.issuer).inspect_err(|_| trail.counted())?;
        trail.lap(Stage::Decide);
        let by = Minting {
            issuer: &self.issuer,
            keys: &keys,
            entropy: &*self.entropy,
            decision,
            revocations: &self.revocations,
        };
        let minted = MintedToken::mint(authorized, by, position, now)?;
        trail.lap(Stage::Mint);
        let claims =
            Claims { uses: &*self.uses, tasks: &*self.tasks, idle: snapshot.task_idle, revocations: &self.revocations };
        let issued = Issued::record(minted, claims, &*self.clock, trail).await?;
        trail.lap(Stage::Record);
        Ok(issued)
    }

    /// Our issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What is revoked.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The keys of this moment.
    #[must_use]
    pub fn keys(&self) -> Guard<Arc<KeyRing>> {
        self.keys.ring()
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How often each may ask.
    #[must_use]
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// What is configured now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The issuers that have no key set fresh enough to be trusted.
    #[must_use]
    pub fn issuers_without_keys(&self) -> Vec<String> {
        let now = self.clock.now();
        let snapshot = self.snapshot();
        let without = snapshot.issuers.iter().filter(|issuer| issuer.keys.ready(now).is_none());
        without.map(|issuer| issuer.name.to_string()).collect()
    }

    /// How far our clock is from that of the issuer that agrees best with it, in seconds: one issuer's wrong clock says
    /// nothing of ours, and all of them do.
    #[must_use]
    pub fn clock_skew(&self) -> i64 {
        self.snapshot().issuers.iter().filter_map(|issuer| issuer.keys.skew()).map(i64::abs).min().unwrap_or(0)
    }

    fn decision(&self) -> DecisionId {
        let mut random = [0; 12];
        // An id that repeats while randomness is down tells less; the exchange itself answers 503 then.
        let _ = self.entropy.fill(&mut random);
        DecisionId::new(&self.replica, &URL_SAFE_NO_PAD.encode(random))
    }

    /// Closes the event with how it ended.
    fn close<T>(answer: Answer<T>, trail: Trail) -> Answer<T> {
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
}

impl From<Unavailable> for Error {
    fn from(fault: Unavailable) -> Self {
        Self::Unavailable(fault)
    }
}
