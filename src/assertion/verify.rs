//! The order of the checks, the same for every kind of issuer, so that no kind can forget one.

use super::claims::{self, audience, times};
use super::{AssertionError, Issuer, OwnTokens, Role, SignsAs, SubjectToken, Untrusted, Verified};
use crate::audit::AuditTrail;
use crate::domain::{Attributes, Digest, FirstUse, SpiffeId, Timestamp, TokenType, UsedOnce, Workload, WorkloadName};
use crate::telemetry::Stage;
use countersign_verify::claims::Origin;
use countersign_verify::jws::{Bounds, Compact, Header, Payload};
use countersign_verify::key::NoKey;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

pub use super::claims::LEEWAY;

/// How many seconds longer than its assertion a replay guard is stored, so that a clock that jumps does not drop it
/// early.
pub(super) const MARK_MARGIN: i64 = 120;

/// Every configured issuer, by what signs its assertions. There is no pattern: an `iss` is known byte for byte, or not.
#[derive(Default)]
pub struct Issuers {
    by_iss: HashMap<String, Arc<Issuer>>,
    by_trust_domain: HashMap<String, Arc<Issuer>>,
    bounds: Bounds,
}

impl Issuers {
    /// None yet; of their assertions as much is read as `bounds` say.
    #[must_use]
    pub fn within(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// The size limits of an assertion.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Adds `issuer` to the issuers that are trusted.
    pub fn add(&mut self, issuer: Arc<Issuer>) {
        match &issuer.signer {
            SignsAs::Issuer(iss) => self.by_iss.insert(iss.clone(), issuer),
            SignsAs::TrustDomain(name) => self.by_trust_domain.insert(name.to_string(), issuer),
        };
    }

    /// Every issuer.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.by_iss.values().chain(self.by_trust_domain.values())
    }

