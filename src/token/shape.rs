//! The shapes of token that the broker mints. A shape says what a token is on the wire, which claims it has, what
//! bounds its life, and what revokes it. Another shape is a variant here, and the compiler asks for the rest.

use super::access::{self, Grant};
use crate::domain::{TokenId, TokenType};
use countersign_verify::claims::AccessClaims;
use countersign_verify::revocation::{Named, names_of};

/// The shape of a minted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenShape {
    /// A token for a target (RFC 9068).
    AccessToken,
    /// A token for the broker itself, which is exchanged for tokens of targets until its deadline.
    TaskToken,
}

/// The bound of a token's life, in addition to target, permits and request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimeRule {
    /// It never outlives the token that was presented.
    WithinSubjectToken,
    /// It lives until the deadline that the request names.
    UntilDeadline,
}

impl TokenShape {
    const ALL: [Self; 2] = [Self::AccessToken, Self::TaskToken];

    /// Chooses the shape of a token for a target, or for the broker itself; none if no shape for it satisfies
    /// `requested`.
    #[must_use]
    pub fn choose(is_broker: bool, requested: Option<TokenType>) -> Option<Self> {
        let shape = if is_broker { Self::TaskToken } else { Self::AccessToken };
        Some(shape).filter(|shape| shape.satisfies(requested))
    }

    /// Returns true if some shape satisfies `requested_token_type` (RFC 8693 §2.1).
    #[must_use]
    pub fn any_satisfies(requested: TokenType) -> bool {
        Self::ALL.into_iter().any(|shape| shape.satisfies(Some(requested)))
    }

    /// Returns true if the shape satisfies `requested_token_type`. An access token of this broker is a JWT too.
    fn satisfies(self, requested: Option<TokenType>) -> bool {
        match self {
            Self::AccessToken | Self::TaskToken => {
                matches!(requested, None | Some(TokenType::AccessToken | TokenType::Jwt))
            }
        }
    }

    /// `issued_token_type` (RFC 8693 §2.2.1).
    #[must_use]
    pub fn issued_token_type(self) -> TokenType {
        match self {
            Self::AccessToken | Self::TaskToken => TokenType::AccessToken,
        }
    }

    /// `typ` of the header.
    #[must_use]
    pub fn typ(self) -> &'static str {
        match self {
            Self::AccessToken | Self::TaskToken => "at+jwt",
        }
    }

    /// The bound of its life.
    #[must_use]
    pub fn lifetime_rule(self) -> LifetimeRule {
        match self {
            Self::AccessToken => LifetimeRule::WithinSubjectToken,
            Self::TaskToken => LifetimeRule::UntilDeadline,
        }
    }

    /// The claims of the token `jti`.
    #[must_use]
    pub fn claims(self, grant: &Grant<'_>, jti: &TokenId) -> AccessClaims {
        let task = match self {
            Self::AccessToken => access::task_of(grant.parent, jti),
            Self::TaskToken => access::own_task(grant, jti),
        };
        access::claims(grant, jti, task)
    }

    /// The names by which a token with these claims, signed by the key `kid`, is revoked.
    pub fn revoked_by<'a>(self, claims: &'a AccessClaims, kid: &'a str) -> impl Iterator<Item = Named> + 'a {
        match self {
            Self::AccessToken | Self::TaskToken => names_of(claims, kid),
        }
    }
}
