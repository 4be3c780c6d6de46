//! Section B: issuers' keys, discovery, and where a fetch may go.

use super::refused;
use crate::issuer_keys::{discovered, token};
use crate::support::*;
use countersign::assertion::{FetchError, Fetcher, KeyFault, Names};
use serde_json::{Value, json};
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn b1_an_issuer_that_nobody_configured_is_not_asked_for() {
    let evil = Upstream::issuer(keys().evil.jwks());
    let broker = TestBroker::new();
    for iss in [evil.url(), "http://169.254.169.254".to_owned(), "https://127.0.0.1:6379".to_owned()] {
        let forged = Token::cluster().key(&keys().evil).claim("iss", json!(iss));
        refused(&broker, &forged.sign(), "issuer_unknown");
        let [head, payload, _] =
            <[String; 3]>::try_from(forged.sign().split('.').map(str::to_owned).collect::<Vec<_>>()).unwrap();
        refused(&broker, &format!("{head}.{payload}.AAAA"), "issuer_unknown");
        let as_client = [
            ("client_assertion", forged.sign()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
        ];
        let as_client: Vec<(&str, &str)> = as_client.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(broker.exchange(&Token::github().sign(), &as_client).status, 401);
    }
    assert_eq!(evil.connections(), 0);
}

#[test]
fn b2_b23_an_issuer_is_one_literal_and_nothing_that_looks_like_it() {
    let broker = TestBroker::new();
    for iss in [
        "https://evil.test/https://cluster.test",
        "https://evil.test/https://oidc.eks.x.amazonaws.com/id/1",
        "https://CLUSTER.test",
        "HTTPS://cluster.test",
        "https://cluster.test/",
        "https://cluster.test:443",
        "https://cluster.test.",
        "https://cluster.test./",
        "https://cluster.test#",
        "https://cluster.test?x",
        "https://cluster.test/../b",
        "https://cluster.test//x",
        "https://cluster.test/%2e",
        "https://user@cluster.test",
        "https://\u{441}luster.test",
        "https://xn--luster-71f.test",
        "http://cluster.test",
        " https://cluster.test",
    ] {
        refused(&broker, &Token::cluster().claim("iss", json!(iss)).sign(), "issuer_unknown");
    }
}

#[test]
fn b4_no_redirect_is_followed_wherever_it_leads() {
    let canary = Upstream::issuer(keys().evil.jwks());
    for status in [301, 302, 303, 307, 308] {
        for to in [format!("{}/jwks", canary.url()), "http://127.0.0.1:9/".to_owned(), "/again".to_owned()] {
            let location = format!("location: {to}\r\n");
            let upstream = Upstream::new(move |_| Answer { headers: location.clone(), ..Answer::status(status) });
            let discovering = discovered(&upstream).start();
            assert_eq!(discovering.refresh("cluster"), Err(KeyFault::Fetch(FetchError::Status(status))));
            let reply = discovering.exchange(&token(&upstream).sign(), &[]);
            assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "issuer_keys_unavailable"));
            let stated = format!("jwks_uri = \"{}/jwks\"\nallow_private_addresses = true", upstream.url());
            let stated = Setup::new().change("jwks_file = \"cluster.jwks\"", &stated).start();
            assert_eq!(stated.refresh("cluster"), Err(KeyFault::Fetch(FetchError::Status(status))));
            // Two by hand, two for the token, and what the background tries again meanwhile; a loop would be hundreds.
            assert!(upstream.connections() < 20, "nothing is asked again and again");
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[test]
fn b5_a_discovery_document_names_exactly_the_issuer_that_is_configured() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let url = upstream.url();
    // An issuer that really ends in a slash is another literal, and works as such.
    let slashed = format!("{url}/");
    let jwks = keys().cluster.jwks();
    let (own, set) = (slashed.clone(), jwks.clone());
    let uri = format!("{url}/jwks");
    upstream.behave(move |path| match path {
        "/.well-known/openid-configuration" => Answer::json(&json!({"issuer": own, "jwks_uri": uri})),
        _ => Answer::json(&set),
    });
    let entry = |issuer: &str| {
        let keys = format!("issuer = \"{issuer}\"\nallow_private_addresses = true");
        Setup::new()
            .change("jwks_file = \"cluster.jwks\"\n", "")
            .change("issuer = \"https://cluster.test\"", &keys)
            .start()
    };
    assert_eq!(entry(&slashed).refresh("cluster"), Ok(1));
    assert!(matches!(entry(&url).refresh("cluster"), Err(KeyFault::Discovery(_))));
    for wrong in ["https://idp-b.test".to_owned(), url.replace("http", "HTTP"), format!("{url}//"), String::new()] {
        let (wrong, uri, set) = (wrong.clone(), format!("{url}/jwks"), jwks.clone());
        upstream.behave(move |path| match path {
            "/.well-known/openid-configuration" => Answer::json(&json!({"issuer": wrong, "jwks_uri": uri})),
            _ => Answer::json(&set),
        });
        assert!(matches!(entry(&url).refresh("cluster"), Err(KeyFault::Discovery(_))));
    }
}

#[test]
fn b6_discovered_keys_are_at_the_issuers_own_origin() {
    let elsewhere = Upstream::issuer(keys().evil.jwks());
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    let url = upstream.url();
    for uri in [
        format!("{}/jwks", elsewhere.url()),
        "https://127.0.0.1/k".to_owned(),
        "file:///etc/passwd".to_owned(),
        url.replace("http://", "https://"),
        "jwks".to_owned(),
        String::new(),
    ] {
        let document = json!({"issuer": url, "jwks_uri": uri});
        upstream.behave(move |_| Answer::json(&document));
        assert!(matches!(broker.refresh("cluster"), Err(KeyFault::Discovery(_))), "{uri}");
    }
    assert_eq!(elsewhere.connections(), 0);
    // Written down by the operator, another origin is his choice.
    let stated = format!("jwks_uri = \"{}/jwks\"\nallow_private_addresses = true", elsewhere.url());
    let stated = Setup::new().change("jwks_file = \"cluster.jwks\"", &stated).start();
    assert_eq!(stated.refresh("cluster"), Ok(1));
}

#[test]
fn b7_no_way_to_write_a_private_address_is_dialled() {
    // Only loopback in other spellings: what must never be dialled is judged in `http_fetch.rs`, where nothing is.
    for host in [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "127.0.0.2",
        "localhost",
    ] {
        let keys = format!("jwks_uri = \"https://{host}:1/jwks\"");
        let broker = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys).start();
        let refused = broker.refresh("cluster");
        assert_eq!(refused, Err(KeyFault::Fetch(FetchError::PrivateAddress)), "{host}");
    }
}

