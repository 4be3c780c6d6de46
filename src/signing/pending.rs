//! Signatures that are not made in this process: how long one may take, how many may be waited for, and whether they
//! verify. A signature of a key in memory passes through without a lock or an allocation.

use super::{Signing, SigningError};
use crate::domain::{Clock, Purpose, within};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::jws::Compact;
use countersign_verify::key::VerifyingKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest time that a backend may take for one signature.
const DEADLINE: Duration = Duration::from_secs(2);
/// The largest number of signatures of one purpose that are waited for at a time.
const IN_FLIGHT: usize = 256;

/// A compact JWS (RFC 7515 §7.1) whose signature is being made.
#[must_use = "nothing is signed until it is finished"]
pub struct UnfinishedJws {
    /// Header and payload, encoded.
    pub(super) signing_input: String,
    pub(super) kid: String,
    pub(super) purpose: Purpose,
    pub(super) signature: Signing,
    /// The public half, if the signature is made elsewhere: what does not verify does not leave.
    pub(super) public: Option<Arc<VerifyingKey>>,
}

/// Waits for signatures, within the limits. Each purpose has a pool of its own, so that tokens never keep a checkpoint
/// waiting.
pub(super) struct PendingSignatures {
    places: [Semaphore; Purpose::ALL.len()],
    clock: Arc<dyn Clock>,
}

impl PendingSignatures {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { places: Purpose::ALL.map(|_| Semaphore::new(IN_FLIGHT)), clock }
    }

    /// Returns the signed JWS and the id of the key.
    ///
    /// # Errors
    /// [`SigningError`] if the signature fails, does not verify, takes too long, or too many others are waited for.
    pub(super) async fn finish(&self, jws: UnfinishedJws) -> Result<(String, String), SigningError> {
        let UnfinishedJws { signing_input: mut signed, kid, purpose, signature, public } = jws;
        let signature = match signature {
            Signing::Now(signature) => signature,
            Signing::Later(pending) => {
                let places = self.places.get(purpose as usize).ok_or(SigningError::Busy)?;
                let _place = places.try_acquire().map_err(|_| SigningError::Busy)?;
                within(&*self.clock, DEADLINE, pending).await.unwrap_or(Err(SigningError::Timeout))
            }
        };
        let refused = |fault: &SigningError| tracing::error!(%kid, %fault, "not signed");
        let signature = signature.inspect_err(refused)?;
        signed.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut signed);
        if let Some(public) = public {
            let verified = Compact::parse(&signed).ok().and_then(|jws| jws.verify(&public).ok());
            verified.ok_or(SigningError::Wrong).inspect_err(refused)?;
        }
        Ok((signed, kid))
    }
}
