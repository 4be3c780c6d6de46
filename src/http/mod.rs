//! The edge. The only folder that knows actix: it reads a request within its limits, hands over what was presented, and
//! renders the answer. It decides nothing.

mod documents;
mod introspect;
mod limits;
mod management;
mod metadata;
mod presented;
mod respond;
mod revoke;
mod tls;
mod token;

pub use documents::documents;
pub use limits::Limits;
pub use tls::{Certificate, TlsError};

use crate::exchange::Broker;
use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpServer};
use metadata::Metadata;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long a connection may be idle: long enough that a client that asks every minute keeps it.
const IDLE: Duration = Duration::from_secs(65);
/// How long requests that are being worked on may take to end when the broker stops, in seconds.
const DRAIN: u64 = 10;

/// What the handlers share.
struct Edge {
    broker: Arc<Broker>,
    limits: Limits,
    metadata: Metadata,
    in_flight: limits::InFlight,
}

/// The public listener's server, on `listener`, with TLS where there is a certificate.
///
/// # Errors
/// When the listener cannot be used.
pub fn public(
    broker: &Arc<Broker>,
    limits: Limits,
    workers: usize,
    listener: TcpListener,
    certificate: Option<&Arc<Certificate>>,
) -> io::Result<Server> {
    let (metadata, base) = Metadata::of(broker.issuer());
    let edge = Data::new(Edge {
        broker: Arc::clone(broker),
        limits,
        metadata,
        in_flight: limits::InFlight::new(limits.in_flight),
    });
    let server = HttpServer::new(move || {
        let routes = {
            let base = base.clone();
            move |app: &mut ServiceConfig| routes(app, &base)
        };
        App::new().app_data(edge.clone()).configure(routes).default_service(web::to(respond::not_found))
    })
    .workers(workers)
    .max_connections(limits.connections)
    .client_request_timeout(limits.head_timeout)
    .tls_handshake_timeout(HANDSHAKE)
    .keep_alive(IDLE)
    .shutdown_timeout(DRAIN)
    .disable_signals();
    Ok(match certificate {
        Some(certificate) => server.listen_rustls_0_23(listener, certificate.server_config())?.run(),
        None => server.listen(listener)?.run(),
    })
}

/// The management listener's server: `/livez` and `/readyz`.
///
/// # Errors
/// When the listener cannot be used.
pub fn management(broker: &Arc<Broker>, listener: TcpListener) -> io::Result<Server> {
    let broker = Data::from(Arc::clone(broker));
    let server = HttpServer::new(move || App::new().app_data(broker.clone()).configure(management::routes));
    Ok(server.workers(1).disable_signals().listen(listener)?.run())
}

/// Runs `future` to its end on this thread, with what servers need around it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    actix_web::rt::System::new().block_on(future)
}

/// Lets what is being worked on end, and stops.
pub async fn stop(server: ServerHandle) {
    server.stop(true).await;
}

fn routes(app: &mut ServiceConfig, base: &str) {
    let post = |path: &str| web::resource(format!("{base}{path}")).default_service(web::to(respond::post_only));
    let get = |path: String| web::resource(path).default_service(web::to(respond::get_only));
    app.service(post("/token").route(web::post().to(token::exchange)))
        .service(post("/introspect").route(web::post().to(introspect::introspect)))
        .service(post("/revoke").route(web::post().to(revoke::revoke)))
        .service(get(format!("{base}/jwks")).route(web::get().to(metadata::jwks)));
    // RFC 8414 §3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery §4 behind it.
    let mut places = vec![
        format!("/.well-known/oauth-authorization-server{base}"),
        format!("{base}/.well-known/openid-configuration"),
    ];
    if !base.is_empty() {
        places.push(format!("/.well-known/openid-configuration{base}"));
    }
    for place in places {
        app.service(get(place).route(web::get().to(metadata::document)));
    }
}
