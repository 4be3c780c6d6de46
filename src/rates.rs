//! Rate limits. A request is counted by its network before anything of it is believed, and by workload and issuer once
//! its assertion is verified. A caller is never slowed down for what a stranger claims about it.

use crate::domain::{Clock, Network};
use governor::Quota;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The token buckets of networks, of workloads or of issuers: always 65 536. A caller's bucket is found by a hash that
/// is keyed with a random value of this process, so that no caller can choose to share the bucket of another one.
pub struct Buckets {
    hasher: RandomState,
    limiter: governor::RateLimiter<u16, DashMapStateStore<u16>, Monotonic, NoOpMiddleware<Duration>>,
}

/// The monotonic time of the broker's clock.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

impl Buckets {
    /// Buckets that hold `burst` and gain `per_second` by `clock`.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32, clock: &Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = governor::RateLimiter::dashmap_with_clock(quota, Monotonic(Arc::clone(clock)));
        Self { hasher: RandomState::new(), limiter }
    }

    /// Takes one from the bucket of `key`.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn take(&self, key: impl Hash) -> Result<(), Duration> {
        let [low, high, ..] = self.hasher.hash_one(key).to_le_bytes();
        self.limiter
            .check_key(&u16::from_le_bytes([low, high]))
            .map_err(|not_yet| not_yet.wait_time_from(self.limiter.clock().now()))
    }
}

/// The rate limits: requests in a second, and twice as many in a burst. None is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Limit of a network, whatever it sends.
    pub network: Option<NonZeroU32>,
    /// Limit of a workload whose assertion was verified, in one network.
    pub workload: Option<NonZeroU32>,
    /// Limit of all workloads of an issuer together.
    pub issuer: Option<NonZeroU32>,
}

/// The limit that a caller exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// The limit of a network.
    #[error("this network sends more requests a second than the limit; retry after the time in Retry-After")]
    Network,
    /// A network, at once.
    #[error("this network already has the maximum number of requests in progress; retry after the time in Retry-After")]
    InFlight,
    /// The limit of a workload.
    #[error("this workload asks for more tokens a second than the limit; retry after the time in Retry-After")]
    Workload,
    /// The limit of an issuer.
    #[error(
        "the workloads of this issuer ask for more tokens a second than the limit; retry after the time in Retry-After"
    )]
    Issuer,
}

/// Counts requests and refuses those above the limits.
pub struct RateLimiter {
    networks: Option<Buckets>,
    workloads: Option<Buckets>,
    issuers: Option<Buckets>,
}

impl RateLimiter {
    /// A limiter for `limits`, by `clock`.
    #[must_use]
    pub fn new(limits: RateLimits, clock: &Arc<dyn Clock>) -> Self {
        let buckets =
            |per_second: NonZeroU32| Buckets::new(per_second, per_second.saturating_add(per_second.get()), clock);
        let RateLimits { network, workload, issuer } = limits;
        Self { networks: network.map(buckets), workloads: workload.map(buckets), issuers: issuer.map(buckets) }
    }

    /// Counts a request from `network`, before anything of it is believed.
    ///
    /// # Errors
    /// [`Throttled::Network`]
    pub fn check_network(&self, network: Network) -> Result<(), Throttled> {
        take(self.networks.as_ref(), network, Throttled::Network)
    }

    /// Counts a verified assertion about `workload` from `network`: a copy that leaked to another network has a bucket
    /// of its own.
    ///
    /// # Errors
    /// [`Throttled::Workload`]
    pub fn check_workload(&self, workload: &str, network: Network) -> Result<WithinWorkloadRate, Throttled> {
        take(self.workloads.as_ref(), (workload, network), Throttled::Workload)?;
        Ok(WithinWorkloadRate { _checked: () })
    }

    /// Counts an exchange that policy permits to a workload of `issuer`.
    ///
    /// # Errors
    /// [`Throttled::Issuer`]
    pub fn check_issuer(&self, issuer: &str) -> Result<WithinIssuerRate, Throttled> {
        take(self.issuers.as_ref(), issuer, Throttled::Issuer)?;
        Ok(WithinIssuerRate { _checked: () })
    }
}

/// Proof that a workload is within its rate. Only [`RateLimiter::check_workload`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithinWorkloadRate {
    _checked: (),
}

/// Proof that an issuer is within its rate. Only [`RateLimiter::check_issuer`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithinIssuerRate {
    _checked: (),
}

fn take(buckets: Option<&Buckets>, key: impl Hash, else_: Throttled) -> Result<(), Throttled> {
    buckets.map_or(Ok(()), |buckets| buckets.take(key).map_err(|_| else_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SystemClock;
    use std::net::{IpAddr, Ipv6Addr};

    fn system() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    #[test]
    fn l2_l4_a_bucket_is_for_a_64_and_there_are_never_more_than_so_many() {
        let one = NonZeroU32::MIN;
        let rates = RateLimiter::new(RateLimits { network: Some(one), workload: Some(one), issuer: None }, &system());
        let address = |host: u64| Network::from(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host))));
        assert_eq!([1, 2, 3].map(|host| rates.check_network(address(host)).is_ok()), [true, true, false]);
        for name in 0..200_000 {
            let _ = rates.check_workload(&format!("w{name}"), address(1));
        }
        assert!(rates.workloads.unwrap().limiter.len() <= 1 << 16);
    }

    #[test]
    fn l3_a_workload_is_slowed_down_where_it_asks_and_nowhere_else() {
        let limits = RateLimits { network: None, workload: NonZeroU32::new(1), issuer: NonZeroU32::new(1) };
        let rates = RateLimiter::new(limits, &system());
        let network = |last: u8| Network::from(IpAddr::from([192, 0, 2, last]));
        assert_eq!([1, 2].map(|_| rates.check_workload("w", network(1)).is_ok()), [true, true]);
        assert_eq!(rates.check_workload("w", network(1)), Err(Throttled::Workload));
        assert_eq!(
            [("w", 2), ("v", 1)].map(|(name, last)| rates.check_workload(name, network(last)).is_ok()),
            [true, true]
        );
        assert_eq!([1, 2].map(|_| rates.check_issuer("i").is_ok()), [true, true]);
        assert_eq!(["i", "j"].map(|issuer| rates.check_issuer(issuer).err()), [Some(Throttled::Issuer), None]);
    }
}
