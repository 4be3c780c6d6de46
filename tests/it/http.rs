//! The edge: limits, methods, TLS, metadata. Whatever arrives, the answer is JSON and nothing is stored.

use crate::support::*;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn raw(broker: &TestBroker, head: &str, body: &[u8]) -> Reply {
    send(broker.address, &[head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat())
}

fn oauth(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status, reply.text("reason")), (status, reason), "{}", reply.text);
    assert_eq!(
        (reply.headers["cache-control"].as_str(), reply.headers["x-content-type-options"].as_str()),
        ("no-store", "nosniff")
    );
    assert!(!reply.text("error").is_empty() && !reply.text("error_description").is_empty());
    let plain = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    assert!(plain(reply.text("error_description")), "{}", reply.text);
}

#[test]
fn too_much_too_long_and_too_slow_have_their_own_answers() {
    let limits = "workers = 2\n[server.limits]\nbody_bytes = 4096\nhead_bytes = 2048\nuri_bytes = 256\nhead_timeout = \"1s\"\nbody_timeout = \"1s\"";
    let broker = Setup::new().change("workers = 2", limits).start();
    let form = "host: x\ncontent-type: application/x-www-form-urlencoded";
    let big = vec![b'a'; 5_000];
    oauth(&raw(&broker, &format!("POST /token HTTP/1.1\n{form}\ncontent-length: 5000"), &big), 413, "body_too_large");
    oauth(
        &raw(&broker, &format!("POST /token HTTP/1.1\n{form}\ncontent-length: 99999999999"), b""),
        413,
        "body_too_large",
    );
    let chunked = [b"1388\r\n".as_slice(), &big, b"\r\n0\r\n\r\n"].concat();
    oauth(
        &raw(&broker, &format!("POST /token HTTP/1.1\n{form}\ntransfer-encoding: chunked"), &chunked),
        413,
        "body_too_large",
    );
    oauth(&raw(&broker, &format!("POST /token?{} HTTP/1.1\nhost: x", "a".repeat(300)), b""), 414, "uri_too_long");
    oauth(
        &raw(&broker, &format!("POST /token HTTP/1.1\nhost: x\nx-big: {}", "a".repeat(2_048)), b""),
        431,
        "head_too_large",
    );
    assert_eq!(
        raw(&broker, &format!("POST /token HTTP/1.1\nhost: x\nx-big: {}", "a".repeat(200_000)), b"").status,
        431
    );
    oauth(
        &raw(&broker, &format!("POST /token HTTP/1.1\n{form}\ncontent-length: 100"), b"grant_type="),
        408,
        "body_too_slow",
    );
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.write_all(b"POST /token HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
    assert_eq!(read(&mut stream).status, 408);
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
}

#[test]
fn what_is_no_form_is_refused() {
    let broker = TestBroker::new();
    let token = Token::github().sign();
    let form =
        [("grant_type", GRANT), ("subject_token", token.as_str()), ("subject_token_type", JWT), ("audience", ORDERS)];
    for content_type in [
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/x-www-form-urlencoded; charset=utf-16",
        "",
    ] {
        let reply = send_to(broker.address, "/token", &[("content-type", content_type.to_owned())], &form);
        oauth(&reply, 415, "content_type_unsupported");
    }
    oauth(
        &send_to(broker.address, "/token", &[("content-encoding", "gzip".to_owned())], &form),
        415,
        "content_type_unsupported",
    );
    oauth(&send_to(broker.address, "/token?client_secret=x", &[], &form), 400, "query_not_allowed");
    oauth(&send_to(broker.address, "/token", &[("dpop", "eyJ".to_owned())], &form), 400, "dpop_proof_invalid");
    oauth(
        &send_to(broker.address, "/token", &[("authorization", "Bearer x".to_owned())], &form),
        401,
        "client_method_unsupported",
    );
    let head = "POST /token HTTP/1.1\nhost: x\ncontent-type: application/x-www-form-urlencoded";
    for body in ["grant_type=%FF", "grant_type=%zz", "a=%00", "%4=a"] {
        oauth(
            &raw(&broker, &format!("{head}\ncontent-length: {}", body.len()), body.as_bytes()),
            400,
            "form_malformed",
        );
    }
    let many = "a=1&".repeat(65);
    oauth(
        &raw(&broker, &format!("{head}\ncontent-length: {}", many.len()), many.as_bytes()),
        400,
        "too_many_parameters",
    );
    assert_eq!(broker.exchange(&token, &[]).status, 200, "none of them used the assertion up");
}

#[test]
fn other_methods_and_paths_are_refused_as_json() {
    let broker = TestBroker::new();
    for (method, path, allow) in [
        ("GET", "/token", "POST"),
        ("PUT", "/token", "POST"),
        ("GET", "/introspect", "POST"),
        ("DELETE", "/revoke", "POST"),
        ("POST", "/jwks", "GET"),
    ] {
        let reply = raw(&broker, &format!("{method} {path} HTTP/1.1\nhost: x\ncontent-length: 0"), b"");
        oauth(&reply, 405, "method_not_allowed");
        assert_eq!(reply.headers["allow"], allow);
    }
    for path in
        ["/", "/token/", "//token", "/TOKEN", "/x/../token", "/admin", "/metrics", "/readyz", "/%74oken/", "/token;x"]
    {
        oauth(&raw(&broker, &format!("POST {path} HTTP/1.1\nhost: x\ncontent-length: 0"), b""), 404, "not_found");
    }
    let overridden = raw(&broker, "GET /token HTTP/1.1\nhost: x\nx-http-method-override: POST", b"");
    assert_eq!(overridden.status, 405);
    for smuggled in
        ["content-length: 3\ncontent-length: 4", "content-length: +3", "transfer-encoding: chunked\ncontent-length: 3"]
    {
        let reply = raw(&broker, &format!("POST /token HTTP/1.1\nhost: x\n{smuggled}"), b"a=b");
        assert!(reply.status == 400 || reply.status == 0, "{smuggled}: {}", reply.status);
    }
    let preflight = raw(
        &broker,
        "OPTIONS /token HTTP/1.1\nhost: x\norigin: https://evil.test\naccess-control-request-method: POST",
        b"",
    );
    assert!(preflight.headers.keys().all(|name| !name.starts_with("access-control")));
}

#[test]
fn more_in_flight_than_may_be_is_503() {
    let upstream = Upstream::new(|_| Answer { delay: Duration::from_secs(2), ..Answer::status(500) });
    let keys = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let broker = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "")
        .change("issuer = \"https://cluster.test\"", &keys)
        .change("workers = 2", "workers = 2\n[server.limits]\nin_flight = 1")
        .start();
    std::thread::scope(|scope| {
        let slow =
            scope.spawn(|| broker.exchange(&Token::cluster().claim("iss", json!(upstream.url())).sign(), &[]).status);
        std::thread::sleep(Duration::from_millis(500));
        let busy = broker.exchange(&Token::github().sign(), &[]);
        oauth(&busy, 503, "busy");
        assert!(busy.asks_to_retry());
        assert_eq!(slow.join().unwrap(), 503);
    });
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
}

