//! A resource server: `GET /orders` for who has a token of the broker for it, with the scope `orders:read`.
//!
//! ```console
//! $ ORDERS_SECRET=… cargo run --package countersign-verify --features actix --example orders -- \
//!     https://sts.acme.example https://orders.acme.example orders-api 127.0.0.1:8081
//! ```
//!
//! Without `ORDERS_SECRET` it reads status lists.
#![expect(clippy::disallowed_methods, reason = "a program reads its own environment")]

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use countersign_verify::protect::{Authorized, RequestOrigin, protect};
use countersign_verify::server::{ResourceServer, Settings};
use std::error::Error;
use std::time::Duration;

async fn orders(token: Authorized) -> HttpResponse {
    if !token.has_scope("orders:read") {
        return HttpResponse::Forbidden().finish();
    }
    HttpResponse::Ok().body(format!("orders for {}\n", token.claims().sub))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, audience, client, listen, reached @ ..] = arguments.as_slice() else {
        return Err(
            "orders ISSUER AUDIENCE CLIENT LISTEN [BROKER-URL], with the client's secret in ORDERS_SECRET, or by status lists".into()
        );
    };
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "TLS has a provider already")?;
    let settings = match std::env::var("ORDERS_SECRET") {
        Ok(secret) => Settings::new(issuer, audience, client, &secret),
        Err(_) => Settings::by_status_lists(issuer, audience),
    };
    let settings = reached.first().map_or(settings.clone(), |url| settings.reached_at(url));
    let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).build()?;
    let server = Data::new(ResourceServer::start(settings, http).await?);
    let origin = Data::new(RequestOrigin(audience.trim_end_matches('/').to_owned()));
    let app = move || {
        let protected = web::scope("").wrap(from_fn(protect)).route("/orders", web::get().to(orders));
        App::new().app_data(server.clone()).app_data(origin.clone()).service(protected)
    };
    println!("listening on {listen}");
    HttpServer::new(app).workers(1).bind(listen)?.run().await?;
    Ok(())
}
