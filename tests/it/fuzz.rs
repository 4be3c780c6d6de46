//! What is fuzzed, on the stable toolchain: every seed, the vectors of C2SP/wycheproof where they are, and what proptest makes
//! of both. `fuzz/run` goes on from there for as long as one likes.

#[path = "../../fuzz/src/lib.rs"]
mod readers;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use readers::{READERS, Reader};
use std::fs;
use std::path::PathBuf;

fn seeds(reader: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(reader);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    seeds.extend(vectors(reader));
    seeds
}

fn vectors(reader: &str) -> Vec<Vec<u8>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let folder = std::env::var_os("WYCHEPROOF_DIR").map_or(beside, PathBuf::from);
    let mut found = Vec::new();
    for name in ["json_web_signature_test.json", "json_web_key_test.json"] {
        let Ok(text) = fs::read(folder.join(name)) else { continue };
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for group in file["testGroups"].as_array().unwrap() {
            let keys = group.get("public").or(group.get("private")).unwrap();
            let tests = group["tests"].as_array().unwrap();
            match reader {
                "envelope" => found.extend(tests.iter().map(|test| test["jws"].as_str().unwrap().as_bytes().to_vec())),
                "keys" if keys.get("keys").is_some() => found.push(keys.to_string().into_bytes()),
                "keys" => found.push(serde_json::json!({"keys": [keys]}).to_string().into_bytes()),
                _ => {}
            }
        }
    }
    found
}

/// A change to a seed: what a fuzzer does first.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, u8),
    Cut(Index),
    Remove(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        at().prop_map(Change::Cut),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), proptest::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn changed(mut seed: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |index: &Index| index.index(seed.len() + 1);
        let range = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
        match change {
            Change::Replace(at, byte) if !seed.is_empty() => {
                let at = at.index(seed.len());
                seed[at] = *byte;
            }
            Change::Replace(..) => {}
            Change::Cut(at) => seed.truncate(place(at)),
            Change::Remove(from, to) => drop(seed.drain(range(from, to))),
            Change::Repeat(from, to) => {
                let again = seed[range(from, to)].to_vec();
                seed.extend(again);
            }
            Change::Insert(at, bytes) => {
                let at = place(at);
                seed.splice(at..at, bytes.iter().copied());
            }
        }
    }
    seed
}

fn smoke(reader: &str) {
    let (_, read): Reader = *READERS.iter().find(|(name, _)| *name == reader).unwrap();
    let seeds = seeds(reader);
    assert!(seeds.len() >= 4, "{reader}");
    seeds.iter().for_each(|seed| read(seed));
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    let seeds = proptest::sample::select(seeds);
    let anything = proptest::collection::vec(any::<u8>(), 0..200);
    let like_a_seed = (seeds, proptest::collection::vec(change(), 1..5)).prop_map(|(seed, by)| changed(seed, &by));
    TestRunner::new(config)
        .run(&prop_oneof![4 => like_a_seed, 1 => anything], |input| {
            read(&input);
            Ok(())
        })
        .unwrap_or_else(|fault| panic!("{reader}: {fault}"));
}

#[test]
fn l12_forms() {
    smoke("form");
}

#[test]
fn l12_envelopes() {
    smoke("envelope");
}

#[test]
fn l12_claims() {
    smoke("claims");
}

#[test]
fn l12_key_sets() {
    smoke("keys");
}

#[test]
fn l12_spiffe_ids() {
    smoke("spiffe_id");
}

#[test]
fn l12_configurations() {
    smoke("configuration");
}

#[test]
fn l12_policies() {
    smoke("policy");
}

#[test]
fn each_reader_has_a_target_for_the_fuzzer() {
    for (name, _) in READERS {
        let target = fs::read_to_string(format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(target.contains(&format!("countersign_fuzz::{name}(data)")), "{name}");
    }
}
