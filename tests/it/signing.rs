//! Our own keys: how they are kept, what they are called, and that others agree with what they sign.

use crate::support::*;
use countersign::domain::SystemEntropy;
use countersign::signing::{self, Es256, KeyFileError, KeyRing, NoKeys, Signer};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_first_key_is_made_for_its_owner_alone_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let keys = root.path().join("keys");
    let ring = signing::load_or_create(&keys, &SystemEntropy).unwrap();
    let file = keys.join("es256-1.pem");
    let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((bits(&keys), bits(&file)), (0o700, 0o600));
    let again = signing::load_or_create(&keys, &SystemEntropy).unwrap();
    assert_eq!(ring.active(), again.active());
    assert_eq!(fs::read_dir(&keys).unwrap().count(), 1);
}

#[test]
fn keys_that_others_could_read_or_replace_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let keys = root.path().join("keys");
    signing::load_or_create(&keys, &SystemEntropy).unwrap();
    let file = keys.join("es256-1.pem");
    for bits in [0o640, 0o604, 0o644, 0o620, 0o602, 0o610] {
        mode(&file, bits);
        assert!(matches!(signing::read(&keys), Err(KeyFileError::Exposed(path, ..)) if path == file), "{bits:o}");
    }
    mode(&file, 0o600);
    for bits in [0o750, 0o705, 0o755, 0o720] {
        mode(&keys, bits);
        assert!(matches!(signing::read(&keys), Err(KeyFileError::Exposed(path, ..)) if path == keys), "{bits:o}");
    }
    mode(&keys, 0o700);
    fs::rename(&file, root.path().join("elsewhere.pem")).unwrap();
    symlink(root.path().join("elsewhere.pem"), &file).unwrap();
    assert!(matches!(signing::read(&keys), Err(KeyFileError::Exposed(..))));
    fs::remove_file(&file).unwrap();
    assert!(matches!(signing::read(&keys), Err(KeyFileError::None(_))));
}

#[test]
fn what_cannot_sign_is_refused_and_named() {
    let root = tempfile::tempdir().unwrap();
    mode(root.path(), 0o700);
    let put = |name: &str, text: &[u8]| {
        fs::write(root.path().join(name), text).unwrap();
        mode(&root.path().join(name), 0o600);
    };
    let pem = |jwk: &josekit::jwk::Jwk, public: bool| {
        use josekit::jwk::KeyPair as _;
        let pair = josekit::jwk::alg::ec::EcKeyPair::from_jwk(jwk).unwrap();
        if public { pair.to_pem_public_key() } else { pair.to_pem_private_key() }
    };
    let rsa = josekit::jwk::alg::rsa::RsaKeyPair::generate(2048).unwrap();
    use josekit::jwk::KeyPair as _;
    let p384 = josekit::jwk::Jwk::generate_ec_key(josekit::jwk::alg::ec::EcCurve::P384).unwrap();
    let wrong = [
        b"".to_vec(),
        b"not a key".to_vec(),
        rsa.to_pem_private_key(),
        pem(&p384, false),
        pem(&keys().cluster.pair, true),
    ];
    for text in wrong {
        put("a.pem", &text);
        assert!(matches!(signing::read(root.path()), Err(KeyFileError::NotAKey(path, _)) if path.ends_with("a.pem")));
    }
    let good = pem(&keys().cluster.pair, false);
    put("a.pem", &good);
    assert!(signing::read(root.path()).is_ok());
    put("b.pem", &good);
    assert!(matches!(signing::read(root.path()), Err(KeyFileError::Ring(_, NoKeys::Twice(_)))));
    put("b.pem", &pem(&keys().spiffe.pair, false));
    let ring = signing::read(root.path()).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(ring.jwks()).unwrap()["keys"].as_array().unwrap().len(), 2);
    assert!(matches!(KeyRing::new(Vec::new()), Err(NoKeys::Empty)));
}

#[test]
fn a_ring_of_two_verifies_what_the_one_before_signed() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let pem = Es256::generate_pem(&[7; 32].into()).unwrap();
    let path = broker.path("keys/es256-2.pem");
    fs::write(&path, pem.as_bytes()).unwrap();
    mode(&path, 0o600);
    let broker = broker.restart();
    assert_eq!(broker.introspect("orders-api", &token).json["active"], true);
    let newer = broker.exchange(&Token::github().sign(), &[]).token();
    assert_eq!(broker.introspect("orders-api", &newer).json["active"], true);
    assert_ne!(token.split('.').next(), newer.split('.').next(), "the last key signs");
}

#[test]
fn the_kid_is_the_thumbprint_and_nothing_private_is_published() {
    let broker = TestBroker::new();
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(jwks.headers["cache-control"], "public, max-age=300");
    let key = &jwks.json["keys"][0];
    let names: std::collections::BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    // RFC 7638 by another hand: members in order, SHA-256, base64url.
    let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{},\"y\":{}}}", key["x"], key["y"]);
    use base64::Engine as _;
    let sum = countersign::domain::sha256(&[canonical.as_bytes()]);
    assert_eq!(key["kid"], base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sum));
}

#[test]
fn others_verify_what_is_signed() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let key = josekit::jwk::Jwk::from_bytes(jwks.json["keys"][0].to_string()).unwrap();
    let (payload, header) =
        josekit::jwt::decode_with_verifier(&token, &josekit::jws::ES256.verifier_from_jwk(&key).unwrap()).unwrap();
    assert_eq!((header.token_type(), header.algorithm()), (Some("at+jwt"), Some("ES256")));
    assert_eq!(payload.subject(), Some("github:repo:acme/app:ref:refs/heads/main"));
    for name in ["iat", "nbf", "exp"] {
        assert!(payload.claim(name).unwrap().is_i64() || payload.claim(name).unwrap().is_u64(), "{name} is an integer");
    }
    // p256, by yet another hand, on a thousand messages.
    use p256::ecdsa::signature::Verifier as _;
    let pem = Es256::generate_pem(&[9; 32].into()).unwrap();
    let signer = Es256::from_pem(&pem).unwrap();
    let secret = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    for number in 0..1_000_u32 {
        let message = number.to_be_bytes();
        let signature = p256::ecdsa::Signature::from_slice(&signer.sign(&message).unwrap()).unwrap();
        secret.verifying_key().verify(&message, &signature).unwrap();
    }
}
