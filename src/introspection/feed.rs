//! The revocation feed: which clients may follow it, and what each of them receives.

use crate::audit::{AuditTrail, EventKind};
use crate::client::ClientError;
use crate::domain::{Audience, ClientId};
use crate::error::{Error, Unavailable};
use crate::exchange::{Answer, AuthRequest, Broker, Presented, close};
use crate::form::RequestError;
use crate::revocation::{Follower, Heard};
use crate::signing::{Document, Keys};
use countersign_verify::revocation::{Kind as Named, Name};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Limit of subscriptions at a time.
const SUBSCRIPTIONS: usize = 1_024;
/// Limit of subscriptions of one client at a time; each of its instances has one.
const SUBSCRIPTIONS_OF_CLIENT: usize = 128;

/// The request of a resource server to the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedRequest {
    /// Every revocation in force, signed.
    Snapshot,
    /// Every record after this position, as it is made.
    After(u64),
}

/// The answer of the feed.
pub enum FeedAnswer {
    /// A snapshot, as a JWT.
    Snapshot(String),
    /// Every record as it is made.
    Subscription(Box<Subscription>),
}

/// The number of subscriptions of each client.
#[derive(Default)]
struct Subscribers(Mutex<HashMap<ClientId, usize>>);

impl Subscribers {
    fn enter(self: &Arc<Self>, client: &ClientId) -> Result<SubscriberSlot, Error> {
        let mut following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = following.get(client).copied().unwrap_or(0);
        if own >= SUBSCRIPTIONS_OF_CLIENT || following.values().sum::<usize>() >= SUBSCRIPTIONS {
            return Err(Unavailable::Busy.into());
        }
        following.insert(client.clone(), own + 1);
        Ok(SubscriberSlot { of: Arc::clone(self), client: client.clone() })
    }
}

/// A place among the subscribers, given back when it is dropped.
struct SubscriberSlot {
    of: Arc<Subscribers>,
    client: ClientId,
}

impl Drop for SubscriberSlot {
    fn drop(&mut self) {
        let mut following = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = following.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                following.remove(&self.client);
            }
        }
    }
}

/// A client's subscription to the feed.
pub struct Subscription {
    follower: Follower,
    slot: SubscriberSlot,
    /// The audiences that the client served when the subscription began.
    serves: Vec<Audience>,
}

/// The revocation feed.
pub struct RevocationFeed {
    broker: Arc<Broker>,
    keys: Arc<Keys>,
    subscribers: Arc<Subscribers>,
}

impl RevocationFeed {
    /// Returns the feed of the revocations of `broker`, whose snapshots are signed with `keys`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, keys: Arc<Keys>) -> Self {
        Self { broker, keys, subscribers: Arc::default() }
    }

    /// Gives a resource server the revocations that concern it: all, except those of targets that it does not serve.
    ///
    /// # Errors
    /// [`ClientError`] if the caller is not a registered client that serves a target, [`RequestError`] if the form is
    /// malformed, [`Unavailable`] if the view of revocations is stale or the limit of subscriptions is reached.
    pub async fn answer(&self, presented: Presented, wanted: FeedRequest) -> Answer<FeedAnswer> {
        let (decision, parts) = (self.broker.decision(), self.broker.parts());
        let (peer, now) = (Some(presented.peer), parts.clock.now());
        let mut trail = AuditTrail::begin(EventKind::Introspection, &decision, peer, now, &parts.audit);
        let result = self.answered(presented, wanted, &mut trail).await;
        if !matches!(result, Err(Error::Client(_))) {
            trail.discard();
            return Answer { decision, result };
        }
        close(Answer { decision, result }, trail)
    }

    async fn answered(
        &self,
        presented: Presented,
        wanted: FeedRequest,
        trail: &mut AuditTrail,
    ) -> Result<FeedAnswer, Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (parts, snapshot) = (self.broker.parts(), self.broker.snapshot());
        let (form, now) = (form?, parts.clock.now());
        unsupported.or(proofs.is_some().then_some(RequestError::Dpop)).map_or(Ok(()), Err)?;
        let calling = AuthRequest { form: &form, peer, snapshot: &snapshot, now };
        let client = parts.client_auth.authenticate_and_use(calling, credentials, trail).await?;
        let client = client.filter(|client| !client.introspects.is_empty()).ok_or(ClientError::Required)?;
        let others = snapshot.targets.iter().map(|target| target.audience.as_str());
        let others: HashSet<Name> = others
            .filter(|audience| !client.serves(audience))
            .map(|audience| Name::new(Named::Target, audience))
            .collect();
        match wanted {
            FeedRequest::Snapshot => {
                let parties = (snapshot.issuer.as_str(), client.id.as_str());
                let revoked = parts.revocations.snapshot(parties, &others, now).map_err(Unavailable::Store)?;
                let signed = self.keys.sign(Document::RevocationSnapshot, &revoked, now).await;
                Ok(FeedAnswer::Snapshot(signed.map_err(|_| Unavailable::Signing)?))
            }
            FeedRequest::After(position) => {
                let slot = self.subscribers.enter(&client.id)?;
                let follower = parts.revocations.tell(position, others);
                let serves = client.introspects.clone();
                Ok(FeedAnswer::Subscription(Box::new(Subscription { follower, slot, serves })))
            }
        }
    }

    /// Waits for the next events of `subscription`, at most a second. Returns none once the subscription has ended.
    pub async fn next_of(&self, subscription: &mut Subscription) -> Option<Heard> {
        let (revocations, snapshot) = (self.broker.revocations(), self.broker.snapshot());
        let id = subscription.slot.client.as_str();
        let serves = snapshot.clients.find(id).map_or(&[][..], |client| &client.introspects);
        let suspended = revocations.not_suspended(Named::Client, id).is_none();
        if revocations.is_closed() || serves.is_empty() || suspended {
            return None;
        }
        if serves != subscription.serves {
            // Targets that were left out concern the client now, or the other way round: it has to begin again.
            return Some(Follower::lost(revocations.position()));
        }
        Some(subscription.follower.next(&*self.broker.parts().clock).await)
    }
}
