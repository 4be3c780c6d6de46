//! An issuer's public keys, kept fresh. Owns when they are fetched: in the background before they go stale, and for a
//! token with an unknown `kid` once per cooldown, however many such tokens arrive. A set past its staleness bound is
//! not used; a key that its issuer took away is gone with the next refresh.

use super::http_fetch::{FetchError, Fetcher};
use crate::domain::{Clock, Lifetime, Timestamp};
use crate::telemetry::JobRuns;
use arc_swap::ArcSwapOption;
use countersign_verify::backoff::Backoff;
use countersign_verify::json;
use countersign_verify::key::{Algorithm, KeyError, KeySet, KeySetError, KeyUse, NoKey};
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The source of an issuer's keys.
#[derive(Clone)]
pub enum KeySource {
    /// A pinned JWK Set.
    File(PathBuf),
    /// A SPIFFE trust bundle: an empty one revokes all, and its sequence never goes back (Trust Domain and Bundle
    /// §4.1).
    Bundle(PathBuf),
    /// A stated JWK Set URL.
    Url(Fetcher, String),
    /// The `jwks_uri` of `<issuer>/.well-known/openid-configuration` (OpenID Connect Discovery §4).
    Discovery(Fetcher, String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.describe())
    }
}

impl KeySource {
    /// Describes the source for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) | Self::Bundle(path) => path.display().to_string(),
            Self::Url(_, url) => url.clone(),
            Self::Discovery(_, issuer) => format!("{issuer} (discovery)"),
        }
    }

    /// Returns true if the keys are fetched over the network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Url(..) | Self::Discovery(..))
    }
}

/// `[keys]`: the times at which keys are refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// The time between two background refreshes.
    pub every: Lifetime,
    /// The greatest age of a key set that is still trusted.
    pub max_stale: Lifetime,
    /// The least time between two refreshes that tokens cause.
    pub cooldown: Lifetime,
}

/// Why an issuer's keys are not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// None was ever read, or the last good set is past the staleness bound.
    #[error("no key set of this issuer is fresh enough to be trusted")]
    NoneFresh,
    /// The limit of requests that wait for the keys is reached.
    #[error("too many requests are already waiting for this issuer's keys")]
    Busy,
    /// They could not be fetched.
    #[error("the issuer's keys cannot be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// The fetched document is not a key set.
    #[error("the key set of the issuer cannot be used: {0}")]
    KeySet(#[from] KeySetError),
    /// The set holds no key that can be used.
    #[error("the issuer publishes no key that can be used")]
    Empty,
    /// The discovery document is not one, names another issuer, or has its keys elsewhere.
    #[error("the discovery document {0}")]
    Discovery(&'static str),
    /// The bundle's `spiffe_sequence` is lower than the one that is held.
    #[error("the bundle's spiffe_sequence is lower than before")]
    Sequence,
}

/// The keys of one issuer.
pub struct IssuerKeys {
    source: KeySource,
    algorithms: Vec<Algorithm>,
    refresh: Refresh,
    clock: Arc<dyn Clock>,
    held: ArcSwapOption<HeldKeySet>,
    /// The time at which a token last caused a refresh. The holder of the lock is the one that fetches.
    flight: tokio::sync::Mutex<Option<Timestamp>>,
    /// The requests that may wait for a refresh.
    waiting: tokio::sync::Semaphore,
}

/// Shortest delay before keys that could not be fetched are fetched again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Limit of requests that wait for one issuer's refresh; further requests are answered 503 at once.
const WAITING: usize = 128;

#[derive(Debug)]
struct HeldKeySet {
    keys: Arc<KeySet>,
    at: Timestamp,
    sequence: Option<u64>,
    /// How many seconds the clock of the keys' server is ahead of ours.
    skew: Option<i64>,
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "IssuerKeys({:?})", self.source)
    }
}

impl IssuerKeys {
    /// Keys from `source` for `algorithms`; none is read yet.
    #[must_use]
    pub fn new(source: KeySource, algorithms: Vec<Algorithm>, refresh: Refresh, clock: Arc<dyn Clock>) -> Self {
        let (held, flight) = (ArcSwapOption::empty(), tokio::sync::Mutex::new(None));
        let waiting = tokio::sync::Semaphore::new(WAITING);
        Self { source, algorithms, refresh, clock, held, flight, waiting }
    }

    /// The keys to judge a token with `kid` and `algorithm` by. Where the set that is held lacks the `kid` or is not
    /// fresh, waits for one refresh, at most one per cooldown.
    ///
    /// # Errors
    /// [`KeyFault::NoneFresh`] when no set is fresh enough: the answer is 503, never a token fault.
    pub async fn current(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Arc<KeySet>, KeyFault> {
        let knows = |held: &HeldKeySet| !matches!(held.keys.find(kid, algorithm), Err(NoKey::UnknownKid));
        if let Some(held) = self.fresh(now)
            && knows(&held)
        {
            return Ok(Arc::clone(&held.keys));
        }
        // One slow issuer must not hold every request that the broker may work on.
        let _waiting = self.waiting.try_acquire().map_err(|_| KeyFault::Busy)?;
        let seen = self.held.load_full();
        let mut last = self.flight.lock().await;
        let refreshed_meanwhile = !same(seen.as_ref(), self.held.load_full().as_ref());
        let cooling = last.is_some_and(|last| now.since(last).abs() < self.refresh.cooldown.seconds());
        if !refreshed_meanwhile && !cooling {
            *last = Some(now);
            if let Err(fault) = self.take().await {
                tracing::warn!(source = %self.source.describe(), %fault, "keys not refreshed");
            }
        }
        drop(last);
        self.fresh(now).map(|held| Arc::clone(&held.keys)).ok_or(KeyFault::NoneFresh)
    }

    /// Returns the number of keys in the held set, if the set is fresh at `now`.
    #[must_use]
    pub fn ready(&self, now: Timestamp) -> Option<usize> {
        self.fresh(now).map(|held| held.keys.len())
    }

    /// Returns the age of the held set at `now`, in seconds.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<i64> {
        self.held.load().as_ref().map(|held| now.since(held.at))
    }