/// Every name is where the test says, and somebody counts.
struct Canary {
    addresses: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names for Canary {
    fn addresses(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.addresses.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    }
}

#[test]
fn b8_what_is_judged_is_what_is_dialled() {
    countersign::app::install_crypto();
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let port = upstream.url().rsplit(':').next().unwrap().to_owned();
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let fetch = |answers: Vec<Vec<IpAddr>>, private: bool, times: usize| {
        let names = Arc::new(Canary { addresses: Mutex::new(answers), asked: AtomicUsize::new(0) });
        let fetcher = Fetcher::resolving(Arc::clone(&names) as _, private, None).unwrap();
        let url = format!("https://idp.test:{port}/jwks");
        let got: Vec<_> = (0..times).map(|_| countersign::http::block_on(fetcher.get(&url)).map(|_| ())).collect();
        (got, names.asked.load(Ordering::SeqCst))
    };
    let private = Err(FetchError::PrivateAddress);
    assert_eq!(fetch(vec![vec![loopback]], false, 1), (vec![private.clone()], 1));
    assert_eq!(fetch(vec![vec![loopback], vec![loopback]], false, 2), (vec![private.clone(), private], 2));
    assert_eq!(upstream.connections(), 0, "nothing was dialled");
    // With leave, the same name leads to the same place: the judgement is in the connector, and is asked each time.
    let (got, asked) = fetch(vec![vec![loopback]], true, 1);
    assert!(matches!(got[0], Err(FetchError::Connection(_) | FetchError::Timeout)) && asked == 1, "no TLS: {got:?}");
    assert!(upstream.connections() >= 1);
}

#[test]
fn b9_a_private_address_that_comes_by_a_reload_or_as_a_clients_is_refused_as_well() {
    let broker = Setup::new().start();
    let changed = std::fs::read_to_string(broker.config()).unwrap();
    broker.write(
        "countersign.toml",
        &changed.replace("jwks_file = \"cluster.jwks\"", "jwks_uri = \"https://127.0.0.1:1/jwks\""),
    );
    let broker = broker.restart();
    assert_eq!(broker.refresh("cluster"), Err(KeyFault::Fetch(FetchError::PrivateAddress)));
    let client =
        "[[clients]]\nid = \"jwt\"\nmethod = \"private_key_jwt\"\njwks_uri = \"https://127.0.0.1:1/k\"\n[[targets]]";
    let mut setup = Setup::new();
    setup.config = setup.config.replacen("[[targets]]", client, 1);
    let broker = setup.start();
    let snapshot = broker.broker.snapshot();
    let keys = Arc::clone(snapshot.clients.keys().next().unwrap());
    let refreshed = countersign::http::block_on(async move { keys.refresh().await });
    assert_eq!(refreshed, Err(KeyFault::Fetch(FetchError::PrivateAddress)));
}

#[test]
fn b11_b12_whatever_an_issuer_publishes_a_flood_of_kids_asks_it_once_a_cooldown() {
    for set in [json!({"keys": []}), json!({"keys": [{"kty": "EC"}]}), Value::Null, keys().cluster.jwks()] {
        let upstream = Upstream::new(|_| Answer::status(500));
        if !set.is_null() {
            upstream.publish(set.clone());
        }
        let broker = discovered(&upstream).start();
        let _ = broker.refresh("cluster");
        broker.clock.advance(31);
        let before = upstream.connections();
        std::thread::scope(|scope| {
            for one in 0..60 {
                let (broker, upstream) = (&broker, &upstream);
                scope.spawn(move || {
                    let reply = broker.exchange(&token(upstream).head("kid", json!(format!("k{one}"))).sign(), &[]);
                    assert!(matches!(reply.status, 400 | 503), "{}", reply.text);
                });
            }
        });
        // A document and a set by the tokens, and as much by the background where it has none.
        assert!(upstream.connections() - before <= 4, "{set}: {}", upstream.connections() - before);
        if set == keys().cluster.jwks() {
            assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200, "the good keys are still there");
        }
    }
}

