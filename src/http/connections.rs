//! How long a connection may have nothing to answer. The server's own timers watch the first request and an idle
//! connection; whoever has had an answer and then drips the next request is watched by neither.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::Shutdown;
use std::any::Any;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a connection that had its last answer may go on sending: long enough that the answer is read.
const LINGER: Duration = Duration::from_secs(2);

/// A connection, as far as it is watched.
pub(super) struct Connection {
    socket: OwnedFd,
    answering: AtomicBool,
    /// Whether it had its last answer. What is left of a body is read and thrown away, and may have no end.
    ending: AtomicBool,
    /// When it last had an answer, or was accepted.
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
        self.answering.store(false, Ordering::Relaxed);
    }

    fn stays(&self, now: Instant, bound: Duration) -> bool {
        let bound = if self.ending.load(Ordering::Relaxed) { LINGER } else { bound };
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.answering.load(Ordering::Relaxed) || now.saturating_duration_since(since) <= bound
    }
}

/// Every connection that is open.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<Weak<Connection>>>);

impl Connections {
    /// Watches the connection of `stream`, which is TCP or TLS, from now on.
    pub(super) fn accepted(&self, stream: &dyn Any, data: &mut Extensions) {
        let tls = || stream.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
        let Some(tcp) = stream.downcast_ref::<TcpStream>().or_else(tls) else { return };
        let Ok(socket) = tcp.as_fd().try_clone_to_owned() else { return };
        let connection = Connection {
            socket,
            answering: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            since: Mutex::new(now()),
        };
        let connection = Arc::new(connection);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Closes, for ever, what has had nothing to answer for longer than `bound`.
    pub(super) async fn close_idle(self: Arc<Self>, bound: Duration) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = now();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|connection| {
                let Some(connection) = connection.upgrade() else { return false };
                let stays = connection.stays(now, bound);
                if !stays {
                    let _ = rustix::net::shutdown(&connection.socket, Shutdown::Both);
                }
                stays
            });
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn now() -> Instant {
    Instant::now()
}