#[test]
fn metadata_is_what_is_configured_and_never_what_a_request_says() {
    let get = |broker: &TestBroker, path: &str| {
        raw(
            broker,
            &format!("GET {path} HTTP/1.1\nhost: evil.test\nx-forwarded-host: evil.test\nforwarded: host=evil.test"),
            b"",
        )
    };
    let broker = TestBroker::new();
    let places = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
    for place in places {
        let document = get(&broker, place);
        assert_eq!(
            (document.status, document.text("issuer"), document.text("token_endpoint")),
            (200, STS, "https://sts.test/token")
        );
        assert_eq!(document.headers["cache-control"], "public, max-age=3600");
        assert!(!document.text.contains("evil"));
    }
    let pathed = Setup::new().change("issuer = \"https://sts.test\"", "issuer = \"https://sts.test/tenant/a\"").start();
    for place in [
        "/.well-known/oauth-authorization-server/tenant/a",
        "/tenant/a/.well-known/openid-configuration",
        "/.well-known/openid-configuration/tenant/a",
    ] {
        let document = get(&pathed, place);
        assert_eq!(
            (document.status, document.text("issuer"), document.text("jwks_uri")),
            (200, "https://sts.test/tenant/a", "https://sts.test/tenant/a/jwks")
        );
    }
    assert_eq!(get(&pathed, "/tenant/a/jwks").status, 200);
    assert_eq!(get(&pathed, "/jwks").status, 404);
    assert_eq!(get(&pathed, places[0]).status, 404);
    let form = [("grant_type", "x")];
    assert_eq!(pathed.post("/tenant/a/token", &form).status, 400);
}

