//! Sections K and L: HTTP as nobody should write it, and more of it than anybody should send.

use crate::support::*;
use countersign::domain::{Entropy, NoEntropy, SystemEntropy};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FORM: &str = "content-type: application/x-www-form-urlencoded";

fn raw(broker: &TestBroker, request: &str) -> Reply {
    send(broker.address, request.as_bytes())
}

fn good() -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", GRANT),
            ("subject_token", &Token::cluster().sign()),
            ("subject_token_type", JWT),
            ("audience", ORDERS),
        ])
        .finish()
}

#[test]
fn k2_k3_a_body_of_another_kind_is_answered_as_json() {
    let broker = TestBroker::new();
    let body = good();
    let post = |headers: &str| {
        raw(
            &broker,
            &format!("POST /token HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()),
        )
    };
    for headers in [
        "",
        "content-type: application/json\r\n",
        "content-type: multipart/form-data; boundary=x\r\n",
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded; charset=utf-16\r\n",
        "content-type: application/x-www-form-urlencodedx\r\n",
        "content-encoding: gzip\r\ncontent-type: application/x-www-form-urlencoded\r\n",
    ] {
        let reply = post(headers);
        assert_eq!(reply.refusal(), (415, "invalid_request", "content_type_unsupported"), "{headers}");
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    for headers in [
        "CONTENT-TYPE: APPLICATION/X-WWW-FORM-URLENCODED\r\n",
        "content-type: application/x-www-form-urlencoded; charset=\"utf-8\"\r\n",
    ] {
        assert_eq!(post(headers).status, 200, "{headers}");
    }
}

#[test]
fn k4_a_token_in_the_url_is_refused_and_kept_nowhere() {
    let broker = TestBroker::new();
    let secret = Token::cluster().sign();
    let (body, query) = (good(), format!("subject_token={}", &secret[..200]));
    let post = raw(
        &broker,
        &format!("POST /token?{query} HTTP/1.1\r\nhost: x\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
    );
    assert_eq!(post.refusal(), (400, "invalid_request", "query_not_allowed"));
    let get = raw(&broker, &format!("GET /token?{query} HTTP/1.1\r\nhost: x\r\n\r\n"));
    assert_eq!((get.status, get.headers["allow"].as_str()), (405, "POST"));
    assert!(!everything(&broker.audit()).contains(&secret[..60]));
    let marked = raw(
        &broker,
        &format!(
            "POST /token?client-request-id=1-2 HTTP/1.1\r\nhost: x\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_eq!(marked.status, 200, "MSAL's own mark is no parameter");
    let hidden = raw(
        &broker,
        &format!(
            "POST /token?client-request-id=1&scope=x HTTP/1.1\r\nhost: x\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_eq!(hidden.text("reason"), "query_not_allowed");
}

#[test]
fn k5_a_body_without_end_is_cut_off_where_the_limit_is() {
    let broker = TestBroker::new();
    let head = format!("POST /token HTTP/1.1\r\nhost: x\r\n{FORM}\r\n");
    let told = raw(&broker, &format!("{head}content-length: 10000000\r\n\r\n"));
    assert_eq!((told.status, told.text("reason")), (413, "body_too_large"), "before anything of it is read");
    let expecting = raw(&broker, &format!("{head}expect: 100-continue\r\ncontent-length: 10000000\r\n\r\n"));
    assert_eq!(expecting.status, 413);
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = [b"1000\r\n".as_slice(), &[b'a'; 4096], b"\r\n"].concat();
    until("the connection is closed", || stream.write_all(&chunk).is_err());
    let small = good();
    let continued =
        raw(&broker, &format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n{small}", small.len()));
    assert_eq!(continued.status, 200);
}

#[test]
fn k6_l10_who_had_an_answer_and_drips_the_next_request_is_cut_off() {
    let limits = "workers = 2\n[server.limits]\nhead_timeout = \"1s\"\nidle_timeout = \"1s\"";
    let broker = Setup::new().change("workers = 2", limits).start();
    let cut_off = |drip: &'static [u8]| {
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.write_all(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(read(&mut stream).status, 200);
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        until("it is cut off", || {
            std::thread::sleep(Duration::from_millis(200));
            stream.write_all(drip).is_err() || matches!(stream.read(&mut [0; 64]), Ok(0))
        });
    };
    std::thread::scope(|scope| {
        let drips = [b"G".as_slice(), b"x: y\r\n", b""].map(|drip| scope.spawn(move || cut_off(drip)));
        for drip in drips {
            drip.join().unwrap();
        }
    });
    // One that asks in time keeps its connection.
    let mut stream = TcpStream::connect(broker.address).unwrap();
    for _ in 0..6 {
        stream.write_all(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(read(&mut stream).status, 200);
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn k6_a_tls_handshake_that_drips_is_cut_off() {
    let root = Setup::new()
        .change("workers = 2", "workers = 1\n[server.tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"")
        .write();
    let ca = crate::http::TestCa::new();
    std::fs::write(root.path().join("tls.pem"), &ca.chain).unwrap();
    std::fs::write(root.path().join("tls.key"), &ca.key).unwrap();
    let broker = TestBroker::start(root, TestClock::new());
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    let mut rest = Vec::new();
    let cut = stream.read_to_end(&mut rest);
    assert!(!matches!(cut, Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock), "it is cut off");
    // Handshakes that nobody finishes keep nobody from his own.
    let silent: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(broker.address).unwrap()).collect();
    let reply = crate::http::tls_post(broker.address, &ca.ca, "/token", &[("grant_type", "x")]);
    assert_eq!(reply.map(|reply| reply.status), Ok(400));
    drop(silent);
}

#[test]
fn k7_a_head_that_two_could_read_in_two_ways_is_refused_and_the_connection_closed() {
    let broker = TestBroker::new();
    let body = good();
    let smuggled = "GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n";
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "content-length: 5\r\ncontent-length: 6\r\n".to_owned(),
        "content-length: +5\r\n".to_owned(),
        "content-length: 5, 5\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: \u{b}chunked\r\n".to_owned(),
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "x: a\r\n b\r\n".to_owned(),
        "x\u{0}y: a\r\n".to_owned(),
        "x : a\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let _ = stream.write_all(
            format!("POST /token HTTP/1.1\r\nhost: x\r\n{FORM}\r\n{lines}\r\n0\r\n\r\n{smuggled}").as_bytes(),
        );
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("\"keys\""), "{lines:?}: what was smuggled is not answered: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{lines:?}: {answer}");
    }
    let overflow = raw(
        &broker,
        &format!(
            "POST /token HTTP/1.1\r\nhost: x\r\n{FORM}\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}"
        ),
    );
    assert!(matches!(overflow.status, 0 | 400 | 413), "{overflow:?}");
}

#[test]
fn k8_there_is_no_http_2() {
    let broker = TestBroker::new();
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    let upgrade = raw(
        &broker,
        "GET /jwks HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(upgrade.status, 200, "answered as it is, never with 101");
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"h2\""), "nor a library that could");
}

#[test]
fn k9_nothing_that_was_sent_comes_back() {
    let broker = TestBroker::new();
    for (name, value) in [
        ("audience", "x\r\nSet-Cookie: a=b"),
        ("scope", "\"><script>alert(1)</script>"),
        ("client_id", "a\r\nX-Evil: 1"),
        ("resource", "https://x.test/\r\nSet-Cookie:x"),
        ("requested_token_type", "<b>"),
        ("subject_token_type", "\u{1b}[31m"),
    ] {
        let reply = broker.exchange(&Token::cluster().sign(), &[(name, value)]);
        for part in ["Set-Cookie", "<script", "X-Evil", "<b>", "[31m"] {
            assert!(
                !reply.text.contains(part) && !reply.headers.keys().any(|header| part.eq_ignore_ascii_case(header)),
                "{name}"
            );
        }
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    }
}

#[test]
fn k10_k11_k12_names_and_values_are_decoded_once_and_never_mended() {
    let broker = TestBroker::new();
    let post = |body: &str| {
        raw(
            &broker,
            &format!("POST /token HTTP/1.1\r\nhost: x\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        )
    };
    for body in ["a=%FF%FE", "a=%00", "a=%zz", "a=%4", "a=%", "a=%C0%AF", "%FF=a", "subject_token%00=x"] {
        assert_eq!(post(body).refusal(), (400, "invalid_request", "form_malformed"), "{body}");
    }
    let encoded = good().replace("grant_type", "grant%5ftype").replace("audience", "audi%65nce");
    assert_eq!(post(&encoded).status, 200);
    for (name, reason) in [
        ("Subject_Token", "subject_token_missing"),
        ("%20subject_token", "subject_token_missing"),
        ("subject_token%5B%5D", "subject_token_missing"),
    ] {
        let body = good().replacen("subject_token=", &format!("{name}="), 1);
        assert_eq!(post(&body).text("reason"), reason, "{name}");
    }
    for empty in ["audience=", "subject_token=", "subject_token_type="] {
        let name = empty.trim_end_matches('=');
        let rest: Vec<String> =
            good().split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).map(str::to_owned).collect();
        assert_eq!(post(&format!("{}&{empty}", rest.join("&"))).status, 400, "{empty}");
    }
    let optional = format!("{}&scope=&actor_token=&actor_token_type=&resource=", good());
    assert_eq!(post(&optional).status, 200, "one without a value was not sent");
    let many: String = (0..3_000).map(|at| format!("p{at}=1&")).collect();
    assert_eq!(post(&many).text("reason"), "too_many_parameters");
}

#[test]
fn k13_k14_no_browser_and_no_other_method_gets_anything() {
    let broker = TestBroker::new();
    for path in ["/token", "/introspect", "/revoke", "/jwks"] {
        let preflight = format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: x\r\norigin: https://evil.test\r\naccess-control-request-method: POST\r\n\r\n"
        );
        let reply = raw(&broker, &preflight);
        assert!(reply.status == 405 && !reply.headers.keys().any(|name| name.starts_with("access-control")), "{path}");
    }
    let body = good();
    for origin in ["https://evil.test", "null"] {
        let reply = raw(
            &broker,
            &format!(
                "POST /token HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(!reply.headers.keys().any(|name| name.starts_with("access-control")), "{origin}");
    }
    for method in ["GET", "PUT", "PATCH", "DELETE", "TRACE", "X-ANY"] {
        let reply = raw(&broker, &format!("{method} /token HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    let overridden = raw(&broker, "GET /token HTTP/1.1\r\nhost: x\r\nx-http-method-override: POST\r\n\r\n");
    assert_eq!(overridden.status, 405);
    let tunnel = raw(&broker, "CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\n\r\n");
    assert!(tunnel.status >= 400, "{tunnel:?}");
    let mut head = TcpStream::connect(broker.address).unwrap();
    head.write_all(b"HEAD /jwks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    head.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("keys\""), "{answer}");
}

#[test]
fn k15_a_request_names_one_host() {
    let broker = TestBroker::new();
    let body = good();
    let post = |target: &str, hosts: &str| {
        raw(
            &broker,
            &format!("POST {target} HTTP/1.1\r\n{hosts}{FORM}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        )
    };
    let two = post("/token", "host: sts.test\r\nhost: evil.test\r\n");
    assert_eq!(two.status, 400, "{}", two.text);
    assert_eq!(
        post("http://evil.test/token", "host: sts.test\r\n").refusal(),
        (400, "invalid_request", "host_ambiguous")
    );
    assert_eq!(
        post("http://sts.test/token", "host: sts.test\r\n").status,
        200,
        "the absolute form of the same host is HTTP"
    );
}

#[test]
fn k16_no_answer_of_an_endpoint_is_stored_and_public_documents_are_for_a_while() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::cluster().sign(), &[]).token();
    let answers = [
        broker.exchange(&Token::cluster().sign(), &[]),
        broker.exchange("x", &[]),
        broker.introspect("orders-api", &token),
        broker.introspect("orders-api", "x"),
        broker.post("/introspect", &[("token", "x")]),
        broker.post("/revoke", &[("token", &token)]),
        raw(&broker, "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"),
    ];
    for reply in answers {
        assert_eq!(
            (reply.headers["cache-control"].as_str(), reply.headers["pragma"].as_str()),
            ("no-store", "no-cache"),
            "{reply:?}"
        );
    }
    assert_eq!(raw(&broker, "GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").headers["cache-control"], "public, max-age=300");
}

/// Randomness that unwinds when it is told to.
struct Panicking(AtomicBool);

impl Entropy for Panicking {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        assert!(!self.0.load(Ordering::SeqCst), "a fault, for the test");
        SystemEntropy.fill(bytes)
    }
}

#[test]
fn k17_a_fault_of_our_own_is_an_answer_and_breaks_nothing() {
    let entropy = Arc::new(Panicking(AtomicBool::new(false)));
    let broker = TestBroker::start_with(Setup::new().write(), TestClock::new(), Arc::clone(&entropy) as _);
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
    entropy.0.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        let reply = broker.exchange(&Token::cluster().sign(), &[]);
        assert_eq!(reply.refusal(), (500, "server_error", "broker_failed"), "{reply:?}");
        assert_eq!(reply.headers["cache-control"], "no-store");
    }
    entropy.0.store(false, Ordering::SeqCst);
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200, "no lock is broken");
}

#[test]
fn l1_no_header_but_a_trusted_proxys_says_who_asks() {
    let limits = "workers = 2\n[server.limits]\nrequests_per_network = 1";
    let broker = Setup::new().change("workers = 2", limits).start();
    let ask = |header: &str, at: usize| {
        send_to(broker.address, "/token", &[(header, format!("1.2.3.{at}"))], &[("grant_type", "x")]).status
    };
    let headers =
        ["x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip", "x-client-ip", "client-ip"];
    let statuses: Vec<u16> = headers.into_iter().enumerate().map(|(at, header)| ask(header, at)).collect();
    assert!(statuses.iter().filter(|status| **status == 429).count() >= 4, "one bucket for all: {statuses:?}");
}

#[test]
fn l5_no_figure_grows_with_what_is_sent() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Setup::new().change("workers = 2", &format!("workers = 2\nmanagement = \"{port}\"")).start();
    let series = || {
        let text = send(port, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").text;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let flood = |round: usize| {
        for at in 0..20 {
            let name = format!("r{round}-{at}");
            broker.exchange(
                &Token::cluster().claim("iss", json!(format!("https://{name}.test"))).sign(),
                &[("scope", &name), ("client_id", &name)],
            );
            broker.exchange(
                &Token::cluster().claim("sub", json!(name)).head("kid", json!(name)).sign(),
                &[("audience", &name)],
            );
            raw(&broker, &format!("X{at} /{name} HTTP/1.1\r\nhost: {name}\r\n\r\n"));
            broker.post_as(&name, "/introspect", &[("token", &name)]);
            broker.post_as(&name, "/revoke", &[("token", &name)]);
        }
    };
    flood(0);
    let before = series();
    flood(1);
    assert_eq!(series(), before);
}

#[test]
fn l6_bad_signatures_do_not_starve_good_callers() {
    let broker = Arc::new(TestBroker::new());
    let forged: Vec<String> =
        (0..40).map(|at| Token::github().key(&keys().rsa_evil).claim("jti", json!(format!("f{at}"))).sign()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let flood: Vec<_> = (0..6)
        .map(|_| {
            let (broker, forged, stop) = (Arc::clone(&broker), forged.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::SeqCst) {
                    assert!(matches!(broker.exchange(&forged[sent % forged.len()], &[]).status, 400 | 429));
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
    }
    stop.store(true, Ordering::SeqCst);
    let sent: usize = flood.into_iter().map(|one| one.join().unwrap()).sum();
    assert!(sent > 100, "{sent} forged");
}

#[test]
fn l7_names_that_collide_in_a_fast_hash_cost_nothing() {
    let broker = Setup::new()
        .change("workers = 2", "workers = 2\n[server.limits]\ntoken_bytes = 65536\nbody_bytes = 131072")
        .start();
    // "Aa" and "BB" have one hash where a hash multiplies by 31; maps here are trees or have random keys.
    let names: Vec<String> =
        (0..1_024_u32).map(|bits| (0..10).map(|at| if bits >> at & 1 == 1 { "Aa" } else { "BB" }).collect()).collect();
    let mut token = Token::cluster();
    for name in &names {
        token = token.claim(name, json!(1));
    }
    let token = token.sign();
    assert_eq!(broker.exchange(&token, &[]).status, 200);
}

#[test]
fn l8_a_cold_start_asks_each_issuer_once() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let entry = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let broker = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "")
        .change("issuer = \"https://cluster.test\"", &entry)
        .start();
    let url = upstream.url();
    let token = Token::cluster().claim("iss", json!(url)).sign();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..100).map(|_| scope.spawn(|| broker.exchange(&token, &[]).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(upstream.connections() <= 4, "the background's and one more at most: {}", upstream.connections());
}

#[test]
fn l9_public_documents_are_there_while_an_issuer_is_slow() {
    let upstream = Upstream::new(|_| Answer { delay: Duration::from_secs(4), ..Answer::status(500) });
    let entry = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let broker = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "")
        .change("issuer = \"https://cluster.test\"", &entry)
        .start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| broker.exchange(&Token::cluster().claim("iss", json!(upstream.url())).sign(), &[]));
        for path in ["/jwks", "/.well-known/oauth-authorization-server"] {
            assert_eq!(raw(&broker, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).status, 200);
        }
        assert!(!slow.is_finished(), "the issuer is still slow");
        let reply = slow.join().unwrap();
        assert_eq!((reply.status, reply.asks_to_retry()), (503, true));
    });
}
