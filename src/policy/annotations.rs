//! The annotations of a policy: `@id` is required, `@max_lifetime` bounds a grant, `@owner`, `@reason` and `@ticket`
//! are for people. Any other one is an error, so that a misspelt bound is never taken for a comment.

use crate::domain::Lifetime;
use cedar_policy::{Effect, Policy};

pub(super) struct Annotations {
    pub(super) id: String,
    pub(super) max_lifetime: Option<Lifetime>,
}

impl Annotations {
    pub(super) fn read(policy: &Policy) -> Result<Self, String> {
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        let plain =
            id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':'));
        if id.is_empty() || id.len() > 128 || !plain {
            return Err("it has no `@id(\"…\")` of 1 to 128 letters, digits, `-`, `_`, `.`, `/` and `:`; give it one"
                .to_owned());
        }
        let mut max_lifetime = None;
        for (name, value) in policy.annotations() {
            match name {
                "id" | "owner" | "reason" | "ticket" => {}
                "max_lifetime" if policy.effect() == Effect::Forbid => {
                    return Err(format!(
                        "`{id}`: `@max_lifetime` bounds a permit and means nothing on a forbid; remove it"
                    ));
                }
                "max_lifetime" => {
                    max_lifetime = Some(value.parse().map_err(|fault| format!("`{id}`: `@max_lifetime`: {fault}"))?)
                }
                other => {
                    let known = "id, max_lifetime, owner, reason, ticket";
                    return Err(format!("`{id}`: unknown annotation `@{other}`; known are {known}"));
                }
            }
        }
        Ok(Self { id, max_lifetime })
    }
}
