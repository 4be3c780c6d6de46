//! The edge. The only folder that knows actix: it reads a request within its limits, hands over what was presented, and
//! renders the answer. It decides nothing.

mod accept;
mod connections;
mod documents;
mod feed;
mod introspect;
mod limits;
mod management;
mod metadata;
mod peer;
mod presented;
mod respond;
mod revoke;
mod status;
mod tls;
mod token;

pub use documents::documents;
pub use limits::Limits;
pub use tls::{Certificate, TlsError};

use crate::admin::Operator;
use crate::domain::DecisionId;
use crate::error::Error;
use crate::exchange::Broker;
use crate::introspection::{Introspector, RevocationFeed, StatusLists};
use crate::signing::{Keys, PublicKeys};
use crate::telemetry::StageTimer;
use actix_web::body::{BodySize, MessageBody as _};
use actix_web::dev::{Server, ServerHandle, Service, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::guard;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::http::{ConnectionType, Method};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Route};
use connections::{Connection, Connections};
use futures_util::FutureExt as _;
use ipnet::IpNet;
use metadata::Metadata;
use peer::Proxies;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time limit of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// The use cases behind the endpoints, all of one broker.
pub struct UseCases {
    /// `/token`.
    pub broker: Arc<Broker>,
    /// `/introspect` and `/revoke`.
    pub introspector: Introspector,
    /// `/revocations`.
    pub feed: Arc<RevocationFeed>,
    /// `/status`.
    pub status_lists: StatusLists,
    /// `/jwks`.
    pub keys: PublicKeys,
    /// The management listener and the control socket.
    pub operator: Arc<Operator>,
}

impl UseCases {
    /// Returns the use cases of `broker` and its `keys`.
    #[must_use]
    pub fn new(broker: &Arc<Broker>, keys: &Arc<Keys>) -> Self {
        let (broker, keys) = (|| Arc::clone(broker), || Arc::clone(keys));
        Self {
            broker: broker(),
            introspector: Introspector::new(broker(), keys()),
            feed: Arc::new(RevocationFeed::new(broker(), keys())),
            status_lists: StatusLists::new(broker(), keys()),
            keys: PublicKeys::new(keys()),
            operator: Arc::new(Operator::new(broker(), keys())),
        }
    }
}

/// The data that the handlers share.
struct Edge {
    use_cases: Arc<UseCases>,
    limits: Limits,
    metadata: Metadata,
    in_flight: limits::InFlight,
    proxies: Arc<Proxies>,
    /// Scheme, host and port that callers know us by: what a proof of possession has to name.
    origin: String,
    /// The URL of the pages about reasons.
    reasons: String,
}

impl Edge {
    fn broker(&self) -> &Broker {
        &self.use_cases.broker
    }

    /// Begins an answer of `endpoint`.
    fn watch(&self, endpoint: &'static str) -> Watch<'_> {
        Watch { edge: self, endpoint, since: StageTimer::now() }
    }

    fn refusal(&self, endpoint: &'static str, decision: &DecisionId, fault: &Error) -> HttpResponse {
        let wire = fault.wire();
        self.broker().metrics().refused(endpoint, wire.reason);
        respond::refusal(decision, &wire, &self.reasons)
    }
}

/// An answer in the making, which is counted when it is there.
struct Watch<'a> {
    edge: &'a Edge,
    endpoint: &'static str,
    since: Instant,
}

impl Watch<'_> {
    fn answered(self, response: HttpResponse) -> HttpResponse {
        self.edge.broker().metrics().answered(self.endpoint, response.status().as_u16(), self.since.elapsed());
        response
    }
}

/// The settings of the public listener.
pub struct Serving<'a> {
    /// The limits of a request.
    pub limits: Limits,
    /// The proxies that say truly whom they were asked by.
    pub trusted_proxies: Vec<IpNet>,
    /// Number of threads that serve requests.
    pub workers: usize,
    /// The longest time for which requests in progress may go on when the broker stops, in seconds.
    pub drain: u64,
    /// The path below which SDKs that know tenants find us.
    pub tenant: Option<String>,
    /// TLS, where there is a certificate.
    pub certificate: Option<&'a Arc<Certificate>>,
}

/// The public listener's server, on `listener`, with TLS where there is a certificate.
///
/// # Errors
/// When the listener cannot be used.
pub fn public(use_cases: &Arc<UseCases>, listener: TcpListener, serving: Serving<'_>) -> io::Result<Server> {
    let Serving { limits, trusted_proxies, workers, drain, tenant, certificate } = serving;
    let issuer = use_cases.broker.snapshot().issuer.clone();
    let (metadata, base) = Metadata::of(&issuer, tenant.as_deref());
    let proxies = Arc::new(Proxies::new(trusted_proxies));
    let edge = Data::new(Edge {
        use_cases: Arc::clone(use_cases),
        limits,
        metadata,
        in_flight: limits::InFlight::new(limits),
        proxies: Arc::clone(&proxies),
        origin: metadata::origin(&issuer),
        reasons: format!("{}/reasons", issuer.trim_end_matches('/')),
    });
    let connections = Arc::new(Connections::new(limits.connections_per_network, proxies));
    // Beyond what an idle connection may take, and a head after it.
    tokio::spawn(Arc::clone(&connections).close_idle(limits.idle.duration() + limits.head_timeout.duration()));
    let accepted = connections;
    let server = HttpServer::new(move || {
        let routes = {
            let (base, tenant) = (base.clone(), tenant.clone());
            move |app: &mut ServiceConfig| routes(app, &base, tenant.as_deref())
        };
        App::new().wrap_fn(watched).app_data(edge.clone()).configure(routes).default_service(web::to(not_found))
    })
    .workers(workers)
    .max_connections(limits.connections)
    // Handshakes that nobody finishes must not keep others from theirs.
    .max_connection_rate(limits.connections)
    .client_request_timeout(limits.head_timeout.duration())
    .tls_handshake_timeout(HANDSHAKE)
    .keep_alive(limits.idle.duration())
    .on_connect(move |stream, data| accepted.accepted(stream, data))
    .shutdown_timeout(drain)
    .disable_signals();
    Ok(match certificate {
        Some(certificate) => server.listen_rustls_0_23(listener, certificate.server_config())?.run(),
        None => server.listen(listener)?.run(),
    })
}

