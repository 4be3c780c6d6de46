//! The life of a token after it was issued: introspection (RFC 7662, RFC 9701), revocation by its holder (RFC 7009),
//! the revocation feed and status lists. A token is verified before its claims are used for a look-up.

mod feed;
mod status;

pub use feed::{FeedAnswer, FeedRequest, RevocationFeed, Subscription};
pub use status::{STATUS_TTL, StatusDocument, StatusLists};

use crate::assertion::{AssertionError, Confirmation, ProofFault, jti_or_fault};
use crate::audit::{AuditTrail, EventKind, Outcome};
use crate::client::{Client, ClientError};
use crate::domain::{DecisionId, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::exchange::{Answer, AuthRequest, Broker, Presented, close, token_type};
use crate::form::{Parameter, RequestError, Required};
use crate::revocation::RECORD_MARGIN;
use crate::signing::{Document, Keys};
use crate::store::{About, Act, Entry, Reserved};
use countersign_verify::AccessToken;
use countersign_verify::revocation::Kind as Named;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The answer of introspection. There is one way to say no, and it says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introspection {
    /// The token is alive and for the caller's audience.
    Active(Arc<AccessToken>),
    /// Any other token: expired, revoked, or unknown.
    Inactive,
    /// Either, signed for the caller (RFC 9701 §5).
    Signed(String),
}

/// RFC 9701 §5: the answer as a JWT for the resource server that asked.
#[derive(Serialize)]
struct SignedAnswer<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    token_introspection: Value,
}

/// Answers resource servers about tokens, and ends tokens for those who hold them.
pub struct Introspector {
    broker: Arc<Broker>,
    keys: Arc<Keys>,
}

