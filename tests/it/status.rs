//! Token Status Lists (draft-ietf-oauth-status-list-20): who gets an entry, what sets it, how lists are served, and that no two
//! tokens share one.

use crate::replicas::{Replicas, TempKeys, on_redis};
use crate::support::redis::{PLAIN, STRICT, Server};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::domain::{ListId, Timestamp};
use countersign_verify::Verifier;
use countersign_verify::status::{Status, StatusList};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// `setup`, with an entry for each token of both targets.
pub fn listed(setup: Setup) -> Setup {
    setup
        .change("max_lifetime = \"10m\"", "max_lifetime = \"10m\"\nstatus_list = true")
        .change("max_lifetime = \"2m\"", "max_lifetime = \"2m\"\nstatus_list = true")
}

fn status_of(token: &str) -> Option<Status> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    serde_json::from_value(claims["status"].clone()).ok()
}

/// Where `token` stands: its list, and which entry.
pub fn entry(token: &str) -> (ListId, u64) {
    let status = status_of(token).unwrap().status_list;
    let list = status.uri.strip_prefix(&format!("{STS}/status/")).unwrap().parse().unwrap();
    (list, status.idx)
}

/// Whether the entry of `token` is set, as the lists are at this moment; none where there is no such list.
pub fn set(broker: &TestBroker, token: &str) -> Option<bool> {
    let (list, index) = entry(token);
    let entries = broker.broker.revocations().status_entries(&list);
    entries.map(|(entries, _)| entries[usize::try_from(index / 8).unwrap()] >> (index % 8) & 1 == 1)
}

