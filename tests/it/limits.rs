//! Nothing that a caller sends is read, worked on or counted without a bound, and nobody is slowed down for somebody else.

use crate::support::*;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

fn limited(limits: &str) -> Setup {
    Setup::new().change("workers = 2", &format!("workers = 2\n[server.limits]\n{limits}"))
}

/// Posts from `source`, one of the addresses of loopback, through whom `forwarded` says.
fn post_from(broker: &TestBroker, source: [u8; 4], forwarded: Option<&str>, form: &[(&str, &str)]) -> Reply {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    rustix::net::connect(&socket, &broker.address).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let forwarded = forwarded.map(|hops| format!("x-forwarded-for: {hops}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n{forwarded}content-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    read(&mut stream)
}

fn throttled(reply: &Reply, reason: &str) {
    assert_eq!(reply.refusal(), (429, "temporarily_unavailable", reason), "{}", reply.text);
    assert!(reply.asks_to_retry());
}

#[test]
fn l1_l3_a_network_that_asks_too_often_is_told_when_to_come_again_and_nobody_else_is() {
    let broker = limited("requests_per_network = 1").start();
    let form = [("grant_type", "x"), ("client_id", "orders-api")];
    // Two at once; how long eight take, nobody knows, but one of them comes too early.
    let slowed = |source: [u8; 4]| {
        let statuses: Vec<u16> = (0..8).map(|_| post_from(&broker, source, None, &form).status).collect();
        assert!(statuses[..2] == [400, 400] && statuses.contains(&429), "{statuses:?}");
        statuses.iter().all(|status| matches!(status, 400 | 429))
    };
    assert!(slowed([127, 0, 0, 2]));
    let throttled_now = |forwarded| {
        let replies: Vec<Reply> = (0..4).map(|_| post_from(&broker, [127, 0, 0, 2], forwarded, &form)).collect();
        replies.into_iter().find(|reply| reply.status == 429).expect("one of four comes too early")
    };
    throttled(&throttled_now(None), "network_throttled");
    for forged in ["1.2.3.4", "5.6.7.8, 9.9.9.9"] {
        let reply = throttled_now(Some(forged));
        throttled(&reply, "network_throttled");
        assert_eq!(broker.event(&reply).peer.as_deref(), Some("127.0.0.2"));
    }
    assert!(slowed([127, 0, 0, 3]), "who names the same client has his own bucket");
    broker.clock.pass(1);
    assert_eq!(post_from(&broker, [127, 0, 0, 2], None, &form).status, 400, "in a second there is one more");
}

#[test]
fn l1_behind_a_trusted_proxy_the_rightmost_hop_counts() {
    let broker = limited("requests_per_network = 1")
        .change("workers = 2", "workers = 2\ntrusted_proxies = [\"127.0.0.9\", \"10.0.0.0/8\"]")
        .start();
    let form = [("grant_type", "x")];
    let ask = |forwarded: &str| post_from(&broker, [127, 0, 0, 9], Some(forwarded), &form);
    for forged in 0..2 {
        let reply = ask(&format!("6.6.6.{forged}, 192.0.2.7, 10.1.1.1"));
        assert_eq!((reply.status, broker.event(&reply).peer.as_deref()), (400, Some("192.0.2.7")));
    }
    let third = (0..6).map(|_| ask("6.6.6.3, 192.0.2.7")).find(|reply| reply.status == 429);
    throttled(&third.expect("one of six comes too early"), "network_throttled");
    assert_eq!(ask("192.0.2.8").status, 400, "another caller of the same proxy");
    let of_a_64: Vec<u16> = (1..9).map(|host| ask(&format!("2001:4860:1:2::{host}")).status).collect();
    assert!(of_a_64[..2] == [400, 400] && of_a_64.contains(&429), "a /64 is one network: {of_a_64:?}");
    assert_eq!(ask("2001:4860:1:3::1").status, 400);
    let direct = post_from(&broker, [127, 0, 0, 4], Some("192.0.2.7"), &form);
    assert_eq!(broker.event(&direct).peer.as_deref(), Some("127.0.0.4"), "who is no proxy says nothing of others");
}

#[test]
fn l3_a_workload_and_an_issuer_are_slowed_down_by_what_is_verified_alone() {
    let broker = limited("requests_per_workload = 1\nrequests_per_issuer = 2").start();
    let pod = |name: &str| Token::cluster().claim("sub", json!(format!("system:serviceaccount:prod:{name}")));
    for _ in 0..10 {
        let forged = broker.exchange(&pod("deployer").key(&keys().evil).sign(), &[]);
        assert_eq!(forged.status, 400, "what a stranger says of a workload is not counted against it");
    }
    // From elsewhere, a good one as well: it slows nobody down here.
    let elsewhere = pod("deployer").sign();
    let form =
        [("grant_type", GRANT), ("subject_token", &elsewhere), ("subject_token_type", JWT), ("audience", LEDGER)];
    for _ in 0..8 {
        assert!(matches!(post_from(&broker, [127, 0, 0, 8], None, &form).status, 400 | 429));
    }
    let replies: Vec<Reply> = (0..8).map(|_| broker.exchange(&pod("deployer").sign(), &[])).collect();
    assert_eq!([replies[0].status, replies[1].status], [200, 200]);
    throttled(replies.iter().find(|reply| reply.status == 429).unwrap(), "workload_throttled");
    let many: Vec<Reply> = (0..12).map(|at| broker.exchange(&pod(&format!("pod-{at}")).sign(), &[])).collect();
    throttled(many.iter().find(|reply| reply.status == 429).unwrap(), "issuer_throttled");
    let github = Token::github();
    assert_eq!(broker.exchange(&github.sign(), &[]).status, 200, "another issuer has its own");
}

#[test]
fn a_throttled_exchange_uses_nothing_up() {
    let broker = limited("requests_per_workload = 1").start();
    // One after the other, until one comes too early.
    let early = (0..100).find_map(|_| {
        let token = Token::github().sign();
        let reply = broker.exchange(&token, &[]);
        (reply.text("reason") == "workload_throttled").then_some(token)
    });
    broker.clock.pass(2);
    assert_eq!(broker.exchange(&early.expect("one of a hundred comes too early"), &[]).status, 200);
}

#[test]
fn l6_one_network_cannot_take_every_place() {
    // An issuer that answers slowly holds whoever brings an unknown `kid`.
    let upstream = Upstream::new(|_| Answer { delay: Duration::from_secs(4), ..Answer::status(500) });
    let keys = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let broker = Arc::new(
        limited("in_flight = 8\nin_flight_per_network = 4")
            .change("jwks_file = \"cluster.jwks\"\n", "")
            .change("issuer = \"https://cluster.test\"", &keys)
            .start(),
    );
    let slow = Token::cluster().claim("iss", json!(upstream.url())).sign();
    let together = Arc::new(Barrier::new(12));
    let flood: Vec<_> = (0..12)
        .map(|_| {
            let (broker, slow, together) = (Arc::clone(&broker), slow.clone(), Arc::clone(&together));
            std::thread::spawn(move || {
                together.wait();
                let form = [
                    ("grant_type", GRANT),
                    ("subject_token", &slow),
                    ("subject_token_type", JWT),
                    ("audience", ORDERS),
                ];
                post_from(&broker, [127, 0, 0, 5], None, &form)
            })
        })
        .collect();
    until("eight of them are refused", || flood.iter().filter(|one| one.is_finished()).count() == 8);
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "another network is served meanwhile");
    assert_eq!(flood.iter().filter(|one| one.is_finished()).count(), 8, "the slow ones hold their places");
    let replies: Vec<Reply> = flood.into_iter().map(|one| one.join().unwrap()).collect();
    let busy = replies.iter().filter(|reply| reply.text("reason") == "network_busy").count();
    assert_eq!(busy, 8, "{:?}", replies.iter().map(|reply| reply.text.clone()).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| matches!(reply.status, 429 | 503)));
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "the places are free again");
}

