//! Scopes (RFC 6749 §3.3): case-sensitive names, kept as a set in the order they were first named.

use super::Malformed;
use std::fmt;
use std::str::FromStr;

/// Limit of scopes that a target may register and a request may name.
pub const MAX_SCOPES: usize = 32;

/// A scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(String);

impl Scope {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let fits = (1..=256).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed("a scope is 1 to 256 printable ASCII characters without spaces, `\"` and `\\`"))
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A set of at most [`MAX_SCOPES`] scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Returns true if there is no scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if `scope` is one of these.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Returns true if each of these is one of `others`.
    #[must_use]
    pub fn is_subset(&self, others: &Self) -> bool {
        self.0.iter().all(|scope| others.contains(scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            if !set.contains(&scope) {
                set.0.push(scope);
            }
        }
        set
    }
}

impl FromStr for Scopes {
    type Err = Malformed;

    /// Reads names separated by one space each (RFC 6749 §3.3); the empty text names none.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut scopes = Vec::new();
        for name in text.split(' ') {
            if scopes.len() >= MAX_SCOPES {
                return Err(Malformed("at most 32 scopes can be named"));
            }
            scopes.push(name.parse()?);
        }
        Ok(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(out, "{gap}{scope}")?;
        }
        Ok(())
    }
}
