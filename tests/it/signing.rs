//! Signing backends: every one keeps one contract, others agree with what it signs, and what is no key for us is refused
//! by name. A backend is a line in [`every_backend`].

use crate::support::*;
use countersign::signing::{Ed25519, Es256, KeyFileError, Keys, Rs256, Signer};
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::key::{Algorithm, KeySet, KeyUse};
use josekit::jwk::{Jwk, KeyPair as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn every_backend() -> Vec<Box<dyn Signer>> {
    let es256 = Es256::generate(&[9; 32].into()).unwrap();
    let ed25519 = Ed25519::generate(&[9; 32].into()).unwrap();
    vec![
        Box::new(Es256::from_pkcs8(es256.as_bytes()).unwrap()),
        Box::new(Ed25519::from_pkcs8(ed25519.as_bytes()).unwrap()),
        Box::new(Rs256::from_pkcs8(Rs256::generate().unwrap().as_ref()).unwrap()),
    ]
}

/// What a verifier of josekit, which is OpenSSL, says.
fn openssl_accepts(signer: &dyn Signer, message: &[u8], signature: &[u8]) -> bool {
    let jwk = Jwk::from_map(signer.public_jwk().clone()).unwrap();
    let verifier: Box<dyn josekit::jws::JwsVerifier> = match signer.algorithm() {
        Algorithm::Es256 => Box::new(josekit::jws::ES256.verifier_from_jwk(&jwk).unwrap()),
        Algorithm::EdDsa => Box::new(josekit::jws::EdDSA.verifier_from_jwk(&jwk).unwrap()),
        _ => Box::new(josekit::jws::RS256.verifier_from_jwk(&jwk).unwrap()),
    };
    verifier.verify(message, signature).is_ok()
}

#[test]
fn every_backend_keeps_the_contract() {
    let backends = every_backend();
    let algorithms: BTreeSet<_> = backends.iter().map(|signer| signer.algorithm()).collect();
    assert_eq!(algorithms, SIGNING_ALGORITHMS.into_iter().collect());
    for signer in backends {
        let jwk = signer.public_jwk();
        let name = signer.algorithm().name();
        assert_eq!((jwk["alg"].as_str(), jwk["use"].as_str()), (Some(name), Some("sig")));
        assert_eq!(jwk["kid"], signer.key_id());
        // RFC 7638 by another hand: the required members in order, SHA-256, base64url.
        let required: &[&str] = match jwk["kty"].as_str().unwrap() {
            "EC" => &["crv", "kty", "x", "y"],
            "OKP" => &["crv", "kty", "x"],
            _ => &["e", "kty", "n"],
        };
        let canonical: Vec<String> = required.iter().map(|member| format!("\"{member}\":{}", jwk[*member])).collect();
        use base64::Engine as _;
        let sum = countersign::domain::sha256(&[format!("{{{}}}", canonical.join(",")).as_bytes()]);
        assert_eq!(signer.key_id(), base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sum));
        let names: BTreeSet<&str> = jwk.keys().map(String::as_str).collect();
        let public: BTreeSet<&str> = required.iter().copied().chain(["alg", "kid", "use"]).collect();
        assert_eq!(names, public, "nothing private (abuse case N4)");
        let set = json!({"keys": [jwk]}).to_string();
        let (set, skipped) = KeySet::from_jwks(set.as_bytes(), KeyUse::Signature, &SIGNING_ALGORITHMS).unwrap();
        assert!(skipped.is_empty() && set.len() == 1, "the broker's own verifier takes it");
        for number in 0..200_u32 {
            let message = number.to_be_bytes();
            let signature = signer.sign(&message).unwrap();
            assert!(openssl_accepts(&*signer, &message, &signature), "{name}");
            assert!(!openssl_accepts(&*signer, b"another", &signature), "{name}");
            let mut other = signature.clone();
            other[number as usize % signature.len()] ^= 1;
            assert!(!openssl_accepts(&*signer, &message, &other), "{name}");
        }
    }
}

