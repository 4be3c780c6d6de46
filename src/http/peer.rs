//! Whose address a request has: the peer's, or what the proxies in front of us say of it, where they are trusted.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

/// Each proxy appends to this header whom it was asked by. No other one is read: two that disagree would let the caller
/// choose.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies in front of us.
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    /// True if a warning about an untrusted proxy was logged.
    told: AtomicBool,
}

impl Proxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted, told: AtomicBool::new(false) }
    }

    /// The rightmost hop that is no trusted proxy: what is left of it, the caller can write as it likes.
    pub(super) fn caller(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
        let lines: Vec<&[u8]> = request.headers().get_all(FORWARDED_FOR).map(HeaderValue::as_bytes).collect();
        if !lines.is_empty() && !self.trusts(peer) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%peer, "X-Forwarded-For is ignored, because this peer is none of `server.trusted_proxies`");
        }
        self.rightmost(peer, &lines)
    }

    fn rightmost(&self, peer: IpAddr, lines: &[&[u8]]) -> IpAddr {
        let mut caller = peer;
        // Hop by hop, as bytes: what a caller wrote into the line must not spoil what a proxy added to it.
        let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        while self.trusts(caller) {
            // What no proxy of ours would write is from beyond it: the nearest one that we know answers for it.
            let Some(next) = hops.next().and_then(address) else { break };
            caller = next;
        }
        caller
    }

    /// Returns true if `address` is one of the proxies.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// An address, as proxies write it: with a port or without.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_the_rightmost_hop_that_is_no_proxy_of_ours_is_the_caller() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let caller = |peer: &str, lines: &[&str]| {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            proxies.rightmost(peer.parse().unwrap(), &lines).to_string()
        };
        let spoiled = proxies.rightmost("10.0.0.1".parse().unwrap(), &[b"\xc3\xff\x80, 1.2.3.4"]);
        assert_eq!(spoiled.to_string(), "1.2.3.4", "bytes that are no text hide nothing right of them");
        assert_eq!(caller("192.0.2.9", &["1.2.3.4"]), "192.0.2.9", "a stranger's header is ignored");
        assert_eq!(caller("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(
            caller("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.9.9.9"]),
            "1.2.3.4",
            "a hop that is forged is left of it"
        );
        assert_eq!(caller("10.0.0.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4", "lines are one list");
        assert_eq!(caller("10.0.0.1", &["1.2.3.4:5678"]), "1.2.3.4");
        assert_eq!(caller("2001:db8::1", &["[2001:4860::1]:443"]), "2001:4860::1");
        assert_eq!(caller("10.0.0.1", &["6.6.6.6, unknown"]), "10.0.0.1", "what cannot be read ends the list");
        assert_eq!(caller("10.0.0.1", &[""]), "10.0.0.1");
        assert_eq!(caller("10.0.0.1", &["10.0.0.2, 10.0.0.3"]), "10.0.0.2", "all of them are ours");
        assert_eq!(caller("10.0.0.1", &["::ffff:10.0.0.7"]), "10.0.0.7");
    }
}
