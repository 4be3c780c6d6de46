//! Client authentication: reads the one method that the caller uses, and checks whether it proves a registered client.
//! Nothing is used up here: an assertion that counts once is reserved when something is given for it.

use super::Snapshot;
use crate::assertion::{AssertionError, ClientAssertion, Confirmation, OwnKeys, SubjectToken, Untrusted, Verified};
use crate::audit::AuditTrail;
use crate::client::{Attempts, Client, ClientError, Credentials, Method};
use crate::domain::{Clock, FirstUse, Timestamp, TokenType, Workload};
use crate::error::{Error, Unavailable};
use crate::form::{CredentialsError, Form, Parameter, RequestError, Required};
use crate::revocation::{NotSuspended, Revocations};
use crate::store::{Reservations, Reserved};
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::revocation::Kind;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// `client_assertion_type` of RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// `client_assertion_type` of a JWT-SVID (draft-ietf-oauth-spiffe-client-auth §4.1).
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// The one method by which a caller authenticates.
enum PresentedCredentials {
    /// None; the caller may still name a `client_id`, which proves nothing.
    Nothing,
    /// `Authorization: Basic`.
    Basic(Credentials),
    /// `client_id` and `client_secret`.
    Post(String, Zeroizing<String>),
    /// A JWT as `client_assertion`.
    Assertion(Untrusted<ClientAssertion>),
    /// A JWT-SVID as `client_assertion`.
    Svid(Untrusted<ClientAssertion>),
}

impl PresentedCredentials {
    /// Reads one method or none; two methods are a malformed request (RFC 6749 §2.3).
    fn read(form: &Form, basic: Option<Credentials>) -> Result<Self, RequestError> {
        let claimed = form.single(Parameter::ClientId)?;
        let (secret, assertion) = (form.single(Parameter::ClientSecret)?, form.single(Parameter::ClientAssertion)?);
        let kind = form.single(Parameter::ClientAssertionType)?;
        match (basic, secret, assertion) {
            (None, None, None) if kind.is_some() => Err(CredentialsError::AssertionPair.into()),
            (None, None, None) => Ok(Self::Nothing),
            (Some(credentials), None, None) => {
                let same = |id: &str| credentials.readings.iter().any(|(own, _)| own == id);
                if kind.is_some() {
                    Err(CredentialsError::SeveralMethods.into())
                } else if claimed.is_some_and(|id| !credentials.readings.is_empty() && !same(id)) {
                    Err(CredentialsError::Mismatch.into())
                } else {
                    Ok(Self::Basic(credentials))
                }
            }
            (None, Some(_), None) if kind.is_some() => Err(CredentialsError::SeveralMethods.into()),
            (None, Some(secret), None) => {
                let id = claimed.ok_or(RequestError::Missing(Required::ClientId))?;
                Ok(Self::Post(id.to_owned(), Zeroizing::new(secret.to_owned())))
            }
            (None, None, Some(assertion)) => {
                let assertion = Untrusted::new(assertion.to_owned(), TokenType::Jwt);
                match kind.ok_or(CredentialsError::AssertionPair)? {
                    JWT_BEARER => Ok(Self::Assertion(assertion)),
                    JWT_SPIFFE => Ok(Self::Svid(assertion)),
                    _ => Err(CredentialsError::AssertionType.into()),
                }
            }
            _ => Err(CredentialsError::SeveralMethods.into()),
        }
    }
}

/// The caller of a request, as far as it is proved.
pub struct Caller {
    client: Option<(Arc<Client>, NotSuspended)>,
    assertion: Option<Verified<ClientAssertion>>,
    first_use: Option<FirstUse>,
    is_subject: bool,
}

