//! Every attack and fault that is known, each a test that is named by its number, and the page that says so
//! (`docs/threats.md`). Cases that other files show already are named there.

mod delivery;
mod edge;
mod exchange;
mod identity;
mod jose;
mod keys;
mod page;

use crate::support::*;
use serde_json::Value;

/// Refused as every assertion is that nobody vouches for, or as what its own claims say; nothing is minted, nothing of it
/// is echoed, and the operator knows why.
fn refused(broker: &TestBroker, token: &str, reason: &str) {
    let reply = broker.exchange(token, &[]);
    assert_eq!((reply.status, reply.text("error")), (400, "invalid_request"), "{reason}: {}", reply.text);
    assert_eq!(broker.reason(&reply), reason, "{token}");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(reply.json.get("access_token").is_none() && !holds_a_token(&reply.text), "{}", reply.text);
    let longest = token.split('.').filter(|part| part.len() > 12).max_by_key(|part| part.len());
    assert!(longest.is_none_or(|part| !reply.text.contains(part)));
    assert!(broker.event(&reply).granted.is_none());
}

/// A token of GitHub's for another owner.
fn named_issuer(owner: Value) -> String {
    Token::github().claim("repository_owner_id", owner).sign()
}
