//! Fixes the claims and signs them.

use super::AuthorizedExchange;
use crate::assertion::{Confirmation, FirstUse};
use crate::audit::Granted;
use crate::domain::{Entropy, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::signing::KeyRing;
use crate::token::{self, Grant};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;

/// A signed token that nobody has yet.
pub struct MintedToken {
    pub(super) token: String,
    pub(super) expires: Timestamp,
    /// The scope as the caller is told it.
    pub(super) scope: String,
    pub(super) granted: Granted,
    pub(super) algorithm: Algorithm,
    /// What has to be claimed: the subject token, the client's assertion, and the proof of possession.
    pub(super) first_uses: [Option<FirstUse>; 3],
    /// Private to this file, so that nothing else makes one.
    _seal: (),
}

impl MintedToken {
    /// Mints the token of `authorized`, as of `position` in the revocation log.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no randomness for its id, or the key cannot sign.
    pub(super) fn mint(
        authorized: AuthorizedExchange,
        issuer: &str,
        keys: &KeyRing,
        entropy: &dyn Entropy,
        position: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let AuthorizedExchange { bound, scopes, expires, .. } = authorized;
        let mut random = [0; 16];
        entropy.fill(&mut random).map_err(|_| Unavailable::Entropy)?;
        let jti: TokenId = URL_SAFE_NO_PAD.encode(random).parse().map_err(|_| Unavailable::Entropy)?;
        let grant = Grant {
            issuer,
            workload: &bound.subject.workload().name,
            audience: &bound.target.audience,
            client: bound.client.as_ref().map(|client| client.id.as_str()),
            scopes: &scopes,
            origin: bound.subject.origin(),
            parent: bound.subject.parent(),
            confirmation: bound.confirmation.as_ref().map(Confirmation::jkt),
            now,
            expires,
            position,
        };
        let claims = token::claims(&grant, &jti);
        let algorithm = bound.target.algorithm;
        let (token, kid) = keys.sign(&claims, algorithm, now).map_err(|_| Unavailable::Signing)?;
        let granted = Granted {
            jti: claims.jti,
            kid: kid.to_owned(),
            sub: claims.sub,
            aud: claims.aud,
            scope: claims.scope,
            exp: claims.exp,
            jkt: bound.confirmation.as_ref().map(|confirmation| confirmation.jkt().to_owned()),
            task: claims.task.id,
            lineage: claims.lineage.into_iter().map(|ancestor| ancestor.jti).collect(),
        };
        let proof = bound.confirmation.as_ref().map(Confirmation::first_use);
        let first_uses = [bound.subject.first_use(), bound.client_first_use, proof];
        // A client that asks by one name for all finds its token again by that name alone (MSAL keeps them so).
        let scope = bound.every_scope.unwrap_or_else(|| scopes.to_string());
        Ok(Self { token, expires, scope, granted, algorithm, first_uses, _seal: () })
    }
}