fn is_set(broker: &TestBroker, token: &str) -> bool {
    set(broker, token).expect("the list is there")
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Reply {
    send(address, format!("GET {path} HTTP/1.1\r\nhost: sts.test\r\n{headers}\r\n").as_bytes())
}

fn path_of(token: &str) -> String {
    format!("/status/{}", entry(token).0)
}

fn verified(broker: &TestBroker, token: &str, now: i64) -> StatusList {
    let uri = status_of(token).unwrap().status_list.uri;
    let reply = get(broker.address, &path_of(token), "");
    assert_eq!(reply.status, 200, "{}", reply.text);
    let jwks = get(broker.address, "/jwks", "");
    let verifier = Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    StatusList::verify(&reply.text, &uri, verifier.keys(), now).unwrap()
}

fn mint(broker: &TestBroker, jti: &str) -> String {
    broker.exchange(&Token::github().claim("jti", json!(jti)).claim("exp", json!(NOW + 3_000)).sign(), &[]).token()
}

fn revoke(broker: &TestBroker, token: &str) {
    let reply = broker.post("/revoke", &[("token", token)]);
    assert_eq!(reply.status, 200, "{} {:?}", reply.text, broker.event(&reply));
}

#[test]
fn a_target_that_asks_for_it_has_each_token_in_a_list_and_no_other_has() {
    let broker = Setup::new().change("max_lifetime = \"10m\"", "max_lifetime = \"10m\"\nstatus_list = true").start();
    let plain = broker.exchange(&Token::svid().sign(), &[("audience", LEDGER)]).token();
    assert_eq!(status_of(&plain), None, "its target asks for none");
    assert_eq!(get(broker.address, "/status", "").json, json!({"status_lists": []}));
    let tokens: Vec<String> = (0..40).map(|number| mint(&broker, &format!("t{number}"))).collect();
    let entries: HashSet<(ListId, u64)> = tokens.iter().map(|token| entry(token)).collect();
    assert_eq!(entries.len(), 40, "each has its own");
    let (list, _) = entry(&tokens[0]);
    assert!(entries.iter().all(|(other, index)| *other == list && *index < ListId::ENTRIES.into()));
    let mut in_order: Vec<u64> = tokens.iter().map(|token| entry(token).1).collect();
    in_order.sort_unstable();
    assert_ne!(in_order, tokens.iter().map(|token| entry(token).1).collect::<Vec<_>>(), "and says nothing of another");
    // In introspection it is a claim as any other.
    let told = broker.introspect("orders-api", &tokens[0]).json;
    assert_eq!(told["status"], serde_json::to_value(status_of(&tokens[0])).unwrap());
    let said = verified(&broker, &tokens[0], NOW);
    assert!(tokens.iter().all(|token| said.status(entry(token).1) == Some(0)));
    assert_eq!((said.ttl(), said.expires(), said.status(ListId::ENTRIES.into())), (15, NOW + 60, None));
    let places = get(broker.address, "/status", "");
    assert_eq!(places.json, json!({"status_lists": [format!("{STS}/status/{list}")]}));
    let metadata = get(broker.address, "/.well-known/oauth-authorization-server", "").json;
    assert_eq!(metadata["status_list_aggregation_endpoint"], format!("{STS}/status"));
}

#[test]
fn h20_an_entry_is_set_when_its_token_is_revoked_and_the_list_is_signed_anew() {
    let broker = listed(Setup::new()).start();
    let [dead, live] = ["dead", "live"].map(|jti| mint(&broker, jti));
    assert_eq!(verified(&broker, &dead, NOW).status(entry(&dead).1), Some(0));
    revoke(&broker, &dead);
    until("the list says so", || verified(&broker, &dead, NOW).status(entry(&dead).1) == Some(1));
    assert_eq!(verified(&broker, &live, NOW).status(entry(&live).1), Some(0), "and nothing beside it");
    let broker = broker.restart();
    assert!(is_set(&broker, &dead) && !is_set(&broker, &live), "a restart loses neither");
    let again = mint(&broker, "again");
    assert_ne!(entry(&again).0, entry(&dead).0, "what a broker gave before it was restarted it never gives again");
    revoke(&broker, &live);
    assert!(is_set(&broker, &live) && !is_set(&broker, &again));
}

#[test]
fn a_list_is_signed_again_before_it_grows_old_and_with_the_keys_of_the_moment() {
    let broker = listed(Setup::new()).start();
    let token = mint(&broker, "one");
    let first = get(broker.address, &path_of(&token), "").text;
    assert_eq!(get(broker.address, &path_of(&token), "").text, first, "from memory");
    broker.clock.advance(15);
    let second = verified(&broker, &token, NOW + 15);
    assert_eq!(second.expires(), NOW + 75);
    let signing =
        |jwt: &str| countersign_verify::jws::Compact::parse_within(jwt, wide()).unwrap().header().key_id.clone();
    let stolen = signing(&get(broker.address, &path_of(&token), "").text).unwrap();
    let output = crate::cli::run(broker.root.path(), &["keys", "revoke", &stolen], "");
    assert!(output.status.success(), "{}", crate::cli::err(&output));
    let third = get(broker.address, &path_of(&token), "").text;
    assert_ne!(signing(&third).unwrap(), stolen, "at once");
    verified(&broker, &token, NOW + 15);
}

fn wide() -> countersign_verify::jws::Bounds {
    countersign_verify::jws::Bounds { token_bytes: 1 << 20, ..countersign_verify::jws::Bounds::default() }
}

#[test]
fn what_is_over_is_let_go_of() {
    let broker = listed(Setup::new()).start();
    let token = mint(&broker, "short");
    let path = path_of(&token);
    assert_eq!(broker.broker.revocations().status_rows(), 1);
    // Ten minutes, and five for clocks that differ.
    broker.clock.advance(600 + 299);
    assert_eq!(get(broker.address, &path, "").status, 200);
    broker.clock.advance(602);
    assert_eq!(get(broker.address, "/status", "").json, json!({"status_lists": []}));
    assert_eq!(get(broker.address, &path, "").status, 404);
    assert_eq!(broker.broker.revocations().status_rows(), 0);
    let broker = broker.restart();
    assert_eq!(get(broker.address, &path, "").status, 404, "nor does it come back");
}

#[test]
fn a_list_is_served_as_the_draft_says() {
    let broker = listed(Setup::new()).start();
    let token = mint(&broker, "one");
    let path = path_of(&token);
    let reply = get(broker.address, &path, "accept: application/statuslist+jwt\r\n");
    let header = |name: &str| reply.headers.get(name).map_or("", String::as_str);
    assert_eq!((reply.status, header("content-type")), (200, "application/statuslist+jwt"));
    assert_eq!((header("cache-control"), header("access-control-allow-origin")), ("public, max-age=15", "*"));
    assert_eq!((header("vary"), header("content-encoding")), ("accept, accept-encoding", ""));
    let head = send(broker.address, format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
    // An answer without its body is none that the reader takes for whole.
    assert!(head.text.starts_with("HTTP/1.1 200") && head.text.contains("statuslist+jwt"), "{head:?}");
    for accept in ["*/*", "application/*;q=0.5", "text/html, application/statuslist+jwt"] {
        assert_eq!(get(broker.address, &path, &format!("accept: {accept}\r\n")).status, 200, "{accept}");
    }
    for accept in [
        "application/statuslist+cwt",
        "text/html",
        "application/statuslist+jwt;q=0",
        "*/*, application/statuslist+jwt;q=0.0",
    ] {
        let refused = get(broker.address, &path, &format!("accept: {accept}\r\n"));
        assert_eq!(refused.refusal(), (406, "invalid_request", "status_type_unsupported"), "{accept}");
    }
    for query in ["?time=1795304539", "?x=1&time=0", "?time"] {
        let refused = get(broker.address, &format!("{path}{query}"), "");
        assert_eq!(refused.refusal(), (501, "invalid_request", "status_time_unsupported"), "{query}");
    }
    for other in ["/status/AAAAAAAAAAAAAAAAAAAAAA", "/status/x", "/status/", &path[..path.len() - 1]] {
        assert_eq!(get(broker.address, other, "").status, 404, "{other}");
    }
    assert_eq!(broker.post(&path, &[]).refusal(), (405, "invalid_request", "method_not_allowed"));
    for encodings in ["br, gzip;q=0", "gzip;q=0, *", "identity", "*;q=0"] {
        let plain = get(broker.address, &path, &format!("accept-encoding: {encodings}\r\n"));
        assert_eq!((plain.headers.get("content-encoding"), &plain.text), (None, &reply.text), "{encodings}");
    }
    assert_eq!(unpacked(broker.address, &path), reply.text, "the same, packed");
}

/// What is served to one who takes gzip.
fn unpacked(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept-encoding: gzip, br\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[end + 4..]).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_list_that_is_not_this_one_is_not_believed() {
    use countersign_verify::Refusal;
    use countersign_verify::status::StatusError;
    let broker = listed(Setup::new()).start();
    let token = mint(&broker, "one");
    let uri = status_of(&token).unwrap().status_list.uri;
    let list = get(broker.address, &path_of(&token), "").text;
    let jwks = get(broker.address, "/jwks", "");
    let verifier = Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    let read = |jwt: &str, uri: &str, now: i64| StatusList::verify(jwt, uri, verifier.keys(), now).map(drop);
    assert_eq!(read(&list, &uri, NOW), Ok(()));
    assert_eq!(read(&list, &format!("{uri}A"), NOW), Err(StatusError::Other));
    assert_eq!(read(&list, &uri, NOW + 89), Ok(()), "as far as clocks differ");
    assert_eq!(read(&list, &uri, NOW + 90), Err(Refusal::Expired.into()));
    assert_eq!(read(&list, &uri, NOW - 31), Err(Refusal::NotYetValid.into()));
    assert_eq!(read(&token, &uri, NOW), Err(Refusal::Type.into()), "a token is no list");
    let (signed, signature) = list.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    assert_eq!(read(&format!("{signed}.{other}{}", &signature[1..]), &uri, NOW), Err(Refusal::Signature.into()));
    // And a list is no token.
    assert!(matches!(verifier.verify(&list, NOW), Err(Refusal::Type | Refusal::Envelope(_))));
    assert_eq!(broker.introspect("orders-api", &list[..list.len().min(15_000)]).json, json!({"active": false}));
}

#[test]
fn what_one_replica_gives_and_another_revokes_every_replica_says() {
    let server = Server::start(STRICT);
    let replicas = Replicas::with(3, &[server.url()], "", listed);
    let mint = |number: usize| mint(&replicas.all[number % 3], &format!("r{number}"));
    let tokens: Vec<String> = (0..12).map(mint).collect();
    // Whoever is asked has the list, however young it is.
    for (number, token) in tokens.iter().enumerate() {
        assert_eq!(get(replicas.all[(number + 1) % 3].address, &path_of(token), "").status, 200);
    }
    let lists: HashSet<ListId> = tokens.iter().map(|token| entry(token).0).collect();
    assert_eq!(lists.len(), 3, "each gives of its own");
    for (number, token) in tokens.iter().take(6).enumerate() {
        revoke(&replicas.all[(number + 2) % 3], token);
    }
    let said = |broker: &TestBroker| tokens.iter().map(|token| is_set(broker, token)).collect::<Vec<_>>();
    let wanted: Vec<bool> = (0..12).map(|number| number < 6).collect();
    let all_heard = |broker: &TestBroker| tokens.iter().all(|token| set(broker, token).is_some());
    until("all say so", || replicas.all.iter().all(|broker| all_heard(broker) && said(broker) == wanted));
    let Replicas { mut all, .. } = replicas;
    let again = all.remove(0).restart();
    assert_eq!(said(&again), wanted, "and so does one that was started since");
}

#[test]
fn h9_rows_that_a_store_has_lost_are_put_back_and_what_nobody_remembers_is_not_served() {
    let server = Server::start(PLAIN);
    let more = "durability = \"memory\"\ntimeout = \"1s\"\n[revocation]\nmax_staleness = \"1s\"";
    let keys = TempKeys::new();
    let start = || TestBroker::start(listed(on_redis(&keys, &[server.url()], more)).write(), TestClock::new());
    let all = [start(), start()];
    let [dead, late] = ["dead", "late"].map(|jti| mint(&all[0], jti));
    revoke(&all[1], &dead);
    until("both say so", || all.iter().all(|broker| set(broker, &dead) == Some(true)));
    let before = all[0].broker.revocations().position();
    server.kill();
    let gone = get(all[0].address, &path_of(&dead), "");
    until("it is not known what is revoked", || get(all[0].address, &path_of(&dead), "").status == 503);
    assert!([200, 503].contains(&gone.status), "before that the last list is still good");
    server.again();
    until("they have begun again", || all.iter().all(|broker| broker.broker.revocations().position() > before));
    until("and answer", || all.iter().all(|broker| get(broker.address, &path_of(&late), "").status == 200));
    // Connections that are gone show one by one.
    until("it is revoked", || all[1].post("/revoke", &[("token", &late)]).status == 200);
    let third = start();
    until("whoever comes now has it from the store", || {
        [&dead, &late].iter().all(|token| set(&third, token) == Some(true))
    });
    drop((all, third));
    server.kill();
    server.again();
    let fourth = start();
    assert_eq!(get(fourth.address, &path_of(&dead), "").status, 404, "rather than say that all is well");
}

#[test]
fn where_an_entry_cannot_be_kept_no_token_is_given() {
    let server = Server::start(PLAIN);
    let replicas = Replicas::with(1, &[server.url()], "durability = \"memory\"", listed);
    let broker = &replicas.all[0];
    let kept = mint(broker, "kept");
    // The stream alone takes nothing more.
    server.ask(&["RENAME", "countersign:{log}:records", "countersign:{log}:aside"]);
    server.ask(&["SET", "countersign:{log}:records", "x"]);
    let assertion = Token::github().claim("jti", json!("refused")).sign();
    let refused = broker.exchange(&assertion, &[]);
    assert_eq!(refused.refusal(), (503, "temporarily_unavailable", "store_unavailable"), "{}", refused.text);
    server.ask(&["RENAME", "countersign:{log}:aside", "countersign:{log}:records"]);
    until("it goes on, and nothing was used up", || broker.exchange(&assertion, &[]).status == 200);
    revoke(broker, &kept);
    until("and what was kept is there", || set(broker, &kept) == Some(true));
}

/// L9: what is over goes before anything is asked of a server that is full of it.
#[test]
fn l9_a_store_that_is_full_of_what_is_over_is_freed_and_goes_on() {
    let server = Server::start(PLAIN);
    let fill = "for number = 1, 30000 do redis.call('ZADD', KEYS[1], 1, number .. '-1') end return redis.call('ZCARD', KEYS[1])";
    let keys = ["countersign:{log}:row_ends", "countersign:{log}:ends"];
    assert_eq!(keys.map(|key| server.ask(&["EVAL", fill, "1", key]).trim().to_owned()), [":30000", ":30000"]);
    let used: usize = server.info("used_memory").parse().unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory", &(used - 1_000_000).to_string()]);
    assert!(server.ask(&["SET", "x", "y"]).starts_with("-OOM"));
    let replicas = Replicas::with(1, &[server.url()], "durability = \"memory\"", listed);
    let token = mint(&replicas.all[0], "after");
    revoke(&replicas.all[0], &token);
    until("it says so", || set(&replicas.all[0], &token) == Some(true));
    assert_eq!(keys.map(|key| server.ask(&["ZCARD", key]).trim().to_owned()), [":1", ":1"], "what is not over is left");
}

/// Thousands at once, who take along what others want synced: none is lost and none is there twice.
#[test]
fn rows_that_are_kept_at_once_are_kept_once_and_go_when_they_are_over() {
    use countersign::domain::StatusRow;
    use countersign::store::{Embedded, Place, RevocationLog};
    let root = tempfile::tempdir().unwrap();
    let now = Timestamp::new(NOW).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let row = |index: u32| StatusRow {
        list: ListId::new([7; 16]),
        index,
        until: now.plus(i64::from(index % 900)),
        pos: 9,
        names: vec![],
    };
    let read = |store: &Embedded| {
        let mut rows = Vec::new();
        let mut place = Place::default();
        loop {
            let page = runtime.block_on(store.page(place)).unwrap();
            if page.is_empty() {
                return rows;
            }
            place = page.last;
            rows.extend(page.rows.into_iter().map(|row| row.index));
        }
    };
    {
        let store = Embedded::open(root.path(), now).unwrap();
        runtime.block_on(store.begin(0, now)).unwrap();
        let all = (0..6_000).map(|index| store.keep(row(index), now));
        let kept = runtime.block_on(futures_util::future::join_all(all));
        assert!(kept.iter().all(Result::is_ok));
        let mut rows = read(&store);
        assert_eq!(rows.len(), 6_000, "more than a page");
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 6_000);
    }
    // The clock may be wrong at the start: what is over goes when something is written.
    let later = now.plus(300 + 600);
    let store = Embedded::open(root.path(), later).unwrap();
    runtime.block_on(store.begin(0, later)).unwrap();
    assert_eq!(read(&store).len(), 6_000);
    let more = (0..1_024).map(|index| store.keep(StatusRow { until: later, ..row(index) }, later));
    assert!(runtime.block_on(futures_util::future::join_all(more)).iter().all(Result::is_ok));
    let left = read(&store);
    let gone = |index: &u32| *index >= 1_024 && index % 900 < 480;
    assert!(!left.iter().any(gone), "it goes then");
    let stays = (1_024..6_000).filter(|index| index % 900 >= 600);
    assert!(stays.into_iter().all(|index| left.contains(&index)), "and nothing else");
}

fn kid(token: &str) -> String {
    countersign_verify::jws::Compact::parse(token).unwrap().header().key_id.clone().unwrap()
}

/// What somebody who stole the key of `token` makes of it: another token, with another entry of the same list.
fn forged(broker: &TestBroker, token: &str) -> String {
    let stolen = std::fs::read_dir(broker.path("keys")).unwrap().flatten().map(|entry| entry.path());
    let stolen = stolen.into_iter().find(|path| path.to_string_lossy().contains(&kid(token)[..12])).unwrap();
    let mut parts = token.split('.');
    let (header, payload) = (parts.next().unwrap(), URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap());
    let mut claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["jti"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
    claims["status"]["status_list"]["idx"] = json!(entry(token).1 ^ 1);
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signer = josekit::jws::ES256.signer_from_pem(std::fs::read(stolen).unwrap()).unwrap();
    let signature = josekit::jws::JwsSigner::sign(&signer, input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// By the lists alone: without credentials, and without asking about any token. And 503 once they say nothing any more.
#[test]
fn h20_a_resource_server_that_reads_status_lists_refuses_what_was_revoked_and_knows_when_it_does_not_know() {
    let clock = TestClock::real();
    let started = Instant::now();
    // A list of a minute ago is good for some seconds more.
    clock.advance(-70);
    let setup = listed(Setup::new()).policies(
        "@id(\"all\") permit (principal, action == Action::\"exchange\", resource == Target::\"https://orders.test\");",
    );
    let broker = TestBroker::start(setup.write(), clock.clone());
    let orders = crate::feed::Orders::by_lists(&format!("http://{}", broker.address));
    let now = countersign::domain::Clock::now(&clock).seconds();
    let mint = |jti: &str| {
        let times = [("iat", 0), ("nbf", 0), ("exp", 900)];
        let assertion = times.into_iter().fold(Token::github().claim("jti", json!(jti)), |token, (name, after)| {
            token.claim(name, json!(now + after))
        });
        broker.exchange(&assertion.sign(), &[]).token()
    };
    let [dead, live] = ["dead", "live"].map(mint);
    assert_eq!((orders.with(&dead).status, orders.with(&live).status), (200, 200));
    revoke(&broker, &dead);
    clock.advance(i64::try_from(started.elapsed().as_secs()).unwrap() + 15);
    until("the list is fetched again", || orders.with(&dead).status == 401);
    assert_eq!(orders.with(&dead).headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert_eq!(orders.with(&live).status, 200);
    // A stolen key signs what it likes, with an entry that nobody has.
    let forged = forged(&broker, &live);
    assert_eq!(orders.with(&forged).status, 200, "as long as the key is good");
    let output = crate::cli::run(broker.root.path(), &["keys", "revoke", &kid(&live)], "");
    assert!(output.status.success(), "{}", crate::cli::err(&output));
    until("the key is not trusted any more", || orders.with(&forged).status == 401);
    let live = mint("after");
    until("a new key is known", || orders.with(&live).status == 200);
    // A target without a list: its tokens say nothing of their status, and nothing is guessed.
    let config = std::fs::read_to_string(broker.config()).unwrap();
    broker.write("countersign.toml", &config.replace("status_list = true", ""));
    assert!(crate::cli::run(broker.root.path(), &["reload"], "").status.success());
    let silent = mint("silent");
    assert_eq!((status_of(&silent), orders.with(&silent).status), (None, 401));
    drop(broker);
    until("it says that it does not know", || orders.with(&live).status == 503);
    assert!(orders.with(&live).asks_to_retry());
}
