//! Kind `oidc`: any OpenID Connect issuer, by its ID Tokens or plain JWTs (OpenID Connect Core §2). Its workloads are
//! named by `sub`. An assertion is single use unless its entry says otherwise: kubelet's files, HCP Terraform and Entra
//! hand out the same token again until it expires, and need `single_use = false`.

use crate::domain::Attributes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The longest tag value that policy sees, in bytes.
const MAX_TAG: usize = 1024;

/// The claims that `tags` names, as string tags. A claim that is no string gives no tag, so that nothing matches it.
pub(super) fn attributes(claims: &Map<String, Value>, tags: &BTreeMap<String, String>) -> Attributes {
    let tag = |(tag, claim): (&String, &String)| {
        let value = claims.get(claim).and_then(Value::as_str).filter(|value| value.len() <= MAX_TAG)?;
        Some((tag.clone(), value.to_owned()))
    };
    Attributes::Oidc(tags.iter().filter_map(tag).collect())
}