impl Caller {
    /// The authenticated client; none if the caller presented nothing.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref().map(|(client, _)| &**client)
    }

    /// The authenticated client, by value.
    #[must_use]
    pub fn into_client(self) -> Option<Arc<Client>> {
        self.client.map(|(client, _)| client)
    }

    /// Returns true if the client is `workload` itself, because a configured issuer vouches for it.
    pub(super) fn is(&self, workload: &Workload) -> bool {
        let vouched = self.assertion.as_ref().is_some_and(|assertion| assertion.workload().name == workload.name);
        self.is_subject || vouched
    }

    /// The first use of the client's assertion, which is reserved before the assertion counts.
    pub(super) fn first_use(&self) -> Option<FirstUse> {
        self.first_use.or(self.assertion.as_ref().and_then(Verified::first_use))
    }

    /// The key that the client's assertion is bound to.
    pub(super) fn bound_to(&self) -> Option<&ConfirmationKey> {
        self.assertion.as_ref().and_then(Verified::bound_to)
    }

    /// Takes the caller as the subject of an exchange, for the client_credentials grant (RFC 6749 §4.4).
    pub(super) fn take_subject(&mut self, trail: &mut AuditTrail) -> Result<Verified<SubjectToken>, ClientError> {
        if self.client.is_none() {
            return Err(ClientError::Required);
        }
        let assertion = self.assertion.take().ok_or(ClientError::Grant)?;
        self.is_subject = true;
        Ok(assertion.into_subject(trail))
    }
}

/// Authenticates clients.
pub struct ClientAuth {
    /// This broker's issuer identifier, which is the audience of client assertions.
    issuer: String,
    attempts: Attempts,
    revocations: Arc<Revocations>,
    reservations: Arc<dyn Reservations>,
}

/// A proven client, with the assertion that proved it, if one did.
struct Proven<'a> {
    client: &'a Arc<Client>,
    assertion: Option<Verified<ClientAssertion>>,
    first_use: Option<FirstUse>,
}

impl<'a> From<&'a Arc<Client>> for Proven<'a> {
    fn from(client: &'a Arc<Client>) -> Self {
        Self { client, assertion: None, first_use: None }
    }
}

/// The request that a client authenticates for.
#[derive(Clone, Copy)]
pub struct AuthRequest<'a> {
    /// The parameters.
    pub form: &'a Form,
    /// The address that the request came from.
    pub peer: IpAddr,
    /// The configuration in force.
    pub snapshot: &'a Snapshot,
    /// The time of the request.
    pub now: Timestamp,
}

impl ClientAuth {
    /// Returns an authenticator for the broker `issuer`.
    #[must_use]
    pub fn new(
        issuer: String,
        revocations: Arc<Revocations>,
        reservations: Arc<dyn Reservations>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { issuer, attempts: Attempts::new(clock), revocations, reservations }
    }

