//! What resource servers are told of what is revoked: the snapshot, the stream, and the example that follows them.

use crate::cli::{Serving, err, fresh, out, run};
use crate::replicas::Replicas;
use crate::support::redis::{STRICT, Server};
use crate::support::*;
use countersign_verify::Verifier;
use countersign_verify::feed::{Event, Events, Feed, FeedError, HERE, LOST, RECORD};
use countersign_verify::revocation::{Kind, Name};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn ask(broker: &TestBroker, client: &str) -> Reply {
    broker.post_as(client, "/revocations", &[])
}

fn verifier(broker: &TestBroker, audience: &str) -> Verifier {
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    Verifier::new(STS, audience, jwks.text.as_bytes()).unwrap()
}

fn snapshot(broker: &TestBroker, client: &str, audience: &str) -> Feed {
    let reply = ask(broker, client);
    assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "application/revocations+jwt"));
    Feed::begin(&reply.text, STS, client, verifier(broker, audience).keys(), NOW).unwrap()
}

/// A stream of events, as it comes.
struct Listening {
    stream: TcpStream,
    events: Events,
    ready: Vec<Event>,
}

impl Listening {
    fn to(address: SocketAddr, client: &str, after: u64) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "POST /revocations HTTP/1.1\r\nhost: sts.test\r\nauthorization: {}\r\naccept: text/event-stream\r\nlast-event-id: {after}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n\r\n",
            basic(client)
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
        Self { stream, events: Events::default(), ready: Vec::new() }
    }

    /// The next event, or none where the stream has ended.
    fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            // One chunk of the transfer: its length in hexadecimal, and a line's end before and after it.
            let mut length = String::new();
            while !length.ends_with("\r\n") {
                let mut byte = [0];
                if self.stream.read(&mut byte).unwrap() == 0 {
                    return None;
                }
                length.push(char::from(byte[0]));
            }
            let length = usize::from_str_radix(length.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            if length == 0 {
                return None;
            }
            self.ready = self.events.read(&chunk[..length]).unwrap();
            self.ready.reverse();
        }
        self.ready.pop()
    }

    /// The next one that is a record.
    fn record(&mut self) -> Event {
        loop {
            let event = self.next().expect("the stream goes on");
            if event.name != HERE {
                return event;
            }
        }
    }
}

#[test]
fn a_snapshot_says_what_is_in_force_to_the_client_that_asked_and_to_nobody_else() {
    let broker = TestBroker::new();
    let tokens: Vec<String> = (0..3)
        .map(|number| broker.exchange(&Token::github().claim("jti", json!(number.to_string())).sign(), &[]).token())
        .collect();
    let orders = verifier(&broker, ORDERS);
    let read: Vec<_> = tokens.iter().map(|token| orders.verify(token, NOW).unwrap()).collect();
    assert_eq!(broker.post("/revoke", &[("token", &tokens[0])]).status, 200);
    let operate = |arguments: &[&str]| {
        let output = run(broker.root.path(), arguments, "");
        assert!(output.status.success(), "{}", err(&output));
    };
    let feed = snapshot(&broker, "orders-api", ORDERS);
    assert_eq!((feed.hits(&read[0]), feed.hits(&read[1]), feed.position()), (true, false, 1));
    operate(&["suspend", "--workload", &read[1].claims().sub]);
    operate(&["revoke", "--issuer", "https://nobody.test", "--before", "2020-01-01T00:00:00Z"]);
    let feed = snapshot(&broker, "orders-api", ORDERS);
    assert!(read.iter().all(|token| feed.hits(token)));
    operate(&["resume", "--workload", &read[1].claims().sub]);
    // Another target's is left out, and only that.
    operate(&["revoke", "--target", LEDGER]);
    operate(&["revoke", "--target", ORDERS]);
    let (orders_told, ledger_told) = (ask(&broker, "orders-api").text, ask(&broker, "ledger-api").text);
    let names = |jwt: &str| {
        let payload = countersign_verify::jws::Compact::parse(jwt).unwrap();
        let key = orders.keys().find(payload.header().key_id.as_deref(), payload.header().algorithm).unwrap();
        let claims = serde_json::Value::Object(payload.verify(key).unwrap().into_members());
        let packed = base64::Engine::decode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            claims["revoked"].as_str().unwrap(),
        )
        .unwrap();
        packed.chunks(28).map(|record| Name::from_bytes(record[..16].try_into().unwrap())).collect::<Vec<_>>()
    };
    let of = |audience: &str| Name::new(Kind::Target, audience);
    assert!(names(&orders_told).contains(&of(ORDERS)) && !names(&orders_told).contains(&of(LEDGER)));
    assert!(names(&ledger_told).contains(&of(LEDGER)) && !names(&ledger_told).contains(&of(ORDERS)));
    assert_eq!(names(&orders_told).len(), names(&ledger_told).len());
    // It is for who asked, by this broker, as a snapshot.
    let begin = |jwt: &str, issuer: &str, client: &str| Feed::begin(jwt, issuer, client, orders.keys(), NOW).err();
    assert_eq!(begin(&orders_told, STS, "orders-api"), None);
    assert!(matches!(begin(&orders_told, STS, "ledger-api"), Some(FeedError::Snapshot(_))));
    let later = |after: i64| Feed::begin(&orders_told, STS, "orders-api", orders.keys(), NOW + after).err();
    assert_eq!(later(120), None, "as long as a large one takes to come");
    assert_eq!(later(121), Some(FeedError::Snapshot(countersign_verify::Refusal::Expired)), "one from before");
    assert!(matches!(begin(&orders_told, "https://other.test", "orders-api"), Some(FeedError::Snapshot(_))));
    assert!(matches!(begin(&tokens[2], STS, "orders-api"), Some(FeedError::Snapshot(_))), "a token is no snapshot");
    let (head, rest) = orders_told.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let (_, other) = ledger_told.split_once('.').unwrap();
    let forged = format!("{head}.{}.{signature}", other.split_once('.').unwrap().0);
    assert!(matches!(begin(&forged, STS, "ledger-api"), Some(FeedError::Snapshot(_))));
    // Nobody in particular is told nothing, and who serves no target neither.
    assert_eq!(broker.post("/revocations", &[]).refusal(), (401, "invalid_client", "client_credentials_required"));
    assert_eq!(send(broker.address, b"GET /revocations HTTP/1.1\r\nhost: x\r\n\r\n").status, 405);
}

