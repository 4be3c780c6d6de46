//! Public keys as their issuers publish them (RFC 7517), read once and ready to verify. Never holds a symmetric or a
//! private key: a set that offers one is told apart, not used.

use crate::json;
use crate::jws::BadSignature;
use crate::rsa;
use aws_lc_rs::signature as aws;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// Limit of keys in a set. GitHub publishes about ten; a larger set is refused.
pub const MAX_KEYS: usize = 64;

/// The asymmetric signature algorithms that are supported (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the name that the documents give it")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    /// Ed25519, under its name `Ed25519` (RFC 9864) or its older one, `EdDSA`. Ed448 is not supported under either.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, in the order of the enum.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The name in a JOSE header, e.g. `ES256`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    fn rsa(self) -> Option<&'static aws::RsaParameters> {
        match self {
            Self::Rs256 => Some(&aws::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&aws::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&aws::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&aws::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&aws::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&aws::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// No algorithm of this name is supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no supported signature algorithm has this name")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Names compare case-sensitively (RFC 7515 §4.1.1).
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        if name == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm)
    }
}

/// The use of a set's keys. The member `use` decides it, and the two uses never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// An issuer's JWKS: `use` is absent or `sig` (RFC 7517 §4.2).
    Signature,
    /// A SPIFFE bundle: `use` is `jwt-svid` and `kid` is present (JWT-SVID §6).
    JwtSvid,
}

/// Why one key of a set is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another `kty`, `crv`, `use`, `key_ops` or `alg`: the key is for something else.
    #[error("is for another use, or its kind is not supported")]
    NotForUs,
    /// A private or symmetric key was published. Its owner should replace it at once.
    #[error("holds private or symmetric key material")]
    Secret,
    /// A member is missing, malformed, too small or too large, or the point is not on the curve.
    #[error("is malformed, too small or too large")]
    Malformed,
    /// Another key of the set has the same `kid`; neither is used.
    #[error("shares its kid with another key")]
    DuplicateKid,
}

/// A set of keys could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The document is not a JSON object with an array named `keys` (RFC 7517 §5).
    #[error("the document is not a JWK Set")]
    Malformed,
    /// More than [`MAX_KEYS`] keys.
    #[error("the set holds more than {MAX_KEYS} keys")]
    TooMany,
}

/// A public key with the algorithms that it may verify.
#[derive(Debug)]
pub struct VerifyingKey {
    key_id: Option<String>,
    verifiers: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Aws(aws::ParsedPublicKey),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Verifier")
    }
}

fn rsa_verifiers(n: &[u8], e: &[u8], allowed: &[Algorithm]) -> Result<Vec<(Algorithm, Verifier)>, KeyError> {
    rsa::is_sound(n, e)?;
    let verifier = |algorithm: &Algorithm| {
        let parameters = algorithm.rsa()?;
        let key = aws::RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters);
        Some(key.map(|key| (*algorithm, Verifier::Aws(key))).map_err(|_| KeyError::Malformed))
    };
    allowed.iter().filter_map(verifier).collect()
}

fn ec_verifier(
    curve: &str,
    bytes: impl Fn(&str) -> Result<Vec<u8>, KeyError>,
) -> Result<(Algorithm, Verifier), KeyError> {
    let (algorithm, parameters, length): (_, &'static aws::EcdsaVerificationAlgorithm, usize) = match curve {
        "P-256" => (Algorithm::Es256, &aws::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::Es384, &aws::ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (Algorithm::Es512, &aws::ECDSA_P521_SHA512_FIXED, 66),
        _ => return Err(KeyError::NotForUs),
    };
    let (x, y) = (bytes("x")?, bytes("y")?);
    // If one number is too short and the other too long, the point as a whole has the right length.
    if x.len() != length {
        return Err(KeyError::Malformed);
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = aws::ParsedPublicKey::new(parameters, point).map_err(|_| KeyError::Malformed)?;
    Ok((algorithm, Verifier::Aws(key)))
}

fn ed25519_verifier(x: Vec<u8>) -> Result<(Algorithm, Verifier), KeyError> {
    let x: [u8; 32] = x.try_into().map_err(|_| KeyError::Malformed)?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&x).map_err(|_| KeyError::Malformed)?;
    if key.is_weak() {
        return Err(KeyError::Malformed);
    }
    Ok((Algorithm::EdDsa, Verifier::Ed25519(Box::new(key))))
}

impl VerifyingKey {
    /// Reads one JWK. `algorithms` are those that its owner may use: an RSA key that names none verifies these alone.
    ///
    /// # Errors
    /// [`KeyError`] says why the key is not used.
    pub fn from_jwk(jwk: &Map<String, Value>, usage: KeyUse, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.contains_key(*member)) {
            return Err(KeyError::Secret);
        }
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(KeyError::Malformed),
        };
        let key_id = text("kid")?.map(str::to_owned);
        match (usage, text("use")?) {
            (KeyUse::Signature, None | Some("sig")) => {}
            (KeyUse::JwtSvid, Some("jwt-svid")) if key_id.is_some() => {}
            _ => return Err(KeyError::NotForUs),
        }
        if let Some(operations) = jwk.get("key_ops") {
            let operations = operations.as_array().ok_or(KeyError::Malformed)?;
            if !operations.iter().any(|operation| operation == "verify") {
                return Err(KeyError::NotForUs);
            }
        }
        let pinned = text("alg")?.map(str::parse::<Algorithm>).transpose().map_err(|_| KeyError::NotForUs)?;
        let wanted = |algorithm: &Algorithm| pinned.is_none_or(|pinned| pinned == *algorithm);
        let allowed: Vec<Algorithm> = algorithms.iter().copied().filter(wanted).collect();
        let bytes = |name: &str| {
            let encoded = text(name)?.ok_or(KeyError::Malformed)?;
            URL_SAFE_NO_PAD.decode(encoded).map_err(|_| KeyError::Malformed)
        };
        let mut verifiers = match (text("kty")?, text("crv")?) {
            (Some("RSA"), None) => rsa_verifiers(&bytes("n")?, &bytes("e")?, &allowed)?,
            (Some("EC"), Some(curve)) => vec![ec_verifier(curve, bytes)?],
            (Some("OKP"), Some("Ed25519")) => vec![ed25519_verifier(bytes("x")?)?],
            _ => return Err(KeyError::NotForUs),
        };
        verifiers.retain(|(algorithm, _)| allowed.contains(algorithm));
        if verifiers.is_empty() { Err(KeyError::NotForUs) } else { Ok(Self { key_id, verifiers }) }
    }

    /// `kid`, compared byte for byte.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Returns true if this key may verify `algorithm`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(own, _)| *own == algorithm)
    }

    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let (_, verifier) = self.verifiers.iter().find(|(own, _)| *own == algorithm).ok_or(BadSignature)?;
        match verifier {
            Verifier::Aws(key) => key.verify_sig(message, signature).map_err(|_| BadSignature),
            Verifier::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| BadSignature)?;
                // `verify_strict` refuses small-order points, so that one signature fits one message and key alone.
                key.verify_strict(message, &signature).map_err(|_| BadSignature)
            }
        }
    }
}

