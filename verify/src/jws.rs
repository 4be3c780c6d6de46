//! The envelope of a compact JWS (RFC 7515 §7.1), read strictly. Nothing of the payload can be read from a [`Compact`]
//! but where to look for the key; [`Compact::verify`] consumes it and gives the [`Payload`].

use crate::json::{self, JsonError};
use crate::key::{Algorithm, VerifyingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;

/// The longest token that is looked at, in bytes. Real assertions take 0.5 to 4 KiB; AWS accepts up to 20 000
/// characters.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest `kid` that is looked up, in bytes. Real ones are at most a SHA-256 in hexadecimal.
pub const MAX_KID_BYTES: usize = 256;

/// The size limits of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Size limit of the whole token, in bytes.
    pub token_bytes: usize,
    /// Limit of nesting in header and payload.
    pub json_depth: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { token_bytes: MAX_TOKEN_BYTES, json_depth: json::MAX_DEPTH }
    }
}

/// Why bytes are not a compact JWS that this crate reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than [`Bounds::token_bytes`].
    #[error("the token is larger than the limit")]
    TooLong,
    /// Not three parts of unpadded, canonical base64url. A JWE has five, JSON serialisation has braces.
    #[error("the token is not three parts of unpadded base64url joined by dots (a compact JWS)")]
    NotCompact,
    /// The header cannot be read.
    #[error("the token's header {0}")]
    Header(JsonError),
    /// The payload cannot be read.
    #[error("the token's payload {0}")]
    Payload(JsonError),
    /// `alg`, `kid` or `typ` is not a string, or `alg` is missing, or `kid` is longer than [`MAX_KID_BYTES`].
    #[error("the header's `{0}` is missing or malformed")]
    Member(&'static str),
    /// A member that would change how the token is read or whose key is used (RFC 7515 §4.1.2–4.1.6, §4.1.11; RFC
    /// 7797).
    #[error("the header carries `{0}`, which is not accepted")]
    Forbidden(&'static str),
    /// `alg` names no algorithm that is supported; `none` and the symmetric ones never are (RFC 8725 §3.1).
    #[error("the header's `alg` is not a supported asymmetric algorithm")]
    Algorithm,
}

/// Members that are never accepted: they name another key (`jwk`, `jku`, `x5u`, `x5c`), extensions that must be
/// understood (`crit`), another reading of the payload (`b64`), or encryption and compression (`enc`, `zip`).
const FORBIDDEN: [&str; 8] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"];

/// A compact JWS whose signature has not been checked.
pub struct Compact<'a> {
    signing_input: &'a str,
    header: Header,
    payload: Map<String, Value>,
    signature: Vec<u8>,
}

/// A compact JWS taken apart; its payload may be anything.
pub(crate) struct JwsParts<'a> {
    pub(crate) signing_input: &'a str,
    pub(crate) header: Header,
    /// The header's `jwk`, where such a token may bring one.
    own_key: Option<Value>,
    payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> JwsParts<'a> {
    pub(crate) fn split(token: &'a str, bounds: Bounds) -> Result<Self, EnvelopeError> {
        Self::split_keyed(token, bounds, false)
    }

    /// `keyed`: whether the header may bring a key of its own.
    fn split_keyed(token: &'a str, bounds: Bounds, keyed: bool) -> Result<Self, EnvelopeError> {
        if token.len() > bounds.token_bytes {
            return Err(EnvelopeError::TooLong);
        }
        // Three parts and a fourth if there is one: a token of dots alone is never split whole.
        let mut parts = token.splitn(4, '.');
        let (Some(head), Some(body), Some(tail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EnvelopeError::NotCompact);
        };
        if head.is_empty() || body.is_empty() || tail.is_empty() {
            return Err(EnvelopeError::NotCompact);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| EnvelopeError::NotCompact);
        let mut header = json::object_within(&decode(head)?, bounds.json_depth).map_err(EnvelopeError::Header)?;
        let own_key = if keyed { header.remove("jwk") } else { None };
        let (header, payload, signature) = (Header::read(&header)?, decode(body)?, decode(tail)?);
        let signing_input = token.get(..head.len() + 1 + body.len()).ok_or(EnvelopeError::NotCompact)?;
        Ok(Self { signing_input, header, own_key, payload, signature })
    }

    fn read(self, bounds: Bounds) -> Result<Compact<'a>, EnvelopeError> {
        let Self { signing_input, header, payload, signature, .. } = self;
        let payload = json::object_within(&payload, bounds.json_depth).map_err(EnvelopeError::Payload)?;
        Ok(Compact { signing_input, header, payload, signature })
    }
}

