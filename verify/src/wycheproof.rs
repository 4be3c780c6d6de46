//! The JOSE vectors of C2SP/wycheproof through the key loader and the verifier that tokens go through. They are found
//! in `WYCHEPROOF_DIR`, or beside the project; where they are not, the test says so.

#![expect(clippy::disallowed_methods, reason = "where the vectors are is said by the environment")]

use crate::jws;
use crate::key::{Algorithm, KeySet, KeyUse};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

/// Valid vectors that are refused, and why. Any other valid one of an asymmetric key has to verify.
const REFUSED: [(&str, &[u64], &str); 2] = [
    ("signature", &[259, 264, 268, 272, 320, 325], "an empty payload is no JSON object"),
    ("signature", &[346, 347, 350, 351], "upstream mixes the algorithms of key and header"),
];

fn vectors(name: &str) -> Option<Value> {
    let said = std::env::var_os("WYCHEPROOF_DIR").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let file = said.clone().unwrap_or(beside).join(name);
    match std::fs::read(&file) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(fault) if said.is_some() => panic!("WYCHEPROOF_DIR: `{}`: {fault}", file.display()),
        Err(_) => {
            // Not by `eprintln`, which the test runner swallows.
            let _ = writeln!(
                std::io::stderr(),
                "the vectors of C2SP/wycheproof are not here; name their folder in WYCHEPROOF_DIR"
            );
            None
        }
    }
}

/// Returns the key set that the owner of a group would publish: its public half, and symmetric keys as they are.
fn published(group: &Map<String, Value>) -> Value {
    let keys = group.get("public").or_else(|| group.get("private")).unwrap();
    if keys.get("keys").is_some() { keys.clone() } else { json!({"keys": [keys]}) }
}

/// Returns true if `token` verifies by a key of the group, whatever its payload.
fn verifies(group: &Map<String, Value>, token: &str) -> bool {
    let (keys, _) =
        KeySet::from_jwks(published(group).to_string().as_bytes(), KeyUse::Signature, &Algorithm::ALL).unwrap();
    let Ok(parts) = jws::JwsParts::split(token, jws::Bounds::default()) else { return false };
    let Ok(key) = keys.find(parts.header.key_id.as_deref(), parts.header.algorithm) else { return false };
    key.verify(parts.header.algorithm, parts.signing_input.as_bytes(), &parts.signature).is_ok()
}

fn run(kind: &str) -> Option<BTreeMap<&'static str, usize>> {
    let file = vectors(&format!("json_web_{kind}_test.json"))?;
    let (mut counted, mut wrong) = (BTreeMap::new(), Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let group = group.as_object().unwrap();
        // Upstream's faults are among these: 367 and 370 are the bytes of a valid one, 372 and 373 hold a `?` and are
        // called valid.
        let symmetric = published(group)["keys"].as_array().unwrap().iter().all(|key| key["kty"] == "oct");
        for test in group["tests"].as_array().unwrap() {
            let (id, token) = (test["tcId"].as_u64().unwrap(), test["jws"].as_str().unwrap());
            let valid = test["result"] == "valid";
            let refused = REFUSED.iter().any(|(of, ids, _)| *of == kind && ids.contains(&id));
            let (expected, sort) = match (valid, symmetric, refused) {
                (_, true, _) => (false, "refused because symmetric"),
                (false, ..) => (false, "invalid and refused"),
                (true, false, true) => (false, "valid and refused for a reason"),
                (true, false, false) => (true, "valid and verified"),
            };
            if verifies(group, token) != expected {
                wrong.push(format!("{id} {}: expected {expected}", test["comment"]));
            }
            assert!(jws::Compact::parse(token).is_err(), "{id}: no payload of theirs is a JSON object");
            *counted.entry(sort).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let reasons: usize = REFUSED.iter().filter(|(of, ..)| *of == kind).map(|(_, ids, _)| ids.len()).sum();
    assert_eq!(
        counted.get("valid and refused for a reason").copied().unwrap_or(0),
        reasons,
        "a reason that is not needed"
    );
    for (_, ids, why) in REFUSED.iter().filter(|(of, ..)| *of == kind) {
        println!("wycheproof json_web_{kind}: {ids:?} are valid and refused: {why}");
    }
    println!("wycheproof json_web_{kind}: {counted:?}");
    Some(counted)
}

#[test]
fn signatures_of_wycheproof() {
    if let Some(counted) = run("signature") {
        assert!(counted["valid and verified"] == 26 && counted["invalid and refused"] == 325, "{counted:?}");
    }
}

#[test]
fn keys_of_wycheproof() {
    if let Some(counted) = run("key") {
        assert_eq!(counted["valid and verified"], 1);
        assert!(counted["invalid and refused"] >= 10, "{counted:?}");
    }
}