/// The public keys of one owner, by `kid`.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    by_id: HashMap<String, usize>,
}

/// A key of a set that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The key's place in `keys`, from 0.
    pub index: usize,
    /// The reason why the key is not used.
    pub reason: KeyError,
}

/// Why a set has no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// No key has this `kid`: the set may be out of date.
    #[error("the issuer has no key with the token's `kid`")]
    UnknownKid,
    /// The key with this `kid` is not for this `alg`, or no key is.
    #[error("the issuer's key is not for the token's algorithm")]
    WrongAlgorithm,
    /// The token names no `kid` and more than one key would fit.
    #[error("the token has no `kid`, and the issuer has several keys for its algorithm")]
    Ambiguous,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 §5). Keys that cannot be used are left out and told, so that one bad key does not
    /// drop the others; an empty set is a set.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is not a JWK Set or holds too many keys.
    pub fn from_jwks(
        document: &[u8],
        usage: KeyUse,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<Skipped>), KeySetError> {
        let members = json::object(document).map_err(|_| KeySetError::Malformed)?;
        let keys = members.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut skipped = Vec::new();
        let mut read: Vec<(usize, VerifyingKey)> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let jwk = key.as_object().ok_or(KeyError::Malformed);
            match jwk.and_then(|jwk| VerifyingKey::from_jwk(jwk, usage, algorithms)) {
                Ok(key) => read.push((index, key)),
                Err(reason) => skipped.push(Skipped { index, reason }),
            }
        }
        let mut uses: HashMap<String, usize> = HashMap::new();
        for kid in keys.iter().filter_map(|key| key.get("kid").and_then(Value::as_str)) {
            *uses.entry(kid.to_owned()).or_default() += 1;
        }
        let mut set = Self::default();
        for (index, key) in read {
            if key.key_id().is_some_and(|kid| uses.get(kid).is_some_and(|count| *count > 1)) {
                skipped.push(Skipped { index, reason: KeyError::DuplicateKid });
            } else {
                set.add(key);
            }
        }
        Ok((set, skipped))
    }

    /// Adds `key`. One with the same `kid` is replaced in look-ups.
    pub fn add(&mut self, key: VerifyingKey) {
        if let Some(kid) = key.key_id() {
            self.by_id.insert(kid.to_owned(), self.keys.len());
        }
        self.keys.push(key);
    }

    /// The key for a token whose header names `key_id` and `algorithm`. Without a `kid`, the one key that fits.
    ///
    /// # Errors
    /// [`NoKey`] when no key fits, or without a `kid` more than one.
    pub fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Result<&VerifyingKey, NoKey> {
        if let Some(kid) = key_id {
            let key = self.by_id.get(kid).and_then(|index| self.keys.get(*index)).ok_or(NoKey::UnknownKid)?;
            return if key.verifies(algorithm) { Ok(key) } else { Err(NoKey::WrongAlgorithm) };
        }
        let mut fitting = self.keys.iter().filter(|key| key.verifies(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::WrongAlgorithm),
        }
    }

    /// Returns true if a key has this `kid`.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.by_id.contains_key(key_id)
    }

    /// Returns the number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if no key is usable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
