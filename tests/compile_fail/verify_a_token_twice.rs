//! A stage is consumed: a token cannot be verified, and then another one taken for it.
use countersign_verify::jws::Compact;
use countersign_verify::key::VerifyingKey;

fn twice(compact: Compact<'_>, key: &VerifyingKey) {
    let _ = compact.verify(key);
    let _ = compact.verify(key);
}

fn main() {}
