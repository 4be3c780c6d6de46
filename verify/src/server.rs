//! A resource server that asks nobody about a token: it has the broker's keys, and follows what is revoked. It knows how long
//! ago it heard of the broker, and past a bound it says so rather than guess.

use crate::dpop::{AHEAD, Proof};
use crate::feed::{Events, Feed, FeedError, Here, MAX_SNAPSHOT, STREAM};
use crate::key::{KeySetError, NoKey};
use crate::{AccessToken, Refusal, Verifier};
use reqwest::header::ACCEPT;
use reqwest::{Client, Response, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// How often the keys are fetched: as long as they may be kept.
const KEYS_EVERY: Duration = Duration::from_secs(300);
/// How soon they are fetched again because of a key that is not known.
const COOLDOWN: Duration = Duration::from_secs(10);
/// How long an answer may be waited for. The feed says something each second.
const ANSWER: Duration = Duration::from_secs(10);
/// How soon the broker is asked again after a fault, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How large a key set may be, in bytes.
const MAX_KEYS: usize = 512 * 1024;
/// How many proofs are remembered, so that each counts once: an hour of a hundred a second would be less.
const MAX_PROOFS: usize = 500_000;

/// Whose tokens are accepted, and as whom the broker is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    issuer: String,
    audience: String,
    base: String,
    client: String,
    secret: Zeroizing<String>,
    max_staleness: Duration,
}

impl Settings {
    /// Tokens of the broker `issuer` for `audience`. It is asked as the `client` that its configuration lets introspect them
    /// (`method = "client_secret_basic"`), with its `secret`.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, client: &str, secret: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            base: issuer.trim_end_matches('/').to_owned(),
            client: client.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
            max_staleness: Duration::from_secs(10),
        }
    }

    /// As it is where the broker is reached at another URL than its issuer identifier.
    #[must_use]
    pub fn reached_at(self, base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), ..self }
    }

    /// For how long the broker may not be heard of; longer, and tokens are neither accepted nor refused. By default ten seconds.
    #[must_use]
    pub fn max_staleness(self, most: Duration) -> Self {
        Self { max_staleness: most, ..self }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not good: answer 401.
    #[error(transparent)]
    Token(#[from] Refusal),
    /// It is dead: answer 401.
    #[error("the token, or something that it belongs to, was revoked")]
    Revoked,
    /// Its proof came before: answer 401.
    #[error("the proof was shown before")]
    Replayed,
    /// What is revoked is not known: answer 503.
    #[error("the broker was not heard of for too long, so it is not known whether the token was revoked")]
    Stale,
}

/// Why the broker cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It does not answer.
    #[error("the broker cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    /// It refuses.
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
    /// It says nothing for too long.
    #[error("the broker said nothing for {} s", ANSWER.as_secs())]
    Silent,
}

/// Accepts tokens offline. Stops following when it is dropped.
pub struct ResourceServer {
    shared: Arc<Shared>,
    following: [JoinHandle<()>; 2],
}

struct Shared {
    settings: Settings,
    http: Client,
    verifier: RwLock<Verifier>,
    feed: RwLock<Feed>,
    /// When the broker last said that there is nothing else.
    heard: Mutex<Instant>,
    fetched: tokio::sync::Mutex<Instant>,
    proofs: Mutex<Proofs>,
}

/// Proofs that were shown, and until when each is remembered.
#[derive(Default)]
struct Proofs {
    held: HashMap<String, i64>,
    /// How many there may be before those that are over go.
    sweep: usize,
}

impl ResourceServer {
    /// Fetches keys and revocations, and follows both from now on. `http` is the client that the broker is asked with: give it
    /// a time limit to connect, and the certificates that it is to trust.
    ///
    /// # Errors
    /// [`FollowError`] when the broker cannot be asked: a server that does not know what is revoked does not start.
    pub async fn start(settings: Settings, http: Client) -> Result<Self, FollowError> {
        let asked = instant();
        let verifier = fetch_keys(&settings, &http).await?;
        let feed = snapshot(&settings, &http, &verifier).await?;
        let shared = Arc::new(Shared {
            settings,
            http,
            verifier: RwLock::new(verifier),
            feed: RwLock::new(feed),
            heard: Mutex::new(asked),
            fetched: tokio::sync::Mutex::new(asked),
            proofs: Mutex::default(),
        });
        let following =
            [tokio::spawn(Arc::clone(&shared).follow()), tokio::spawn(Arc::clone(&shared).keep_keys_fresh())];
        Ok(Self { shared, following })
    }

