//! What becomes of a token after it was issued: who may look at it (RFC 7662), and who may end it (RFC 7009). A token is
//! verified before anything is looked up by what it says.

use super::{Answer, Broker, Presented, RequestError, token_type};
use crate::assertion::{AssertionError, Confirmation, ProofFault};
use crate::audit::{Kind, Outcome, Trail};
use crate::client::{Client, ClientError};
use crate::domain::{DecisionId, Purpose, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::store::{About, Act, Claimed, Entry};
use countersign_verify::AccessToken;
use countersign_verify::dpop::jkt;
use countersign_verify::revocation::Kind as Named;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How much longer than the token its revocation is kept, in seconds: longer than any verifier's leeway.
pub(super) const RECORD_MARGIN: i64 = 300;

/// The answer of introspection. There is one way to say no, and it says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introspection {
    /// The token is alive and for the caller's audience.
    Active(Arc<AccessToken>),
    /// Anything else.
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

impl Broker {
    /// Tells a resource server whether a token for its audience is alive; in a signed answer where it asks for one.
    ///
    /// # Errors
    /// [`ClientError`] when the caller is not a registered client, [`RequestError`] when the form is malformed,
    /// [`Unavailable`] when what is to be claimed or signed cannot be.
    pub async fn introspect(&self, presented: Presented, signed: bool) -> Answer<Introspection> {
        let decision = self.decision();
        let (peer, now) = (Some(presented.peer), self.clock.now());
        let mut trail = Trail::begin(Kind::Introspection, &decision, peer, now, &self.audit);
        let result = self.looked_up(presented, signed, &mut trail).await;
        if !matches!(result, Err(Error::Client(_))) {
            trail.forget();
            return Answer { decision, result };
        }
        // Whoever guesses a secret, guesses it here.
        Self::close(Answer { decision, result }, trail)
    }

    async fn looked_up(&self, presented: Presented, signed: bool, trail: &mut Trail) -> Result<Introspection, Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (form, snapshot, now) = (form?, self.snapshot(), self.clock.now());
        unsupported.or(proofs.is_some().then_some(RequestError::Dpop)).map_or(Ok(()), Err)?;
        let client = self.caller_at_once(&form, credentials, peer, &snapshot, trail).await?;
        let client = client.ok_or(ClientError::Required)?;
        let token = form.single("token")?.ok_or(RequestError::Missing("token"))?;
        form.single("token_type_hint")?;
        // What is revoked is known, or nothing is said.
        self.revocations.fresh().map_err(Unavailable::Store)?;
        let verified = match self.own.verify(token, now).await {
            Err(AssertionError::Behind) => return Err(AssertionError::Behind.into()),
            verified => verified.ok(),
        };
        let found = verified.filter(|(token, _)| client.serves(&token.claims().aud) && snapshot.knows(token.claims()));
        self.metrics.introspected(found.is_some(), found.as_ref().is_some_and(|(_, known)| *known));
        match found {
            found if signed => self.signed(found.as_ref().map(|(token, _)| &**token), &client, now),
            Some((token, _)) => Ok(Introspection::Active(token)),
            None => Ok(Introspection::Inactive),
        }
    }

    fn signed(&self, token: Option<&AccessToken>, client: &Client, now: Timestamp) -> Result<Introspection, Error> {
        let mut said = json!({"active": token.is_some()});
        if let (Some(token), Some(said)) = (token, said.as_object_mut())
            && let Ok(Value::Object(claims)) = serde_json::to_value(token.claims())
        {
            said.extend(claims);
            said.insert("token_type".to_owned(), token_type(token.claims().cnf.is_some()).into());
        }
        let answer =
            SignedAnswer { iss: &self.issuer, aud: client.id.as_str(), iat: now.seconds(), token_introspection: said };
        let signed = self.keys.ring().sign_as(Purpose::Introspection, &answer, now);
        Ok(Introspection::Signed(signed.map_err(|_| Unavailable::Signing)?))
    }

    /// Ends a token, and everything below it. One that was minted without client authentication is ended by whoever
    /// presents it; any other by the client that asked for it. For anybody else, and for what is no live token of ours,
    /// the answer is the same and nothing happens (RFC 7009 §2.2).
    ///
    /// # Errors
    /// [`ClientError`], [`RequestError`], or [`Unavailable`] when it is not on disk: then ask again.
    pub async fn revoke(&self, presented: Presented) -> Answer<()> {
        let decision = self.decision();
        let mut trail = Trail::begin(Kind::Revocation, &decision, Some(presented.peer), self.clock.now(), &self.audit);
        let result = self.ended(presented, &decision, &mut trail).await;
        Self::close(Answer { decision, result }, trail)
    }

    async fn ended(&self, presented: Presented, decision: &DecisionId, trail: &mut Trail) -> Result<(), Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (form, snapshot, now) = (form?, self.snapshot(), self.clock.now());
        unsupported.map_or(Ok(()), Err)?;
        let client = self.caller_at_once(&form, credentials, peer, &snapshot, trail).await?;
        let token = form.single("token")?.ok_or(RequestError::Missing("token"))?;
        form.single("token_type_hint")?;
        let verified = self.own.verify(token, now).await.map(|(token, _)| token);
        if matches!(verified, Err(AssertionError::Behind)) {
            return Err(AssertionError::Behind.into());
        }
        trail.check(
            "token",
            verified.is_ok(),
            || "minted here, alive".to_owned(),
            || match &verified {
                Ok(token) => token.claims().jti.clone(),
                Err(fault) => fault.to_string(),
            },
        );
        if verified == Err(AssertionError::Revoked) {
            // Whoever asks again is told so when it is for good, and not before.
            self.revocations.confirm().await.map_err(Unavailable::Store)?;
        }
        let Ok(token) = verified else {
            return trail.done(Outcome::NoEffect).map_err(|_| Unavailable::Audit.into());
        };
        let claims = token.claims();
        let by_client = claims.client_id != claims.sub;
        let owner = if by_client { claims.client_id.as_str() } else { "whoever presents it" };
        let owns = !by_client || client.as_ref().is_some_and(|client| client.id.as_str() == claims.client_id);
        trail.check(
            "owner",
            owns,
            || owner.to_owned(),
            || client.as_ref().map_or_else(|| "nobody in particular".to_owned(), |client| client.id.to_string()),
        );
        if by_client && client.is_none() {
            return Err(ClientError::Required.into());
        }
        if !owns {
            return trail.done(Outcome::NoEffect).map_err(|_| Unavailable::Audit.into());
        }
        let confirmation = proofs.map(|proofs| Confirmation::prove(&proofs, now, trail)).transpose()?;
        // Who stole a bound token can do nothing with it, and not this either. A client that owns it needs no key.
        let needed = claims.cnf.as_ref().filter(|_| !by_client).map(|cnf| jkt(cnf).unwrap_or_default());
        Confirmation::fits(confirmation.as_ref(), needed, trail)?;
        let proof = confirmation.map(|confirmation| confirmation.first_use());
        if let Some(mark) = proof
            && self.uses.claim(mark.into(), now).await.map_err(Unavailable::Store)? != Claimed::Whole(0)
        {
            return Err(ProofFault::Replayed.into());
        }
        let jti: TokenId = claims.jti.parse().map_err(|_| RequestError::Missing("token"))?;
        let until = Timestamp::new(claims.exp).unwrap_or(Timestamp::MAX).plus(RECORD_MARGIN);
        let about =
            About { by: owner.to_owned(), at: now.seconds(), decision: decision.to_string(), ..About::default() };
        let entry = Entry::new(Named::Token, jti.as_str(), Act::Revoke, until, about);
        if let Err(fault) = self.revocations.enter(entry, now).await {
            if let Some(mark) = proof {
                // Where this fails too, the proof counts as used.
                let _ = self.uses.release(mark.into(), 0).await;
            }
            return Err(Unavailable::Store(fault).into());
        }
        trail.revoked(jti.as_str());
        trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
    }
}