/// The header's members that choose how to verify. All three are untrusted until the signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `alg` (RFC 7515 §4.1.1).
    pub algorithm: Algorithm,
    /// `kid` (RFC 7515 §4.1.4), at most [`MAX_KID_BYTES`] long, compared byte for byte.
    pub key_id: Option<String>,
    /// `typ` (RFC 7515 §4.1.9) in lower case, without a leading `application/`.
    pub media_type: Option<String>,
    /// True if the header has a member beside `alg`, `kid` and `typ`, which a JWT-SVID may not have (JWT-SVID §2).
    pub has_others: bool,
}

/// The claims that choose the key set. They are unverified, and serve only to look up configured names.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// `iss`, if it is a string.
    pub issuer: Option<&'a str>,
    /// `sub`, if it is a string.
    pub subject: Option<&'a str>,
}

/// The members of a payload whose signature holds. Only [`Compact::verify`] makes one.
#[derive(Debug)]
pub struct Payload(Map<String, Value>);

/// The signature does not hold, or the key cannot verify the header's algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Compact({:?})", self.header)
    }
}

impl<'a> Compact<'a> {
    /// Reads the envelope of `token`, within the default [`Bounds`].
    ///
    /// # Errors
    /// As [`Compact::parse_within`].
    pub fn parse(token: &'a str) -> Result<Self, EnvelopeError> {
        Self::parse_within(token, Bounds::default())
    }

    /// Reads the envelope of `token`.
    ///
    /// # Errors
    /// [`EnvelopeError`] for anything but a compact JWS with a strict JSON header and payload.
    pub fn parse_within(token: &'a str, bounds: Bounds) -> Result<Self, EnvelopeError> {
        JwsParts::split(token, bounds)?.read(bounds)
    }

    /// Reads a token whose header brings its own key (`jwk`): only a proof of possession may (RFC 9449 §4.2).
    pub(crate) fn parse_keyed(token: &'a str, bounds: Bounds) -> Result<(Self, Option<Value>), EnvelopeError> {
        let mut parts = JwsParts::split_keyed(token, bounds, true)?;
        let own_key = parts.own_key.take();
        Ok((parts.read(bounds)?, own_key))
    }

    /// The header, unverified.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the claims that choose the key set, unverified.
    #[must_use]
    pub fn routing(&self) -> Routing<'_> {
        let text = |name| self.payload.get(name).and_then(Value::as_str);
        Routing { issuer: text("iss"), subject: text("sub") }
    }

    /// The bytes that the signature covers: header and payload as sent. Two tokens that differ only in how the same
    /// signature is written share them, so first use is claimed by a digest of these and never of the whole token.
    #[must_use]
    pub fn signing_input(&self) -> &'a str {
        self.signing_input
    }

    /// Checks the signature and gives the payload.
    ///
    /// # Errors
    /// [`BadSignature`] when `key` cannot verify the header's algorithm or the signature does not hold.
    pub fn verify(self, key: &VerifyingKey) -> Result<Payload, BadSignature> {
        key.verify(self.header.algorithm, self.signing_input.as_bytes(), &self.signature)?;
        Ok(Payload(self.payload))
    }
}

impl Payload {
    /// The verified members.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The verified members, by value.
    #[must_use]
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }
}

impl Header {
    fn read(members: &Map<String, Value>) -> Result<Self, EnvelopeError> {
        if let Some(name) = FORBIDDEN.into_iter().find(|name| members.contains_key(*name)) {
            return Err(EnvelopeError::Forbidden(name));
        }
        let text = |name: &'static str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(EnvelopeError::Member(name)),
        };
        let algorithm = text("alg")?.ok_or(EnvelopeError::Member("alg"))?;
        let key_id = text("kid")?;
        if key_id.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID_BYTES) {
            return Err(EnvelopeError::Member("kid"));
        }
        Ok(Self {
            algorithm: algorithm.parse().map_err(|_| EnvelopeError::Algorithm)?,
            key_id: key_id.map(str::to_owned),
            media_type: text("typ")?.map(media_type),
            has_others: members.keys().any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")),
        })
    }
}

/// `typ` compares as a media type: in lower case, `application/` understood where there is no `/` (RFC 8725 §3.11).
fn media_type(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    lower.strip_prefix("application/").map_or_else(|| lower.clone(), str::to_owned)
}