/// p256 and ed25519-dalek, which hold the keys, against AWS-LC, which signs or verifies: the same key, thousands of messages.
#[test]
fn two_implementations_of_each_curve_agree() {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
    use ed25519_dalek::Signer as _;
    use p256::ecdsa::signature::Verifier as _;
    let signer = Es256::from_pkcs8(Es256::generate(&[9; 32].into()).unwrap().as_bytes()).unwrap();
    let verifier = *p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap().verifying_key();
    let dalek = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let ours = Ed25519::from_pkcs8(Ed25519::generate(&[9; 32].into()).unwrap().as_bytes()).unwrap();
    let aws = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let aws_verifier = UnparsedPublicKey::new(&ED25519, dalek.verifying_key().to_bytes());
    for number in 0..2_000_u32 {
        let message = number.to_be_bytes().repeat(number as usize % 9 + 1);
        let signature = p256::ecdsa::Signature::from_slice(&signer.sign(&message).unwrap()).unwrap();
        verifier.verify(&message, &signature).unwrap();
        let signature = ours.sign(&message).unwrap();
        assert_eq!(signature, aws.sign(&message).as_ref(), "Ed25519 has one signature for a message");
        assert_eq!(signature, dalek.sign(&message).to_bytes());
        aws_verifier.verify(&message, &signature).unwrap();
    }
}

/// Abuse case N10: a nonce that repeats gives the key away.
#[test]
fn n10_no_nonce_repeats() {
    let signer = Es256::from_pkcs8(Es256::generate(&[9; 32].into()).unwrap().as_bytes()).unwrap();
    let mut seen = BTreeSet::new();
    for number in 0..10_000_u32 {
        // The same message over and over, and others.
        let signature = signer.sign(&(number % 100).to_be_bytes()).unwrap();
        assert!(seen.insert(signature[..32].to_vec()), "the r of signature {number} was there before");
    }
}

/// Abuse case N11: the crate `rsa`, whose timing tells of the key, is not what signs. What is built in has one place for it.
#[test]
fn n11_rsa_is_signed_by_aws_lc_alone() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let built_in = manifest.split("[dev-dependencies]").next().unwrap();
    assert!(!built_in.contains("\nrsa ") && !built_in.contains("\nopenidconnect") && !built_in.contains("\njosekit"));
}

/// Abuse case N7.
#[test]
fn n7_keys_that_others_could_read_or_replace_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("keys");
    fs::create_dir(&directory).unwrap();
    mode(&directory, 0o700);
    let file = directory.join("a.pem");
    fs::write(&file, pem(&keys().cluster.pair)).unwrap();
    mode(&file, 0o600);
    assert!(Keys::token_keys(&directory).is_ok());
    for bits in [0o640, 0o604, 0o644, 0o620, 0o602, 0o610] {
        mode(&file, bits);
        let refused = Keys::token_keys(&directory);
        assert!(matches!(refused, Err(KeyFileError::Exposed(path, ..)) if path == file), "{bits:o}");
    }
    mode(&file, 0o600);
    for bits in [0o750, 0o705, 0o755, 0o720] {
        mode(&directory, bits);
        let refused = Keys::token_keys(&directory);
        assert!(matches!(refused, Err(KeyFileError::Exposed(path, ..)) if path == directory), "{bits:o}");
    }
    mode(&directory, 0o700);
    fs::rename(&file, root.path().join("elsewhere.pem")).unwrap();
    symlink(root.path().join("elsewhere.pem"), &file).unwrap();
    assert!(matches!(Keys::token_keys(&directory), Err(KeyFileError::Exposed(..))));
}

fn pem(jwk: &Jwk) -> Vec<u8> {
    josekit::jwk::alg::ec::EcKeyPair::from_jwk(jwk).unwrap().to_pem_private_key()
}

