//! Who is calling: a registered client by its credentials (RFC 6749 §2.3), or nobody in particular.

use crate::domain::{Audience, ClientId, sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Why a caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Credentials are needed and were not sent.
    #[error("the client sent no credentials where they are needed")]
    Required,
    /// An unknown client or a wrong secret; which of both, nobody is told.
    #[error("the client is unknown or its secret is wrong")]
    Refused,
}

/// What was sent in `Authorization: Basic`: an id and a secret as they came, and as they read form-decoded (RFC 6749
/// §2.3.1). Clients differ in which of both they mean, so both are tried.
pub struct Credentials {
    /// The readings to try, at most two.
    pub readings: Vec<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Credentials")
    }
}

/// A registered client.
#[derive(Debug)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// SHA-256 of its secret, which has 256 random bits: a slower digest would protect nothing more.
    pub secret_digest: [u8; 32],
    /// Audiences that it serves: their tokens it may introspect, and exchange onward.
    pub introspects: Vec<Audience>,
}

impl Client {
    /// Whether it serves `audience`.
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

    /// Who the caller is: the client that its credentials prove, or nobody where it sent none. A `claimed` id of a
    /// registered client without its credentials is refused; any other is a hint.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an unknown client or a wrong secret.
    pub fn authenticate(
        &self,
        credentials: Option<&Credentials>,
        claimed: Option<&str>,
    ) -> Result<Option<Arc<Client>>, ClientError> {
        let Some(credentials) = credentials else {
            return if claimed.is_some_and(|id| self.0.contains_key(id)) {
                Err(ClientError::Refused)
            } else {
                Ok(None)
            };
        };
        let client = self.prove(credentials).ok_or(ClientError::Refused)?;
        if claimed.is_some_and(|id| id != client.id.as_str()) {
            return Err(ClientError::Refused);
        }
        Ok(Some(client))
    }

    /// As long for an unknown client as for a wrong secret.
    fn prove(&self, credentials: &Credentials) -> Option<Arc<Client>> {
        let mut proven = None;
        for (id, secret) in &credentials.readings {
            let client = self.0.get(id);
            let expected = client.map_or([0; 32], |client| client.secret_digest);
            let matches = bool::from(sha256(&[secret.as_bytes()]).ct_eq(&expected));
            if matches && !secret.is_empty() {
                proven = proven.or(client);
            }
        }
        proven.cloned()
    }
}