    /// Authenticates the caller. A registered `client_id` without credentials is refused; any other `client_id` without
    /// credentials is a hint.
    ///
    /// # Errors
    /// [`ClientError`] if the credentials prove no client, [`RequestError`] if they are malformed.
    pub(super) async fn authenticate(
        &self,
        request: AuthRequest<'_>,
        basic: Option<Credentials>,
        trail: &mut AuditTrail,
    ) -> Result<Caller, Error> {
        let AuthRequest { form, peer, snapshot, .. } = request;
        let claimed = form.single(Parameter::ClientId)?;
        let clients = &snapshot.clients;
        let proven: Proven<'_> = match PresentedCredentials::read(form, basic)? {
            PresentedCredentials::Nothing if claimed.is_some_and(|id| clients.find(id).is_some()) => {
                return Err(ClientError::Refused.into());
            }
            PresentedCredentials::Nothing => {
                return Ok(Caller { client: None, assertion: None, first_use: None, is_subject: false });
            }
            PresentedCredentials::Basic(credentials) => {
                // Wrong secrets count for the registered client, in whichever way its id is encoded; all unregistered
                // ids count as one.
                let named = credentials.readings.iter().find(|(id, _)| clients.find(id).is_some());
                let id = named.map(|(id, _)| id.clone()).unwrap_or_default();
                self.by_secret(&id, peer, || clients.by_basic(&credentials))?.into()
            }
            PresentedCredentials::Post(id, secret) => {
                let named = clients.find(&id).map(|client| client.id.as_str()).unwrap_or_default();
                self.by_secret(named, peer, || clients.by_post(&id, &secret))?.into()
            }
            PresentedCredentials::Assertion(token) => {
                let names_client = token.names_client(snapshot.issuers.bounds());
                match names_client.as_deref().and_then(|id| clients.find(id)) {
                    Some(client) => self.by_own_key(&token, client, request, trail).await?,
                    None => self.by_issuer(&token, request, false, trail).await?,
                }
            }
            PresentedCredentials::Svid(token) => self.by_issuer(&token, request, true, trail).await?,
        };
        let Proven { client, assertion, first_use } = proven;
        if claimed.is_some_and(|id| id != client.id.as_str()) {
            return Err(RequestError::from(CredentialsError::Mismatch).into());
        }
        trail.client(&client.id);
        let not_suspended = self.not_suspended(Kind::Client, client.id.as_str(), trail)?;
        Ok(Caller { client: Some((Arc::clone(client), not_suspended)), assertion, first_use, is_subject: false })
    }

    /// Authenticates the caller as an exchange does, for an answer that grants nothing: an assertion that counts once
    /// is used here.
    ///
    /// # Errors
    /// Also [`ClientError::Replayed`] if the assertion was used before, and [`Unavailable`] if the store does not
    /// answer.
    pub async fn authenticate_and_use(
        &self,
        request: AuthRequest<'_>,
        basic: Option<Credentials>,
        trail: &mut AuditTrail,
    ) -> Result<Option<Arc<Client>>, Error> {
        let caller = self.authenticate(request, basic, trail).await?;
        // This endpoint takes no proof, so an assertion that is bound to a key cannot be used here.
        Confirmation::fits(None, caller.bound_to(), trail)?;
        if let Some(first_use) = caller.first_use() {
            let reserved = self.reservations.reserve(first_use.into(), request.now).await;
            if reserved.map_err(Unavailable::Store)? != Reserved::Whole(0) {
                return Err(ClientError::Replayed.into());
            }
        }
        Ok(caller.into_client())
    }

    /// Compares a secret, unless too many wrong ones were sent.
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

    /// Verifies an assertion that `client` signed itself (`private_key_jwt`).
    async fn by_own_key<'a>(
        &self,
        token: &Untrusted<ClientAssertion>,
        client: &'a Arc<Client>,
        request: AuthRequest<'a>,
        trail: &mut AuditTrail,
    ) -> Result<Proven<'a>, Error> {
        let Method::PrivateKeyJwt(keys) = &client.method else { return Err(ClientError::Refused.into()) };
        let own = OwnKeys { id: client.id.as_str(), keys, broker: &self.issuer };
        let bounds = request.snapshot.issuers.bounds();
        let first_use = token.verify_own(own, bounds, request.now, trail).await.map_err(refused)?;
        Ok(Proven { client, assertion: None, first_use: Some(first_use) })
    }

    /// Verifies an assertion by which a configured issuer vouches for a registered client.
    async fn by_issuer<'a>(
        &self,
        token: &Untrusted<ClientAssertion>,
        request: AuthRequest<'a>,
        is_svid: bool,
        trail: &mut AuditTrail,
    ) -> Result<Proven<'a>, Error> {
        let AuthRequest { form, snapshot, now, .. } = request;
        let verified = snapshot.issuers.verify_assertion(token, now, trail).await.map_err(refused)?;
        let origin = verified.origin();
        self.not_suspended(Kind::Issuer, &origin.iss, trail)?;
        self.not_suspended(Kind::Workload, &verified.workload().name, trail)?;
        let is_of_spiffe = origin.iss.starts_with("spiffe://");
        let claimed = form.single(Parameter::ClientId)?;
        let client = snapshot.clients.federated(&verified.workload().issuer, &origin.sub, claimed);
        let client = client.filter(|_| is_of_spiffe == is_svid).ok_or(ClientError::Refused)?;
        Ok(Proven { client, assertion: Some(verified), first_use: None })
    }

    fn not_suspended(&self, kind: Kind, id: &str, trail: &mut AuditTrail) -> Result<NotSuspended, ClientError> {
        let suspended = || format!("{id} is suspended");
        let refuse = || trail.refusal(kind.name(), || "not suspended", suspended, ClientError::Suspended);
        self.revocations.not_suspended(kind, id).ok_or_else(refuse)
    }
}

/// An outage is never reported as a fault of the client.
fn refused(fault: AssertionError) -> Error {
    match fault {
        AssertionError::Keys(_) | AssertionError::Behind => fault.into(),
        _ => ClientError::Assertion(fault).into(),
    }
}
