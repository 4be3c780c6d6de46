//! Kind `spiffe`: JWT-SVIDs, judged by the bundle of the trust domain that `sub` names (JWT-SVID §3, §6). Its workloads
//! are named by their SPIFFE IDs. A JWT-SVID may be presented again unless its entry says otherwise: SPIRE's agents
//! hand out the same one until about half its life, without a `jti` (JWT-SVID §7.1).

use super::AssertionError;
use crate::domain::{Attributes, SpiffeId, TrustDomain};
use countersign_verify::jws::Header;

/// A JWT-SVID's header has `alg`, `kid` and `typ` and nothing else (JWT-SVID §2).
pub(super) fn header(header: &Header) -> Result<(), AssertionError> {
    if header.has_others { Err(AssertionError::HeaderMember) } else { Ok(()) }
}

/// The trust domain that a `sub` names, if it is a workload's SPIFFE ID. Unverified: good for a look-up alone.
pub(super) fn trust_domain_of(subject: &str) -> Option<String> {
    subject.parse::<SpiffeId>().ok().map(|id| id.trust_domain().to_owned())
}

/// The verified SPIFFE ID, which must lie in the trust domain whose keys verified it.
pub(super) fn identity(subject: &str, trust_domain: &TrustDomain) -> Result<(SpiffeId, Attributes), AssertionError> {
    let id: SpiffeId = subject.parse().map_err(|_| AssertionError::Claim("sub"))?;
    if id.trust_domain() != trust_domain.as_str() {
        return Err(AssertionError::Claim("sub"));
    }
    let attributes = Attributes::Spiffe { trust_domain: trust_domain.to_string(), path: id.path().to_owned() };
    Ok((id, attributes))
}
