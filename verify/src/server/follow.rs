//! The revocation feed, followed for as long as the server lives.

use super::{
    ANSWER, Credentials, Denied, FollowError, MAX_STALENESS, RETRY, Shared, body, fetch_keys, instant, now, succeeded,
};
use crate::AccessToken;
use crate::backoff::Backoff;
use crate::feed::{Events, Feed, FeedError, Here, MAX_SNAPSHOT, STREAM};
use reqwest::Response;
use reqwest::header::ACCEPT;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// The state of a followed feed.
pub(super) struct Following {
    client: Credentials,
    feed: RwLock<Feed>,
    /// The time at which the broker last said that there is no further record.
    heard: Mutex<Instant>,
}

impl Following {
    /// Reads all of it.
    pub(super) async fn begin(client: Credentials, of: &Shared) -> Result<Self, FollowError> {
        let asked = instant();
        let signed = snapshot(of, &client).await?;
        let feed = Feed::begin(&signed, &of.settings.issuer, &client.id, of.verifier().keys(), now())?;
        Ok(Self { client, feed: RwLock::new(feed), heard: Mutex::new(asked) })
    }

    /// Returns how long the broker could not be reached.
    pub(super) fn staleness(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        instant().saturating_duration_since(heard)
    }

    pub(super) fn feed(&self) -> RwLockReadGuard<'_, Feed> {
        self.feed.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn judge(&self, token: &AccessToken, max_staleness: Duration) -> Result<(), Denied> {
        // A token that is known to be revoked is refused, however old the view is.
        if self.feed().hits(token) {
            return Err(Denied::Revoked);
        }
        if self.staleness() > max_staleness { Err(Denied::Stale) } else { Ok(()) }
    }

    /// Follows the feed for ever.
    pub(super) async fn follow(&self, of: &Shared) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let began = instant();
            // Whatever it was, the next snapshot says all.
            let (Ok(()) | Err(_)) = self.listen(of).await;
            if began.elapsed() > RETRY.1 {
                backoff.reset();
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Listens until something is wrong. What was missed is asked for first, or all of it where that is not remembered.
    async fn listen(&self, of: &Shared) -> Result<(), FollowError> {
        let position = self.feed().position();
        let asked = ask(of, &self.client, Some(position)).await?;
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
                    return self.begin_again(of).await;
                }
                if event.name == crate::feed::HERE {
                    // As old as the replica's own view of the shared log.
                    let stale = serde_json::from_str::<Here>(&event.data).unwrap_or_default().stale_ms;
                    let heard = began.checked_sub(Duration::from_millis(stale)).unwrap_or(began);
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
                }
            }
        }
    }

    /// Reads everything again. It may be signed by a key that is newer than those that are held.
    async fn begin_again(&self, of: &Shared) -> Result<(), FollowError> {
        let verifier = fetch_keys(&of.settings, &of.http).await?;
        let signed = snapshot(of, &self.client).await?;
        let fresh = Feed::begin(&signed, &of.settings.issuer, &self.client.id, verifier.keys(), now())?;
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = heard.elapsed() > of.settings.max_staleness.unwrap_or(MAX_STALENESS);
        let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
        // Of a replica that is behind: what is known to be dead stays dead. Unless nobody knows more for so long that
        // nothing is accepted anyhow: then an older store was put back.
        if fresh.position() < feed.position() && !is_stale {
            return Err(FeedError::Lost.into());
        }
        *feed = fresh;
        Ok(())
    }
}

async fn snapshot(of: &Shared, client: &Credentials) -> Result<String, FollowError> {
    let answer = ask(of, client, None).await?;
    let jwt = body(answer, MAX_SNAPSHOT).await?;
    Ok(String::from_utf8(jwt).map_err(|_| FeedError::Malformed)?)
}

/// Asks for everything, or for what comes after a position.
async fn ask(of: &Shared, client: &Credentials, after: Option<u64>) -> Result<Response, FollowError> {
    let url = format!("{}/revocations", of.settings.base);
    // RFC 6749 §2.3.1 encodes both before they are put into the header.
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = of.http.post(&url).basic_auth(encoded(&client.id), Some(encoded(&client.secret)));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = match after {
        None => request.timeout(ANSWER * 6),
        Some(position) => request.header(ACCEPT, STREAM).header("last-event-id", position.to_string()),
    };
    let answer = tokio::time::timeout(ANSWER * 6, request.send()).await.map_err(|_| FollowError::Silent)??;
    succeeded(answer, &url)
}
