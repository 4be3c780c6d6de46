//! Tokens, good and bad, signed by josekit: what is verified is never encoded by what verifies it.

use super::{CLUSTER, GITHUB, MAIN, NOW, STS};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwk::Jwk;
use josekit::jwk::alg::ec::EcCurve;
use josekit::jwk::alg::ed::EdCurve;
use josekit::jws::{self, JwsSigner};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A key pair.
#[derive(Clone)]
pub struct Key {
    pub kid: &'static str,
    pub alg: &'static str,
    pub pair: Jwk,
}

/// Key pairs, made once a process.
pub struct Keys {
    pub github: Key,
    pub cluster: Key,
    pub spiffe: Key,
    pub evil: Key,
    pub rsa_evil: Key,
    pub ed: Key,
}

pub fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        github: Key { kid: "g1", alg: "RS256", pair: Jwk::generate_rsa_key(2048).unwrap() },
        cluster: Key { kid: "c1", alg: "ES256", pair: Jwk::generate_ec_key(EcCurve::P256).unwrap() },
        spiffe: Key { kid: "s1", alg: "ES256", pair: Jwk::generate_ec_key(EcCurve::P256).unwrap() },
        evil: Key { kid: "c1", alg: "ES256", pair: Jwk::generate_ec_key(EcCurve::P256).unwrap() },
        rsa_evil: Key { kid: "g1", alg: "RS256", pair: Jwk::generate_rsa_key(2048).unwrap() },
        ed: Key { kid: "e1", alg: "EdDSA", pair: Jwk::generate_ed_key(EdCurve::Ed25519).unwrap() },
    })
}

impl Key {
    /// The public half as its owner publishes it.
    pub fn public(&self, usage: &str) -> Value {
        let mut jwk = serde_json::to_value(self.pair.to_public_key().unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!(usage);
        if usage == "sig" {
            jwk["alg"] = json!(self.alg);
        }
        jwk
    }

    pub fn jwks(&self) -> Value {
        json!({"keys": [self.public("sig")]})
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.signer(self.alg).sign(message).unwrap()
    }

    pub fn sign_as(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        self.signer(alg).sign(message).unwrap()
    }

    fn signer(&self, alg: &str) -> Box<dyn JwsSigner> {
        match alg {
            "RS256" => Box::new(jws::RS256.signer_from_jwk(&self.pair).unwrap()),
            "RS512" => Box::new(jws::RS512.signer_from_jwk(&self.pair).unwrap()),
            "PS256" => Box::new(jws::PS256.signer_from_jwk(&self.pair).unwrap()),
            "ES256" => Box::new(jws::ES256.signer_from_jwk(&self.pair).unwrap()),
            _ => Box::new(jws::EdDSA.signer_from_jwk(&self.pair).unwrap()),
        }
    }
}

/// A token in the making.
#[derive(Clone)]
pub struct Token {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    pub key: Key,
}

fn jti() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("jti-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

impl Token {
    /// What a GitHub runner gets on `refs/heads/main` of `acme/app`.
    pub fn github() -> Self {
        let key = keys().github.clone();
        Self {
            header: object(
                &json!({"typ": "JWT", "alg": key.alg, "kid": key.kid, "x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE"}),
            ),
            claims: object(&json!({
                "iss": GITHUB, "sub": MAIN, "aud": STS, "jti": jti(), "nbf": NOW - 600, "iat": NOW, "exp": NOW + 300,
                "repository": "acme/app", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "41",
                "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push", "run_id": "9", "actor": "octocat",
                "runner_environment": "github-hosted", "repository_visibility": "private",
            })),
            key,
        }
    }

    /// What a pod gets from its cluster; without a `jti`.
    pub fn cluster() -> Self {
        let key = keys().cluster.clone();
        Self {
            header: object(&json!({"alg": key.alg, "kid": key.kid})),
            claims: object(&json!({
                "iss": CLUSTER, "sub": "system:serviceaccount:prod:deployer", "aud": [STS], "iat": NOW, "exp": NOW + 3_000,
                "env": "prod",
            })),
            key,
        }
    }

    /// A JWT-SVID as SPIRE makes it: no `iss`, no `jti`.
    pub fn svid() -> Self {
        let key = keys().spiffe.clone();
        Self {
            header: object(&json!({"alg": key.alg, "kid": key.kid, "typ": "JWT"})),
            claims: object(
                &json!({"sub": "spiffe://td.test/ns/pay/sa/web", "aud": [STS], "iat": NOW, "exp": NOW + 300}),
            ),
            key,
        }
    }

    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    pub fn head(mut self, name: &str, value: Value) -> Self {
        self.header.insert(name.to_owned(), value);
        self
    }

    pub fn headless(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    pub fn key(mut self, key: &Key) -> Self {
        self.key = key.clone();
        self
    }

    pub fn sign(&self) -> String {
        raw(&Value::Object(self.header.clone()).to_string(), &Value::Object(self.claims.clone()).to_string(), &self.key)
    }

    /// Signs the payload as it is written.
    pub fn sign_payload(&self, payload: &str) -> String {
        raw(&Value::Object(self.header.clone()).to_string(), payload, &self.key)
    }

    /// Signs the header as it is written.
    pub fn sign_header(&self, header: &str) -> String {
        raw(header, &Value::Object(self.claims.clone()).to_string(), &self.key)
    }

    pub fn signing_input(&self) -> String {
        let token = self.sign();
        token.rsplit_once('.').unwrap().0.to_owned()
    }
}

fn raw(header: &str, payload: &str, key: &Key) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()));
    format!("{input}.{signature}")
}
