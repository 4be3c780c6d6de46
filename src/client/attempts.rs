//! Slows down whoever guesses secrets: by the address that they come from, and by the client that they are for. Clients
//! that authenticate by a key are never slowed down, nor is an address from which the client proved itself lately.

use crate::domain::Network;
use crate::rates::Buckets;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong secrets that an address may send at once, and then in a second.
const BY_ADDRESS: (NonZeroU32, NonZeroU32) = (nonzero(20), nonzero(1));
/// Wrong secrets that may come for one client, from everywhere, at once and then in a second.
const BY_CLIENT: (NonZeroU32, NonZeroU32) = (nonzero(100), nonzero(5));
/// How long an address from which a client proved itself is not slowed down for others' guesses.
const TRUSTED_FOR: Duration = Duration::from_secs(3_600);

const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// What was guessed lately. Keys are digests under a random key of this process, so that nobody can choose two that meet.
pub struct Attempts {
    hasher: RandomState,
    by_address: Buckets,
    by_client: Buckets,
    /// Until when a key is refused, or trusted.
    until: Mutex<HashMap<u16, Instant>>,
}

impl Default for Attempts {
    fn default() -> Self {
        let buckets = |(burst, rate)| Buckets::new(rate, burst);
        Self {
            hasher: RandomState::new(),
            by_address: buckets(BY_ADDRESS),
            by_client: buckets(BY_CLIENT),
            until: Mutex::default(),
        }
    }
}

impl Attempts {
    /// Whether a secret for `client` from `peer` is looked at now.
    #[must_use]
    pub fn may_try(&self, client: &str, peer: IpAddr) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_empty() {
            return true;
        }
        let now = now();
        let lasts = |key: u16| until.get(&key).is_some_and(|until| *until > now);
        let trusted = lasts(self.key(("trusted", client, Network::from(peer))));
        trusted || !(lasts(self.key(("address", Network::from(peer)))) || lasts(self.key(("client", client))))
    }

    /// A secret for `client` from `peer` was wrong.
    pub fn failed(&self, client: &str, peer: IpAddr) {
        for (buckets, key) in [
            (&self.by_address, self.key(("address", Network::from(peer)))),
            (&self.by_client, self.key(("client", client))),
        ] {
            if let Err(wait) = buckets.take(key) {
                self.remember(key, wait);
            }
        }
    }

    /// A secret for `client` from `peer` was right.
    pub fn proved(&self, client: &str, peer: IpAddr) {
        let key = self.key(("trusted", client, Network::from(peer)));
        let lasts = |until: &Instant| until.saturating_duration_since(now()) > TRUSTED_FOR / 2;
        let known = self.until.lock().unwrap_or_else(PoisonError::into_inner).get(&key).is_some_and(lasts);
        if !known {
            self.remember(key, TRUSTED_FOR);
        }
    }

    fn remember(&self, key: u16, wait: Duration) {
        let now = now();
        self.until.lock().unwrap_or_else(PoisonError::into_inner).insert(key, now + wait);
    }

    /// One of 65 536 places: those that are remembered are never more, and nobody chooses whom he meets there.
    fn key(&self, of: impl std::hash::Hash) -> u16 {
        let [low, high, ..] = self.hasher.hash_one(of).to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn now() -> Instant {
    Instant::now()
}