/// The management listener's server: whether the broker lives and can serve, its figures, and the head of its audit
/// log.
///
/// # Errors
/// When the listener cannot be used.
pub fn management(operator: &Arc<Operator>, listener: TcpListener) -> io::Result<Server> {
    let operator = Data::from(Arc::clone(operator));
    let server = HttpServer::new(move || App::new().app_data(operator.clone()).configure(management::routes));
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

fn routes(app: &mut ServiceConfig, base: &str, tenant: Option<&str>) {
    let post = |path: String| web::resource(path).default_service(web::to(post_only));
    let get = |path: String, route: Route| {
        web::resource(path)
            .route(route.guard(guard::Any(guard::Get()).or(guard::Head())))
            .default_service(web::to(get_only))
    };
    app.service(post(format!("{base}/token")).route(web::post().to(token::exchange)))
        .service(post(format!("{base}/introspect")).route(web::post().to(introspect::introspect)))
        .service(post(format!("{base}/revoke")).route(web::post().to(revoke::revoke)))
        .service(post(format!("{base}/revocations")).route(web::post().to(feed::revocations)))
        .service(get(format!("{base}/jwks"), web::route().to(metadata::jwks)))
        .service(get(format!("{base}/status"), web::route().to(status::lists)))
        .service(get(format!("{base}/status/{{list}}"), web::route().to(status::list)))
        .service(get(format!("{base}/reasons/{{code}}"), web::route().to(metadata::reason)));
    // RFC 8414 §3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery §4 behind it.
    let mut places = vec![
        format!("/.well-known/oauth-authorization-server{base}"),
        format!("{base}/.well-known/openid-configuration"),
    ];
    if !base.is_empty() {
        places.push(format!("/.well-known/openid-configuration{base}"));
    }
    for place in places {
        app.service(get(place, web::route().to(metadata::document)));
    }
    if let Some(tenant) = tenant {
        let below = format!("{base}/{tenant}");
        app.service(post(format!("{below}/oauth2/v2.0/token")).route(web::post().to(token::exchange)));
        for place in ["/v2.0/.well-known/openid-configuration", "/.well-known/openid-configuration"] {
            app.service(get(format!("{below}{place}"), web::route().to(metadata::of_tenant)));
        }
    }
}

/// Notes on the connection that it is being answered. A fault in our own code that unwinds is an answer too.
fn watched<S>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse, actix_web::Error>> + use<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = actix_web::Error>,
    S::Future: 'static,
{
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.asked();
    }
    // Nobody reads the body of a GET, and it may have no end.
    let has_unread = request.method() != Method::POST && request.headers().contains_key(TRANSFER_ENCODING);
    let refused = if request.method() == Method::POST { None } else { refused_unread(request.request()) };
    let answer = refused.is_none().then(|| AssertUnwindSafe(service.call(request)).catch_unwind());
    async move {
        let answer = match (answer, refused) {
            (Some(answer), _) => answer.await,
            (None, refused) => {
                Ok(Err(InternalError::from_response("refused", refused.unwrap_or_else(respond::fault)).into()))
            }
        };
        // A stream is being answered until its reader goes.
        let is_told = |answer: &ServiceResponse| answer.response().body().size() == BodySize::Stream;
        if let Some(connection) = connection.as_ref().filter(|_| !matches!(&answer, Ok(Ok(answer)) if is_told(answer)))
        {
            let goes_on =
                |answer: &ServiceResponse| answer.response().head().connection_type() != ConnectionType::Close;
            connection.answered(has_unread || !matches!(&answer, Ok(Ok(answer)) if goes_on(answer)));
        }
        answer.unwrap_or_else(|_| Err(InternalError::from_response("a fault of the broker", respond::fault()).into()))
    }
}

/// Refuses a request that no handler reads. A POST is refused by its endpoint, which leaves an event.
fn refused_unread(request: &HttpRequest) -> Option<HttpResponse> {
    let edge = request.app_data::<Data<Edge>>()?;
    let throttled = edge.broker().rates().check_network(edge.proxies.caller(request).into()).map_err(Error::from);
    let fault = throttled.and_then(|()| Ok(limits::head(request, edge.limits)?)).err()?;
    Some(edge.watch("other").answered(respond::unread(&fault.wire(), &edge.reasons)))
}

/// Refuses a POST to a path without an endpoint, as [`refused_unread`] does.
fn posted_nowhere(request: &HttpRequest) -> Option<HttpResponse> {
    if request.method() == Method::POST { refused_unread(request) } else { None }
}

async fn not_found(request: HttpRequest, edge: Data<Edge>) -> HttpResponse {
    if let Some(refused) = posted_nowhere(&request) {
        return refused;
    }
    edge.watch("other").answered(respond::not_found(&edge.reasons))
}

async fn post_only(edge: Data<Edge>) -> HttpResponse {
    edge.watch("other").answered(respond::method_not_allowed("POST", &edge.reasons))
}

async fn get_only(request: HttpRequest, edge: Data<Edge>) -> HttpResponse {
    if let Some(refused) = posted_nowhere(&request) {
        return refused;
    }
    edge.watch("other").answered(respond::method_not_allowed("GET", &edge.reasons))
}