#[test]
fn a_stream_tells_each_record_in_order_and_goes_on_where_it_was_left() {
    let broker = TestBroker::new();
    let mut feed = snapshot(&broker, "orders-api", ORDERS);
    let token =
        |number: u32| broker.exchange(&Token::github().claim("jti", json!(format!("s{number}"))).sign(), &[]).token();
    let revoke = |token: &str| assert_eq!(broker.post("/revoke", &[("token", token)]).status, 200);
    let tokens: Vec<String> = (0..6).map(token).collect();
    let orders = verifier(&broker, ORDERS);
    let read: Vec<_> = tokens.iter().map(|token| orders.verify(token, NOW).unwrap()).collect();
    let mut listening = Listening::to(broker.address, "orders-api", feed.position());
    let here = listening.next().unwrap();
    assert_eq!((here.name.as_str(), here.id.as_str()), (HERE, "0"), "nothing so far, and that is said");
    for (place, token) in tokens[..3].iter().enumerate() {
        revoke(token);
        let event = listening.record();
        assert_eq!((event.name.as_str(), event.id.clone()), (RECORD, (place + 1).to_string()));
        feed.hear(&event, NOW).unwrap();
        assert!(feed.hits(&read[place]) && !feed.hits(&read[place + 1]));
    }
    drop(listening);
    for token in &tokens[3..] {
        revoke(token);
    }
    let output = run(broker.root.path(), &["revoke", "--target", LEDGER], "");
    assert!(output.status.success());
    let mut listening = Listening::to(broker.address, "orders-api", feed.position());
    for token in &read[3..] {
        let event = listening.record();
        feed.hear(&event, NOW).unwrap();
        assert!(feed.hits(token));
    }
    // The record of another target is not told, and what comes after it says where the log is.
    let here = listening.next().unwrap();
    assert_eq!((here.name.as_str(), here.id.as_str()), (HERE, "7"));
    let mut of_ledger = Listening::to(broker.address, "ledger-api", 6);
    assert_eq!(of_ledger.record().id, "7");
    // What was never there, or is not remembered, is told as lost, and that is all.
    let mut ahead = Listening::to(broker.address, "orders-api", 1_000);
    assert_eq!(ahead.record().name, LOST);
    assert_eq!(ahead.next(), None);
    assert_eq!(
        feed.hear(&Event { id: "7".to_owned(), name: LOST.to_owned(), data: "{}".to_owned() }, NOW),
        Err(FeedError::Lost)
    );
    let broker = broker.restart();
    let mut behind = Listening::to(broker.address, "orders-api", 3);
    assert_eq!(behind.record().name, LOST, "a broker that was started anew remembers no records whole");
    // A client that is taken out hears no more.
    let mut listening = Listening::to(broker.address, "orders-api", 7);
    assert_eq!(listening.next().unwrap().name, HERE);
    let config = std::fs::read_to_string(broker.config()).unwrap();
    broker.write("countersign.toml", &config.replace("introspects = [\"https://orders.test\"]", "introspects = []"));
    assert!(run(broker.root.path(), &["reload"], "").status.success());
    until("the stream ends", || listening.next().is_none());
}

