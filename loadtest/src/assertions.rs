//! Really signed assertions: shaped like GitHub's, each with its own `jti`, and like a cluster's, which can be presented
//! again; and the configuration that trusts them.

use crate::Fault;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why an assertion is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    BadSignature,
    Expired,
    WrongAudience,
    UnknownKid,
}

impl Refused {
    pub(crate) const ALL: [Self; 4] = [Self::BadSignature, Self::Expired, Self::WrongAudience, Self::UnknownKid];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BadSignature => "bad signature",
            Self::Expired => "expired",
            Self::WrongAudience => "wrong audience",
            Self::UnknownKid => "unknown kid",
        }
    }
}

pub(crate) struct Assertions {
    key: KeyPair,
}

impl Assertions {
    /// Makes a key, and writes into `place` what the broker and the bound are configured with.
    pub(crate) fn new(place: &Path) -> Result<Self, Fault> {
        let key = KeyPair::generate(KeySize::Rsa2048)?;
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = key.public_key();
        let (n, e) =
            (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
        let jwks = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": number(n), "e": number(e)}]});
        fs::write(place.join("github.jwks"), jwks.to_string())?;
        fs::create_dir(place.join("policies"))?;
        fs::write(place.join("policies/orders.cedar"), POLICY)?;
        fs::write(place.join("countersign.toml"), CONFIGURATION)?;
        Ok(Self { key })
    }

    /// `count` assertions that live for an hour, signed on both cores.
    pub(crate) fn sign(&self, count: usize) -> Result<Vec<String>, Fault> {
        let half = count / 2;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| (0..half).map(|number| self.one(number)).collect::<Result<Vec<_>, Fault>>());
            let mut all = (half..count).map(|number| self.one(number)).collect::<Result<Vec<_>, Fault>>()?;
            all.extend(other.join().map_err(|_| "signing failed")??);
            Ok(all)
        })
    }

    /// An assertion of a cluster that lives for an hour and can be presented again.
    pub(crate) fn reusable(&self) -> Result<String, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.signed(&json!({
            "iss": "https://cluster.bench.example", "sub": "system:serviceaccount:prod:deployer",
            "aud": "https://sts.bench.example", "nbf": now, "iat": now, "exp": now + 3_600,
        }))
    }

    /// Assertions that are refused, each for its own reason, and are really signed where a reason comes after the signature.
    pub(crate) fn refused(&self, kind: Refused, number: usize) -> Result<String, Fault> {
        let mut claims = self.claims(number)?;
        let mut change = |name: &str, value: serde_json::Value| {
            claims.as_object_mut().map(|claims| claims.insert(name.to_owned(), value))
        };
        match kind {
            Refused::Expired => {
                change("exp", json!(1_700_000_000));
                change("iat", json!(1_699_999_000));
                change("nbf", json!(1_699_999_000))
            }
            Refused::WrongAudience => change("aud", json!("https://other.bench.example")),
            Refused::BadSignature | Refused::UnknownKid => change("jti", json!(format!("forged-{number}"))),
        };
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        match kind {
            Refused::Expired | Refused::WrongAudience => self.signed(&claims),
            // Nothing is signed: 2048 bits that are below any modulus.
            Refused::BadSignature | Refused::UnknownKid => {
                let kid = if kind == Refused::UnknownKid { format!("k-{number}") } else { "k1".to_owned() };
                let input = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "RS256", "kid": kid})), part(&claims));
                let mut forged = vec![0x11_u8; self.key.public_modulus_len()];
                forged.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, other)| *byte = other & 0x7f);
                Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(forged)))
            }
        }
    }

    fn one(&self, number: usize) -> Result<String, Fault> {
        self.signed(&self.claims(number)?)
    }

    fn claims(&self, number: usize) -> Result<serde_json::Value, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(json!({
            "iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/app:ref:refs/heads/main",
            "aud": "https://sts.bench.example", "jti": format!("5f0c2a7e-0000-4000-8000-{number:012}"),
            "nbf": now - 600, "iat": now, "exp": now + 3_600, "actor": "octocat", "actor_id": "1",
            "repository": "acme/app", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "41",
            "repository_visibility": "private", "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push",
            "workflow": "deploy", "workflow_ref": "acme/app/.github/workflows/deploy.yml@refs/heads/main",
            "job_workflow_ref": "acme/app/.github/workflows/deploy.yml@refs/heads/main", "run_id": "1", "run_number": "1",
            "run_attempt": "1", "runner_environment": "github-hosted", "sha": "3c1e0f2b4d5a69788796a5b4c3d2e1f00112233f",
        }))
    }

    fn signed(&self, claims: &serde_json::Value) -> Result<String, Fault> {
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "RS256", "kid": "k1"})), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

const POLICY: &str = r#"@id("orders-from-main")
@max_lifetime("5m")
permit (
  principal == Workload::"github:repo:acme/app:ref:refs/heads/main",
  action == Action::"exchange",
  resource
) when {
  context.scope == "orders:read" && principal has github && principal.github has repository_id &&
  principal.github.repository_id == "74"
};

@id("orders-from-the-cluster")
permit (
  principal == Workload::"cluster:system:serviceaccount:prod:deployer",
  action == Action::"exchange",
  resource == Target::"https://orders.bench.example"
) when { context.scope == "orders:read" };
"#;

/// Two issuers with pinned keys, one worker: the broker has one core.
const CONFIGURATION: &str = r#"[server]
issuer = "https://sts.bench.example"
listen = "127.0.0.1:18080"
management = "127.0.0.1:18081"
workers = 1

# Counted as by default, and out of reach: one generator stands for a whole network.
[server.limits]
requests_per_network = 1000000
requests_per_workload = 1000000
requests_per_issuer = 1000000

[store]
kind = "embedded"
path = "data"

[signing]
directory = "keys"

[audit]
path = "data/audit"

[policy]
directory = "policies"

[[issuers]]
name = "github"
kind = "github-actions"
issuer = "https://token.actions.githubusercontent.com"
audiences = ["https://sts.bench.example"]
accept = { repository_owner_id = ["41"] }
jwks_file = "github.jwks"

[[issuers]]
name = "cluster"
kind = "oidc"
issuer = "https://cluster.bench.example"
audiences = ["https://sts.bench.example"]
jwks_file = "github.jwks"
single_use = false

[[targets]]
audience = "https://orders.bench.example"
scopes = ["orders:read"]
max_lifetime = "1h"

[[targets]]
audience = "https://azure.bench.example"
scopes = ["orders:read"]
max_lifetime = "5m"
algorithm = "RS256"

[[targets]]
audience = "https://edge.bench.example"
scopes = ["orders:read"]
max_lifetime = "5m"
algorithm = "EdDSA"

[[clients]]
id = "orders-api"
method = "client_secret_post"
secret_digest = "sha256:1b32c28cb38c05480eccc1bd60ff97029b57a05c96718b96dad7e9d84894f549"
introspects = ["https://orders.bench.example"]
"#;
