//! The demo's issuer: a key of its own, a discovery document, a JWK Set, and tokens shaped like GitHub's.

use crate::cli::Failure;
use crate::domain::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::http;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::TcpListener;

pub(super) struct DemoIssuer {
    url: String,
    key: KeyPair,
}

impl DemoIssuer {
    /// Starts it on a free port of loopback.
    pub(super) fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let issuer = Self::of(&format!("http://{}", listener.local_addr()?))?;
        let url = issuer.url();
        // What GitHub publishes has no `authorization_endpoint` either.
        let discovery = json!({
            "issuer": url, "jwks_uri": format!("{url}/.well-known/jwks"), "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"], "id_token_signing_alg_values_supported": ["RS256"],
        });
        let documents = HashMap::from([
            ("/.well-known/openid-configuration".to_owned(), discovery.to_string()),
            ("/.well-known/jwks".to_owned(), issuer.jwks().to_string()),
        ]);
        tokio::spawn(http::documents(listener, documents)?);
        Ok(issuer)
    }

    /// Returns an issuer that signs as `url` and serves nothing.
    pub(super) fn of(url: &str) -> Result<Self, Failure> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| Failure("no RSA key can be made".to_owned()))?;
        Ok(Self { url: url.to_owned(), key })
    }

    /// Its public key, as a JWK Set.
    pub(super) fn jwks(&self) -> Value {
        let public = self.key.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (
            number(public.modulus().big_endian_without_leading_zero()),
            number(public.exponent().big_endian_without_leading_zero()),
        );
        json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "demo-1", "n": n, "e": e}]})
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A token as a runner gets it: five minutes long, for `audience`, of a repository whose owner is `owner_id`.
    pub(super) fn assertion(&self, audience: &str, subject: &str, owner_id: &str) -> Result<String, Failure> {
        let now = SystemClock.now().seconds();
        let mut random = [0; 16];
        SystemEntropy.fill(&mut random)?;
        let repository = subject.split(':').nth(1).unwrap_or_default();
        let claims = json!({
            "iss": self.url, "sub": subject, "aud": audience, "jti": URL_SAFE_NO_PAD.encode(random),
            "nbf": now - 600, "iat": now, "exp": now + 300,
            "repository": repository, "repository_id": "74", "repository_owner": repository.split('/').next(),
            "repository_owner_id": owner_id, "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push",
            "runner_environment": "github-hosted", "run_id": "1",
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "RS256", "kid": "demo-1"})), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature);
        signed.map_err(|_| Failure("the demo's issuer cannot sign".to_owned()))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
