//! From untrusted to verified. Owns what is known of the issuers and the only way by which a claim of a token can be
//! read: a [`Verified`] one. Must never ask the network on behalf of an issuer that is not configured.

mod claims;
mod client;
mod dpop;
mod http_fetch;
mod issuer;
mod keys;
mod kinds;
mod own;
mod refusal;
mod verify;

pub use client::OwnKeys;
pub use dpop::{Confirmation, ProofFault, Proofs};
pub use http_fetch::{FetchError, Fetcher, Names};
pub use issuer::{Accept, Accepted, Issuer, SignsAs};
pub use keys::{IssuerKeys, KeyFault, KeySource, Refresh};
pub use kinds::{IssuerKind, SignerKind, UnknownIssuerKind};
pub use own::{OwnTokens, jti_or_fault};
pub use refusal::AssertionError;
pub use verify::{Issuers, LEEWAY};

use crate::domain::{FirstUse, Timestamp, TokenType, UsedOnce, Workload};
use countersign_verify::AccessToken;
use countersign_verify::claims::Origin;
use countersign_verify::confirmation::ConfirmationKey;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The role of the token that says on whose behalf a token is asked for (RFC 8693 §2.1).
#[derive(Debug)]
pub enum SubjectToken {}

/// The role of the token by which a client says who it is (RFC 7523 §2.2).
#[derive(Debug)]
pub enum ClientAssertion {}

/// The role of a token while it is verified.
pub trait Role {
    /// The kind of credential that the role is.
    const USED_ONCE: UsedOnce;
}

impl Role for SubjectToken {
    const USED_ONCE: UsedOnce = UsedOnce::SubjectToken;
}

impl Role for ClientAssertion {
    const USED_ONCE: UsedOnce = UsedOnce::ClientAssertion;
}

/// A token as it came, in the role `R`. Nothing can be read from it.
pub struct Untrusted<R> {
    text: String,
    declared: TokenType,
    role: PhantomData<R>,
}

impl<R> Untrusted<R> {
    /// Takes the token as presented, with the type that the request declares for it.
    #[must_use]
    pub fn new(text: String, declared: TokenType) -> Self {
        Self { text, declared, role: PhantomData }
    }
}

impl<R> fmt::Debug for Untrusted<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Untrusted({} bytes)", self.text.len())
    }
}

/// A token whose issuer is trusted and accepts this workload, and whose signature, issuer, audience, times and type
/// hold. Only this folder makes one.
#[derive(Debug)]
pub struct Verified<R> {
    workload: Arc<Workload>,
    origin: Origin,
    expires: Timestamp,
    first_use: Option<FirstUse>,
    jti: Option<String>,
    parent: Option<Arc<AccessToken>>,
    client_required: bool,
    /// The key that its presenter has to prove.
    bound_to: Option<ConfirmationKey>,
    role: PhantomData<R>,
}

impl<R> Verified<R> {
    /// The workload that the token is about.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// The issuer that vouched for the workload at the root of the lineage.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The token's expiry.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The first use to reserve before anything is issued for the token; none if the token may be presented again.
    #[must_use]
    pub fn first_use(&self) -> Option<FirstUse> {
        self.first_use
    }

    /// True if the issuer's entry requires an authenticated client.
    #[must_use]
    pub fn client_required(&self) -> bool {
        self.client_required
    }

    /// The key that its presenter has to prove (`cnf`, RFC 7800 §3.1).
    #[must_use]
    pub fn bound_to(&self) -> Option<&ConfirmationKey> {
        self.bound_to.as_ref()
    }

    /// Our own token that was presented, if it was one.
    #[must_use]
    pub fn parent(&self) -> Option<&AccessToken> {
        self.parent.as_deref()
    }
}