    /// Returns how many seconds the clock of the keys' server was ahead of ours, if the server sent its time.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        self.held.load().as_ref().and_then(|held| held.skew)
    }

    /// The source of the keys.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Reads the keys now and holds them, or keeps what is held.
    ///
    /// # Errors
    /// [`KeyFault`] says why they could not be read; what was held stays until it is stale.
    pub async fn refresh(&self) -> Result<usize, KeyFault> {
        let _single = self.flight.lock().await;
        self.take().await
    }

    /// Only under the lock: a slow answer of before must not replace a later one.
    async fn take(&self) -> Result<usize, KeyFault> {
        let (document, there) = self.read().await?;
        let is_bundle = matches!(self.source, KeySource::Bundle(_));
        let usage = if is_bundle { KeyUse::JwtSvid } else { KeyUse::Signature };
        let (keys, skipped) = KeySet::from_jwks(&document, usage, &self.algorithms)?;
        for key in skipped {
            let (source, index, reason) = (self.source.describe(), key.index, key.reason);
            if reason == KeyError::Secret {
                tracing::warn!(%source, index, %reason, "key not used; its owner has to replace it at once");
            } else {
                tracing::info!(%source, index, %reason, "key not used");
            }
        }
        let sequence = if is_bundle { self.sequence(&document)? } else { None };
        // An empty bundle revokes its trust domain; an empty JWK Set is a fault of its issuer.
        if keys.is_empty() && !is_bundle {
            return Err(KeyFault::Empty);
        }
        let count = keys.len();
        let at = self.clock.now();
        let skew = there.map(|there| there.since(at));
        self.held.store(Some(Arc::new(HeldKeySet { keys: Arc::new(keys), at, sequence, skew })));
        Ok(count)
    }

    /// Refreshes for ever: at once if nothing is held, then at each interval. After a failure it backs off, from
    /// a second to a quarter of the interval.
    pub async fn keep_fresh(self: Arc<Self>, runs: JobRuns) {
        let every = self.refresh.every.duration();
        // A set that was taken over is as old as it is.
        let age = self.age(self.clock.now()).map(|age| std::time::Duration::from_secs(age.unsigned_abs()));
        let mut wait = age.map_or(std::time::Duration::ZERO, |age| every.saturating_sub(age));
        let mut backoff = Backoff::new(RETRY, (every / 4).max(RETRY));
        loop {
            let held_nothing = self.held.load().is_none();
            self.clock.sleep(wait).await;
            let single = self.flight.lock().await;
            // A token may have been first to need them.
            let taken = if held_nothing && self.held.load().is_some() { Ok(0) } else { self.take().await };
            drop(single);
            runs.count(taken.is_ok());
            wait = match taken {
                Ok(_) => {
                    backoff.reset();
                    every
                }
                Err(fault) => {
                    tracing::warn!(source = %self.source.describe(), %fault, "keys not refreshed");
                    RETRY + backoff.delay()
                }
            };
        }
    }

    fn fresh(&self, now: Timestamp) -> Option<Arc<HeldKeySet>> {
        self.held.load_full().filter(|held| now.since(held.at) <= self.refresh.max_stale.seconds())
    }

    async fn read(&self) -> Result<(Vec<u8>, Option<Timestamp>), KeyFault> {
        match &self.source {
            KeySource::File(path) | KeySource::Bundle(path) => Ok((super::http_fetch::read_file(path)?, None)),
            KeySource::Url(fetcher, url) => Ok(fetcher.get(url).await?),
            KeySource::Discovery(fetcher, issuer) => {
                let (document, _) =
                    fetcher.get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await?;
                let document = json::object(&document).map_err(|_| KeyFault::Discovery("is not strict JSON"))?;
                if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
                    return Err(KeyFault::Discovery("names another issuer"));
                }
                let uri =
                    document.get("jwks_uri").and_then(Value::as_str).ok_or(KeyFault::Discovery("has no jwks_uri"))?;
                if !super::http_fetch::same_origin(issuer, uri) {
                    return Err(KeyFault::Discovery("has its keys on another origin; name them with `jwks_uri`"));
                }
                Ok(fetcher.get(uri).await?)
            }
        }
    }

    fn sequence(&self, document: &[u8]) -> Result<Option<u64>, KeyFault> {
        let members = json::object(document).map_err(|_| KeySetError::Malformed)?;
        let sequence = match members.get("spiffe_sequence") {
            None => None,
            Some(number) => Some(number.as_u64().ok_or(KeySetError::Malformed)?),
        };
        let held = self.held.load().as_ref().and_then(|held| held.sequence);
        if held.is_some() && sequence < held { Err(KeyFault::Sequence) } else { Ok(sequence) }
    }
}

fn same(a: Option<&Arc<HeldKeySet>>, b: Option<&Arc<HeldKeySet>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}