#[test]
fn b13_a_rotation_is_seen_though_somebody_spends_every_refresh() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    broker.clock.advance(31);
    let spend = |kid: &str| broker.exchange(&token(&upstream).head("kid", json!(kid)).sign(), &[]).status;
    spend("spent");
    let new = Key { kid: "c2", ..keys().evil.clone() };
    upstream.publish(new.jwks());
    let rotated = token(&upstream).key(&new).head("kid", json!("c2"));
    assert_eq!(broker.exchange(&rotated.sign(), &[]).status, 400, "within the cooldown");
    broker.clock.advance(31);
    spend("spent again");
    assert_eq!(broker.exchange(&rotated.sign(), &[]).status, 200, "one cooldown later, by whosever token");
}

#[test]
fn b16_one_bad_member_of_a_set_does_not_hide_the_others() {
    let broker = TestBroker::new();
    let new = Key { kid: "c2", ..keys().evil.clone() };
    for bad in [json!(1), Value::Null, json!([]), json!({}), json!({"kty": "EC", "crv": "P-256", "x": 1})] {
        broker.write("cluster.jwks", &json!({"keys": [bad, new.public("sig"), bad]}).to_string());
        assert_eq!(broker.refresh("cluster"), Ok(1), "{bad}");
        assert_eq!(broker.exchange(&Token::cluster().key(&new).head("kid", json!("c2")).sign(), &[]).status, 200);
    }
}

/// Serves whatever `write` writes, until it fails.
fn raw(write: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gone = Arc::new(AtomicBool::new(false));
    let (write, cut) = (Arc::new(write), Arc::clone(&gone));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (write, cut) = (Arc::clone(&write), Arc::clone(&cut));
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                if write(&mut stream).is_err() {
                    cut.store(true, Ordering::SeqCst);
                }
            });
        }
    });
    (url, gone)
}

#[test]
fn b17_a_key_set_without_end_is_cut_off_and_holds_up_nobody() {
    type Write = fn(&mut TcpStream) -> io::Result<()>;
    let hostile: [(&str, Write); 5] = [
        ("chunked without end", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            (0..100_000).try_for_each(|_| stream.write_all(&[b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat()))
        }),
        ("a gigabyte", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
            (0..100_000).try_for_each(|_| stream.write_all(&[b' '; 8192]))
        }),
        ("a byte at a time", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")?;
            (0..100).try_for_each(|_| {
                std::thread::sleep(Duration::from_millis(200));
                stream.write_all(b" ")
            })
        }),
        ("a head without end", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            (0..100_000).try_for_each(|at| stream.write_all(format!("x-{at}: {}\r\n", "y".repeat(500)).as_bytes()))
        }),
        ("what would inflate", |stream| {
            let bomb = [0x1f_u8, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
            stream.write_all(head.as_bytes())?;
            stream.write_all(&bomb)
        }),
    ];
    std::thread::scope(|scope| {
        for (name, write) in hostile {
            scope.spawn(move || {
                let (url, cut) = raw(write);
                let keys = format!("jwks_uri = \"{url}/jwks\"\nallow_private_addresses = true");
                let broker = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys).start();
                assert!(broker.refresh("cluster").is_err(), "{name}");
                assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "{name}");
                until(name, || name == "what would inflate" || cut.load(Ordering::SeqCst));
            });
        }
    });
    let good = keys().cluster.public("sig");
    let many: Vec<Value> = (0..65)
        .map(|at| {
            let mut key = good.clone();
            key["kid"] = json!(at.to_string());
            key
        })
        .collect();
    let broker = TestBroker::new();
    broker.write("cluster.jwks", &json!({"keys": many}).to_string());
    assert!(broker.refresh("cluster").is_err());
}

