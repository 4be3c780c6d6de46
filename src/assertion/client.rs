//! Assertions by which a client says who it is (RFC 7523 §2.2 and §3; its successor's rules, rfc7523bis): signed by the
//! client itself, or by an issuer that is configured.

use super::claims::{self, times};
use super::verify::MARK_MARGIN;
use super::{AssertionError, ClientAssertion, IssuerKeys, SubjectToken, Untrusted, Verified};
use crate::audit::AuditTrail;
use crate::domain::{Digest, FirstUse, Lifetime, Timestamp, UsedOnce};
use countersign_verify::jws::{Bounds, Compact};
use serde_json::Value;
use std::marker::PhantomData;

/// The longest life of an assertion that a client signs itself, in seconds: what libraries make by default is an hour.
const MAX_LIFETIME: u32 = 3_600;

/// The client whose own assertion is verified.
pub struct OwnKeys<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its public keys.
    pub keys: &'a IssuerKeys,
    /// The broker's issuer identifier, which the assertion must be for.
    pub broker: &'a str,
}

impl Untrusted<ClientAssertion> {
    /// Returns the client that the assertion claims to be from, to find the keys to try. The claim proves nothing.
    #[must_use]
    pub fn names_client(&self, bounds: Bounds) -> Option<String> {
        let compact = Compact::parse_within(&self.text, bounds).ok()?;
        let routing = compact.routing();
        routing.issuer.filter(|issuer| routing.subject == Some(*issuer)).map(str::to_owned)
    }

    /// Verifies an assertion that `client` signed itself. The first use that it returns has to be reserved before the
    /// assertion counts.
    ///
    /// # Errors
    /// [`AssertionError`] names the first check that failed.
    pub async fn verify_own(
        &self,
        client: OwnKeys<'_>,
        bounds: Bounds,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<FirstUse, AssertionError> {
        let OwnKeys { id, keys, broker } = client;
        let compact = Compact::parse_within(&self.text, bounds)?;
        let header = compact.header().clone();
        let keys = keys.current(header.key_id.as_deref(), header.algorithm, now).await.map_err(AssertionError::Keys)?;
        let key = keys.find(header.key_id.as_deref(), header.algorithm)?;
        let verified = compact.verify(key).map_err(|_| AssertionError::Signature);
        let expected = || "verifies by a key of the client";
        let payload = trail.require_ok("client signature", verified, expected, |_| id.to_owned())?;
        let members = payload.members();
        // Absent, `JWT`, or the type of its own; another one is a token for something else (RFC 8725 §3.11).
        let fits = matches!(header.media_type.as_deref(), None | Some("jwt" | "client-authentication+jwt"));
        trail.require(
            "client typ",
            fits,
            || "absent, JWT or client-authentication+jwt",
            || header.media_type.clone().unwrap_or_else(|| "absent".to_owned()),
            AssertionError::Type,
        )?;
        let says = |name: &str| members.get(name).and_then(Value::as_str) == Some(id);
        let same = says("iss") && says("sub");
        let expected = || format!("both {id}");
        trail.require("client iss, sub", same, expected, || "compared", AssertionError::Claim("iss".into()))?;
        // Our issuer identifier and nothing else: never the endpoint's URL, never one of several (rfc7523bis §4).
        claims::audience(members, &[broker.to_owned()], trail)?;
        let cap = Lifetime::new(MAX_LIFETIME).ok_or(AssertionError::Lifetime)?;
        let expires = times(members, cap, now, trail)?;
        let jti = claims::text(members, "jti")?.ok_or(AssertionError::Claim("jti".into()))?;
        Ok(FirstUse {
            of: UsedOnce::ClientAssertion,
            key: Digest::of("client jti", &[id, jti]),
            until: expires.plus(MARK_MARGIN),
        })
    }
}

impl Verified<ClientAssertion> {
    /// The workload that the assertion is about, as the subject of an exchange: it asks for itself.
    #[must_use]
    pub fn into_subject(self, trail: &mut AuditTrail) -> Verified<SubjectToken> {
        let Self { workload, origin, expires, first_use, jti, client_required, bound_to, .. } = self;
        trail.subject(&origin.iss, &origin.sub, jti.as_deref());
        Verified {
            workload,
            origin,
            expires,
            first_use: first_use.map(|first_use| FirstUse { of: UsedOnce::SubjectToken, ..first_use }),
            jti,
            parent: None,
            client_required,
            bound_to,
            role: PhantomData,
        }
    }
}