#[test]
fn management_is_apart_and_names_nobody() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Setup::new().change("workers = 2", &format!("workers = 2\nmanagement = \"{port}\"")).start();
    let get = |path: &str| send(port, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    assert_eq!((get("/livez").status, get("/readyz").status, get("/token").status), (200, 200, 404));
    assert_eq!(
        get("/readyz").json,
        json!({"ready": true, "issuers": 3, "issuers_without_keys": 0, "clock_skew_seconds": 0, "can_mint": true})
    );
    broker.clock.advance(3_601);
    assert_eq!((get("/livez").status, get("/readyz").status), (200, 503));
    assert!(!get("/readyz").text.contains("github"));
}

/// A certificate for 127.0.0.1 with a CA of its own, as PEM.
pub struct TestCa {
    pub ca: String,
    pub chain: String,
    pub key: String,
}

impl TestCa {
    pub fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // What has its issuer's name looks self-signed.
        ca.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the tests");
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        Self { ca: ca_certificate.pem(), chain: certificate.pem(), key: key.serialize_pem() }
    }
}

/// An issuer's JWK Set over TLS.
pub struct TlsUpstream {
    address: SocketAddr,
    ca: TestCa,
}

impl TlsUpstream {
    pub fn new(jwks: Value) -> Self {
        countersign::app::install_crypto();
        let ca = TestCa::new();
        let chain = vec![CertificateDer::from_pem_slice(ca.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(ca.key.as_bytes()).unwrap();
        let config =
            Arc::new(rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut stream);
                let mut head = [0; 4096];
                if stream.read(&mut head).is_ok() {
                    let body = jwks.to_string();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                }
            }
        });
        Self { address, ca }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn ca(&self) -> &str {
        &self.ca.ca
    }
}

pub fn tls_post(address: SocketAddr, ca: &str, path: &str, form: &[(&str, &str)]) -> Result<Reply, String> {
    countersign::app::install_crypto();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).map_err(|fault| fault.to_string())?;
    Ok(read(&mut stream))
}

#[test]
fn tls_serves_an_exchange_and_takes_a_new_certificate_in_place() {
    let (first, second) = (TestCa::new(), TestCa::new());
    let root = Setup::new()
        .change("workers = 2", "workers = 1\n[server.tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"")
        .write();
    let put = |path: &std::path::Path, ca: &TestCa| {
        std::fs::write(path.join("tls.pem"), &ca.chain).unwrap();
        std::fs::write(path.join("tls.key"), &ca.key).unwrap();
    };
    put(root.path(), &first);
    let broker = TestBroker::start(root, TestClock::new());
    let exchange = |ca: &TestCa| {
        let token = Token::github().sign();
        let form = [
            ("grant_type", GRANT),
            ("subject_token", token.as_str()),
            ("subject_token_type", JWT),
            ("audience", ORDERS),
        ];
        tls_post(broker.address, &ca.ca, "/token", &form).map(|reply| reply.status)
    };
    assert_eq!(exchange(&first), Ok(200));
    assert!(exchange(&second).is_err(), "another CA is not trusted");
    assert_ne!(broker.exchange(&Token::github().sign(), &[]).status, 200, "no plain HTTP on that listener");
    std::fs::write(broker.path("tls.pem"), "broken").unwrap();
    broker.clock.pass(2);
    assert_eq!(exchange(&first), Ok(200), "a broken pair changes nothing");
    put(broker.root.path(), &second);
    broker.clock.pass(2);
    until("the new pair is served", || exchange(&second) == Ok(200));
    assert!(exchange(&first).is_err());
}
