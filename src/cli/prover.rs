//! A key of the command's own, and proofs that it holds it (RFC 9449).

use super::Failure;
use crate::domain::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::signing::{Es256, Signer as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// A new ES256 key.
pub(super) struct Prover {
    key: Es256,
    pem: Zeroizing<String>,
}

impl Prover {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut random = Zeroizing::new([0; 32]);
        SystemEntropy.fill(random.as_mut_slice())?;
        let (key, pem) =
            Es256::generate_pem(&random).ok_or_else(|| Failure("no key could be made; try again".to_owned()))?;
        Ok(Self { key, pem })
    }

    /// A proof for `POST` to `url`.
    pub(super) fn proof(&self, url: &str) -> Result<String, Failure> {
        let mut id = [0; 16];
        SystemEntropy.fill(&mut id)?;
        let public: Map<String, Value> = self.key.public_jwk().clone();
        let jwk: Map<String, Value> =
            public.into_iter().filter(|(name, _)| ["kty", "crv", "x", "y"].contains(&name.as_str())).collect();
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let claims = json!({
            "jti": URL_SAFE_NO_PAD.encode(id), "htm": "POST", "htu": url, "iat": SystemClock.now().seconds(),
        });
        let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = encoded.join(".");
        let signature = self.key.signature(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The private key, in PKCS#8 PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}