    /// Accepts a bearer token, or says why not.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn accept(&self, token: &str) -> Result<AccessToken, Denied> {
        let now = now();
        self.known(|verifier| verifier.verify(token, now)).await.and_then(|token| self.alive(token))
    }

    /// Accepts a token that came with a proof, in `Authorization: DPoP` (RFC 9449 §7.1), for the request by this `method` to this
    /// `uri`, by the server's own name for itself. Each proof counts once.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn accept_bound(&self, token: &str, proof: &str, method: &str, uri: &str) -> Result<AccessToken, Denied> {
        let now = now();
        let verified = self.known(|verifier| verifier.verify_bound(token, proof, method, uri, now)).await;
        let (token, proof) = verified?;
        let token = self.alive(token)?;
        self.shared.first_use(&proof, now)?;
        Ok(token)
    }

    /// For how long the broker was not heard of.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        let heard = *self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        instant().saturating_duration_since(heard)
    }

    /// The position in the revocation log up to which it was followed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.shared.feed().position()
    }

    /// A key that is not known may be a new one: then the keys are fetched, and it is looked at again.
    async fn known<T>(&self, verify: impl Fn(&Verifier) -> Result<T, Refusal>) -> Result<T, Denied> {
        let first = verify(&self.shared.verifier());
        if matches!(first, Err(Refusal::Key(NoKey::UnknownKid))) && self.shared.fetch_again().await {
            return Ok(verify(&self.shared.verifier())?);
        }
        Ok(first?)
    }

    fn alive(&self, token: AccessToken) -> Result<AccessToken, Denied> {
        // What is known to be dead is dead, however long ago that was heard.
        if self.shared.feed().hits(&token) {
            return Err(Denied::Revoked);
        }
        if self.staleness() > self.shared.settings.max_staleness { Err(Denied::Stale) } else { Ok(token) }
    }
}

impl Drop for ResourceServer {
    fn drop(&mut self) {
        self.following.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn verifier(&self) -> RwLockReadGuard<'_, Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn feed(&self) -> RwLockReadGuard<'_, Feed> {
        self.feed.read().unwrap_or_else(PoisonError::into_inner)
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
        let fresh = fetch_keys(&self.settings, &self.http).await;
        if let Ok(verifier) = fresh {
            *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
            return true;
        }
        false
    }

    async fn keep_keys_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEYS_EVERY).await;
            let _ = self.fetch_again().await;
        }
    }

    async fn follow(self: Arc<Self>) {
        let mut wait = RETRY.0;
        loop {
            let began = instant();
            // Whatever it was, the next snapshot says all.
            let (Ok(()) | Err(_)) = self.listen().await;
            if began.elapsed() > RETRY.1 {
                wait = RETRY.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Listens until something is wrong. What was missed is asked for first, or all of it where that is not remembered.
    async fn listen(&self) -> Result<(), FollowError> {
        let position = self.feed().position();
        let asked = ask(&self.settings, &self.http, Some(position)).await?;
        let (mut stream, mut events) = (asked, Events::default());
        loop {
            let began = instant();
            let chunk = tokio::time::timeout(ANSWER, stream.chunk()).await.map_err(|_| FollowError::Silent)??;
            let Some(chunk) = chunk else { return Ok(()) };
            for event in events.read(&chunk)? {
                let heard = {
                    let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
                    feed.hear(&event, now())
                };
                if heard.is_err() {
                    return self.begin_again().await;
                }
                if event.name == crate::feed::HERE {
                    // As long ago as the replica itself has heard of the others.
                    let stale = serde_json::from_str::<Here>(&event.data).unwrap_or_default().stale_ms;
                    let heard = began.checked_sub(Duration::from_millis(stale)).unwrap_or(began);
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
                }
            }
        }
    }

    /// Reads everything again. It may be signed by a key that is newer than those that are held.
    async fn begin_again(&self) -> Result<(), FollowError> {
        let verifier = fetch_keys(&self.settings, &self.http).await?;
        let fresh = snapshot(&self.settings, &self.http, &verifier).await?;
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = heard.elapsed() > self.settings.max_staleness;
        let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
        // Of a replica that is behind: what is known to be dead stays dead. Unless nobody knows more for so long that nothing is
        // accepted anyhow: then an older store was put back.
        if fresh.position() < feed.position() && !is_stale {
            return Err(FeedError::Lost.into());
        }
        *feed = fresh;
        Ok(())
    }
}

async fn fetch_keys(settings: &Settings, http: &Client) -> Result<Verifier, FollowError> {
    let url = format!("{}/jwks", settings.base);
    let answer = http.get(&url).timeout(ANSWER).send().await?;
    let jwks = body(succeeded(answer, &url)?, MAX_KEYS).await?;
    Ok(Verifier::new(&settings.issuer, &settings.audience, &jwks)?)
}

async fn snapshot(settings: &Settings, http: &Client, verifier: &Verifier) -> Result<Feed, FollowError> {
    let answer = ask(settings, http, None).await?;
    let jwt = body(answer, MAX_SNAPSHOT).await?;
    let jwt = std::str::from_utf8(&jwt).map_err(|_| FeedError::Malformed)?;
    Ok(Feed::begin(jwt, &settings.issuer, &settings.client, verifier.keys(), now())?)
}

/// Asks for everything, or for what comes after a position.
async fn ask(settings: &Settings, http: &Client, after: Option<u64>) -> Result<Response, FollowError> {
    let url = format!("{}/revocations", settings.base);
    // RFC 6749 §2.3.1 encodes both before they are put into the header.
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = http.post(&url).basic_auth(encoded(&settings.client), Some(encoded(&settings.secret)));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = match after {
        None => request.timeout(ANSWER * 6),
        Some(position) => request.header(ACCEPT, STREAM).header("last-event-id", position.to_string()),
    };
    let answer = tokio::time::timeout(ANSWER * 6, request.send()).await.map_err(|_| FollowError::Silent)??;
    succeeded(answer, &url)
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
