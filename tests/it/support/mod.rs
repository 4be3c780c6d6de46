//! A whole broker, issuers that sign, and a client that can be as rude as it likes.

mod backends;
mod broker;
mod client;
mod issuer;
mod prover;
pub mod redis;
mod traced;
mod upstream;

pub use backends::RemoteKeys;
pub use broker::{Setup, TestBroker, basic, database, everything, records, secret};
pub use client::{Reply, holds_a_token, read, send, send_to};
pub use issuer::{Key, Token, keys};
pub use prover::proof;
pub use traced::traces;
pub use upstream::{Answer, Upstream};

use countersign::domain::{Clock, Sleep, SystemClock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

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
/// The rest of a configuration, around one entry of an issuer.
pub const AROUND_AN_ENTRY: &str = r#"
server = { issuer = "https://sts.acme.example", listen = "127.0.0.1:8080" }
store = { kind = "embedded", path = "data" }
signing = { directory = "keys" }
audit = { path = "data/audit" }
policy = { directory = "policies" }
targets = [{ audience = "https://orders.acme.example", max_lifetime = "5m" }]
"#;
/// Where every test's clock begins: after any build of the program, before which no broker starts.
pub const NOW: i64 = 4_000_000_000;

/// The wall clock stands still until it is told. The monotonic clock runs, and can be told that more time has passed.
#[derive(Clone)]
pub struct TestClock(Arc<Times>);

struct Times {
    wall: AtomicI64,
    /// Seconds that have passed beside those that really have.
    passed: AtomicU64,
    /// True if only those seconds count.
    still: bool,
    /// Notified when time passes.
    passing: Notify,
}

impl TestClock {
    pub fn new() -> Self {
        Self::at(NOW)
    }

    /// A clock whose monotonic time stands still as well, until a test lets it pass.
    pub fn still() -> Self {
        Self::made(NOW, true)
    }

    /// The machine's time, standing still.
    pub fn real() -> Self {
        Self::at(SystemClock.now().seconds())
    }

    fn at(wall: i64) -> Self {
        Self::made(wall, false)
    }

    fn made(wall: i64, still: bool) -> Self {
        Self(Arc::new(Times { wall: AtomicI64::new(wall), passed: AtomicU64::new(0), still, passing: Notify::new() }))
    }

    /// Sets the wall clock ahead, or back.
    pub fn advance(&self, seconds: i64) {
        self.0.wall.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Lets time pass, on both clocks.
    pub fn pass(&self, seconds: u32) {
        self.advance(seconds.into());
        self.0.passed.fetch_add(seconds.into(), Ordering::SeqCst);
        self.0.passing.notify_waiters();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.wall.load(Ordering::SeqCst)).unwrap()
    }

    fn monotonic(&self) -> Duration {
        let real = if self.0.still { Duration::ZERO } else { SystemClock.monotonic() };
        real + Duration::from_secs(self.0.passed.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        let until = self.monotonic() + duration;
        Box::pin(async move {
            loop {
                let passing = self.0.passing.notified();
                tokio::pin!(passing);
                passing.as_mut().enable();
                let left = until.saturating_sub(self.monotonic());
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(left), if !self.0.still => {}
                    () = passing => {}
                }
            }
        })
    }
}

/// How long a test waits for what never comes before it fails. No figure of the broker is held by it.
pub const HANG: Duration = Duration::from_secs(120);

/// Waits until `is_so`.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
