//! A resource server that asks nobody about a token: it has the broker's keys, and follows what is revoked, or reads
//! status lists. It knows for how long it could not reach the broker, and past a limit it fails instead of guessing.

mod follow;
mod lists;

use crate::dpop::{AHEAD, Proof};
use crate::feed::FeedError;
use crate::key::{KeySetError, NoKey};
use crate::status::StatusError;
use crate::{AccessToken, Refusal, Verifier};
use follow::Following;
use lists::Lists;
use reqwest::{Client, Response, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Interval of key fetches if the feed reports revoked keys: the cache lifetime of the keys.
const KEYS_EVERY: Duration = Duration::from_secs(300);
/// Interval of key fetches otherwise: a token that a stolen key signs can name any entry of any list.
const KEYS_EVERY_BY_LISTS: Duration = Duration::from_secs(15);
/// Shortest interval of fetches that an unknown key causes.
const COOLDOWN: Duration = Duration::from_secs(10);
/// Longest silence of the broker while it answers. The feed sends an event at least each second.
const ANSWER: Duration = Duration::from_secs(10);
/// Delays before the broker is asked again after a fault: the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Size limit of a key set, in bytes.
const MAX_KEYS: usize = 512 * 1024;
/// Limit of remembered proofs, each of which counts once: more than an hour at a hundred a second.
const MAX_PROOFS: usize = 500_000;
/// Longest time without the feed, unless [`ResourceServer::max_staleness`] sets another.
const MAX_STALENESS: Duration = Duration::from_secs(10);

/// A resource server: the issuer and audience that it accepts, and the way it learns of revocations.
#[derive(Debug, Clone)]
pub struct Settings {
    issuer: String,
    audience: String,
    base: String,
    /// The credentials for the feed; none if status lists are read instead.
    client: Option<Credentials>,
    /// None where nobody has said.
    max_staleness: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Credentials {
    id: String,
    secret: Zeroizing<String>,
}

impl Settings {
    /// Tokens of the broker `issuer` for `audience`, by its revocation feed: what is revoked is refused within
    /// milliseconds. It is followed as the `client` that the broker's configuration lets introspect them (`method =
    /// "client_secret_basic"`), with its `secret`.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, client: &str, secret: &str) -> Self {
        let secret = Zeroizing::new(secret.to_owned());
        Self { client: Some(Credentials { id: client.to_owned(), secret }), ..Self::by_status_lists(issuer, audience) }
    }

    /// Tokens of the broker `issuer` for `audience`, by the status lists that they name: no credentials are needed, and
    /// what is revoked is refused once the list is fetched again, after some seconds. The target has `status_list =
    /// true` in the broker's configuration.
    #[must_use]
    pub fn by_status_lists(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            base: issuer.trim_end_matches('/').to_owned(),
            client: None,
            max_staleness: None,
        }
    }

    /// Sets the URL at which the broker is reached, if it is not its issuer identifier.
    #[must_use]
    pub fn reached_at(self, base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), ..self }
    }

    /// Sets how long verification may continue without contact with the broker; after that it fails with
    /// [`Denied::Stale`]. Default: 10 s with the feed; otherwise the status list's `ttl` plus 60 s plus clock leeway.
    /// Cached keys may be up to 45 s older than this.
    #[must_use]
    pub fn max_staleness(self, most: Duration) -> Self {
        Self { max_staleness: Some(most), ..self }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not good: answer 401.
    #[error(transparent)]
    Token(#[from] Refusal),
    /// The token is revoked: answer 401.
    #[error("the token, or something that it belongs to, was revoked")]
    Revoked,
    /// Its proof came before: answer 401.
    #[error("the proof was used before")]
    Replayed,
    /// It names no entry of a status list of this broker: answer 401, and set `status_list = true` for its target.
    #[error("the token does not name an entry of a status list of this broker")]
    Unlisted,
    /// The revocations in force are not known: answer 503.
    #[error("the broker could not be reached for too long, so it is not known whether the token was revoked")]
    Stale,
}

/// Why the broker cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It does not answer.
    #[error("the broker cannot be reached: {0}")]
    Http(#[from] reqwest::Error),
    /// The broker refuses the request.
    #[error("the broker answers {0} to `{1}`; look at the client's id, its secret and what it `introspects`")]
    Refused(StatusCode, String),
    /// It says too much.
    #[error("the broker's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Its keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// Its feed cannot be followed.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Its status list is not believed.
    #[error(transparent)]
    List(#[from] StatusError),
    /// It says nothing for too long.
    #[error("the broker sent nothing for {} s", ANSWER.as_secs())]
    Silent,
}

/// Accepts tokens offline. Stops following when it is dropped.
pub struct ResourceServer {
    shared: Arc<Shared>,
    source: Arc<Source>,
    beside: [JoinHandle<()>; 2],
}

/// The source of revocations.
enum Source {
    Feed(Following),
    Lists(Lists),
}

struct Shared {
    settings: Settings,
    http: Client,
    verifier: RwLock<Verifier>,
    /// The time at which the held keys were requested.
    keys_of: Mutex<Instant>,
    /// The time of the last attempt.
    fetched: tokio::sync::Mutex<Instant>,
    proofs: Mutex<SeenProofs>,
}

/// Proofs that were shown, each with the time until which it is remembered.
#[derive(Default)]
struct SeenProofs {
    held: HashMap<String, i64>,
    /// The number of proofs above which expired ones are dropped.
    sweep: usize,
}

impl ResourceServer {
    /// Fetches keys, and revocations where the feed is followed, and keeps both fresh from now on. `http` is the client
    /// that the broker is asked with: give it a time limit to connect, and the certificates that it is to trust.
    ///
    /// # Errors
    /// [`FollowError`] when the broker cannot be asked: a server that does not know what is revoked does not start.
    pub async fn start(settings: Settings, http: Client) -> Result<Self, FollowError> {
        let asked = instant();
        let verifier = RwLock::new(fetch_keys(&settings, &http).await?);
        let (fetched, proofs) = (tokio::sync::Mutex::new(asked), Mutex::default());
        let client = settings.client.clone();
        let keys_of = Mutex::new(asked);
        let shared = Arc::new(Shared { settings, http, verifier, keys_of, fetched, proofs });
        let source = Arc::new(match client {
            Some(client) => Source::Feed(Following::begin(client, &shared).await?),
            None => Source::Lists(Lists::default()),
        });
        let keys = tokio::spawn(Arc::clone(&shared).keep_keys_fresh());
        let (followed, of) = (Arc::clone(&source), Arc::clone(&shared));
        let following = tokio::spawn(async move {
            if let Source::Feed(feed) = &*followed {
                feed.follow(&of).await;
            }
        });
        Ok(Self { shared, source, beside: [keys, following] })
    }

    /// Accepts a bearer token, or says why not.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn accept(&self, token: &str) -> Result<AccessToken, Denied> {
        let now = now();
        let token = self.known(|verifier| verifier.verify(token, now)).await?;
        self.alive(&token, now).await?;
        Ok(token)
    }

    /// Accepts a token that came with a proof, in `Authorization: DPoP` (RFC 9449 §7.1), for the request by this
    /// `method` to this `uri`, by the server's own name for itself. Each proof counts once.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn accept_bound(&self, token: &str, proof: &str, method: &str, uri: &str) -> Result<AccessToken, Denied> {
        let now = now();
        let verified = self.known(|verifier| verifier.verify_bound(token, proof, (method, uri), now)).await;
        let (token, proof) = verified?;
        self.alive(&token, now).await?;
        self.shared.first_use(&proof, now)?;
        Ok(token)
    }

    /// Returns how long the broker could not be reached; with status lists, the age of the oldest list in use.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        match &*self.source {
            Source::Feed(feed) => feed.staleness(),
            Source::Lists(lists) => lists.staleness(&self.shared),
        }
    }

    /// The position in the revocation log up to which it was followed; none where status lists are read.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        match &*self.source {
            Source::Feed(feed) => Some(feed.feed().position()),
            Source::Lists(_) => None,
        }
    }

    /// A key that is not known may be a new one: then the keys are fetched, and it is looked at again.
    async fn known<T>(&self, verify: impl Fn(&Verifier) -> Result<T, Refusal>) -> Result<T, Denied> {
        let first = verify(&self.shared.verifier());
        if matches!(first, Err(Refusal::Key(NoKey::UnknownKid))) && self.shared.fetch_again().await {
            return Ok(verify(&self.shared.verifier())?);
        }
        Ok(first?)
    }

    async fn alive(&self, token: &AccessToken, now: i64) -> Result<(), Denied> {
        match &*self.source {
            Source::Feed(feed) => feed.judge(token, self.shared.settings.max_staleness.unwrap_or(MAX_STALENESS)),
            Source::Lists(lists) => lists.judge(token, &self.shared, now).await,
        }
    }
}

