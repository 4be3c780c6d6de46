//! DPoP proofs, good and bad, signed by josekit.

use super::issuer::{Key, Token};
use super::{NOW, STS};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A proof by `key` for `POST` to an endpoint of ours, to be changed and signed.
pub fn proof(key: &Key, path: &str) -> Token {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let object = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
    let jwk = serde_json::to_value(key.pair.to_public_key().unwrap()).unwrap();
    let id = format!("proof-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Token {
        header: object(json!({"typ": "dpop+jwt", "alg": key.alg, "jwk": jwk})),
        claims: object(json!({"jti": id, "htm": "POST", "htu": format!("{STS}{path}"), "iat": NOW})),
        key: key.clone(),
    }
}
