//! Signers and the backends of keys: every one keeps one contract, others agree with what it signs, and what is no key
//! for us is refused by name. A signer is a line in [`every_signer`], a backend one in [`every_backend`].

use crate::support::*;
use countersign::domain::{Entropy, Purpose, SystemEntropy, Timestamp};
use countersign::http::block_on;
use countersign::signing::{
    BackendKey, Document, Ed25519, Es256, KeyBackend, KeyBackendError, KeyBackends, KeyFileError, KeyFiles, KeyParts,
    KeyRing, Keys, PendingSignature, Rotation, Rs256, Signer, Signing, SigningError,
};
use countersign::store::{Embedded, KeyRecords};
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::key::{Algorithm, KeySet, KeyUse};
use josekit::jwk::{Jwk, KeyPair as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn every_signer() -> Vec<Box<dyn Signer>> {
    let es256 = Es256::generate(&[9; 32].into()).unwrap();
    let ed25519 = Ed25519::generate(&[9; 32].into()).unwrap();
    vec![
        Box::new(Es256::from_pkcs8(es256.as_bytes()).unwrap()),
        Box::new(Ed25519::from_pkcs8(ed25519.as_bytes()).unwrap()),
        Box::new(Rs256::from_pkcs8(Rs256::generate().unwrap().as_ref()).unwrap()),
    ]
}

/// The signature of a key in this process.
fn signed(signer: &dyn Signer, message: &[u8]) -> Vec<u8> {
    match signer.sign(message) {
        Signing::Now(signature) => signature.unwrap(),
        Signing::Later(_) => panic!("a key in memory signs at once"),
    }
}

/// Every kind of backend, empty, and the same place opened by another process.
fn every_backend(root: &Path) -> Vec<[Arc<dyn KeyBackend>; 2]> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let files = || KeyFiles::new(&root.join("keys"), Arc::clone(&entropy));
    files().ensure().unwrap();
    let remote = RemoteKeys::default();
    vec![[Arc::new(files()), Arc::new(files())], [Arc::new(remote.clone()), Arc::new(remote)]]
}

#[test]
fn every_key_backend_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    for [one, other] in every_backend(root.path()) {
        block_on(keeps_the_contract(&*one, &*other));
    }
}

/// `other` is the same place, opened by another process.
async fn keeps_the_contract(one: &dyn KeyBackend, other: &dyn KeyBackend) {
    assert!(!one.place().is_empty());
    assert!(one.list().await.unwrap().is_empty() && one.public_halves().await.unwrap().is_empty());
    let mut made = Vec::new();
    for purpose in Purpose::ALL {
        for algorithm in SIGNING_ALGORITHMS {
            let key = one.create(purpose, algorithm).await.unwrap();
            assert_eq!((key.purpose, key.signer.algorithm()), (purpose, algorithm));
            made.push(key);
        }
    }
    let names = |keys: &[BackendKey]| {
        keys.iter().map(|key| (key.signer.key_id().to_owned(), key.purpose)).collect::<BTreeSet<_>>()
    };
    for seen in [one, other] {
        let listed = seen.list().await.unwrap();
        assert_eq!((listed.len(), names(&listed)), (made.len(), names(&made)), "{}", seen.place());
        for key in listed {
            let made = made.iter().find(|made| made.signer.key_id() == key.signer.key_id()).unwrap();
            assert_eq!(key.signer.public_jwk(), made.signer.public_jwk());
            // Many at a time: none is taken for another one.
            let messages: Vec<_> = (0..20_u32).map(u32::to_be_bytes).collect();
            let signing = messages.iter().map(|message| match key.signer.sign(message) {
                Signing::Now(signature) => Box::pin(std::future::ready(signature)) as PendingSignature,
                Signing::Later(pending) => pending,
            });
            for (message, signature) in messages.iter().zip(futures_util::future::join_all(signing).await) {
                assert!(openssl_accepts(&*made.signer, message, &signature.unwrap()));
            }
        }
    }
    let (gone, left) = made.split_first().unwrap();
    other.remove(gone.signer.key_id(), None).await.unwrap();
    other.remove(gone.signer.key_id(), None).await.unwrap();
    let seal = left.iter().find(|key| key.purpose == Purpose::Checkpoints).unwrap();
    other.remove(seal.signer.key_id(), Some("{\"kid\":\"seal\"}".to_owned())).await.unwrap();
    let left: Vec<_> = left.iter().filter(|key| key.signer.key_id() != seal.signer.key_id()).cloned().collect();
    for seen in [one, other] {
        assert_eq!(names(&seen.list().await.unwrap()), names(&left));
        assert_eq!(seen.public_halves().await.unwrap(), ["{\"kid\":\"seal\"}"]);
    }
}

