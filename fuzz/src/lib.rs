//! What is fuzzed: each function takes any bytes, hands them to one reader of the broker, and says what must hold of
//! whatever it makes of them. The fuzzer calls them, and so do the tests, with the seeds and with what proptest makes up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::app::Installation;
use countersign::assertion::{IssuerKind, Issuers, SubjectToken, Untrusted};
use countersign::audit::AuditTrail;
use countersign::config::Config;
use countersign::domain::{Clock, SpiffeId, Timestamp, TokenType};
use countersign::exchange::ExchangeRequest;
use countersign::form::{Form, FormBounds};
use countersign::policy::Policy;
use countersign_verify::jws::Compact;
use countersign_verify::key::{Algorithm, KeySet, KeyUse};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// A reader, by the name of its seeds.
pub type Reader = (&'static str, fn(&[u8]));

/// Every reader.
pub const READERS: [Reader; 7] = [
    ("form", form),
    ("envelope", envelope),
    ("claims", claims),
    ("keys", keys),
    ("spiffe_id", spiffe_id),
    ("configuration", configuration),
    ("policy", policy),
];

/// A form is refused, or read as everybody reads it.
pub fn form(data: &[u8]) {
    let Ok(form) = Form::decode(data, FormBounds::default()) else { return };
    let theirs: Vec<_> = form_urlencoded::parse(data).collect();
    // They keep a pair of two empty strings where there is nothing but `=`; the names are the same.
    assert!(form.names().eq(theirs.iter().map(|(name, _)| &**name)), "{theirs:?}");
    for (name, value) in theirs.iter().filter(|(_, value)| !value.is_empty()) {
        assert!(form.all(name).any(|own| own == value), "{name}");
    }
    let _ = ExchangeRequest::read(&form, None);
}

/// A compact JWS is written in one way alone.
pub fn envelope(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(compact) = Compact::parse(text) else { return };
    assert!(text.starts_with(compact.signing_input()));
    assert_eq!(text.matches('.').count(), 2);
    for part in text.split('.') {
        assert_eq!(URL_SAFE_NO_PAD.encode(URL_SAFE_NO_PAD.decode(part).unwrap()), part);
    }
    assert!(compact.header().key_id.as_ref().is_none_or(|kid| (1..=256).contains(&kid.len())));
}

/// Where the claims' time stands still.
const NOW: i64 = 1_795_000_000;
const US: &str = "https://sts.test";

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::new(NOW).unwrap()
    }
}

/// Issuers of each kind, and the key that signs for all of them.
struct World {
    issuers: Issuers,
    key: SigningKey,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(false);
        let [x, y] = [point.x(), point.y()].map(|number| URL_SAFE_NO_PAD.encode(number.unwrap()));
        let jwk =
            |usage: &str| json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "f", "use": usage}]});
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("sig.jwks", jwk("sig").to_string());
        write("td.bundle", jwk("jwt-svid").to_string());
        write("countersign.toml", CONFIGURATION.to_owned());
        let installation =
            Installation::read(&folder.path().join("countersign.toml")).unwrap_or_else(|problems| panic!("{problems}"));
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let issuers = installation.issuers(&clock, None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for issuer in issuers.iter() {
                issuer.keys.refresh().await.unwrap();
            }
        });
        Self { issuers, key, runtime }
    }
}

const CONFIGURATION: &str = r#"
server = { issuer = "https://sts.test", listen = "127.0.0.1:0" }
store = { kind = "embedded", path = "data" }
signing = { directory = "keys" }
audit = { path = "audit" }
policy = { directory = "policies" }
targets = [{ audience = "https://orders.test", max_lifetime = "5m" }]
[[issuers]]
name = "oidc"
kind = "oidc"
issuer = "https://idp.test"
audiences = ["https://sts.test"]
algorithms = ["ES256"]
jwks_file = "sig.jwks"
attributes = { env = { claim = "/env" } }
[[issuers]]
name = "github"
kind = "github-actions"
issuer = "https://token.actions.githubusercontent.com"
audiences = ["https://sts.test"]
algorithms = ["ES256"]
jwks_file = "sig.jwks"
accept = { repository_owner_id = ["41"] }
[[issuers]]
name = "td"
kind = "spiffe"
trust_domain = "td.test"
audiences = ["https://sts.test"]
algorithms = ["ES256"]
bundle_file = "td.bundle"
"#;

