//! Serves fixed documents: what an issuer publishes. The demo's issuer is made of it.

use actix_web::dev::Server;
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use std::collections::HashMap;
use std::io;
use std::net::TcpListener;

/// A server of `documents` (path to JSON) on `listener`.
///
/// # Errors
/// When the listener cannot be used.
pub fn documents(listener: TcpListener, documents: HashMap<String, String>) -> io::Result<Server> {
    let documents = Data::new(documents);
    let server = HttpServer::new(move || App::new().app_data(documents.clone()).default_service(web::to(document)));
    Ok(server.workers(1).disable_signals().listen(listener)?.run())
}

async fn document(request: HttpRequest, documents: Data<HashMap<String, String>>) -> HttpResponse {
    match documents.get(request.path()) {
        Some(document) => HttpResponse::Ok().content_type("application/json").body(document.clone()),
        None => HttpResponse::NotFound().finish(),
    }
}
