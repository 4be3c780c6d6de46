//! Targets: the registered audiences that tokens are minted for.

use super::{Audience, Lifetime, Scopes};
use countersign_verify::key::Algorithm;
use std::collections::HashMap;
use std::sync::Arc;

/// A registered audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The `aud` of the target's tokens.
    pub audience: Audience,
    /// The scopes that it knows; a target without scopes knows none.
    pub scopes: Scopes,
    /// The longest life of a token for it.
    pub max_lifetime: Lifetime,
    /// The algorithm of the target's tokens.
    pub algorithm: Algorithm,
    /// True if only an authenticated client gets a token.
    pub client_required: bool,
    /// True if each token has an entry of a status list.
    pub status_list: bool,
    /// The owner, for policy and people.
    pub owner: Option<String>,
    /// The environment, e.g. `production`.
    pub environment: Option<String>,
    /// The sensitivity of the target's data, e.g. `internal`.
    pub sensitivity: Option<String>,
}

/// All targets, by every name that a request may use for them.
#[derive(Debug, Default)]
pub struct Targets {
    by_name: HashMap<String, Arc<Target>>,
    /// The broker itself, for which a task is opened.
    own: Option<Arc<Target>>,
}

impl Targets {
    /// Registers `target` under its audience and under `resources`. Gives back the first name that is already taken.
    ///
    /// # Errors
    /// The name that another target has.
    pub fn register(&mut self, target: Target, resources: &[String]) -> Result<(), String> {
        let target = Arc::new(target);
        let own = target.audience.as_str().to_owned();
        for name in std::iter::once(&own).chain(resources) {
            if self.by_name.insert(name.clone(), Arc::clone(&target)).is_some_and(|other| other != target) {
                return Err(name.clone());
            }
        }
        Ok(())
    }

    /// Adds the broker itself, by its issuer identifier: an exchange for it opens a task.
    #[must_use]
    pub fn with_own(mut self, target: Target) -> Self {
        self.own = Some(Arc::new(target));
        self
    }

    /// The target that `name` stands for, byte for byte.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Target>> {
        self.by_name.get(name).or(self.own.as_ref().filter(|own| own.audience.as_str() == name))
    }

    /// Every registered target once.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.by_name.iter().filter(|(name, target)| name.as_str() == target.audience.as_str()).map(|(_, target)| target)
    }
}

/// Returns true if `text` is an absolute URI without a fragment (RFC 3986 §4.3, RFC 8707 §2), in printable ASCII.
#[must_use]
pub fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !rest.is_empty()
        && text.len() <= 1024
        && rest.bytes().all(|byte| {
            byte.is_ascii_graphic()
                && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        })
}