/// Claims that are really signed are refused, or they name us alone, live, and name a workload that can be written down.
pub fn claims(data: &[u8]) {
    thread_local!(static WORLD: RefCell<Option<World>> = const { RefCell::new(None) });
    WORLD.with_borrow_mut(|world| {
        let World { issuers, key, runtime } = world.get_or_insert_with(World::new);
        let input =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"f"}"#), URL_SAFE_NO_PAD.encode(data));
        let signature: Signature = key.sign(input.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
        let token = Untrusted::<SubjectToken>::new(format!("{input}.{signature}"), TokenType::Jwt);
        let now = Timestamp::new(NOW).unwrap();
        let mut trail = AuditTrail::unwritten(now);
        let Ok(verified) = runtime.block_on(issuers.verify_assertion(&token, now, &mut trail)) else { return };
        let said: Value = serde_json::from_slice(data).unwrap();
        let audience =
            said["aud"].as_str().or_else(|| said["aud"].as_array().filter(|all| all.len() == 1)?[0].as_str());
        assert_eq!(audience, Some(US));
        let exp = said["exp"].as_f64().unwrap();
        assert!(exp > NOW as f64 && exp < (NOW + 30 * 86_400) as f64, "{exp}");
        let sub = said["sub"].as_str().unwrap();
        assert!((1..=2048).contains(&sub.len()) && !sub.chars().any(char::is_control));
        assert_eq!(verified.origin().sub, sub);
        let (name, issuer) = (&verified.workload().name, &verified.workload().issuer);
        assert!(name.starts_with(&format!("{issuer}:")) || (issuer == "td" && name.starts_with("spiffe://td.test/")));
    });
}

/// A key set is refused, or each of its keys is ready or told why not; none of them is secret.
pub fn keys(data: &[u8]) {
    for usage in [KeyUse::Signature, KeyUse::JwtSvid] {
        let Ok((set, skipped)) = KeySet::from_jwks(data, usage, &Algorithm::ALL) else { continue };
        let document: Value = serde_json::from_slice(data).unwrap();
        let published = document["keys"].as_array().unwrap();
        assert_eq!(set.len() + skipped.len(), published.len());
        for kid in published.iter().filter_map(|key| key["kid"].as_str()).filter(|kid| set.has(kid)) {
            let named: Vec<_> = published.iter().filter(|key| key["kid"] == *kid).collect();
            let secret = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
            assert!(named.len() == 1 && secret.iter().all(|member| named[0].get(*member).is_none()));
        }
    }
}

/// A SPIFFE ID is refused, or is what it was written as.
pub fn spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!((id.as_str(), format!("spiffe://{}{}", id.trust_domain(), id.path()).as_str()), (text, text));
    assert!(text.len() <= 2048 && text.is_ascii() && id.trust_domain().len() <= 255);
    assert_eq!(id.trust_domain(), id.trust_domain().to_ascii_lowercase());
    assert!(id.path().starts_with('/') && !id.path().ends_with('/'));
    assert!(id.path()[1..].split('/').all(|segment| !matches!(segment, "" | "." | "..")));
    assert!(!text.contains(['%', '?', '#', '@']));
}

/// A configuration is taken whole, or every problem is told with a place that is there.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("countersign.toml"), Path::new("")) {
        Ok(config) => {
            assert!(config.server.issuer.starts_with("https://") && !config.issuers.is_empty());
            assert!(config.server.tls.is_some() || config.server.listen.ip().is_loopback());
        }
        Err(problems) => {
            let lines = text.lines().count().max(1);
            assert!(!problems.is_empty());
            assert!(problems.sorted().iter().all(|problem| problem.line <= lines + 1), "{problems}");
        }
    }
}

/// Policies are taken whole, or refused.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(github) = IssuerKind::all().iter().find_map(|kind| kind.attributes.clone()) else { return };
    if let Ok(policy) = Policy::from_texts(&[github], [("all.cedar".to_owned(), text)]) {
        assert!((1..=text.matches(';').count()).contains(&policy.count()));
    }
}
