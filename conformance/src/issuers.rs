//! The issuers that are signed as: real keys, a discovery document and a key set each, and some of them misbehave.

use crate::Fault;
use actix_web::web::{self, Data, Path};
use actix_web::{App, HttpResponse, HttpServer};
use josekit::jwk::Jwk;
use josekit::jwk::alg::ec::EcCurve;
use josekit::jwk::alg::ed::EdCurve;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;

/// One issuer.
pub(crate) struct Issuer {
    /// What signs, by algorithm.
    pub(crate) keys: BTreeMap<&'static str, Jwk>,
    /// A key that nobody published.
    pub(crate) other: Jwk,
    /// What it publishes.
    pub(crate) set: Value,
    /// What signs where a case says nothing.
    pub(crate) algorithm: &'static str,
}

impl Issuer {
    pub(crate) fn kid(&self, algorithm: &str) -> String {
        format!("key-{}", algorithm.to_lowercase())
    }
}

/// Every issuer.
pub(crate) struct Issuers {
    pub(crate) url: String,
    pub(crate) by_name: BTreeMap<&'static str, Issuer>,
}

fn public(key: &Jwk, kid: &str, algorithm: Option<&str>, usage: &str) -> Result<Value, Fault> {
    let mut jwk = serde_json::to_value(key.to_public_key()?)?;
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), kid.into());
        members.insert("use".to_owned(), usage.into());
        if let Some(algorithm) = algorithm {
            members.insert("alg".to_owned(), algorithm.into());
        }
    }
    Ok(jwk)
}

/// `object` with another value of `member`.
fn with(mut object: Value, member: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
    object
}

impl Issuers {
    /// Issuers below `http://<listen>`, with new keys.
    pub(crate) fn new(listen: &str) -> Result<Self, Fault> {
        let rsa = Jwk::generate_rsa_key(2048)?;
        let (ec, ed) = (Jwk::generate_ec_key(EcCurve::P256)?, Jwk::generate_ed_key(EdCurve::Ed25519)?);
        let published = [("RS256", &rsa), ("ES256", &ec), ("EdDSA", &ed)];
        let all = || published.iter().map(|(algorithm, key)| (*algorithm, (*key).clone())).collect();
        let set = |usage: &str| -> Result<Value, Fault> {
            let keys: Result<Vec<Value>, Fault> = published
                .iter()
                .map(|(algorithm, key)| {
                    public(key, &format!("key-{}", algorithm.to_lowercase()), Some(algorithm), usage)
                })
                .collect();
            Ok(json!({"keys": keys?}))
        };
        let other = Jwk::generate_rsa_key(2048)?;
        let small = Jwk::generate_rsa_key(1024)?;
        let issuer = |keys: BTreeMap<&'static str, Jwk>, set: Value, algorithm| Issuer {
            keys,
            other: other.clone(),
            set,
            algorithm,
        };
        let only = |key: &Jwk| BTreeMap::from([("RS256", key.clone())]);
        let of_rsa = || public(&rsa, "key-rs256", Some("RS256"), "sig");
        let private = with(of_rsa()?, "d", rsa.parameter("d").cloned().unwrap_or_default());
        let not_for_us = with(of_rsa()?, "use", "enc".into());
        let spare = public(&ec, "spare", Some("ES256"), "sig")?;
        let symmetric = json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "key-rs256", "alg": "HS256"});
        let unknown = json!({"kty": "XYZ", "kid": "strange", "x": 1});
        let doubled = public(&other, "key-rs256", Some("RS256"), "sig")?;
        // A key of its own, so that what it signs is no other issuer's.
        let own = Jwk::generate_rsa_key(2048)?;
        let unmarked = with(public(&own, "key-rs256", None, "sig")?, "x-unknown", json!({"a": 1}));
        let bundle = with(set("jwt-svid")?, "spiffe_sequence", 1.into());
        let by_name = BTreeMap::from([
            ("good", issuer(all(), set("sig")?, "RS256")),
            ("private", issuer(only(&rsa), json!({"keys": [private, spare]}), "RS256")),
            ("symmetric", issuer(only(&rsa), json!({"keys": [symmetric, spare]}), "RS256")),
            ("encryption", issuer(only(&rsa), json!({"keys": [not_for_us, spare]}), "RS256")),
            ("doubled", issuer(only(&rsa), json!({"keys": [of_rsa()?, doubled, spare]}), "RS256")),
            (
                "small",
                issuer(
                    only(&small),
                    json!({"keys": [public(&small, "key-rs256", Some("RS256"), "sig")?, spare]}),
                    "RS256",
                ),
            ),
            ("mixed", issuer(only(&rsa), json!({"keys": [unknown, 1, of_rsa()?], "more": true}), "RS256")),
            ("single", issuer(only(&own), json!({"keys": [unmarked]}), "RS256")),
            // Trusted by nobody: what a header leads to.
            (
                "other",
                issuer(only(&other), json!({"keys": [public(&other, "key-rs256", Some("RS256"), "sig")?]}), "RS256"),
            ),
            ("spiffe", issuer(all(), bundle, "ES256")),
            // A client that signs its own assertions.
            ("client", issuer(all(), set("sig")?, "RS256")),
        ]);
        Ok(Self { url: format!("http://{listen}"), by_name })
    }

    /// The `iss` of the issuer `name`.
    pub(crate) fn issuer(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// Serves documents and key sets until the program ends.
    pub(crate) fn serve(&self, listener: TcpListener) -> Result<(), Fault> {
        let documents: BTreeMap<String, (Value, Value)> = self
            .by_name
            .iter()
            .map(|(name, issuer)| {
                let iss = self.issuer(name);
                let document = json!({
                    "issuer": iss, "jwks_uri": format!("{iss}/jwks"), "authorization_endpoint": format!("{iss}/authorize"),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
                });
                ((*name).to_owned(), (document, issuer.set.clone()))
            })
            .collect();
        let documents = Data::new(documents);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(documents.clone())
                .route("/{name}/.well-known/openid-configuration", web::get().to(document))
                .route("/{name}/jwks", web::get().to(keys))
        });
        actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener)?.run());
        Ok(())
    }
}

type Documents = Data<BTreeMap<String, (Value, Value)>>;

async fn document(name: Path<String>, documents: Documents) -> HttpResponse {
    documents
        .get(&*name)
        .map_or_else(|| HttpResponse::NotFound().finish(), |(document, _)| HttpResponse::Ok().json(document))
}

async fn keys(name: Path<String>, documents: Documents) -> HttpResponse {
    documents.get(&*name).map_or_else(|| HttpResponse::NotFound().finish(), |(_, set)| HttpResponse::Ok().json(set))
}
