//! Limits of idle connections. The server's own timers watch the first request and an idle connection; they do not
//! watch a caller that had an answer and then drips its next request.

use super::peer::Proxies;
use crate::domain::Network;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::Shutdown;
use rustix::net::sockopt::set_socket_linger;
use std::any::Any;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Interval at which connections are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a connection may go on sending after its last answer: long enough that the answer is read.
const LINGER: Duration = Duration::from_secs(2);

/// A connection, as far as it is watched.
pub(super) struct Connection {
    socket: OwnedFd,
    answering: AtomicBool,
    /// True after the connection's last answer. The rest of a body is read and dropped, and may have no end.
    ending: AtomicBool,
    /// True if the connection was shut down, and the server has not dropped it yet.
    shut: AtomicBool,
    /// The time of its last answer, or of its acceptance.
    since: Mutex<Instant>,
}

impl Connection {
    /// A request is there, and has no answer yet.
    pub(super) fn asked(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    /// The request has its answer, which may be the last one.
    pub(super) fn answered(&self, last: bool) {
        self.ending.store(last, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = now();
        self.answering.store(false, Ordering::Release);
    }

    fn stays(&self, now: Instant, bound: Duration) -> bool {
        // First: what is answered after this look has a later `since`.
        let answering = self.answering.load(Ordering::Acquire);
        let bound = if self.ending.load(Ordering::Relaxed) { LINGER } else { bound };
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        answering || now.saturating_duration_since(since) <= bound
    }
}

/// Every connection that is open.
pub(super) struct Connections {
    open: Mutex<HashMap<Network, Vec<Weak<Connection>>>>,
    /// Limit of connections from one network, except the proxies in front of us.
    most_of_one: usize,
    proxies: Arc<Proxies>,
}

impl Connections {
    pub(super) fn new(most_of_one: usize, proxies: Arc<Proxies>) -> Self {
        Self { open: Mutex::default(), most_of_one, proxies }
    }

    /// Watches the connection of `stream`, which is TCP or TLS, from now on; one too many of its network is closed at
    /// once.
    pub(super) fn accepted(&self, stream: &dyn Any, data: &mut Extensions) {
        let tls = || stream.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
        let Some(tcp) = stream.downcast_ref::<TcpStream>().or_else(tls) else { return };
        let peer = tcp.peer_addr().map(|peer| peer.ip().to_canonical());
        let socket = tcp.as_fd().try_clone_to_owned();
        let (Ok(peer), Ok(socket)) = (peer, socket) else {
            // What cannot be watched is not served: descriptors run out when somebody floods us.
            let _ = rustix::net::shutdown(tcp, Shutdown::Both);
            return;
        };
        let network = Network::from(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.entry(network).or_default();
        let is_proxy = self.proxies.trusts(peer);
        if !is_proxy && own.len() >= self.most_of_one {
            own.retain(|connection| connection.strong_count() > 0);
        }
        if !is_proxy && own.len() >= self.most_of_one {
            let _ = rustix::net::shutdown(&socket, Shutdown::Both);
            return;
        }
        let connection = Arc::new(Connection {
            socket,
            answering: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            since: Mutex::new(now()),
        });
        own.push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Closes, for ever, what has had nothing to answer for longer than `bound`.
    pub(super) async fn close_idle(self: Arc<Self>, bound: Duration) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = now();
            self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, own| {
                own.retain(|connection| {
                    let Some(connection) = connection.upgrade() else { return false };
                    if connection.stays(now, bound) {
                        return true;
                    }
                    if connection.shut.swap(true, Ordering::Relaxed) {
                        // Nobody reads it, so its end is not seen either: reset, and who still sends is told.
                        let _ = rustix::net::connect_unspec(&connection.socket);
                        return false;
                    }
                    // Closed with a reset, even where all that came was read: who still sends learns it now, not from a
                    // probe a minute later.
                    let _ = set_socket_linger(&connection.socket, Some(Duration::ZERO));
                    let _ = rustix::net::shutdown(&connection.socket, Shutdown::Both);
                    true
                });
                !own.is_empty()
            });
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn now() -> Instant {
    Instant::now()
}