/// As many instances of one client follow as may, and one that goes makes room.
#[test]
fn followers_of_one_client_are_bounded_and_who_goes_makes_room() {
    let broker = TestBroker::new();
    let mut following: Vec<Listening> = (0..128).map(|_| Listening::to(broker.address, "orders-api", 0)).collect();
    let one_more = |client: &str| {
        let headers = [("authorization", basic(client)), ("accept", "text/event-stream".to_owned())];
        let request = format!(
            "POST /revocations HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\naccept: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n\r\n",
            headers[0].1, headers[1].1
        );
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head[9..]).into_owned()
    };
    assert_eq!(one_more("orders-api"), "503");
    assert_eq!(one_more("ledger-api"), "200", "another client has places of its own");
    following.truncate(100);
    until("somebody has gone", || one_more("orders-api") == "200");
}

#[test]
fn a_stream_outlives_what_an_idle_connection_may_and_ends_when_the_broker_stops() {
    let limits = "workers = 2\n[server.limits]\nhead_timeout = \"1s\"\nidle_timeout = \"1s\"";
    let broker = Setup::new().change("workers = 2", limits).start();
    let mut listening = Listening::to(broker.address, "orders-api", 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        assert_eq!(listening.next().unwrap().name, HERE);
    }
    // Nobody who listens holds it up.
    drop(broker);
    while let Some(event) = listening.next() {
        assert_eq!(event.name, HERE, "what was on its way, and then the end");
    }
}

/// The example, which `cargo test` builds if it is asked for the feature.
fn example() -> PathBuf {
    let example = Path::new(env!("CARGO_BIN_EXE_countersign")).with_file_name("examples").join("orders");
    assert!(
        example.exists(),
        "no {}: run `make test`, or add `--features countersign-verify/actix`",
        example.display()
    );
    example
}

pub struct Orders {
    child: Child,
    address: SocketAddr,
}

impl Orders {
    fn start(broker: &str) -> Self {
        Self::spawn(broker, Command::new(example()).env("ORDERS_SECRET", secret("orders-api")))
    }

    /// Without credentials.
    pub fn by_lists(broker: &str) -> Self {
        Self::spawn(broker, &mut Command::new(example()))
    }

