//! Who is calling: reads the one method by which the caller authenticates, and asks whether it proves a client. Nothing is
//! used up here: an assertion that counts once is claimed when something is given for it.

use super::{Broker, Form, RequestError, Snapshot};
use crate::assertion::{AssertionError, ClientAssertion, Confirmation, SubjectToken, Untrusted, Verified};
use crate::audit::Trail;
use crate::client::{Client, ClientError, Credentials, Method};
use crate::domain::{FirstUse, Timestamp, TokenType, Workload};
use crate::error::{Error, Unavailable};
use crate::store::Claimed;
use countersign_verify::revocation::Kind;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// `client_assertion_type` of RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// `client_assertion_type` of a JWT-SVID (draft-ietf-oauth-spiffe-client-auth §4.1).
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// What the caller offers as proof.
enum Offer {
    /// Nothing; perhaps an id that it merely claims.
    Nothing,
    /// `Authorization: Basic`.
    Basic(Credentials),
    /// `client_id` and `client_secret`.
    Post(String, Zeroizing<String>),
    /// `client_assertion`, and whether it is a JWT-SVID.
    Assertion(Untrusted<ClientAssertion>, bool),
}

impl Offer {
    /// One method, or none (RFC 6749 §2.3): two are a malformed request.
    fn read(form: &Form, basic: Option<Credentials>) -> Result<Self, RequestError> {
        let claimed = form.single("client_id")?;
        let (secret, assertion) = (form.single("client_secret")?, form.single("client_assertion")?);
        let kind = form.single("client_assertion_type")?;
        match (basic, secret, assertion) {
            (None, None, None) if kind.is_some() => Err(RequestError::ClientAssertionPair),
            (None, None, None) => Ok(Self::Nothing),
            (Some(credentials), None, None) => {
                let same = |id: &str| credentials.readings.iter().any(|(own, _)| own == id);
                if kind.is_some() {
                    Err(RequestError::SeveralMethods)
                } else if claimed.is_some_and(|id| !credentials.readings.is_empty() && !same(id)) {
                    Err(RequestError::ClientMismatch)
                } else {
                    Ok(Self::Basic(credentials))
                }
            }
            (None, Some(_), None) if kind.is_some() => Err(RequestError::SeveralMethods),
            (None, Some(secret), None) => {
                let id = claimed.ok_or(RequestError::Missing("client_id"))?;
                Ok(Self::Post(id.to_owned(), Zeroizing::new(secret.to_owned())))
            }
            (None, None, Some(assertion)) => {
                let is_svid = match kind.ok_or(RequestError::ClientAssertionPair)? {
                    JWT_BEARER => false,
                    JWT_SPIFFE => true,
                    _ => return Err(RequestError::ClientAssertionType),
                };
                Ok(Self::Assertion(Untrusted::new(assertion.to_owned(), TokenType::Jwt), is_svid))
            }
            _ => Err(RequestError::SeveralMethods),
        }
    }
}

/// Who is calling, as far as it is proved.
pub(super) struct Caller {
    /// The client; none where the caller offered nothing.
    pub(super) client: Option<Arc<Client>>,
    /// The assertion by which a configured issuer vouched for it.
    assertion: Option<Verified<ClientAssertion>>,
    /// What has to be claimed before the client's assertion counts.
    first_use: Option<FirstUse>,
    /// Whether the caller is the subject.
    is_subject: bool,
}

impl Caller {
    /// Whether the client is `workload` itself, because a configured issuer vouched for it.
    pub(super) fn is(&self, workload: &Workload) -> bool {
        let vouched = self.assertion.as_ref().is_some_and(|assertion| assertion.workload().name == workload.name);
        self.is_subject || vouched
    }

    /// What has to be claimed before the client's assertion counts.
    pub(super) fn first_use(&self) -> Option<FirstUse> {
        self.first_use.or(self.assertion.as_ref().and_then(Verified::first_use))
    }

    /// The key that whoever presents the client's assertion has to prove.
    pub(super) fn bound_to(&self) -> Option<&str> {
        self.assertion.as_ref().and_then(Verified::bound_to)
    }

    /// The caller as the subject of an exchange: what the client_credentials grant asks for (RFC 6749 §4.4).
    pub(super) fn take_subject(&mut self, trail: &mut Trail) -> Result<Verified<SubjectToken>, ClientError> {
        if self.client.is_none() {
            return Err(ClientError::Required);
        }
        let assertion = self.assertion.take().ok_or(ClientError::Grant)?;
        self.is_subject = true;
        Ok(assertion.into_subject(trail))
    }
}

