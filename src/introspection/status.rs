//! Status lists as they are served: compressed and signed when something has changed or time has passed, and then from
//! memory (draft-ietf-oauth-status-list-20 §8).

use crate::domain::{Clock, ListId, Timestamp};
use crate::error::{Error, Unavailable};
use crate::exchange::Broker;
use crate::signing::{Document, KeyRing, Keys};
use countersign_verify::status::{Content, Entries};
use flate2::Compression;
use flate2::read::GzEncoder;
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Cache lifetime of a list, in seconds (`ttl`).
pub const STATUS_TTL: u32 = 15;
/// Lifetime of a list, in seconds (`exp`): after it, a verifier does not wait for an unreachable broker any longer.
const LIVES: i64 = 60;
/// Shortest interval between two signatures of a list that changes all the time.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// A list as it is served.
pub struct StatusDocument {
    /// The signed list.
    pub jwt: Vec<u8>,
    /// The same, as gzip.
    pub gzip: Vec<u8>,
    /// The number of changes, the time and the keys of the list. The keys are not kept alive by it.
    changes: u64,
    /// The monotonic time at which it was signed.
    made: Duration,
    signed: Timestamp,
    keys: Weak<KeyRing>,
}

impl StatusDocument {
    fn is_good(&self, changes: u64, keys: &Arc<KeyRing>, clock: &dyn Clock) -> bool {
        let age = clock.now().since(self.signed);
        (self.changes == changes || clock.monotonic().saturating_sub(self.made) < AT_MOST_EVERY)
            && std::ptr::eq(self.keys.as_ptr(), Arc::as_ptr(keys))
            && (0..i64::from(STATUS_TTL)).contains(&age)
    }
}

/// The status lists that this broker serves.
pub struct StatusLists {
    broker: Arc<Broker>,
    keys: Arc<Keys>,
    served: Mutex<HashMap<ListId, Arc<StatusDocument>>>,
    /// Locked while a list is signed, so that each is signed once.
    signing: tokio::sync::Mutex<()>,
}

impl StatusLists {
    /// Returns the status lists of `broker`, signed with `keys`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, keys: Arc<Keys>) -> Self {
        Self { broker, keys, served: Mutex::default(), signing: tokio::sync::Mutex::default() }
    }

    /// The status list of this name; none where there is no such list, or nothing of it is alive.
    ///
    /// # Errors
    /// [`Unavailable`] where what is revoked is not known, or the list cannot be signed.
    pub async fn find(&self, list: &ListId) -> Result<Option<Arc<StatusDocument>>, Error> {
        let (revocations, clock) = (self.broker.revocations(), &self.broker.parts().clock);
        revocations.fresh().map_err(Unavailable::Store)?;
        let Some(changes) = revocations.status_changes(list, clock.now()).await else { return Ok(None) };
        let served = |changes| {
            let keys = Arc::clone(&self.keys.ring());
            let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).get(list).cloned();
            served.filter(|served| served.is_good(changes, &keys, &**clock))
        };
        if let Some(served) = served(changes) {
            return Ok(Some(served));
        }
        let _signing = self.signing.lock().await;
        // Another request may have signed it while this one waited.
        if let Some(served) = served(changes) {
            return Ok(Some(served));
        }
        let Some((entries, changes)) = revocations.status_entries(list) else { return Ok(None) };
        let uri = list.uri(&self.broker.snapshot().issuer);
        // Taken first: a key that is dropped meanwhile makes what is signed here stale.
        let ring = Arc::downgrade(&self.keys.ring());
        let (keys, now, made) = (Arc::clone(&self.keys), clock.now(), clock.monotonic());
        let begun = tokio::task::spawn_blocking(move || {
            let (iat, status_list) = (now.seconds(), Entries::of(&entries));
            let content =
                Content { sub: uri, iat, exp: now.plus(LIVES).seconds(), ttl: STATUS_TTL.into(), status_list };
            keys.begin(Document::StatusList, &content, now)
        });
        let begun = begun.await.map_err(|_| Unavailable::Signing)?.map_err(|_| Unavailable::Signing)?;
        let (jwt, _) = self.keys.finish(begun).await.map_err(|_| Unavailable::Signing)?;
        let compress = move || compressed(jwt.as_bytes()).map(|gzip| (jwt.into_bytes(), gzip));
        let compressed = tokio::task::spawn_blocking(compress).await.map_err(|_| Unavailable::Signing)?;
        let (jwt, gzip) = compressed.map_err(|_| Unavailable::Signing)?;
        let made = Arc::new(StatusDocument { jwt, gzip, changes, made, signed: now, keys: ring });
        let alive = revocations.status_lists(now);
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.retain(|list, _| alive.binary_search(list).is_ok());
        served.insert(*list, Arc::clone(&made));
        Ok(Some(made))
    }

    /// The URIs of the status lists that name a token in force (§9).
    #[must_use]
    pub fn uris(&self) -> Vec<String> {
        let issuer = &self.broker.snapshot().issuer;
        let lists = self.broker.revocations().status_lists(self.broker.parts().clock.now());
        lists.iter().map(|list| list.uri(issuer)).collect()
    }
}

/// Returns `bytes` as gzip.
fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = Vec::new();
    GzEncoder::new(bytes, Compression::default()).read_to_end(&mut gzip)?;
    Ok(gzip)
}
