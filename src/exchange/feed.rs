//! Who may follow the revocation feed, and what he is told.

use super::{Answer, Broker, Presented, RequestError};
use crate::audit::{Kind, Trail};
use crate::client::ClientError;
use crate::domain::{Audience, ClientId};
use crate::error::{Error, Unavailable};
use crate::revocation::{Follower, Heard};
use countersign_verify::feed::SNAPSHOT_TYPE;
use countersign_verify::revocation::{Kind as Named, Name};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// How many may follow at once.
const FOLLOWERS: usize = 1_024;
/// Of these, of one client: each of its instances follows by itself.
const OF_ONE: usize = 128;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that is in force, signed.
    Snapshot,
    /// Each record after this position, as it is made.
    After(u64),
}

/// What is given.
pub enum Fed {
    /// A snapshot, as a JWT.
    Snapshot(String),
    /// Each record as it is made.
    Stream(Box<Stream>),
}

/// How many follow, of each client.
#[derive(Default)]
pub(super) struct Following(Mutex<HashMap<ClientId, usize>>);

impl Following {
    fn enter(self: &Arc<Self>, client: &ClientId) -> Result<Place, Error> {
        let mut following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = following.get(client).copied().unwrap_or(0);
        if own >= OF_ONE || following.values().sum::<usize>() >= FOLLOWERS {
            return Err(Unavailable::Busy.into());
        }
        following.insert(client.clone(), own + 1);
        Ok(Place { of: Arc::clone(self), client: client.clone() })
    }
}

struct Place {
    of: Arc<Following>,
    client: ClientId,
}

impl Drop for Place {
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

/// One who follows.
pub struct Stream {
    follower: Follower,
    place: Place,
    /// What the client served when it began.
    serves: Vec<Audience>,
}

impl Broker {
    /// Gives a resource server what is revoked, but for targets that are none of its business.
    ///
    /// # Errors
    /// [`ClientError`] when the caller is not a registered client that serves a target, [`RequestError`] when the form is
    /// malformed, [`Unavailable`] when what is revoked is not known, or as many as may be follow.
    pub async fn feed(&self, presented: Presented, wanted: Wanted) -> Answer<Fed> {
        let decision = self.decision();
        let (peer, now) = (Some(presented.peer), self.clock.now());
        let mut trail = Trail::begin(Kind::Introspection, &decision, peer, now, &self.audit);
        let result = self.fed(presented, wanted, &mut trail).await;
        if !matches!(result, Err(Error::Client(_))) {
            trail.forget();
            return Answer { decision, result };
        }
        Self::close(Answer { decision, result }, trail)
    }

    async fn fed(&self, presented: Presented, wanted: Wanted, trail: &mut Trail) -> Result<Fed, Error> {
        let Presented { form, credentials, unsupported, proofs, peer, .. } = presented;
        let (form, snapshot, now) = (form?, self.snapshot(), self.clock.now());
        unsupported.or(proofs.is_some().then_some(RequestError::Dpop)).map_or(Ok(()), Err)?;
        let client = self.caller_at_once(&form, credentials, peer, &snapshot, trail).await?;
        let client = client.filter(|client| !client.introspects.is_empty()).ok_or(ClientError::Required)?;
        let others = snapshot.targets.iter().map(|target| target.audience.as_str());
        let others: HashSet<Name> = others
            .filter(|audience| !client.serves(audience))
            .map(|audience| Name::new(Named::Target, audience))
            .collect();
        match wanted {
            Wanted::Snapshot => {
                let parties = (self.issuer.as_str(), client.id.as_str());
                let snapshot = self.revocations.snapshot(parties, &others, now).map_err(Unavailable::Store)?;
                let signed = self.keys.ring().sign_answer(SNAPSHOT_TYPE, &snapshot, now);
                Ok(Fed::Snapshot(signed.map_err(|_| Unavailable::Signing)?))
            }
            Wanted::After(position) => {
                let place = self.following.enter(&client.id)?;
                let follower = self.revocations.tell(position, others);
                let serves = client.introspects.clone();
                Ok(Fed::Stream(Box::new(Stream { follower, place, serves })))
            }
        }
    }

    /// What comes next, within a second; nothing where it has ended.
    pub async fn next_of(&self, stream: &mut Stream) -> Option<Heard> {
        let snapshot = self.snapshot();
        let client = snapshot.clients.find(stream.place.client.as_str());
        let serves = client.map_or(&[][..], |client| &client.introspects);
        let suspended = self.revocations.suspends(Named::Client, stream.place.client.as_str());
        if self.revocations.is_closed() || serves.is_empty() || suspended {
            return None;
        }
        if serves != stream.serves {
            // What was left out is its business now, or the other way round.
            return Some(Follower::lost(self.revocations.position()));
        }
        Some(stream.follower.next().await)
    }
}