impl Broker {
    /// Who is calling. A registered id without its credentials is refused; any other is a hint.
    ///
    /// # Errors
    /// [`ClientError`] when what is offered proves nobody, [`RequestError`] when it is malformed.
    pub(super) async fn caller(
        &self,
        form: &Form,
        basic: Option<Credentials>,
        peer: IpAddr,
        snapshot: &Snapshot,
        now: Timestamp,
        trail: &mut Trail,
    ) -> Result<Caller, Error> {
        let claimed = form.single("client_id")?;
        let (mut assertion, mut first_use) = (None, None);
        let client = match Offer::read(form, basic)? {
            Offer::Nothing if claimed.is_some_and(|id| snapshot.clients.find(id).is_some()) => {
                return Err(ClientError::Refused.into());
            }
            Offer::Nothing => None,
            Offer::Basic(credentials) => {
                // By the client that is meant, however its id is written; all that mean nobody are one.
                let meant = credentials.readings.iter().find(|(id, _)| snapshot.clients.find(id).is_some());
                let id = meant.map(|(id, _)| id.clone()).unwrap_or_default();
                Some(self.by_secret(&id, peer, || snapshot.clients.by_basic(&credentials))?)
            }
            Offer::Post(id, secret) => {
                let meant = snapshot.clients.find(&id).map(|client| client.id.as_str()).unwrap_or_default();
                Some(self.by_secret(meant, peer, || snapshot.clients.by_post(&id, &secret))?)
            }
            Offer::Assertion(token, is_svid) => {
                let bounds = snapshot.issuers.bounds();
                let named = if is_svid { None } else { token.names_client(bounds) };
                match named.as_deref().and_then(|id| snapshot.clients.find(id)) {
                    Some(client) => {
                        let Method::PrivateKeyJwt(keys) = &client.method else {
                            return Err(ClientError::Refused.into());
                        };
                        let id = client.id.as_str();
                        let verified = token.verify_own(id, keys, &self.issuer, bounds, now, trail).await;
                        first_use = Some(verified.map_err(refused)?);
                        Some(client)
                    }
                    None => {
                        let verified = snapshot.issuers.verify_assertion(&token, now, trail).await.map_err(refused)?;
                        let origin = verified.origin();
                        let suspended = [(Kind::Issuer, &origin.iss), (Kind::Workload, &verified.workload().name)]
                            .into_iter()
                            .find(|(kind, id)| self.revocations.suspends(*kind, id));
                        if let Some((kind, id)) = suspended {
                            trail.check(kind.name(), false, || "not suspended", || format!("{id} is suspended"));
                            return Err(ClientError::Suspended.into());
                        }
                        let issuer = &verified.workload().issuer;
                        let fits = origin.iss.starts_with("spiffe://") == is_svid;
                        let client = snapshot.clients.federated(issuer, &origin.sub, claimed).filter(|_| fits);
                        let client = client.ok_or(ClientError::Refused)?;
                        assertion = Some(verified);
                        Some(client)
                    }
                }
            }
        };
        if let Some(client) = client {
            if claimed.is_some_and(|id| id != client.id.as_str()) {
                return Err(RequestError::ClientMismatch.into());
            }
            trail.client(&client.id);
            if self.revocations.suspends(Kind::Client, client.id.as_str()) {
                trail.check("client", false, || "not suspended", || format!("{} is suspended", client.id));
                return Err(ClientError::Suspended.into());
            }
        }
        Ok(Caller { client: client.cloned(), assertion, first_use, is_subject: false })
    }

    /// A secret is looked at only while few wrong ones came.
    fn by_secret<'a>(
        &self,
        id: &str,
        peer: IpAddr,
        prove: impl FnOnce() -> Option<&'a Arc<Client>>,
    ) -> Result<&'a Arc<Client>, ClientError> {
        if !self.attempts.may_try(id, peer) {
            return Err(ClientError::Throttled);
        }
        let proven = prove();
        match proven {
            Some(_) => self.attempts.proved(id, peer),
            None => self.attempts.failed(id, peer),
        }
        proven.ok_or(ClientError::Refused)
    }

    /// As [`Broker::caller`], for an answer that gives nothing away that could be claimed with it: an assertion that counts
    /// once is claimed here.
    pub(super) async fn caller_at_once(
        &self,
        form: &Form,
        basic: Option<Credentials>,
        peer: IpAddr,
        snapshot: &Snapshot,
        trail: &mut Trail,
    ) -> Result<Option<Arc<Client>>, Error> {
        let now = self.clock.now();
        let caller = self.caller(form, basic, peer, snapshot, now, trail).await?;
        // No proof is asked for here, so nobody has shown that it is his.
        Confirmation::fits(None, caller.bound_to(), trail)?;
        if let Some(mark) = caller.first_use() {
            let claimed = self.uses.claim(mark.into(), now).await.map_err(Unavailable::Store)?;
            if claimed != Claimed::Whole(0) {
                return Err(ClientError::Replayed.into());
            }
        }
        Ok(caller.client)
    }
}

/// An outage is never told as a fault of the client.
fn refused(fault: AssertionError) -> Error {
    match fault {
        AssertionError::Keys(_) | AssertionError::Behind => fault.into(),
        _ => ClientError::Assertion(fault).into(),
    }
}