#[test]
fn what_is_read_of_a_request_is_bounded_as_configured() {
    let broker = limited("token_bytes = 2048\njson_depth = 5\nparameters = 8\ntargets = 2").start();
    let refused = |token: String| broker.reason(&broker.exchange(&token, &[]));
    assert_eq!(refused(Token::cluster().claim("pad", json!("x".repeat(2_000))).sign()), "token_malformed");
    assert_eq!(broker.exchange(&Token::cluster().claim("pad", json!("x".repeat(200))).sign(), &[]).status, 200);
    assert_eq!(broker.exchange(&Token::cluster().claim("deep", json!([[[[1]]]])).sign(), &[]).status, 200);
    assert_eq!(refused(Token::cluster().claim("deep", json!([[[[[1]]]]])).sign()), "token_malformed");
    let many = broker.exchange(&Token::cluster().sign(), &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")]);
    assert_eq!(many.refusal(), (400, "invalid_request", "too_many_parameters"));
    let targets = [("audience", ORDERS), ("audience", ORDERS), ("resource", ORDERS)];
    assert_eq!(
        broker.exchange(&Token::cluster().sign(), &targets).refusal(),
        (400, "invalid_target", "too_many_targets")
    );
    assert_eq!(broker.exchange(&Token::cluster().sign(), &targets[..2]).status, 200);
}

#[test]
fn k6_l10_idle_and_dripping_connections_are_closed_and_others_are_served() {
    let broker = limited("head_timeout = \"1s\"\nbody_timeout = \"1s\"\nconnections = 400").start();
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(broker.address).unwrap()).collect();
    let mut head_drip = TcpStream::connect(broker.address).unwrap();
    let mut body_drip = TcpStream::connect(broker.address).unwrap();
    head_drip.write_all(b"POST /token HTTP/1.1\r\n").unwrap();
    body_drip
        .write_all(b"POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    let began = Instant::now();
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "a healthy client meanwhile");
    let drip = |mut stream: TcpStream, byte: &'static [u8]| {
        std::thread::spawn(move || {
            let mut writer = stream.try_clone().unwrap();
            let dripping = std::thread::spawn(move || {
                while began.elapsed() < HANG && writer.write_all(byte).is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let status = read(&mut stream).status;
            let _ = stream.shutdown(std::net::Shutdown::Both);
            dripping.join().unwrap();
            status
        })
    };
    for dripping in [drip(head_drip, b"x"), drip(body_drip, b"a")] {
        assert_eq!(dripping.join().unwrap(), 408);
    }
    for mut stream in idle {
        stream.set_read_timeout(Some(HANG)).unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "closed by the broker");
    }
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
}

