//! What becomes of a token after it was issued: who may look at it (RFC 7662), and who may end it (RFC 7009). A token is
//! verified before anything is looked up by what it says.

use super::request::refuse_client_in_body;
use super::{Answer, Broker, Form, Presented, RequestError};
use crate::audit::{AuditLog, Kind, Outcome, Trail};
use crate::client::ClientError;
use crate::domain::{DecisionId, Lifetime, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use countersign_verify::claims::AccessClaims;
use std::sync::Arc;

/// How much longer than the token its revocation is kept, in seconds: longer than any verifier's leeway.
const RECORD_MARGIN: i64 = 300;
/// How long a record is kept whose token nobody showed, in seconds: as long as a lifetime can be configured.
const UNSEEN: i64 = Lifetime::MAX_SECONDS;

/// The answer of introspection. There is one way to say no, and it says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introspection {
    /// The token is alive and for the caller's audience.
    Active(Box<AccessClaims>),
    /// Anything else.
    Inactive,
}

impl Broker {
    /// Tells a resource server whether a token for its audience is alive.
    ///
    /// # Errors
    /// [`ClientError`] when the caller is not a registered client, [`RequestError`] when the form is malformed.
    pub fn introspect(&self, presented: Presented) -> Answer<Introspection> {
        Answer { decision: self.decision(), result: self.looked_up(presented) }
    }

    fn looked_up(&self, presented: Presented) -> Result<Introspection, Error> {
        let form = presented.form?;
        refuse_unsupported(&form, presented.unsupported)?;
        let snapshot = self.snapshot();
        let claimed = form.single("client_id")?;
        let client =
            snapshot.clients.authenticate(presented.credentials.as_ref(), claimed)?.ok_or(ClientError::Required)?;
        let token = form.single("token")?.ok_or(RequestError::Missing("token"))?;
        form.single("token_type_hint")?;
        Ok(match self.own.verify(token, self.clock.now()) {
            Ok(token) if client.serves(&token.claims().aud) => Introspection::Active(Box::new(token.claims().clone())),
            _ => Introspection::Inactive,
        })
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
        let result = self.ended(presented, &mut trail).await;
        Self::close(Answer { decision, result }, trail)
    }

    async fn ended(&self, presented: Presented, trail: &mut Trail) -> Result<(), Error> {
        let form = presented.form?;
        refuse_unsupported(&form, presented.unsupported)?;
        let snapshot = self.snapshot();
        let client = snapshot.clients.authenticate(presented.credentials.as_ref(), form.single("client_id")?)?;
        if let Some(client) = &client {
            trail.client(&client.id);
        }
        let token = form.single("token")?.ok_or(RequestError::Missing("token"))?;
        form.single("token_type_hint")?;
        let verified = self.own.verify(token, self.clock.now());
        trail.check(
            "token",
            verified.is_ok(),
            || "minted here, alive".to_owned(),
            || match &verified {
                Ok(token) => token.claims().jti.clone(),
                Err(fault) => fault.to_string(),
            },
        );
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
        let jti: TokenId = claims.jti.parse().map_err(|_| RequestError::Missing("token"))?;
        let until = Timestamp::new(claims.exp).unwrap_or(Timestamp::MAX).plus(RECORD_MARGIN);
        self.revocations.revoke_token(&jti, until, self.clock.now()).await.map_err(Unavailable::Store)?;
        trail.revoked(jti.as_str());
        trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
    }

    /// Ends the token `jti`, on an operator's word: it needs no token.
    ///
    /// # Errors
    /// [`Unavailable`] when it is not on disk: then ask again.
    pub async fn revoke_by_id(&self, jti: &TokenId) -> Answer<()> {
        revoke_by_id(jti, self.decision(), &self.revocations, &self.audit, self.clock.now()).await
    }
}

/// Ends the token `jti` where no broker runs. The record lives as long as any token could, ten years.
///
/// # Errors
/// As [`Broker::revoke_by_id`].
pub async fn revoke_by_id(
    jti: &TokenId,
    decision: DecisionId,
    revocations: &Arc<Revocations>,
    audit: &Arc<AuditLog>,
    now: Timestamp,
) -> Answer<()> {
    let mut trail = Trail::begin(Kind::Revocation, &decision, None, now, audit);
    let until = now.plus(UNSEEN + RECORD_MARGIN);
    let result = match revocations.revoke_token(jti, until, now).await {
        Ok(()) => {
            trail.revoked(jti.as_str());
            trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
        }
        Err(fault) => Err(Unavailable::Store(fault).into()),
    };
    Broker::close(Answer { decision, result }, trail)
}

fn refuse_unsupported(form: &Form, unsupported: Option<RequestError>) -> Result<(), RequestError> {
    unsupported.map_or(Ok(()), Err)?;
    refuse_client_in_body(form)
}
