//! A whole broker, issuers that sign, and a client that can be as rude as it likes.

mod broker;
mod client;
mod issuer;
mod prover;
pub mod redis;
mod traced;
mod upstream;

pub use broker::{Setup, TestBroker, basic, database, everything, records, secret};
pub use client::{Reply, holds_a_token, read, send, send_to};
pub use issuer::{Key, Token, keys};
pub use prover::proof;
pub use traced::traces;
pub use upstream::{Answer, Upstream};

use countersign::domain::{Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub const STS: &str = "https://sts.test";
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub const CLUSTER: &str = "https://cluster.test";
pub const ORDERS: &str = "https://orders.test";
pub const LEDGER: &str = "https://ledger.test";
pub const MAIN: &str = "repo:acme/app:ref:refs/heads/main";
pub const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Where every test's clock begins: after any build of the program, before which no broker starts.
pub const NOW: i64 = 4_000_000_000;

/// A clock that stands still until it is told.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    /// The machine's time, standing still.
    pub fn real() -> Self {
        Self(Arc::new(AtomicI64::new(countersign::domain::SystemClock.now().seconds())))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.load(Ordering::SeqCst)).unwrap()
    }
}
