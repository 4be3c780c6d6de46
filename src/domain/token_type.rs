//! Token type identifiers (RFC 8693 §3).

use std::str::FromStr;

/// The registered token types. Which of them an exchange takes and gives is decided where they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// An access token of this very broker.
    AccessToken,
    /// A refresh token of this broker; it issues none.
    RefreshToken,
    /// An OpenID Connect ID Token.
    IdToken,
    /// A JWT of another issuer.
    Jwt,
    /// A base64url-encoded SAML 1.1 assertion.
    Saml1,
    /// A base64url-encoded SAML 2.0 assertion.
    Saml2,
}

const PREFIX: &str = "urn:ietf:params:oauth:token-type:";
const NAMES: [(TokenType, &str); 6] = [
    (TokenType::AccessToken, "urn:ietf:params:oauth:token-type:access_token"),
    (TokenType::RefreshToken, "urn:ietf:params:oauth:token-type:refresh_token"),
    (TokenType::IdToken, "urn:ietf:params:oauth:token-type:id_token"),
    (TokenType::Jwt, "urn:ietf:params:oauth:token-type:jwt"),
    (TokenType::Saml1, "urn:ietf:params:oauth:token-type:saml1"),
    (TokenType::Saml2, "urn:ietf:params:oauth:token-type:saml2"),
];

impl TokenType {
    /// The identifier on the wire.
    #[must_use]
    pub fn urn(self) -> &'static str {
        NAMES.iter().find(|(own, _)| *own == self).map_or(PREFIX, |(_, name)| name)
    }
}

/// No registered token type has this identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTokenType;

impl FromStr for TokenType {
    type Err = UnknownTokenType;

    fn from_str(text: &str) -> Result<Self, UnknownTokenType> {
        NAMES.iter().find(|(_, name)| *name == text).map(|(own, _)| *own).ok_or(UnknownTokenType)
    }
}
