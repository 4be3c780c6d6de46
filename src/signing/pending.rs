//! Signatures that are not made in this process: how long one may take, and how many may be waited for. A signature of
//! a key in memory passes through without a lock or an allocation.

use super::{Signing, SigningError};
use crate::domain::{Clock, within};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest time that a backend may take for one signature.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest number of signatures that are waited for at a time.
const IN_FLIGHT: usize = 256;

/// A compact JWS (RFC 7515 §7.1) whose signature is being made.
#[must_use = "nothing is signed until it is finished"]
pub struct UnfinishedJws {
    /// Header and payload, encoded.
    pub(super) signing_input: String,
    pub(super) kid: String,
    pub(super) signature: Signing,
}

/// Waits for signatures, within the limits.
pub(super) struct PendingSignatures {
    places: Semaphore,
    clock: Arc<dyn Clock>,
}

impl PendingSignatures {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { places: Semaphore::new(IN_FLIGHT), clock }
    }

    /// Returns the signed JWS and the id of the key.
    ///
    /// # Errors
    /// [`SigningError`] if the signature fails, takes too long, or too many others are waited for.
    pub(super) async fn finish(&self, jws: UnfinishedJws) -> Result<(String, String), SigningError> {
        let UnfinishedJws { signing_input: mut signed, kid, signature } = jws;
        let signature = match signature {
            Signing::Now(signature) => signature,
            Signing::Later(pending) => {
                let _place = self.places.try_acquire().map_err(|_| SigningError::Busy)?;
                within(&*self.clock, DEADLINE, pending).await.unwrap_or(Err(SigningError::Timeout))
            }
        };
        let signature = signature.inspect_err(|fault| tracing::error!(%kid, %fault, "not signed"))?;
        signed.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut signed);
        Ok((signed, kid))
    }
}
