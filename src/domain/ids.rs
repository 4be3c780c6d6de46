//! Names and ids as types that parse. A value of one of these has passed its grammar; none is an alias of `String`.

use super::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

/// Text that does not fit the grammar of the name it was read as. The message says what the grammar is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $fits:expr, $grammar:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text, byte for byte as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.to_owned())) } else { Err(Malformed($grammar)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

fn printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

name!(
    /// The operator's name of an issuer, and the prefix of its workloads' names.
    IssuerName,
    |text| {
        (1..=64).contains(&text.len())
            && text != "spiffe"
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    },
    "an issuer's name is 1 to 64 of `a-z`, `0-9` and `-`, and not `spiffe`"
);
name!(
    /// A registered audience: what a minted token's `aud` says.
    Audience,
    |text| printable(text, 1024),
    "an audience is 1 to 1024 printable ASCII characters without spaces, `\"` and `\\`"
);
name!(
    /// An OAuth client (RFC 6749 §2.2).
    ClientId,
    |text| printable(text, 256),
    "a client id is 1 to 256 printable ASCII characters without spaces, `\"` and `\\`"
);
name!(
    /// A token's `jti`: 128 random bits, base64url.
    TokenId,
    |text| text.len() == 22 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
    "a token id is the 22 characters of a minted token's `jti`"
);
name!(
    /// The id of a decision. Its first part names the replica that decided.
    DecisionId,
    |text| {
        let part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        text.split_once('.').is_some_and(|(replica, rest)| replica.len() == 6 && rest.len() == 16 && part(replica) && part(rest))
    },
    "a decision id is 6 characters, a dot and 16 characters, as in the header `Countersign-Decision`"
);
name!(
    /// A SPIFFE trust domain (SPIFFE-ID §2.1): lower case, never folded.
    TrustDomain,
    |text| {
        (1..=255).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
    },
    "a trust domain is 1 to 255 of `a-z`, `0-9`, `.`, `-` and `_`, without `spiffe://`"
);
name!(
    /// The SPIFFE ID of a workload (SPIFFE-ID §2): a trust domain and a path. The bare ID of a trust domain names the
    /// authority and no workload, so it is none of these.
    SpiffeId,
    |text| {
        let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
            return false;
        };
        let segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        };
        text.len() <= 2048 && domain.parse::<TrustDomain>().is_ok() && path.split('/').all(segment)
    },
    "a SPIFFE ID of a workload is `spiffe://`, a lower-case trust domain and a path of `[A-Za-z0-9._-]` segments"
);

impl DecisionId {
    /// Returns a new id of a decision of `replica`. An id that repeats while randomness is down tells less; what is
    /// decided then is answered 503.
    #[must_use]
    pub fn random(replica: &str, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 12];
        let _ = entropy.fill(&mut random);
        Self::new(replica, &URL_SAFE_NO_PAD.encode(random))
    }

    /// The decision `rest` of `replica`.
    #[must_use]
    pub fn new(replica: &str, rest: &str) -> Self {
        Self(format!("{replica}.{rest}"))
    }
}

impl SpiffeId {
    /// The trust domain's name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// The path with its leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash))
    }
}

/// A workload as policy and minted tokens name it. No two issuers can name the same one: a SPIFFE workload's name is
/// its SPIFFE ID, any other's begins with its issuer's name and a colon, and no issuer is named `spiffe`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadName(String);

impl WorkloadName {
    /// A SPIFFE workload.
    #[must_use]
    pub fn spiffe(id: &SpiffeId) -> Self {
        Self(id.0.clone())
    }

    /// A workload of any other issuer, by what its kind says is stable.
    #[must_use]
    pub fn of_issuer(issuer: &IssuerName, stable: &str) -> Self {
        Self(format!("{issuer}:{stable}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_of_a_workload_follows_the_grammar_byte_for_byte() {
        let longest = format!("spiffe://td.test/{}", "a".repeat(2048 - 17));
        for id in ["spiffe://1.2.3.4/a", "spiffe://a_b.c/X-1", "spiffe://td/ns/a/sa/b", longest.as_str()] {
            assert!(id.parse::<SpiffeId>().is_ok(), "{id}");
        }
        let too_long = format!("{longest}a");
        let long_domain = format!("spiffe://{}/a", "d".repeat(256));
        let refused = [
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///a",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://td/a%2fb",
            "spiffe://TD/a",
            "SPIFFE://td/a",
            "spiffe://td:80/a",
            "spiffe://u@td/a",
            "spiffe://td/a?x",
            "spiffe://td/a#x",
            "spiffe://[::1]/a",
            "spiffe://td/é",
            "spiffe://td/a*",
            "spiffe://td/a ",
            " spiffe://td/a",
            too_long.as_str(),
            long_domain.as_str(),
        ];
        for id in refused {
            assert!(id.parse::<SpiffeId>().is_err(), "{id}");
        }
        let id: SpiffeId = "spiffe://td.test/ns/a".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("td.test", "/ns/a"));
    }

    #[test]
    fn no_issuer_can_name_a_spiffe_workload() {
        for name in ["spiffe", "", "A", "a_b", "a:b", "a/b", "é"] {
            assert!(name.parse::<IssuerName>().is_err(), "{name}");
        }
    }
}
