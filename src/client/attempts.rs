//! Slows down callers that guess secrets, by the address that they come from and by the client that they are for.
//! Clients that authenticate by a key are never slowed down, nor is an address from which the client proved itself
//! lately.

use crate::domain::{Clock, Network};
use crate::rates::Buckets;
use quick_cache::sync::Cache;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Wrong secrets that an address may send at once, and then in a second.
const BY_ADDRESS: (NonZeroU32, NonZeroU32) = (nonzero(20), nonzero(1));
/// Wrong secrets that may come for one client, from everywhere, at once and then in a second.
const BY_CLIENT: (NonZeroU32, NonZeroU32) = (nonzero(100), nonzero(5));
/// How long the failures of other callers do not slow down an address from which the client authenticated.
const TRUSTED_FOR: Duration = Duration::from_secs(3_600);

const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Limit of remembered networks, clients and trusted pairs of both. The least recently used goes first.
const REMEMBERED: usize = 65_536;

/// Recent failed attempts. Their keys are digests under a random key of this process, so that nobody can choose two
/// that collide.
pub struct Attempts {
    hasher: RandomState,
    by_address: Buckets,
    by_client: Buckets,
    /// The monotonic time until which a network or a client is slowed down.
    slowed: Cache<u64, Duration>,
    /// The monotonic time until which a client is trusted in a network.
    trusted: Cache<u64, Duration>,
    clock: Arc<dyn Clock>,
}

impl Attempts {
    /// No attempt yet. `clock` says how much time passes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let buckets = |(burst, rate)| Buckets::new(rate, burst, &clock);
        Self {
            hasher: RandomState::new(),
            by_address: buckets(BY_ADDRESS),
            by_client: buckets(BY_CLIENT),
            slowed: Cache::new(REMEMBERED),
            trusted: Cache::new(REMEMBERED),
            clock,
        }
    }

    /// Returns true if a secret for `client` from `peer` may be compared now.
    #[must_use]
    pub fn may_try(&self, client: &str, peer: IpAddr) -> bool {
        if self.slowed.is_empty() {
            return true;
        }
        let now = self.clock.monotonic();
        let lasts = |until: Option<Duration>| until.is_some_and(|until| until > now);
        let slowed = |key| lasts(self.slowed.get(&key));
        lasts(self.trusted.get(&self.pair(client, peer)))
            || !(slowed(self.address(peer)) || slowed(self.client(client)))
    }

    /// A secret for `client` from `peer` was wrong.
    pub fn failed(&self, client: &str, peer: IpAddr) {
        for (buckets, key) in [(&self.by_address, self.address(peer)), (&self.by_client, self.client(client))] {
            if let Err(wait) = buckets.take(key) {
                self.slowed.insert(key, self.clock.monotonic() + wait);
            }
        }
    }

    /// A secret for `client` from `peer` was right.
    pub fn proved(&self, client: &str, peer: IpAddr) {
        self.trusted.insert(self.pair(client, peer), self.clock.monotonic() + TRUSTED_FOR);
    }

    fn address(&self, peer: IpAddr) -> u64 {
        self.hasher.hash_one(("address", Network::from(peer)))
    }

    fn client(&self, client: &str) -> u64 {
        self.hasher.hash_one(("client", client))
    }

    fn pair(&self, client: &str, peer: IpAddr) -> u64 {
        self.hasher.hash_one((client, Network::from(peer)))
    }
}