#[test]
fn b18_a_key_of_absurd_size_is_refused_before_anything_is_computed() {
    use base64::Engine as _;
    let number = |bytes: Vec<u8>| json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
    let broker = TestBroker::new();
    let rsa = keys().github.public("sig");
    let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let minus_two = {
        let mut n = modulus.clone();
        *n.last_mut().unwrap() -= 2;
        n
    };
    let with = |name: &str, value: Value| {
        let mut jwk = rsa.clone();
        jwk[name] = value;
        jwk
    };
    for bad in [
        with("n", number(vec![0xff; 65_536 / 8])),
        with("n", number(vec![0xff; 180_000])),
        with("n", number([vec![0], modulus].concat())),
        with("e", number(minus_two)),
        with("e", number(vec![1, 0, 0, 0, 1])),
        with("e", number(vec![0, 1, 0, 1])),
    ] {
        broker.write("github.jwks", &json!({"keys": [bad]}).to_string());
        assert_eq!(broker.refresh("github"), Err(KeyFault::Empty));
    }
    let mut long = keys().cluster.public("sig");
    long["x"] = number(vec![1; 1_000]);
    broker.write("cluster.jwks", &json!({"keys": [long]}).to_string());
    assert_eq!(broker.refresh("cluster"), Err(KeyFault::Empty));
}

#[test]
fn b19_b20_b21_secret_foreign_and_doubled_keys_verify_nothing() {
    let broker = TestBroker::new();
    let good = Key { kid: "good", ..keys().rsa_evil.clone() }.public("sig");
    let rsa = |name: &str, value: Value| {
        let mut jwk = keys().github.public("sig");
        jwk[name] = value;
        jwk
    };
    for bad in [
        rsa("d", json!("AQAB")),
        rsa("p", json!("AQAB")),
        rsa("q", json!("AQAB")),
        rsa("oth", json!([])),
        rsa("use", json!("enc")),
        rsa("key_ops", json!(["encrypt"])),
        rsa("key_ops", json!([])),
        rsa("alg", json!("RSA-OAEP")),
        rsa("alg", json!("RS512")),
        json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "g1"}),
    ] {
        broker.write("github.jwks", &json!({"keys": [bad, good]}).to_string());
        assert_eq!(broker.refresh("github"), Ok(1), "{bad}");
        refused(&broker, &Token::github().sign(), "key_unknown");
    }
    let evil = keys().rsa_evil.public("sig");
    for both in [json!([keys().github.public("sig"), evil, good]), json!([good, evil, keys().github.public("sig")])] {
        broker.write("github.jwks", &json!({"keys": both}).to_string());
        assert_eq!(broker.refresh("github"), Ok(1));
        refused(&broker, &Token::github().sign(), "key_unknown");
        refused(&broker, &Token::github().key(&keys().rsa_evil).sign(), "key_unknown");
    }
}

#[test]
fn b24_no_certificate_is_taken_unchecked() {
    let served = |change: &dyn Fn(&mut rcgen::CertificateParams), self_signed: bool| {
        countersign::app::install_crypto();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut leaf);
        let certificate =
            if self_signed { leaf.self_signed(&key).unwrap() } else { leaf.signed_by(&key, &issuer).unwrap() };
        let chain = vec![certificate.der().clone()];
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let (config, jwks) = (Arc::new(config), keys().cluster.jwks().to_string());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut stream);
                if stream.read(&mut [0; 4096]).is_ok() {
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{jwks}",
                        jwks.len()
                    );
                }
            }
        });
        let entry = format!(
            "issuer = \"{url}\"\njwks_uri = \"{url}/jwks\"\nallow_private_addresses = true\nca_file = \"ca.pem\""
        );
        let root = Setup::new()
            .change("jwks_file = \"cluster.jwks\"\n", "")
            .change("issuer = \"https://cluster.test\"", &entry)
            .write();
        std::fs::write(root.path().join("ca.pem"), ca_pem).unwrap();
        let broker = TestBroker::start(root, TestClock::new());
        let reply = broker.exchange(&Token::cluster().claim("iss", json!(url)).sign(), &[]);
        (reply.status, reply.text("reason").to_owned())
    };
    let unavailable = (503, "issuer_keys_unavailable".to_owned());
    assert_eq!(served(&|_| {}, false).0, 200, "the good one");
    assert_eq!(served(&|_| {}, true), unavailable, "self-signed");
    assert_eq!(served(&|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1), false), unavailable, "expired");
    assert_eq!(served(&|leaf| leaf.not_before = rcgen::date_time_ymd(2090, 1, 1), false), unavailable, "not yet");
    let other = |leaf: &mut rcgen::CertificateParams| {
        *leaf = rcgen::CertificateParams::new(vec!["other.test".to_owned()]).unwrap();
    };
    assert_eq!(served(&other, false), unavailable, "another host");
}