/// The keys for tokens in a directory.
fn token_keys(directory: &Path) -> Result<KeyRing, KeyFileError> {
    let files = KeyFiles::new(directory, Arc::new(SystemEntropy));
    block_on(KeyBackends::one(Arc::new(files)).token_keys()).map_err(|fault| match fault {
        KeyBackendError::File(fault) => fault,
        KeyBackendError::Remote(..) => panic!("{fault}"),
    })
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
fn every_signer_keeps_the_contract() {
    let signers = every_signer();
    let algorithms: BTreeSet<_> = signers.iter().map(|signer| signer.algorithm()).collect();
    assert_eq!(algorithms, SIGNING_ALGORITHMS.into_iter().collect());
    for signer in signers {
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
            let signature = signed(&*signer, &message);
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
        let signature = p256::ecdsa::Signature::from_slice(&signed(&signer, &message)).unwrap();
        verifier.verify(&message, &signature).unwrap();
        let signature = signed(&ours, &message);
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
        let signature = signed(&signer, &(number % 100).to_be_bytes());
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
    assert!(token_keys(&directory).is_ok());
    for bits in [0o640, 0o604, 0o644, 0o620, 0o602, 0o610] {
        mode(&file, bits);
        let refused = token_keys(&directory);
        assert!(matches!(refused, Err(KeyFileError::Exposed(path, ..)) if path == file), "{bits:o}");
    }
    mode(&file, 0o600);
    for bits in [0o750, 0o705, 0o755, 0o720] {
        mode(&directory, bits);
        let refused = token_keys(&directory);
        assert!(matches!(refused, Err(KeyFileError::Exposed(path, ..)) if path == directory), "{bits:o}");
    }
    mode(&directory, 0o700);
    fs::rename(&file, root.path().join("elsewhere.pem")).unwrap();
    symlink(root.path().join("elsewhere.pem"), &file).unwrap();
    assert!(matches!(token_keys(&directory), Err(KeyFileError::Exposed(..))));
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
        let refused = token_keys(root.path()).err().unwrap_or_else(|| panic!("{what}"));
        let message = refused.to_string();
        assert!(message.contains("a.pem") && message.contains(why), "{what}: {message}");
    }
    let sec1 = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    put("a.pem", &sec1);
    let message = token_keys(root.path()).err().unwrap().to_string();
    assert!(message.contains("openssl pkcs8"), "{message}");
    for made in [good.clone(), rsa(2048, "65537"), rsa(3072, "65537"), openssl(&["genpkey", "-algorithm", "ED25519"])] {
        put("a.pem", &made);
        assert!(token_keys(root.path()).is_ok());
    }
    // Abuse case N12: one key for two purposes.
    put("a.pem", &good);
    put("checkpoints-b.pem", &good);
    assert!(matches!(token_keys(root.path()), Err(KeyFileError::Twice(..))));
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
        let ring = token_keys(root.path()).unwrap();
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

/// A key service that is slow, and that fails for one signature in ten: each answer is a token that verifies, or 503,
/// and an assertion that was answered with 503 can be presented again.
#[test]
fn a_failing_key_service_gives_503_and_never_a_wrong_token() {
    let remote = RemoteKeys::default();
    let root = Setup::new().write();
    let backends = KeyBackends { tokens: Arc::new(remote.clone()), checkpoints: Arc::new(RemoteKeys::default()) };
    let broker = TestBroker::start_on(root, TestClock::new(), backends);
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let verifier = countersign_verify::Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    remote.fail_every(10);
    let before = (remote.asked(), remote.failed());
    let exchange = |number: usize| {
        let assertion = Token::github().claim("jti", json!(format!("remote-{number}"))).sign();
        let reply = broker.exchange(&assertion, &[]);
        if reply.status == 200 {
            assert_eq!(
                verifier.verify(&reply.token(), NOW).unwrap().claims().sub,
                format!("github:{MAIN}"),
                "{number}"
            );
            return 0;
        }
        assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "signing_unavailable"), "{number}");
        assert!(reply.asks_to_retry() && reply.json.get("access_token").is_none());
        let mut failures = 1;
        while broker.exchange(&assertion, &[]).status != 200 {
            failures += 1;
            assert!(failures < 10, "{number}: a 503 consumed the assertion");
        }
        failures
    };
    let failures: u32 = std::thread::scope(|scope| {
        let exchange = &exchange;
        let workers: Vec<_> = (0..10)
            .map(|worker| scope.spawn(move || (0..100).map(|n| exchange(worker * 100 + n)).sum::<u32>()))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let (asked, failed) = (remote.asked() - before.0, remote.failed() - before.1);
    assert_eq!((failures, asked), (failed, 1_000 + failed), "each failure was answered with 503, and nothing else was");
    assert!(failed > 100, "{failed}");
}

/// A key service that signs with another key than the one that it was asked for gives no token away.
#[test]
fn a_key_service_that_signs_wrongly_gives_503() {
    let remote = RemoteKeys::default();
    let backends = KeyBackends::one(Arc::new(remote.clone()));
    let broker = TestBroker::start_on(Setup::new().write(), TestClock::still(), backends);
    let assertion = Token::github().sign();
    remote.lie(true);
    assert_eq!(broker.exchange(&assertion, &[]).refusal(), (503, "temporarily_unavailable", "signing_unavailable"));
    remote.lie(false);
    assert_eq!(broker.exchange(&assertion, &[]).status, 200, "the assertion was not used up");
}

/// A key without a record must never come to sign: one that was made before another one failed is removed.
#[test]
fn a_backend_that_fails_half_way_leaves_no_key_without_a_record() {
    let (root, remote) = (tempfile::tempdir().unwrap(), RemoteKeys::default());
    let now = Timestamp::new(NOW).unwrap();
    let records: Arc<dyn KeyRecords> = Arc::new(Embedded::open(root.path(), now).unwrap());
    let open = || {
        let parts = KeyParts {
            backends: KeyBackends::one(Arc::new(remote.clone())),
            records: Arc::clone(&records),
            entropy: Arc::new(SystemEntropy),
            clock: Arc::new(TestClock::still()),
        };
        let algorithms = vec![Algorithm::Es256, Algorithm::EdDsa];
        Keys::open(parts, Rotation { every: None, algorithms, longest: "5m".parse().unwrap() }, now)
    };
    block_on(async {
        remote.break_after(1);
        let fault = open().await.err().unwrap().to_string();
        assert!(fault.contains("its test signature failed: the signing key cannot be used"), "{fault}");
        let kids = |keys: Vec<BackendKey>| keys.iter().map(|key| key.signer.key_id().to_owned()).collect::<Vec<_>>();
        let recorded: Vec<_> = records.read().await.unwrap().into_iter().map(|record| record.kid).collect();
        assert_eq!((kids(remote.list().await.unwrap()), recorded), (Vec::new(), Vec::new()));
        remote.break_after(1_000);
        let (keys, _) = open().await.unwrap();
        assert_eq!(keys.ring().missing(now), 0);
        assert_eq!(remote.list().await.unwrap().len(), 4);
    });
}

/// A key that an operator added, and that cannot sign, must not become the successor of one that can.
#[test]
fn a_key_that_fails_its_test_is_not_adopted() {
    let remote = RemoteKeys::default();
    let backends = KeyBackends::one(Arc::new(remote.clone()));
    let broker = TestBroker::start_on(Setup::new().write(), TestClock::still(), backends);
    let added = block_on(remote.create(Purpose::Tokens, Algorithm::Es256)).unwrap().signer;
    let rotate = || {
        let by = countersign::admin::OperatorId::own();
        block_on(broker.operator.admin().rotate_key(Purpose::Tokens, Algorithm::Es256, &by))
    };
    let is_known = || block_on(broker.operator.admin().keys()).iter().any(|(key, _)| key.kid == added.key_id());
    remote.lie(true);
    assert!(rotate().is_err() && !is_known());
    remote.lie(false);
    assert!(rotate().is_ok() && is_known(), "once it signs, it is adopted");
}

/// While no key can seal the audit log, events are written, the job says that it fails, and nothing is lost by it.
#[test]
fn lines_that_no_key_could_seal_are_sealed_later() {
    let (seals, clock) = (RemoteKeys::default(), TestClock::still());
    let backends = KeyBackends { tokens: Arc::new(RemoteKeys::default()), checkpoints: Arc::new(seals.clone()) };
    let broker = TestBroker::start_on(Setup::new().write(), clock.clone(), backends.clone());
    let exchange = |number: u32| {
        let assertion = Token::github().claim("jti", json!(format!("unsealed-{number}"))).sign();
        assert_eq!(broker.exchange(&assertion, &[]).status, 200, "{number}");
    };
    let verify = || {
        let keys = block_on(backends.checkpoint_keys()).unwrap();
        let sealing = Some(countersign::audit::Sealing { good: &keys.good, revoked: &keys.revoked });
        countersign::audit::verify(&broker.audit(), sealing, None)
    };
    seals.fail_every(1);
    exchange(0);
    clock.advance(100);
    broker.tend();
    let figures = broker.broker.metrics().render(&broker.operator.figures());
    let failed = figures.lines().find(|line| line.contains("job=\"audit_log\",result=\"failed\"")).unwrap();
    assert!(!failed.ends_with(" 0"), "{failed}");
    for number in 1..5 {
        clock.advance(100);
        let assertion = Token::github().claim("jti", json!(format!("unsealed-{number}")));
        let times = assertion.claim("iat", json!(NOW + 100 + i64::from(number) * 100));
        let token = times.claim("exp", json!(NOW + 400 + i64::from(number) * 100)).sign();
        assert_eq!(broker.exchange(&token, &[]).status, 200, "{number}");
    }
    assert!(matches!(verify(), Err(countersign::audit::Broken::Unsigned(..))), "{:?}", verify());
    seals.fail_every(0);
    block_on(broker.operator.seal());
    let report = verify().unwrap();
    assert_eq!((report.events, report.signed), (5, report.head.next));
}

/// A signature is waited for until a deadline, and only so many are waited for.
#[test]
fn a_hanging_key_service_is_waited_for_within_bounds() {
    let (remote, clock) = (RemoteKeys::default(), TestClock::still());
    let broker = TestBroker::start_on(Setup::new().write(), clock.clone(), KeyBackends::one(Arc::new(remote.clone())));
    remote.hang(true);
    let assertion = |number: usize| Token::github().claim("jti", json!(format!("hang-{number}"))).sign();
    let unavailable = (503, "temporarily_unavailable", "signing_unavailable");
    std::thread::scope(|scope| {
        let (broker, assertion) = (&broker, &assertion);
        let waiting: Vec<_> = (0..16)
            .map(|number| scope.spawn(move || broker.exchange(&assertion(number), &[]).refusal() == unavailable))
            .collect();
        until("all of them wait", || remote.waiting() == 16);
        clock.pass(3);
        assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
    });
    assert_eq!(remote.waiting(), 0, "nobody waits for what nobody gets");
    remote.hang(false);
    assert_eq!(broker.exchange(&assertion(0), &[]).status, 200, "the assertion was not used up");
}

#[test]
fn only_so_many_signatures_are_waited_for() {
    let (root, remote) = (tempfile::tempdir().unwrap(), RemoteKeys::default());
    let now = Timestamp::new(NOW).unwrap();
    let parts = KeyParts {
        backends: KeyBackends::one(Arc::new(remote.clone())),
        records: Arc::new(Embedded::open(root.path(), now).unwrap()),
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(TestClock::still()),
    };
    let rotation = Rotation { every: None, algorithms: vec![Algorithm::Es256], longest: "5m".parse().unwrap() };
    block_on(async {
        let (keys, _) = Keys::open(parts, rotation, now).await.unwrap();
        remote.hang(true);
        let nothing = json!({});
        let sign = || keys.sign(Document::Introspection, &nothing, now);
        let waiting = futures_util::future::join_all((0..256).map(|_| sign()));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(sign().await, Err(SigningError::Busy));
        remote.hang(false);
        assert!(waiting.await.iter().all(Result::is_ok));
        assert!(sign().await.is_ok(), "places are given back");
    });
}

/// A key that signs what its public half does not verify is used for nothing.
#[test]
fn a_key_is_tested_before_it_is_used() {
    let remote = RemoteKeys::default();
    remote.lie(true);
    let root = Setup::new().write();
    let installation = countersign::app::Installation::read(&root.path().join("countersign.toml")).unwrap();
    let installation = installation.with_key_backends(KeyBackends::one(Arc::new(remote.clone())));
    let started = block_on(installation.assemble(Arc::new(TestClock::still()), Arc::new(SystemEntropy)));
    let fault = started.err().unwrap().to_string();
    assert!(fault.contains("test signature failed: the backend of the signing keys gave a wrong signature"), "{fault}");
    assert!(fault.contains("the test's key service"), "{fault}");
    assert!(block_on(remote.list()).unwrap().is_empty(), "a key that was made and failed is removed");
}

/// What seals the audit log can be kept apart from what signs tokens, and nobody waits for it.
#[test]
fn seals_are_signed_by_a_backend_of_their_own_and_hold_nobody_up() {
    let (tokens, seals, clock) = (RemoteKeys::default(), RemoteKeys::default(), TestClock::still());
    let backends = KeyBackends { tokens: Arc::new(tokens.clone()), checkpoints: Arc::new(seals.clone()) };
    let broker = TestBroker::start_on(Setup::new().write(), clock.clone(), backends.clone());
    let purposes =
        |remote: &RemoteKeys| block_on(remote.list()).unwrap().iter().map(|key| key.purpose).collect::<BTreeSet<_>>();
    assert_eq!(purposes(&tokens), [Purpose::Tokens, Purpose::Introspection].into());
    assert_eq!(purposes(&seals), [Purpose::Checkpoints].into());
    let exchange = |number: u32| {
        let assertion = Token::github().claim("jti", json!(format!("seal-{number}"))).sign();
        assert_eq!(broker.exchange(&assertion, &[]).status, 200, "{number}");
    };
    exchange(0);
    seals.hang(true);
    std::thread::scope(|scope| {
        let sealing = scope.spawn(|| block_on(broker.operator.seal()));
        until("a checkpoint is being signed", || seals.waiting() == 1);
        (1..=5).for_each(exchange);
        seals.hang(false);
        sealing.join().unwrap();
    });
    let keys = block_on(backends.checkpoint_keys()).unwrap();
    let sealing = Some(countersign::audit::Sealing { good: &keys.good, revoked: &keys.revoked });
    let report = countersign::audit::verify(&broker.audit(), sealing, None).unwrap();
    assert_eq!((report.events, report.checkpoints), (6, 1), "{report:?}");
    assert_eq!(report.signed, 1, "the checkpoint covers what was there when it was begun");
    block_on(broker.operator.seal());
    let report = countersign::audit::verify(&broker.audit(), sealing, None).unwrap();
    assert_eq!((report.checkpoints, report.signed), (2, report.head.next));
}