impl Introspector {
    /// Returns an introspector of the tokens of `broker`, whose answers are signed with `keys`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, keys: Arc<Keys>) -> Self {
        Self { broker, keys }
    }

    /// Tells a resource server whether a token for its audience is alive; in a signed answer where it asks for one.
    ///
    /// # Errors
    /// [`ClientError`] when the caller is not a registered client, [`RequestError`] when the form is malformed,
    /// [`Unavailable`] when what is to be claimed or signed cannot be.
    pub async fn introspect(&self, presented: Presented, signed: bool) -> Answer<Introspection> {
        let (decision, parts) = (self.broker.decision(), self.broker.parts());
        let (peer, now) = (Some(presented.peer), parts.clock.now());
        let mut trail = AuditTrail::begin(EventKind::Introspection, &decision, peer, now, &parts.audit);
        let result = self.looked_up(presented, signed, &mut trail).await;
        if !matches!(result, Err(Error::Client(_))) {
            trail.discard();
            return Answer { decision, result };
        }
        // Secrets are guessed here, so that a refused client leaves an event.
        close(Answer { decision, result }, trail)
    }

    async fn looked_up(
        &self,
        presented: Presented,
        signed: bool,
        trail: &mut AuditTrail,
    ) -> Result<Introspection, Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (parts, snapshot) = (self.broker.parts(), self.broker.snapshot());
        let (form, now) = (form?, parts.clock.now());
        unsupported.or(proofs.is_some().then_some(RequestError::Dpop)).map_or(Ok(()), Err)?;
        let calling = AuthRequest { form: &form, peer, snapshot: &snapshot, now };
        let client = parts.client_auth.authenticate_and_use(calling, credentials, trail).await?;
        let client = client.ok_or(ClientError::Required)?;
        let token = form.single(Parameter::Token)?.ok_or(RequestError::Missing(Required::Token))?;
        form.single(Parameter::TokenTypeHint)?;
        // Without a current view of revocations there is no answer.
        parts.revocations.fresh().map_err(Unavailable::Store)?;
        let verified = match parts.own_tokens.verify(token, now).await {
            Err(AssertionError::Behind) => return Err(AssertionError::Behind.into()),
            verified => verified.ok(),
        };
        let found = verified.filter(|(token, _)| client.serves(&token.claims().aud) && snapshot.knows(token.claims()));
        parts.metrics.introspected(found.is_some(), found.as_ref().is_some_and(|(_, known)| *known));
        match found {
            found if signed => self.signed(found.as_ref().map(|(token, _)| &**token), &client, now).await,
            Some((token, _)) => Ok(Introspection::Active(token)),
            None => Ok(Introspection::Inactive),
        }
    }

    async fn signed(
        &self,
        token: Option<&AccessToken>,
        client: &Client,
        now: Timestamp,
    ) -> Result<Introspection, Error> {
        let mut said = json!({"active": token.is_some()});
        if let (Some(token), Some(said)) = (token, said.as_object_mut())
            && let Ok(Value::Object(claims)) = serde_json::to_value(token.claims())
        {
            said.extend(claims);
            said.insert("token_type".to_owned(), token_type(token.claims().cnf.as_ref()).into());
        }
        let snapshot = self.broker.snapshot();
        let (iss, aud) = (snapshot.issuer.as_str(), client.id.as_str());
        let answer = SignedAnswer { iss, aud, iat: now.seconds(), token_introspection: said };
        let signed = self.keys.sign(Document::Introspection, &answer, now).await;
        Ok(Introspection::Signed(signed.map_err(|_| Unavailable::Signing)?))
    }

    /// Ends a token, and everything below it. A token that was minted without client authentication is ended by any
    /// caller that presents it; any other by the client that asked for it. For anybody else, and for what is no live
    /// token of ours, the answer is the same and nothing happens (RFC 7009 §2.2).
    ///
    /// # Errors
    /// [`ClientError`], [`RequestError`], or [`Unavailable`] when it is not on disk: then ask again.
    pub async fn revoke(&self, presented: Presented) -> Answer<()> {
        let (decision, parts) = (self.broker.decision(), self.broker.parts());
        let (peer, now) = (Some(presented.peer), parts.clock.now());
        let mut trail = AuditTrail::begin(EventKind::Revocation, &decision, peer, now, &parts.audit);
        let result = self.ended(presented, &decision, &mut trail).await;
        close(Answer { decision, result }, trail)
    }

    async fn ended(&self, presented: Presented, decision: &DecisionId, trail: &mut AuditTrail) -> Result<(), Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (parts, snapshot) = (self.broker.parts(), self.broker.snapshot());
        let (form, now) = (form?, parts.clock.now());
        unsupported.map_or(Ok(()), Err)?;
        let calling = AuthRequest { form: &form, peer, snapshot: &snapshot, now };
        let client = parts.client_auth.authenticate_and_use(calling, credentials, trail).await?;
        let token = form.single(Parameter::Token)?.ok_or(RequestError::Missing(Required::Token))?;
        form.single(Parameter::TokenTypeHint)?;
        let verified = parts.own_tokens.verify(token, now).await.map(|(token, _)| token);
        if matches!(verified, Err(AssertionError::Behind)) {
            return Err(AssertionError::Behind.into());
        }
        let nothing_done =
            |trail: &mut AuditTrail| trail.done(Outcome::NoEffect).map_err(|_| Unavailable::Audit.into());
        let token = match trail.require_ok("token", verified, || "minted here, in force", jti_or_fault) {
            Ok(token) => token,
            Err(fault) => {
                if fault == AssertionError::Revoked {
                    // A repeated request is answered once the revocation is durable, and not before.
                    parts.revocations.confirm().await.map_err(Unavailable::Store)?;
                }
                return nothing_done(trail);
            }
        };
        let claims = token.claims();
        let by_client = claims.client_id != claims.sub;
        let owner = if by_client { claims.client_id.as_str() } else { "any caller that presents it" };
        let owns = !by_client || client.as_ref().is_some_and(|client| client.id.as_str() == claims.client_id);
        let presented = || client.as_ref().map_or_else(|| "no client".to_owned(), |client| client.id.to_string());
        if trail.require("owner", owns, || owner.to_owned(), presented, ()).is_err() {
            return if client.is_none() { Err(ClientError::Required.into()) } else { nothing_done(trail) };
        }
        let confirmation = proofs.map(|proofs| Confirmation::prove(&proofs, now, trail)).transpose()?;
        // A stolen token that is bound to a key cannot be revoked without the key. A client that owns it needs no key.
        let needed = claims.cnf.as_ref().filter(|_| !by_client);
        Confirmation::fits(confirmation.as_ref(), needed, trail)?;
        let proof = confirmation.map(|confirmation| confirmation.first_use());
        if let Some(first_use) = proof {
            let reserved = parts.reservations.reserve(first_use.into(), now).await.map_err(Unavailable::Store)?;
            if reserved != Reserved::Whole(0) {
                return Err(ProofFault::Replayed.into());
            }
        }
        let jti: TokenId = claims.jti.parse().map_err(|_| RequestError::Missing(Required::Token))?;
        let until = Timestamp::new(claims.exp).unwrap_or(Timestamp::MAX).plus(RECORD_MARGIN);
        let about =
            About { by: owner.to_owned(), at: now.seconds(), decision: decision.to_string(), ..About::default() };
        let entry = Entry::new(Named::Token, jti.as_str(), Act::Revoke, until, about);
        if let Err(fault) = parts.revocations.enter(entry, now).await {
            if let Some(first_use) = proof {
                // If this fails too, the proof counts as used.
                let _ = parts.reservations.release(first_use.into(), 0).await;
            }
            return Err(Unavailable::Store(fault).into());
        }
        trail.revoked(jti.as_str());
        trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
    }
}