    /// Verifies `token`, which is consumed; what comes back is the only thing from which a claim can be read.
    ///
    /// # Errors
    /// [`AssertionError`] names the first check that failed, which is also the last one on `trail`.
    pub async fn verify(
        &self,
        token: Untrusted<SubjectToken>,
        own: &OwnTokens,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Verified<SubjectToken>, AssertionError> {
        let verified = self.judge(&token, own, now, trail).await;
        if verified.is_err() {
            trail.unverified(&token.text);
        }
        verified
    }

    async fn judge(
        &self,
        token: &Untrusted<SubjectToken>,
        own: &OwnTokens,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Verified<SubjectToken>, AssertionError> {
        match token.declared {
            TokenType::AccessToken => {
                let token = own.verify_subject(&token.text, now, trail).await?;
                let origin = &token.claims().origin.iss;
                // An issuer that was taken out of the configuration takes the tokens with it that came from it.
                let vouching = self.signing_as(origin).ok_or(AssertionError::UnknownIssuer);
                let expected = || "a configured issuer";
                let vouching = trail.require_ok("origin", vouching, expected, |_| origin.clone())?;
                Verified::of_own(token, vouching)
            }
            TokenType::Jwt | TokenType::IdToken => self.verify_assertion(token, now, trail).await,
            TokenType::RefreshToken | TokenType::Saml1 | TokenType::Saml2 => Err(AssertionError::DeclaredType),
        }
    }

    /// Returns true if an issuer is configured that signs as `iss`.
    #[must_use]
    pub fn vouches_as(&self, iss: &str) -> bool {
        self.signing_as(iss).is_some()
    }

    fn signing_as(&self, iss: &str) -> Option<&Arc<Issuer>> {
        let trust_domain = || self.by_trust_domain.get(iss.strip_prefix("spiffe://")?);
        self.by_iss.get(iss).or_else(trust_domain)
    }

    /// Verifies the assertion of one of the issuers, and never one of our own tokens.
    ///
    /// # Errors
    /// As [`Issuers::verify`].
    pub async fn verify_assertion<R: Role>(
        &self,
        token: &Untrusted<R>,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Verified<R>, AssertionError> {
        let compact = Compact::parse_within(&token.text, self.bounds);
        let compact = trail.require_ok(
            "envelope",
            compact,
            || "a compact JWS",
            |compact| match compact {
                Ok(_) => Cow::Borrowed("a compact JWS"),
                Err(fault) => fault.to_string().into(),
            },
        )?;
        let issuer = self.route(&compact, trail)?;
        issuer.admits(token.declared, compact.header(), trail)?;
        let signed = issuer.check_signature::<R>(compact, now, trail).await?;
        issuer.judge(&signed, now, trail)
    }

    /// Finds the issuer whose keys to try: by `iss`; if no issuer has it, by the trust domain of a SPIFFE ID in `sub`.
    fn route(&self, compact: &Compact<'_>, trail: &mut AuditTrail) -> Result<Arc<Issuer>, AssertionError> {
        let routing = compact.routing();
        let by_iss = routing.issuer.and_then(|iss| self.by_iss.get(iss));
        let by_trust_domain = || {
            let id: SpiffeId = routing.subject?.parse().ok()?;
            self.by_trust_domain.get(id.trust_domain())
        };
        let found = by_iss.or_else(by_trust_domain).ok_or(AssertionError::UnknownIssuer);
        let found = trail.require_ok(
            "issuer",
            found,
            || "a configured issuer",
            |found| match found {
                Ok(issuer) => issuer.signer.to_string(),
                Err(_) => routing.issuer.or(routing.subject).unwrap_or("no `iss`").to_owned(),
            },
        )?;
        Ok(Arc::clone(found))
    }
}

/// A token whose signature holds.
struct Signed<'a> {
    payload: Payload,
    header: Header,
    /// The octets that were signed.
    signed_part: &'a str,
}

impl Issuer {
    /// Checks what needs no key: the declared type, the algorithm and the header's members.
    fn admits(&self, declared: TokenType, header: &Header, trail: &mut AuditTrail) -> Result<(), AssertionError> {
        let fits = self.kind.token_types.contains(&declared);
        let expected = || format!("a token of kind {}", self.kind.name);
        trail.require("declared type", fits, expected, || declared.urn(), AssertionError::DeclaredType)?;
        let allowed = self.algorithms.contains(&header.algorithm);
        let names = || self.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(" or ");
        trail.require("algorithm", allowed, names, || header.algorithm.name(), AssertionError::Algorithm)?;
        self.kind.check_header(header)
    }

    async fn check_signature<'a, R: Role>(
        &self,
        compact: Compact<'a>,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Signed<'a>, AssertionError> {
        let (header, signed_part) = (compact.header().clone(), compact.signing_input());
        let kid = header.key_id.as_deref();
        let keys = self.keys.current(kid, header.algorithm, now).await.map_err(AssertionError::Keys)?;
        if R::USED_ONCE == UsedOnce::SubjectToken {
            trail.lap(Stage::Keys);
        }
        // A JWT-SVID without a `kid` is refused, as SPIRE and go-spiffe do.
        let found = match kid {
            None if self.kind.key_id_required => Err(NoKey::UnknownKid),
            _ => keys.find(kid, header.algorithm),
        };
        let expected = || format!("one of the issuer's {} keys", keys.len());
        let key = trail.require_ok("key", found, expected, |_| kid.unwrap_or("no kid").to_owned())?;
        let verified = compact.verify(key).map_err(|_| AssertionError::Signature);
        let presented = |verified: &Result<_, _>| if verified.is_ok() { "verifies" } else { "does not verify" };
        let payload = trail.require_ok("signature", verified, || "verifies", presented)?;
        Ok(Signed { payload, header, signed_part })
    }

    /// Checks the claims of a token whose signature was verified, and returns the verified token.
    fn judge<R: Role>(
        &self,
        signed: &Signed<'_>,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Verified<R>, AssertionError> {
        let claims = signed.payload.members();
        let subject = claims::subject(claims, self.kind.subject_bytes)?;
        let jti = claims::text(claims, "jti")?;
        let iss = self.signer.id();
        let is_subject = R::USED_ONCE == UsedOnce::SubjectToken;
        if is_subject {
            trail.subject(&iss, subject, jti);
        }
        // Ahead of the others: whom the entry does not accept learns no more than that, whatever else is wrong.
        let mismatch = self.accept.mismatch(claims);
        let presented = || mismatch.map_or(Cow::Borrowed("matches"), |accepted| accepted.presented(claims));
        let expected = || mismatch.map(ToString::to_string).unwrap_or_default();
        trail.require("accept", mismatch.is_none(), expected, presented, AssertionError::NotAccepted)?;
        trail.vouched();
        self.check_type(&signed.header, trail)?;
        audience(claims, &self.audiences, trail)?;
        let expires = times(claims, self.max_lifetime, now, trail)?;
        let attributes = self.attributes(claims, subject, trail)?;
        let name = self.name_of(claims, subject)?;
        let workload = Workload {
            name: name.as_str().to_owned(),
            issuer: self.name.to_string(),
            owner: self.owner.clone(),
            environment: self.environment.clone(),
            attributes,
        };
        Ok(Verified {
            workload: Arc::new(workload),
            origin: Origin { iss: iss.to_string(), sub: subject.to_owned() },
            expires,
            first_use: self.single_use.then(|| FirstUse {
                of: R::USED_ONCE,
                // Where there is no `jti`, what was signed stands for the assertion, and never the signature: one of
                // ECDSA can be written in two ways.
                key: match jti {
                    Some(jti) => Digest::of("jti", &[&*iss, jti]),
                    None => Digest::of("signed part", &[signed.signed_part]),
                },
                until: expires.plus(MARK_MARGIN),
            }),
            jti: jti.filter(|_| !is_subject).map(str::to_owned),
            parent: None,
            client_required: self.client_required,
            bound_to: claims.get("cnf").map(claims::bound_to).transpose()?,
            role: PhantomData,
        })
    }

    /// Refuses a `typ` of another kind of token; it may be absent (RFC 8725 §3.11; JWT-SVID §2.3).
    fn check_type(&self, header: &Header, trail: &mut AuditTrail) -> Result<(), AssertionError> {
        let typ = header.media_type.as_deref();
        let fits = typ.is_none_or(|typ| self.kind.typ.iter().any(|accepted| accepted == typ));
        let expected = || format!("absent or {}", self.kind.typ.join(" or "));
        trail.require("typ", fits, expected, || typ.unwrap_or("absent").to_owned(), AssertionError::Type)
    }

    /// The attributes that policy sees.
    fn attributes(
        &self,
        claims: &Map<String, Value>,
        subject: &str,
        trail: &mut AuditTrail,
    ) -> Result<Attributes, AssertionError> {
        let record = self.attributes.as_deref();
        let read = self.kind.read(record, claims, subject).map_err(|fault| {
            let presented = fault.to_string();
            trail.refusal("attributes", || "each claim has the type of its attribute", || presented, fault)
        })?;
        Ok(record.map(|record| (Arc::clone(&record.name), read)).into_iter().collect())
    }

    fn name_of(&self, claims: &Map<String, Value>, subject: &str) -> Result<WorkloadName, AssertionError> {
        if let SignsAs::TrustDomain(trust_domain) = &self.signer {
            let id: Option<SpiffeId> = subject.parse().ok();
            // The keys were found by this very `sub`; a name of another trust domain must not leave all the same.
            let id = id.filter(|id| id.trust_domain() == trust_domain.as_str());
            return id.map(|id| WorkloadName::spiffe(&id)).ok_or(AssertionError::Claim("sub".into()));
        }
        let stable = self.workload.as_ref().unwrap_or(&self.kind.workload).render(claims);
        let stable =
            stable.filter(|stable| stable.len() <= 1024 && stable.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let stable = stable.ok_or(AssertionError::Claim("workload".into()))?;
        Ok(WorkloadName::of_issuer(&self.name, &stable))
    }
}