/// Abuse case N8: told at the start, by the file's name, and never by a request.
#[test]
fn n8_weak_and_wrong_keys_are_refused_and_named() {
    let root = tempfile::tempdir().unwrap();
    mode(root.path(), 0o700);
    let put = |name: &str, text: &[u8]| {
        fs::write(root.path().join(name), text).unwrap();
        mode(&root.path().join(name), 0o600);
    };
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        output.stdout
    };
    let rsa = |bits: u32, exponent: &str| {
        let (bits, exponent) = (format!("rsa_keygen_bits:{bits}"), format!("rsa_keygen_pubexp:{exponent}"));
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-pkeyopt", &exponent])
    };
    let p384 = Jwk::generate_ec_key(josekit::jwk::alg::ec::EcCurve::P384).unwrap();
    let good = pem(&keys().cluster.pair);
    let public = josekit::jwk::alg::ec::EcKeyPair::from_jwk(&keys().cluster.pair).unwrap().to_pem_public_key();
    let encrypted = openssl(&["genpkey", "-algorithm", "ED25519", "-aes-256-cbc", "-pass", "pass:correct horse"]);
    let wrong: [(&str, Vec<u8>, &str); 9] = [
        ("empty", b"".to_vec(), "not one PEM block"),
        ("text", b"not a key".to_vec(), "not one PEM block"),
        ("RSA-1024", rsa(1024, "65537"), "2048 bits"),
        ("e=3", rsa(2048, "3"), "65537"),
        ("RSA-8192 costs milliseconds", rsa(5120, "65537"), "2048 to 4096 bits"),
        ("P-384", pem(&p384), "no private key of P-256"),
        ("X25519", openssl(&["genpkey", "-algorithm", "X25519"]), "no private key of P-256"),
        ("public", public, "public key"),
        ("encrypted", encrypted, "passphrase"),
    ];
    for (what, text, why) in wrong {
        put("a.pem", &text);
        let refused = Keys::token_keys(root.path()).err().unwrap_or_else(|| panic!("{what}"));
        let message = refused.to_string();
        assert!(message.contains("a.pem") && message.contains(why), "{what}: {message}");
    }
    let sec1 = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    put("a.pem", &sec1);
    let message = Keys::token_keys(root.path()).err().unwrap().to_string();
    assert!(message.contains("openssl pkcs8"), "{message}");
    for made in [good.clone(), rsa(2048, "65537"), rsa(3072, "65537"), openssl(&["genpkey", "-algorithm", "ED25519"])] {
        put("a.pem", &made);
        assert!(Keys::token_keys(root.path()).is_ok());
    }
    // Abuse case N12: one key for two purposes.
    put("a.pem", &good);
    put("checkpoints-b.pem", &good);
    assert!(matches!(Keys::token_keys(root.path()), Err(KeyFileError::Twice(..))));
    let setup = Setup::new().write();
    fs::create_dir(setup.path().join("keys")).unwrap();
    mode(&setup.path().join("keys"), 0o700);
    fs::write(setup.path().join("keys/weak.pem"), rsa(1024, "65537")).unwrap();
    mode(&setup.path().join("keys/weak.pem"), 0o600);
    let installation = countersign::app::Installation::read(&setup.path().join("countersign.toml")).unwrap();
    let started = countersign::http::block_on(
        installation
            .assemble(std::sync::Arc::new(TestClock::new()), std::sync::Arc::new(countersign::domain::SystemEntropy)),
    );
    assert!(started.err().unwrap().to_string().contains("weak.pem"));
}

