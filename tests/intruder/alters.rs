//! A colleague in a hurry: code in `src/exchange/` itself that would skip a check by changing, signing or handing out something
//! too early. Compiled only by `tests/it/architecture.rs`, which demands that the compiler refuses each function on the line
//! that is marked.

use super::{AuthorizedExchange, BoundExchange, Broker, Mint, MintedToken};
use crate::assertion::{SubjectToken, Untrusted, Verified};
use crate::domain::{Lifetime, Scopes, Timestamp};
use crate::signing::KeyRing;
use crate::token::CompactToken;
use countersign_verify::claims::AccessClaims;
use countersign_verify::jws::Compact;
use countersign_verify::key::{Algorithm, VerifyingKey};

fn read_an_unverified_token(token: &Untrusted<SubjectToken>) -> &str {
    &token.text // refused: E0616
}

fn read_a_claim_of_an_unverified_token(token: &Untrusted<SubjectToken>) {
    let _ = token.workload(); // refused: E0599
}

fn read_a_payload_before_its_signature(compact: &Compact<'_>) {
    let _ = &compact.payload; // refused: E0616
}

fn take_another_token_for_one_that_was_verified(compact: Compact<'_>, key: &VerifyingKey) {
    let _ = compact.verify(key);
    let _ = compact.verify(key); // refused: E0382
}

fn widen_scopes_after_policy(mut authorized: AuthorizedExchange, more: Scopes) {
    authorized.scopes = more; // refused: E0616
}

fn postpone_the_expiry(mut authorized: AuthorizedExchange) {
    authorized.expires = Timestamp::MAX; // refused: E0616
}

fn swap_the_subject(mut bound: BoundExchange, other: Verified<SubjectToken>) {
    bound.subject = other; // refused: E0616
}

fn ask_for_more_after_binding(bound: &mut BoundExchange, lifetime: Lifetime) {
    bound.requested().lifetime = Some(lifetime); // refused: E0616
}

fn mint_without_policy(mint: &Mint, claims: &AccessClaims, now: Timestamp) {
    drop(mint.signer.sign("at+jwt", claims, Algorithm::Es256, now)); // refused: E0616
}

fn sign_a_token_as_a_document(ring: &KeyRing, claims: &AccessClaims, now: Timestamp) {
    let _ = ring.begin_token("at+jwt", claims, Algorithm::Es256, now); // refused: E0624
}

fn sign_by_the_broker(broker: &Broker) {
    let _ = broker.keys(); // refused: E0599
}

fn hand_out_without_a_record(minted: MintedToken) -> CompactToken {
    let (_, sealed) = minted.split();
    sealed.0 // refused: E0616
}

fn pretend_that_the_grant_was_written(minted: MintedToken) -> CompactToken {
    let (_, sealed) = minted.split();
    sealed.release(()) // refused: E0308
}
