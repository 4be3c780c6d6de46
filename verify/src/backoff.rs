//! Exponential back-off with full jitter: after an outage, callers do not all return in the same instant.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The delays between attempts. Each is drawn from zero to a limit that doubles from the first to the longest.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    limit: Duration,
}

impl Backoff {
    /// Returns delays of at most `first` at the beginning and at most `longest` in the end.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, limit: first }
    }

    /// Returns the delay before the next attempt, and doubles the limit.
    pub fn delay(&mut self) -> Duration {
        let delay = self.limit.mul_f64(fraction());
        self.limit = self.limit.saturating_mul(2).min(self.longest);
        delay
    }

    /// Begins again with the first limit, after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.limit = self.first;
    }
}

/// Returns a random number from 0 to 1. It spreads load and decides nothing, so that the standard library's random
/// hasher is random enough.
#[must_use]
pub fn fraction() -> f64 {
    // The keys of the hasher differ from one instance to the next.
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Longest delay that `Retry-After` asks for, in seconds.
pub const LONGEST_RETRY: u64 = 4;

/// Returns a value for `Retry-After`, from one second to [`LONGEST_RETRY`]. Each answer asks for another delay, so that
/// the callers that an outage turned away do not all return in the same second.
#[must_use]
pub fn retry_after() -> u64 {
    (1..LONGEST_RETRY).find(|_| fraction() < 0.4).unwrap_or(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_below_a_limit_that_doubles() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut seen = Vec::new();
        for _ in 0..200 {
            let mut backoff = Backoff::new(first, longest);
            let limits = [100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis);
            let delays = limits.map(|limit| (backoff.delay(), limit));
            assert!(delays.iter().all(|(delay, limit)| delay <= limit), "{delays:?}");
            seen.push(delays[5].0);
            backoff.reset();
            assert!(backoff.delay() <= first);
        }
        let below = seen.iter().filter(|delay| **delay < longest / 2).count();
        assert!((40..=160).contains(&below), "{below} of 200 delays are in the lower half");
    }

    #[test]
    fn retry_after_is_spread_over_its_whole_range() {
        let seen: std::collections::BTreeSet<u64> = (0..400).map(|_| retry_after()).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, LONGEST_RETRY]);
    }
}