impl Drop for ResourceServer {
    fn drop(&mut self) {
        self.beside.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn verifier(&self) -> RwLockReadGuard<'_, Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long ago the keys were fetched.
    fn age_of_keys(&self) -> Duration {
        let asked = *self.keys_of.lock().unwrap_or_else(PoisonError::into_inner);
        instant().saturating_duration_since(asked)
    }

    fn first_use(&self, proof: &Proof, now: i64) -> Result<(), Denied> {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.held.len() >= proofs.sweep {
            proofs.held.retain(|_, until| *until >= now);
            proofs.sweep = (proofs.held.len() * 2).max(1_024);
        }
        if proofs.held.len() >= MAX_PROOFS {
            return Err(Denied::Stale);
        }
        let id = format!("{} {}", proof.thumbprint(), proof.id());
        match proofs.held.insert(id, proof.until().saturating_add(AHEAD)) {
            Some(until) if until >= now => Err(Denied::Replayed),
            _ => Ok(()),
        }
    }

    /// Fetches the keys again, unless that was done a moment ago. Whether it was.
    async fn fetch_again(&self) -> bool {
        let began = instant();
        let mut fetched = self.fetched.lock().await;
        // Somebody else has, while this one waited.
        if *fetched >= began {
            return true;
        }
        if fetched.elapsed() < COOLDOWN {
            return false;
        }
        *fetched = instant();
        self.fetch_now().await
    }

    async fn fetch_now(&self) -> bool {
        let asked = instant();
        let fresh = fetch_keys(&self.settings, &self.http).await;
        if let Ok(verifier) = fresh {
            *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
            *self.keys_of.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            return true;
        }
        false
    }

    async fn keep_keys_fresh(self: Arc<Self>) {
        let every = if self.settings.client.is_some() { KEYS_EVERY } else { KEYS_EVERY_BY_LISTS };
        let mut wait = every;
        loop {
            tokio::time::sleep(wait).await;
            wait = if self.fetch_now().await { every } else { RETRY.1 };
        }
    }
}

async fn fetch_keys(settings: &Settings, http: &Client) -> Result<Verifier, FollowError> {
    let url = format!("{}/jwks", settings.base);
    // Not as long as a cache may keep them: a key may have been revoked.
    let answer = http.get(&url).header("cache-control", "no-cache").timeout(ANSWER).send().await?;
    let jwks = body(succeeded(answer, &url)?, MAX_KEYS).await?;
    Ok(Verifier::new(&settings.issuer, &settings.audience, &jwks)?)
}

fn succeeded(answer: Response, url: &str) -> Result<Response, FollowError> {
    let status = answer.status();
    if status == StatusCode::OK { Ok(answer) } else { Err(FollowError::Refused(status, url.to_owned())) }
}

async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>, FollowError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(FollowError::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[expect(clippy::disallowed_methods, reason = "a resource server has the machine's clock, and no other")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn instant() -> Instant {
    Instant::now()
}