#[test]
fn l10_a_network_that_holds_connections_leaves_some_for_the_others() {
    let broker = limited("connections_per_network = 20\nconnections = 200").start();
    let from = |source: [u8; 4]| {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
        rustix::net::connect(&socket, &broker.address).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..60).map(|_| from([127, 0, 0, 7])).collect();
    std::thread::sleep(Duration::from_millis(300));
    let served = held
        .into_iter()
        .filter(|mut stream| {
            stream.write_all(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").is_ok() && read(&mut stream).status == 200
        })
        .collect::<Vec<_>>();
    assert_eq!(served.len(), 20, "the others were closed at once");
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "another network is served meanwhile");
    drop(served);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        post_from(&broker, [127, 0, 0, 7], None, &[("grant_type", "x")]).status,
        400,
        "and the places come back"
    );
}

#[test]
fn documents_are_bounded_and_counted_like_endpoints() {
    let broker = limited("head_bytes = 2048\nuri_bytes = 256\nrequests_per_network = 5").start();
    let get = |target: &str, headers: &str| {
        send(broker.address, format!("GET {target} HTTP/1.1\r\nhost: sts.test\r\n{headers}\r\n").as_bytes())
    };
    assert_eq!(get(&format!("/jwks?{}", "x".repeat(300)), "").text("reason"), "uri_too_long");
    assert_eq!(get("/jwks", &format!("x-big: {}\r\n", "y".repeat(2_048))).text("reason"), "head_too_large");
    assert_eq!(get("http://evil.test/jwks", "").text("reason"), "host_ambiguous");
    assert_eq!(get("/jwks", "").status, 200);
    let many: Vec<Reply> = (0..40).map(|_| get("/jwks", "")).collect();
    throttled(many.iter().find(|reply| reply.status == 429).unwrap(), "network_throttled");
}

#[test]
fn a_bound_that_another_one_hides_is_no_bound() {
    let config = limited("token_bytes = 20000\nbody_bytes = 10000").config;
    let parsed = countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref());
    assert!(parsed.unwrap_err().to_string().contains("no such assertion could arrive"));
}

#[test]
fn l3_what_is_sent_again_and_again_is_counted_and_does_not_fill_the_log() {
    let broker = Setup::new().change("path = \"data/audit\"", "path = \"data/audit\"\nrefusals_per_second = 0").start();
    let used = Token::github().sign();
    let minted = broker.exchange(&used, &[]).token();
    let written = |reply: &Reply| countersign::audit::find(&broker.audit(), &reply.decision()).unwrap().is_some();
    let replayed = broker.exchange(&used, &[]);
    assert!(replayed.text("reason") == "subject_token_replayed" && !written(&replayed));
    let presented = broker.exchange(&minted, &[("subject_token_type", ACCESS_TOKEN)]);
    assert!(presented.text("reason") == "presenter_not_audience" && !written(&presented));
    let denied = broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]);
    assert!(denied.status == 400 && written(&denied), "what somebody who is vouched for is denied is written");
}

#[test]
fn whom_to_trust_is_written_as_networks_and_never_as_everybody() {
    for (written, wrong) in [
        ("[\"0.0.0.0/0\"]", "half the world"),
        ("[\"::/0\"]", "half the world"),
        ("[\"proxy\"]", "no network"),
        ("[\"::ffff:10.0.0.0/104\"]", "write it as IPv4"),
    ] {
        let config = Setup::new().change("workers = 2", &format!("workers = 2\ntrusted_proxies = {written}")).config;
        let parsed = countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref());
        assert!(parsed.unwrap_err().to_string().contains(wrong), "{written}");
    }
}