    fn spawn(broker: &str, command: &mut Command) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut child = command
            .args([STS, ORDERS, "orders-api", &address.to_string(), broker])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening"), "{line}");
        let orders = Self { child, address };
        until("it listens", || TcpStream::connect(address).is_ok());
        orders
    }

    fn get(&self, headers: &[(&str, &str)]) -> Reply {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        send(self.address, format!("GET /orders HTTP/1.1\r\nhost: orders.test\r\n{headers}\r\n").as_bytes())
    }

    pub fn with(&self, token: &str) -> Reply {
        self.get(&[("authorization", &format!("Bearer {token}"))])
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn h20_a_resource_server_that_follows_the_feed_refuses_what_was_revoked_within_milliseconds_and_asks_about_no_token() {
    let root = Setup::new().write();
    let mut broker = Serving::start(root.path());
    let orders = Orders::start(&broker.url);
    let address: SocketAddr = broker.url.trim_start_matches("http://").parse().unwrap();
    let exchange = |address: SocketAddr| {
        let assertion = fresh().claim("jti", json!(format!("{:?}", Instant::now()))).sign();
        let form =
            [("grant_type", GRANT), ("subject_token", &assertion), ("subject_token_type", JWT), ("audience", ORDERS)];
        send_to(address, "/token", &[], &form).token()
    };
    let [live, dead] = [exchange(address), exchange(address)];
    let reply = orders.with(&live);
    assert_eq!((reply.status, reply.text.as_str()), (200, "orders for github:repo:acme/app:ref:refs/heads/main\n"));
    assert_eq!(orders.with(&dead).status, 200);
    assert_eq!(send_to(address, "/revoke", &[], &[("token", &dead)]).status, 200);
    until("it is refused", || orders.with(&dead).status == 401);
    assert_eq!(orders.with(&dead).headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert_eq!(orders.with(&live).status, 200);
    // Nothing, garbage, two of them, another scheme.
    assert!(orders.get(&[]).headers["www-authenticate"].contains("DPoP algs="));
    let bearer = format!("Bearer {live}");
    for headers in [
        vec![("authorization", "Bearer x")],
        vec![("authorization", "Basic x")],
        vec![("authorization", "Bearer")],
        vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())],
        vec![("authorization", bearer.as_str()), ("dpop", "x")],
    ] {
        assert_eq!(orders.get(&headers).status, 401, "{headers:?}");
    }
    let of_ledger = {
        let now = countersign::domain::Clock::now(&countersign::domain::SystemClock).seconds();
        let svid = Token::svid().claim("iat", json!(now)).claim("exp", json!(now + 300)).sign();
        let form = [("grant_type", GRANT), ("subject_token", &svid), ("subject_token_type", JWT), ("audience", LEDGER)];
        send_to(address, "/token", &[], &form).token()
    };
    assert_eq!(orders.with(&of_ledger).status, 401, "for another audience");
    // A key that is revoked takes its tokens with it, and one that is new is fetched.
    let keys = run(root.path(), &["keys", "list", "--json"], "");
    let keys: serde_json::Value = serde_json::from_str(&out(&keys)).unwrap();
    let signing = keys.as_array().unwrap().iter().find(|key| key["purpose"] == "tokens" && key["state"] == "active");
    assert!(run(root.path(), &["keys", "revoke", signing.unwrap()["kid"].as_str().unwrap()], "").status.success());
    until("all of them are dead", || orders.with(&live).status == 401);
    let renewed = exchange(address);
    until("the new key is known", || orders.with(&renewed).status == 200);
    // The broker has gone: what is known goes on for a while, and what was revoked stays so.
    broker.kill();
    assert_eq!(orders.with(&dead).status, 401);
    until("it says that it does not know", || orders.with(&renewed).status == 503);
    assert!(orders.with(&renewed).asks_to_retry());
    assert_eq!(orders.with(&dead).status, 401);
}

#[test]
fn a_resource_server_hears_from_one_replica_what_another_one_revoked_and_takes_bound_tokens_with_their_proof() {
    let server = Server::start(STRICT);
    let replicas = Replicas::real(2, &[server.url()]);
    let [one, other] = [&replicas.all[0], &replicas.all[1]];
    let orders = Orders::start(&format!("http://{}", one.address));
    let assertion = |number: u32| fresh().claim("jti", json!(format!("two-{number}"))).sign();
    let token = other.exchange(&assertion(1), &[]).token();
    assert_eq!(orders.with(&token).status, 200);
    assert_eq!(other.post("/revoke", &[("token", &token)]).status, 200);
    until("it is refused", || orders.with(&token).status == 401);
    let now = countersign::domain::Clock::now(&replicas.clock).seconds();
    let subject = assertion(2);
    let form = [("grant_type", GRANT), ("subject_token", &subject), ("subject_token_type", JWT), ("audience", ORDERS)];
    let proof_for = |method: &str, uri: &str, token: Option<&str>| {
        let mut proof =
            proof(&keys().ed, "/token").claim("htm", json!(method)).claim("htu", json!(uri)).claim("iat", json!(now));
        if let Some(token) = token {
            let digest = countersign::domain::sha256(&[token.as_bytes()]);
            let ath = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
            proof = proof.claim("ath", json!(ath));
        }
        proof.sign()
    };
    let opening = proof_for("POST", &format!("{STS}/token"), None);
    let bound = send_to(one.address, "/token", &[("dpop", opening)], &form).token();
    assert_eq!(orders.with(&bound).status, 401, "no bearer token");
    let shown = format!("DPoP {bound}");
    let good = proof_for("GET", &format!("{ORDERS}/orders"), Some(&bound));
    let once = orders.get(&[("authorization", &shown), ("dpop", &good)]);
    assert_eq!(once.status, 200, "{once:?}");
    let again = orders.get(&[("authorization", &shown), ("dpop", &good)]);
    assert_eq!((again.status, again.headers["www-authenticate"].as_str()), (401, "DPoP error=\"invalid_dpop_proof\""));
    let elsewhere = proof_for("GET", "https://other.test/orders", Some(&bound));
    assert_eq!(orders.get(&[("authorization", &shown), ("dpop", &elsewhere)]).status, 401);
}