/// Abuse case N9: when a key has gone, its bytes are nowhere in memory.
#[test]
fn n9_a_dropped_key_leaves_no_bytes_behind() {
    // The needle is kept masked, so that the search does not find itself.
    const MASK: u8 = 0xA5;
    let root = tempfile::tempdir().unwrap();
    mode(root.path(), 0o700);
    // Made, read and masked by other processes: the secret bytes of each kind of key, where its DER has them.
    let kinds = [
        ("ED25519", "", "tail -c 32"),
        ("EC", "-pkeyopt ec_paramgen_curve:P-256", "dd bs=1 skip=36 count=32 2>/dev/null"),
    ];
    for (kind, options, cut) in kinds {
        let script = format!(
            "openssl genpkey -algorithm {kind} {options} -out k.pem && chmod 600 k.pem && \
             openssl pkcs8 -topk8 -nocrypt -in k.pem -outform DER | {cut} | \
             python3 -c 'import sys; sys.stdout.buffer.write(bytes(b ^ 0xA5 for b in sys.stdin.buffer.read()))'"
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(root.path()).output().unwrap();
        assert_eq!(output.stdout.len(), 32, "{output:?}");
        let masked = output.stdout;
        let ring = Keys::token_keys(root.path()).unwrap();
        if kind == "ED25519" {
            assert!(in_memory(&masked, MASK), "while the key is held, the search finds it");
        }
        drop(ring);
        assert!(!in_memory(&masked, MASK), "and then it does not: {kind}");
    }
}

/// Whether the bytes are anywhere in this process's memory that can be written. What is read to be looked at lies in a
/// place of its own, which is left out.
fn in_memory(masked: &[u8], mask: u8) -> bool {
    use std::io::{Read as _, Seek as _};
    static BUFFER: std::sync::Mutex<[u8; 65_536]> = std::sync::Mutex::new([0; 65_536]);
    let mut buffer = BUFFER.lock().unwrap();
    let own = buffer.as_ptr() as u64;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = fs::File::open("/proc/self/mem").unwrap();
    let mut found = false;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(buffer.len());
            let itself = at < own + buffer.len() as u64 && own < at + length as u64;
            // Other tests map and unmap: what has gone meanwhile holds nothing.
            let read = memory.seek(std::io::SeekFrom::Start(at)).and_then(|_| memory.read_exact(&mut buffer[..length]));
            let matches = |window: &[u8]| window.iter().zip(masked).all(|(byte, masked)| byte ^ mask == *masked);
            found |= !itself && read.is_ok() && buffer[..length].windows(masked.len()).any(matches);
            // Overlapping, so that nothing hides between two reads.
            at += length as u64 - if at + (length as u64) < end { masked.len() as u64 } else { 0 };
        }
    }
    buffer.fill(0);
    found
}

#[test]
fn others_verify_what_is_signed() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(jwks.headers["cache-control"], "public, max-age=300");
    let kid = countersign_verify::jws::Compact::parse(&token).unwrap().header().key_id.clone().unwrap();
    let published = jwks.json["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str()).unwrap();
    let key = Jwk::from_bytes(published.to_string()).unwrap();
    let (payload, header) =
        josekit::jwt::decode_with_verifier(&token, &josekit::jws::ES256.verifier_from_jwk(&key).unwrap()).unwrap();
    assert_eq!((header.token_type(), header.algorithm()), (Some("at+jwt"), Some("ES256")));
    assert_eq!(payload.subject(), Some("github:repo:acme/app:ref:refs/heads/main"));
    for name in ["iat", "nbf", "exp"] {
        assert!(payload.claim(name).unwrap().is_i64() || payload.claim(name).unwrap().is_u64(), "{name} is an integer");
    }
}

#[test]
fn each_target_gets_the_signature_that_it_can_verify() {
    let setup = Setup::new()
        .change(
            "audience = \"https://orders.test\"\nresources",
            "audience = \"https://orders.test\"\nalgorithm = \"RS256\"\nresources",
        )
        .change(
            "audience = \"https://ledger.test\"\n",
            "audience = \"https://ledger.test\"\nalgorithm = \"Ed25519\"\n",
        );
    let broker = setup.start();
    let header = |token: &str| countersign_verify::jws::Compact::parse(token).unwrap().header().clone();
    let orders = broker.exchange(&Token::github().sign(), &[]).token();
    let ledger = broker.exchange(&Token::svid().sign(), &[("audience", LEDGER)]).token();
    assert_eq!((header(&orders).algorithm, header(&ledger).algorithm), (Algorithm::Rs256, Algorithm::EdDsa));
    assert!(ledger_header_says(&ledger, "EdDSA"));
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    for (token, audience) in [(&orders, ORDERS), (&ledger, LEDGER)] {
        let verifier = countersign_verify::Verifier::new(STS, audience, jwks.text.as_bytes()).unwrap();
        assert!(verifier.verify(token, NOW).is_ok());
    }
    let kids: BTreeSet<&str> =
        jwks.json["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(kids.len(), jwks.json["keys"].as_array().unwrap().len());
    // Nobody asks for ES256, but the default has its key, and a target that says nothing gets it.
    let algorithms: BTreeSet<&str> =
        jwks.json["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(algorithms, ["ES256", "EdDSA", "RS256"].into());
    for (token, client) in [(&orders, "orders-api"), (&ledger, "ledger-api")] {
        assert_eq!(broker.introspect(client, token).json["active"], Value::Bool(true));
    }
}

fn ledger_header_says(token: &str, alg: &str) -> bool {
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["alg"] == alg
}