#[test]
fn b25_an_issuer_that_is_taken_out_takes_its_tokens_with_it_at_once() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let again = |broker: &TestBroker, token: &str| {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", ORDERS),
            ("scope", "orders:read"),
        ];
        broker.post_as("orders-api", "/token", &form)
    };
    let child = again(&broker, &token).token();
    let without = std::fs::read_to_string(broker.config()).unwrap();
    let start = without.find("[[issuers]]\nname = \"github\"").unwrap();
    let end = without.find("[[issuers]]\nname = \"cluster\"").unwrap();
    let without = format!("{}{}", &without[..start], &without[end..]);
    let broker = broker.restart_after(|root| std::fs::write(root.join("countersign.toml"), without).unwrap());
    refused(&broker, &Token::github().sign(), "issuer_unknown");
    for token in [token, child] {
        assert_eq!(broker.introspect("orders-api", &token).json, json!({"active": false}));
        let reply = again(&broker, &token);
        assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "issuer_unknown"));
    }
}

#[test]
fn b26_what_an_issuer_says_of_caching_changes_nothing() {
    for headers in ["cache-control: max-age=31536000\r\nage: -1\r\n", "expires: 0\r\ncache-control: no-store\r\n"] {
        let upstream = Upstream::issuer(keys().cluster.jwks());
        let (url, jwks) = (upstream.url(), keys().cluster.jwks());
        upstream.behave(move |path| {
            let document = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
            let answer = Answer::json(if path == "/jwks" { &jwks } else { &document });
            Answer { headers: headers.to_owned(), ..answer }
        });
        let broker = discovered(&upstream).start();
        assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
        let before = upstream.connections();
        for _ in 0..5 {
            assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
        }
        assert_eq!(upstream.connections(), before, "no fetch for each request");
        upstream.behave(|_| Answer::status(500));
        broker.clock.advance(3_601);
        assert_eq!(
            broker
                .exchange(
                    &token(&upstream).claim("exp", json!(NOW + 7_000)).claim("iat", json!(NOW + 3_600)).sign(),
                    &[]
                )
                .status,
            503,
            "no trust for a year"
        );
    }
}

#[test]
fn b28_nothing_that_a_request_says_of_the_host_is_in_an_answer() {
    let broker = Setup::new().change("workers = 2", "workers = 2\ntenant = \"acme\"").start();
    let lies = "host: evil.test\r\nx-forwarded-host: evil.test\r\nx-forwarded-proto: http\r\nforwarded: host=evil.test;proto=http\r\n";
    for place in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/acme/v2.0/.well-known/openid-configuration",
        "/jwks",
        "/nowhere",
    ] {
        let reply = send(broker.address, format!("GET {place} HTTP/1.1\r\n{lies}\r\n").as_bytes());
        assert!(!reply.text.contains("evil") && !reply.headers.values().any(|value| value.contains("evil")), "{place}");
    }
    let refusal = send(broker.address, format!("POST /token HTTP/1.1\r\n{lies}content-length: 0\r\n\r\n").as_bytes());
    assert!(refusal.text("error_uri").starts_with("https://sts.test/reasons/"), "{}", refusal.text);
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", GRANT),
            ("subject_token", &Token::github().sign()),
            ("subject_token_type", JWT),
            ("audience", ORDERS),
        ])
        .finish();
    let head = format!(
        "POST /token HTTP/1.1\r\n{lies}content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    let minted = send(broker.address, format!("{head}{form}").as_bytes()).token();
    let compact = countersign_verify::jws::Compact::parse(&minted).unwrap();
    assert_eq!(compact.routing().issuer, Some(STS));
}
