//! Tells the program when it was built (a clock that stands before that is wrong), and which kinds of issuer
//! `src/assertion/kinds/` describes: a folder with a `kind.toml` is a kind.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

#[expect(clippy::disallowed_methods, reason = "a build has no other clock and no other configuration")]
fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-changed=src");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let stated = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    println!("cargo:rustc-env=COUNTERSIGN_BUILT={}", stated.unwrap_or(now));
    fs::write(Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("kinds.rs"), kinds()?)
}

/// Rust source: an array of each kind's name and description, by name.
fn kinds() -> io::Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assertion/kinds");
    let mut entries = Vec::new();
    for folder in fs::read_dir(&root)? {
        let folder = folder?;
        let description = folder.path().join("kind.toml");
        if description.exists() {
            entries.push(format!("({:?}, include_str!({description:?}))", folder.file_name()));
        }
    }
    entries.sort();
    Ok(format!("&[{}]", entries.join(", ")))
}
