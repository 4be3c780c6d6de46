//! Registered clients, and how each authenticates (RFC 6749 §2.3). A client has one method, and no other method proves
//! it.

mod attempts;

pub use attempts::Attempts;

use crate::assertion::{AssertionError, IssuerKeys};
use crate::domain::{Audience, ClientId, IssuerName, sha256};
use countersign_verify::key::Algorithm;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The algorithms that a client may sign its own assertions with.
pub const CLIENT_ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

/// Why a caller is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Credentials are needed and were not sent.
    #[error("the request needs client credentials, and the client sent none")]
    Required,
    /// An unknown client, a wrong secret, or another method than the registered one; which of these, nobody is told.
    #[error("the client is unknown, its secret is wrong, or it is registered with another method")]
    Refused,
    /// An operator has suspended it.
    #[error("the client is suspended; `countersign revocations` shows since when and why")]
    Suspended,
    /// Its assertion is refused, or cannot be judged.
    #[error("the client assertion: {0}")]
    Assertion(AssertionError),
    /// Its assertion was used before.
    #[error("the client assertion was used before")]
    Replayed,
    /// It may not use this grant.
    #[error(
        "the client_credentials grant needs a federated client assertion, and this client authenticates by another method"
    )]
    Grant,
    /// Too many wrong secrets came for this client, or from this address.
    #[error("too many wrong secrets were sent for this client, or from this address")]
    Throttled,
}

/// An id and a secret as they came in `Authorization: Basic`, and as they read form-decoded (RFC 6749 §2.3.1). Clients
/// differ in which of both they mean, so both are tried.
pub struct Credentials {
    /// The readings to try, at most two.
    pub readings: Vec<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Credentials")
    }
}

/// The method by which a client authenticates.
#[derive(Debug)]
pub enum Method {
    /// `client_secret_basic`, with the SHA-256 of the secret, which has 256 random bits: a slower digest would protect
    /// nothing more.
    SecretBasic([u8; 32]),
    /// `client_secret_post`.
    SecretPost([u8; 32]),
    /// `private_key_jwt` (OpenID Connect Core §9, RFC 7523 §2.2), with the client's public keys.
    PrivateKeyJwt(Arc<IssuerKeys>),
    /// An assertion of an issuer that is configured (RFC 7523 §2.2), about one subject.
    Federated {
        /// The issuer's entry.
        issuer: IssuerName,
        /// The assertion's exact `sub`.
        subject: String,
    },
}

impl Method {
    /// Its name in the metadata (RFC 8414 §2).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SecretBasic(_) => "client_secret_basic",
            Self::SecretPost(_) => "client_secret_post",
            Self::PrivateKeyJwt(_) | Self::Federated { .. } => "private_key_jwt",
        }
    }
}

/// A registered client.
#[derive(Debug)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// The method by which the client authenticates.
    pub method: Method,
    /// Audiences that it serves: their tokens it may introspect, and exchange onward.
    pub introspects: Vec<Audience>,
}

impl Client {
    /// Returns true if the client serves `audience`.
    #[must_use]
    pub fn serves(&self, audience: &str) -> bool {
        self.introspects.iter().any(|own| own.as_str() == audience)
    }
}

/// All registered clients.
#[derive(Debug, Default)]
pub struct Clients(HashMap<String, Arc<Client>>);

impl Clients {
    /// Registers `client`.
    pub fn add(&mut self, client: Client) {
        self.0.insert(client.id.to_string(), Arc::new(client));
    }

    /// Looks up a registered client by its id. The caller has not authenticated as this client yet.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Arc<Client>> {
        self.0.get(id)
    }

    /// The one client that authenticates by an assertion of `issuer` about `subject`, with the id `claimed` where it
    /// said one.
    #[must_use]
    pub fn federated(&self, issuer: &str, subject: &str, claimed: Option<&str>) -> Option<&Arc<Client>> {
        let fits = |client: &&Arc<Client>| matches!(&client.method, Method::Federated { issuer: own, subject: about } if own.as_str() == issuer && about == subject);
        match claimed {
            Some(id) => self.0.get(id).filter(fits),
            None => self.0.values().find(fits),
        }
    }

    /// The keys of clients that sign their own assertions.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<IssuerKeys>> {
        self.0.values().filter_map(|client| match &client.method {
            Method::PrivateKeyJwt(keys) => Some(keys),
            Method::SecretBasic(_) | Method::SecretPost(_) | Method::Federated { .. } => None,
        })
    }

    /// The client that `credentials` from the header prove. As long for an unknown client as for a wrong secret.
    #[must_use]
    pub fn by_basic(&self, credentials: &Credentials) -> Option<&Arc<Client>> {
        let mut proven = None;
        for (id, secret) in &credentials.readings {
            let client = self.0.get(id);
            let expected = client.and_then(|client| match client.method {
                Method::SecretBasic(digest) => Some(digest),
                Method::SecretPost(_) | Method::PrivateKeyJwt(_) | Method::Federated { .. } => None,
            });
            if is_secret(secret, expected) {
                proven = proven.or(client);
            }
        }
        proven
    }

    /// The client that `id` and `secret` from the body prove.
    #[must_use]
    pub fn by_post(&self, id: &str, secret: &str) -> Option<&Arc<Client>> {
        let client = self.0.get(id);
        let expected = client.and_then(|client| match client.method {
            Method::SecretPost(digest) => Some(digest),
            Method::SecretBasic(_) | Method::PrivateKeyJwt(_) | Method::Federated { .. } => None,
        });
        client.filter(|_| is_secret(secret, expected))
    }
}

/// Digested and compared in constant time, whether or not there is something to compare with.
fn is_secret(secret: &str, expected: Option<[u8; 32]>) -> bool {
    let matches = bool::from(sha256(&[secret.as_bytes()]).ct_eq(&expected.unwrap_or_default()));
    matches && expected.is_some() && !secret.is_empty()
}
