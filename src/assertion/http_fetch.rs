//! The one HTTP client of the broker: it fetches what issuers publish. Bounded in size and time, never redirected,
//! never by a proxy of the environment, and never to a private address unless the issuer's entry says so; the addresses
//! that are checked are the ones that are dialled, so a name cannot change its mind in between.

use crate::domain::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::future::Future;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// The largest document that is read, in bytes. The largest known JWKS takes some 12 KiB.
pub(super) const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Time limits of a connection and of the whole fetch.
const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(5);

/// Why a document was not fetched. Never holds a byte of what was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Neither https nor, for an issuer that may use private addresses, http to a loopback address.
    #[error("the URL is not https")]
    NotHttps,
    /// A private, loopback, link-local or otherwise special address.
    #[error("the address is not public; set `allow_private_addresses = true` for this issuer if that is intended")]
    PrivateAddress,
    /// Larger than 256 KiB.
    #[error("the document is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// Not 200. Redirects are not followed.
    #[error("the answer has HTTP status {0}, not 200")]
    Status(u16),
    /// It took longer than five seconds.
    #[error("the answer did not arrive whole within five seconds")]
    Timeout,
    /// Name resolution, connection or TLS failed.
    #[error("{0}")]
    Connection(String),
    /// The certificates to trust, or the file itself, cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    File(String, String),
}

/// Fetches documents for one class of issuers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: reqwest::Client,
    allow_private: bool,
}

impl Fetcher {
    /// A client that trusts the machine's certificates, or those of `ca` (PEM) instead.
    ///
    /// # Errors
    /// [`FetchError::File`] when `ca` cannot be read, [`FetchError::Connection`] when TLS cannot be set up.
    pub fn new(allow_private: bool, ca: Option<&Path>) -> Result<Self, FetchError> {
        Self::resolving(Arc::new(Machine), allow_private, ca)
    }

    /// Returns a client as [`Fetcher::new`] does, with `names` to resolve hosts.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn resolving(names: Arc<dyn Names>, allow_private: bool, ca: Option<&Path>) -> Result<Self, FetchError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guard { names, allow_private }));
        if let Some(path) = ca {
            let fault = |fault: String| FetchError::File(path.display().to_string(), fault);
            let certificates =
                reqwest::Certificate::from_pem_bundle(&read_file(path)?).map_err(|error| fault(error.to_string()))?;
            if certificates.is_empty() {
                return Err(fault("it holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|fault| FetchError::Connection(describe(&fault)))?;
        Ok(Self { client, allow_private })
    }

    /// Fetches the document at `url`, with what time it is there, where the server says.
    ///
    /// # Errors
    /// [`FetchError`] for anything but a whole 200 answer within the bounds.
    pub async fn get(&self, url: &str) -> Result<(Vec<u8>, Option<Timestamp>), FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::NotHttps)?;
        // A literal address never reaches the resolver, so it is judged here.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::NotHttps),
        };
        let loopback = self.allow_private && literal.is_some_and(|address| address.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(FetchError::NotHttps);
        }
        if !self.allow_private && literal.is_some_and(|address| !is_public(address)) {
            return Err(FetchError::PrivateAddress);
        }
        let fault = |fault: reqwest::Error| match &fault {
            slow if slow.is_timeout() => FetchError::Timeout,
            other if describe(other).contains(NOT_PUBLIC) => FetchError::PrivateAddress,
            other => FetchError::Connection(describe(other)),
        };
        let mut answer = self.client.get(url).header("accept", "application/json").send().await.map_err(fault)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        if answer.content_length().is_some_and(|length| length > MAX_DOCUMENT_BYTES as u64) {
            return Err(FetchError::TooLarge);
        }
        let header =
            |name| answer.headers().get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
        // A cache may keep the original `Date` or replace it, and does not say which, so its `Date` is not used.
        let there = header("date").and_then(Timestamp::from_http_date).filter(|_| header("age").is_none());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, there))
    }
}

/// Reads a local document within the same bound.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, FetchError> {
    let fault = |fault: std::io::Error| FetchError::File(path.display().to_string(), fault.to_string());
    let mut body = Vec::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    file.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut body).map_err(fault)?;
    if body.len() > MAX_DOCUMENT_BYTES { Err(FetchError::TooLarge) } else { Ok(body) }
}

/// Returns true if both URLs have the same scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin().is_tuple() && a.origin() == b.origin(),
        _ => false,
    }
}

/// The innermost cause, without the URL: that is what an operator can act on.
fn describe(fault: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = fault;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().take(200).collect()
}

const NOT_PUBLIC: &str = "resolves to an address that is not public";

/// The resolution of host names.
pub trait Names: Send + Sync {
    /// The addresses of `host`.
    fn addresses(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The resolver of the machine.
struct Machine;

impl Names for Machine {
    fn addresses(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// Hands out what it has judged and nothing else, so that no second look-up can say another thing.
struct Guard {
    names: Arc<dyn Names>,
    allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allow_private) = (self.names.addresses(name.as_str().to_owned()), self.allow_private);
        Box::pin(async move {
            let found = found.await?;
            // One private address among public ones refuses them all: it has no business there.
            if !allow_private && found.iter().any(|address| !is_public(*address)) {
                return Err(NOT_PUBLIC.into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// Global unicast alone, less what carries an IPv4 address inside (6to4, Teredo, NAT64, ISATAP) or documents.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    let isatap = matches!(segments, [_, _, _, _, 0 | 0x200, 0x5efe, _, _]);
    let special =
        first == 0x2002 || (first == 0x2001 && (second < 0x200 || second == 0xdb8)) || first == 0x3fff || isatap;
    (0x2000..0x4000).contains(&first) && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_only_public_addresses_are_dialled() {
        let public = [
            "1.1.1.1",
            "140.82.112.3",
            "100.128.0.1",
            "192.1.0.1",
            "192.0.1.1",
            "1.0.0.1",
            "192.88.98.1",
            "192.87.99.1",
            "1.88.99.1",
            "1.18.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2a00:1::1",
            "2001:200::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        let refused = [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "192.88.99.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "2606:4700::5efe:7f00:1",
        ];
        for address in refused {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn b8_one_private_address_among_public_ones_refuses_them_all() {
        struct Both;
        impl Names for Both {
            fn addresses(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
                Box::pin(async { Ok(vec![[1, 1, 1, 1].into(), [127, 0, 0, 1].into()]) })
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let resolve = |allow_private| {
            let guard = Guard { names: Arc::new(Both), allow_private };
            runtime.block_on(guard.resolve("idp.test".parse().unwrap())).is_ok()
        };
        // Nothing is dialled: what a connection would be made to is looked at.
        assert_eq!([resolve(false), resolve(true)], [false, true]);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same_origin("https://a.test/x", "https://a.test:443/y"));
        for other in ["http://a.test/x", "https://b.test/x", "https://a.test:8443/x", "file:///x", "x"] {
            assert!(!same_origin("https://a.test/x", other), "{other}");
        }
    }
}
