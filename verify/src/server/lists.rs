//! Status lists, each fetched when a token names it, and again when it says so.

use super::{Denied, FollowError, KEYS_EVERY_BY_LISTS, Shared, body, instant, succeeded};
use crate::AccessToken;
use crate::key::NoKey;
use crate::status::{MAX_LIST, MEDIA_TYPE, Reference, StatusError, StatusList, VALID};
use crate::{LEEWAY, Refusal};
use reqwest::header::ACCEPT;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Limit of lists that are held: the number of brokers that were started within the life of a token, and some more.
const MAX_LISTS: usize = 256;
/// Time limit of a fetch of a list.
const ANSWER: Duration = Duration::from_secs(3);
/// Delay before a list that could not be fetched is fetched again.
const RETRY: Duration = Duration::from_secs(1);
/// Bounds of the interval at which a list is fetched, whatever its `ttl` says, in seconds.
const TTL: (i64, i64) = (1, 3_600);

/// Those that are held, by their URI.
#[derive(Default)]
pub(super) struct Lists(Mutex<HashMap<String, Arc<ListSlot>>>);

/// A list.
#[derive(Default)]
struct ListSlot {
    held: Mutex<HeldList>,
    /// The list, held by the request that fetches it.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct HeldList {
    list: Option<Arc<StatusList>>,
    /// The time of the fetch, and the time until which the list is valid, by a monotonic clock.
    times: Option<(Instant, Instant)>,
    /// The time of the next fetch; none for an immediate one.
    due: Option<Instant>,
}

impl Lists {
    /// Returns `Ok` if the entry that `token` names says that the token is valid.
    pub(super) async fn judge(&self, token: &AccessToken, of: &Arc<Shared>, now: i64) -> Result<(), Denied> {
        let entry = token.claims().status.as_ref().map(|status| &status.status_list).ok_or(Denied::Unlisted)?;
        let url = url(entry, of).ok_or(Denied::Unlisted)?;
        // A list says nothing of what a stolen key has signed: the keys are as fresh as the list.
        let most = of.settings.max_staleness.unwrap_or(KEYS_EVERY_BY_LISTS * 4).max(KEYS_EVERY_BY_LISTS * 3);
        let list = self.slot(&entry.uri, now)?.list(&entry.uri, &url, of, now).await;
        let status = list.ok_or(Denied::Stale)?.status(entry.idx);
        match status {
            Some(VALID) if of.age_of_keys() > most => Err(Denied::Stale),
            Some(VALID) => Ok(()),
            Some(_) => Err(Denied::Revoked),
            None => Err(Denied::Unlisted),
        }
    }

    fn slot(&self, uri: &str, now: i64) -> Result<Arc<ListSlot>, Denied> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(uri) {
            // Those of brokers that were started again since.
            slots.retain(|_, slot| slot.look(now).0.is_some() || slot.fetching.try_lock().is_err());
            if slots.len() >= MAX_LISTS {
                return Err(Denied::Stale);
            }
        }
        Ok(Arc::clone(slots.entry(uri.to_owned()).or_default()))
    }

    /// Returns how long ago the keys, or the oldest valid list, were fetched.
    pub(super) fn staleness(&self, of: &Shared) -> Duration {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = slots.values().filter_map(|slot| slot.held().times).filter(|(_, until)| *until > instant());
        let oldest = alive.map(|(fetched, _)| instant().saturating_duration_since(fetched)).max();
        oldest.unwrap_or_default().max(of.age_of_keys())
    }
}

impl ListSlot {
    /// The list, fetched where it is due; none where there is none that says anything now.
    async fn list(self: Arc<Self>, uri: &str, url: &str, of: &Arc<Shared>, now: i64) -> Option<Arc<StatusList>> {
        let (held, is_due) = self.look(now);
        if !is_due {
            return held;
        }
        if held.is_some() && !self.is_late() {
            // Good meanwhile; nobody waits for the next one.
            if let Ok(alone) = Arc::clone(&self.fetching).try_lock_owned() {
                let (uri, url, of) = (uri.to_owned(), url.to_owned(), Arc::clone(of));
                tokio::spawn(async move {
                    self.fetch(&uri, &url, &of).await;
                    drop(alone);
                });
            }
            return held;
        }
        // There is none, or nobody has asked for so long that what it said is long ago; where it cannot be fetched it
        // still counts.
        let _alone = self.fetching.lock().await;
        // Somebody else has fetched it, while this one waited.
        if self.look(now).1 {
            self.fetch(uri, url, of).await;
        }
        self.look(now).0
    }

    /// Returns true if the list should have been fetched twice since its last fetch.
    fn is_late(&self) -> bool {
        let held = self.held();
        let (Some((fetched, _)), Some(due)) = (held.times, held.due) else { return true };
        due.saturating_duration_since(fetched) < instant().saturating_duration_since(due)
    }

    async fn fetch(&self, uri: &str, url: &str, of: &Shared) {
        let asked = instant();
        let fetched = fetch(uri, url, of, super::now()).await;
        let mut held = self.held();
        match fetched {
            Ok(list) => {
                let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                let lives = seconds(list.lives().saturating_add(LEEWAY));
                let lives = of.settings.max_staleness.map_or(lives, |most| lives.min(most));
                let ttl = seconds(list.ttl().clamp(TTL.0, TTL.1)).min(lives / 2);
                let list = held.list.as_ref().map_or(list.clone(), |older| list.with_all_of(older));
                *held = HeldList {
                    list: Some(Arc::new(list)),
                    times: asked.checked_add(lives).map(|until| (asked, until)),
                    due: asked.checked_add(ttl),
                };
            }
            // Until it says nothing any more, what was fetched before is good.
            Err(_) => held.due = instant().checked_add(RETRY),
        }
    }

    /// Returns the list, if it is valid at `now` and by the monotonic clock, and whether it is due for a fetch.
    fn look(&self, now: i64) -> (Option<Arc<StatusList>>, bool) {
        let held = self.held();
        let is_good = held.times.is_some_and(|(_, until)| until > instant());
        let list = held.list.clone().filter(|list| is_good && list.expires().saturating_add(LEEWAY) > now);
        (list, held.due.is_none_or(|due| due <= instant()))
    }

    fn held(&self) -> MutexGuard<'_, HeldList> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the URL of a list: below the broker, and nowhere else.
fn url(entry: &Reference, of: &Shared) -> Option<String> {
    let path = entry.uri.strip_prefix(of.settings.issuer.trim_end_matches('/'))?;
    path.starts_with('/').then(|| format!("{}{path}", of.settings.base))
}

/// A list that is believed. It may be signed by a key that is newer than those that are held.
async fn fetch(uri: &str, url: &str, of: &Shared, now: i64) -> Result<StatusList, FollowError> {
    let answer = of.http.get(url).header(ACCEPT, MEDIA_TYPE).timeout(ANSWER).send().await?;
    let jwt = body(succeeded(answer, url)?, 2 * MAX_LIST).await?;
    let jwt = std::str::from_utf8(&jwt).map_err(|_| StatusError::Malformed)?;
    let read = || StatusList::verify(jwt, uri, of.verifier().keys(), now);
    match read() {
        Err(StatusError::List(Refusal::Key(NoKey::UnknownKid))) if of.fetch_again().await => Ok(read()?),
        read => Ok(read?),
    }
}
