//! The rules of JWT-SVIDs (JWT-SVID §2 and §3) that a description cannot say.

use crate::assertion::AssertionError;
use crate::domain::{AttributeValue, AttributeValues, SpiffeId};
use countersign_verify::jws::Header;

/// Refuses a header with another member than `alg`, `kid` and `typ` (JWT-SVID §2).
pub(super) fn header(header: &Header) -> Result<(), AssertionError> {
    if header.has_others { Err(AssertionError::HeaderMember) } else { Ok(()) }
}

/// Reads the trust domain and the path from `subject`, which must be the SPIFFE ID of a workload. Its trust domain is
/// the one whose keys verified the token: they were found by it.
pub(super) fn claims(subject: &str, values: &mut AttributeValues) -> Result<(), AssertionError> {
    let id: SpiffeId = subject.parse().map_err(|_| AssertionError::Claim("sub".into()))?;
    values.insert("trust_domain".into(), AttributeValue::Text(id.trust_domain().to_owned()));
    values.insert("path".into(), AttributeValue::Text(id.path().to_owned()));
    Ok(())
}
