//! A shared store that fails, in every way that one can: the answer is 503 within its bound, never one that could be wrong, and
//! nobody has to start anything again. Abuse cases G5, H4, H5, H9, L9 and O6, by number.

use crate::replicas::{Replicas, TempKeys, on_redis};
use crate::support::redis::{Cluster, PLAIN, STRICT, Server, Watched};
use crate::support::*;
use countersign::app::Installation;
use countersign::domain::SystemEntropy;
use countersign::http::block_on;
use serde_json::json;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

const STALE: &str = "timeout = \"1s\"\n[revocation]\nmax_staleness = \"1s\"";

/// Assertions that nobody has exchanged.
#[derive(Default)]
struct Fresh(Cell<u32>);

impl Fresh {
    fn next(&self) -> String {
        self.0.set(self.0.get() + 1);
        Token::github().claim("jti", json!(format!("fresh-{}", self.0.get()))).sign()
    }
}

fn is_down(what: &str, reply: &Reply) {
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "store_unavailable"), "{what}: {}", reply.text);
    assert!(reply.asks_to_retry(), "{what}");
}

/// One way to fail, and to be well again.
struct Fault {
    name: &'static str,
    begin: fn(&Server),
    end: fn(&Server),
    /// Whether the log can still be read.
    readable: bool,
    /// Whether marks can still be written, so that an exchange is refused only when the log is not known.
    writable: bool,
}

const FAULTS: [Fault; 9] = [
    Fault { name: "down", begin: Server::kill, end: Server::again, readable: false, writable: false },
    Fault { name: "black-holed", begin: Server::pause, end: Server::go_on, readable: false, writable: false },
    Fault {
        name: "read-only",
        begin: |server| drop(server.ask(&["REPLICAOF", "127.0.0.1", "1"])),
        end: |server| drop(server.ask(&["REPLICAOF", "NO", "ONE"])),
        readable: false,
        writable: false,
    },
    Fault {
        name: "out of memory",
        begin: |server| drop(server.ask(&["CONFIG", "SET", "maxmemory", "1"])),
        end: |server| drop(server.ask(&["CONFIG", "SET", "maxmemory", "0"])),
        readable: true,
        writable: false,
    },
    Fault {
        name: "slow",
        begin: |server| {
            let port = server.port.to_string();
            let asleep = std::process::Command::new("redis-cli").args(["-p", &port, "DEBUG", "SLEEP", "6"]).spawn();
            // It is asked, and answers nobody else until it has answered this.
            std::thread::spawn(move || asleep.unwrap().wait());
            std::thread::sleep(Duration::from_millis(300));
        },
        end: |server| until("it is awake", || server.try_ask(&["PING"]).is_some_and(|pong| pong.starts_with("+PONG"))),
        readable: false,
        writable: false,
    },
    Fault {
        name: "refusing who asks",
        begin: |server| {
            server.ask(&["ACL", "SETUSER", "countersign", "off"]);
            server.ask(&["CLIENT", "KILL", "USER", "countersign"]);
        },
        end: |server| drop(server.ask(&["ACL", "SETUSER", "countersign", "on"])),
        readable: false,
        writable: false,
    },
    Fault {
        name: "allowing nothing",
        begin: |server| drop(server.ask(&["ACL", "SETUSER", "countersign", "-@all"])),
        end: |server| drop(server.ask(&["ACL", "SETUSER", "countersign", "+@all"])),
        readable: false,
        writable: false,
    },
    Fault {
        name: "of another type",
        begin: |server| {
            server.ask(&["RENAME", "countersign:{log}:state", "aside"]);
            server.ask(&["SET", "countersign:{log}:state", "x"]);
        },
        end: |server| {
            server.ask(&["DEL", "countersign:{log}:state"]);
            server.ask(&["RENAME", "aside", "countersign:{log}:state"]);
        },
        readable: false,
        writable: true,
    },
    Fault {
        name: "loading",
        begin: |server| {
            server.kill();
            // As long as it takes with very much to read.
            server.configure("key-load-delay 30000\nloading-process-events-interval-bytes 1024\n");
            server.begin();
        },
        end: |server| {
            until("it has loaded", || server.try_ask(&["PING"]).is_some_and(|pong| pong.starts_with("+PONG")))
        },
        readable: false,
        writable: false,
    },
];

#[test]
fn g5_h4_h5_l9_whatever_the_store_does_the_answer_is_503_within_its_bound_and_never_wrong() {
    let server = Server::start(&format!(
        "{STRICT}enable-debug-command yes\nuser default on nopass ~* &* +@all\nuser countersign on >let-me-in ~* &* +@all\n"
    ));
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "let-me-in\n").unwrap();
    let more = format!("username = \"countersign\"\npassword_file = \"{}\"\n{STALE}", password.display());
    let replicas = Replicas::start(2, &[server.url()], &more);
    let fresh = Fresh::default();
    for fault in FAULTS {
        let name = fault.name;
        eprintln!("{name}");
        let [one, other] = [&replicas.all[0], &replicas.all[1]];
        let [live, dead] = [fresh.next(), fresh.next()].map(|assertion| one.exchange(&assertion, &[]).token());
        assert_eq!(one.post("/revoke", &[("token", &dead)]).status, 200, "{name}");
        until("the other one knows", || replicas.refuse(&dead));
        let unused = fresh.next();
        (fault.begin)(&server);
        if fault.writable {
            until("what was revoked meanwhile is not known", || {
                replicas.all.iter().all(|broker| broker.exchange(&fresh.next(), &[]).status == 503)
            });
        }
        is_down(name, &one.exchange(&unused, &[]));
        is_down(name, &other.exchange(&fresh.next(), &[]));
        let revoked = one.post("/revoke", &[("token", &live)]);
        assert_eq!((revoked.status, revoked.asks_to_retry()), (503, true), "{name}");
        for broker in &replicas.all {
            let told = broker.introspect("orders-api", &dead);
            assert!(told.status == 503 || told.text == "{\"active\":false}", "{name}: {}", told.text);
        }
        if !fault.readable {
            until("what was revoked meanwhile is not known", || one.introspect("orders-api", &live).status == 503);
            let reusable = one.exchange(&Token::cluster().sign(), &[]);
            is_down(name, &reusable);
        }
        for path in ["/jwks", "/.well-known/oauth-authorization-server"] {
            let asked = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            assert_eq!(send(one.address, asked.as_bytes()).status, 200, "{name}: {path}");
        }
        (fault.end)(&server);
        until("all is well again", || {
            replicas.all.iter().all(|broker| broker.exchange(&fresh.next(), &[]).status == 200)
        });
        until("and all is known", || {
            replicas.all.iter().all(|broker| broker.introspect("orders-api", &dead).status == 200)
        });
        assert!(replicas.refuse(&dead), "{name}");
        // It was told 503, so it may hold or not; asked again, it holds.
        assert_eq!(one.post("/revoke", &[("token", &live)]).status, 200, "{name}");
        until("it holds", || replicas.refuse(&live));
    }
}

/// Nothing was asked of a server that could not be reached, so nothing was used up.
#[test]
fn g6_an_assertion_that_met_a_store_that_was_down_is_good_when_it_is_up() {
    let server = Server::start(STRICT);
    let replicas = Replicas::start(1, &[server.url()], STALE);
    let fresh = Fresh::default();
    let assertion = fresh.next();
    server.kill();
    is_down("down", &replicas.all[0].exchange(&assertion, &[]));
    server.again();
    until("it is up", || replicas.all[0].exchange(&fresh.next(), &[]).status == 200);
    assert_eq!(replicas.all[0].exchange(&assertion, &[]).status, 200);
}

#[test]
fn o6_a_server_that_would_lose_what_it_is_given_is_refused_with_what_to_set() {
    let started = |server: &Server, more: &str| {
        let keys = TempKeys::new();
        let root = on_redis(&keys, &[server.url()], more).write();
        let installation = Installation::read(&root.path().join("countersign.toml")).unwrap();
        let started = block_on(installation.assemble(Arc::new(TestClock::new()), Arc::new(SystemEntropy)));
        started.err().map(|fault| fault.to_string()).unwrap_or_default()
    };
    let plain = Server::start(PLAIN);
    for (more, said) in [
        ("", "`appendonly` is off"),
        ("durability = \"persisted\"", "`appendonly` is off"),
        ("durability = \"memory\"", ""),
        ("durability = \"memory\"\nmode = \"cluster\"", "cluster"),
    ] {
        let message = started(&plain, more);
        assert!(message.contains(said) && message.is_empty() == said.is_empty(), "{more}: {message}");
    }
    let slack = Server::start("appendonly yes\nappendfsync everysec\n");
    let message = started(&slack, "");
    assert!(message.contains("`appendfsync` is `everysec`") && message.contains("set it to `always`"), "{message}");
    assert_eq!(started(&slack, "durability = \"persisted\""), "");
    slack.ask(&["CONFIG", "SET", "appendfsync", "no"]);
    assert!(started(&slack, "durability = \"persisted\"").contains("`appendfsync` is `no`"));
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-random"] {
        plain.ask(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let message = started(&plain, "durability = \"memory\"");
        assert!(message.contains(policy) && message.contains("noeviction"), "{message}");
    }
    plain.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let replica = Server::start(&format!("{PLAIN}replicaof 127.0.0.1 {}\n", plain.port));
    until("it follows", || replica.info("master_link_status") == "up");
    assert!(started(&replica, "durability = \"memory\"").contains("replica"));
    plain.kill();
    let message = started(&plain, "durability = \"memory\"");
    assert!(message.contains(&plain.url()), "{message}");
}

/// H9, where nothing may be lost: who took over has every revocation that was acknowledged.
#[test]
fn h9_a_failover_of_a_strict_store_loses_no_revocation_and_nobody_starts_anything_again() {
    let watched = Watched::start(STRICT);
    // One that does not have to confirm could be promoted.
    let root =
        on_redis(&TempKeys::new(), &watched.urls(), "mode = \"sentinel\"\nmaster = \"tokens\"\nreplicas = 1").write();
    let installation = Installation::read(&root.path().join("countersign.toml")).unwrap();
    let started = block_on(installation.assemble(Arc::new(TestClock::new()), Arc::new(SystemEntropy)));
    let message = started.err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(message.contains("it has 2 replicas") && message.contains("set it to 2"), "{message}");
    let more = format!("mode = \"sentinel\"\nmaster = \"tokens\"\nreplicas = 2\n{STALE}");
    let replicas = Replicas::start(2, &watched.urls(), &more);
    // Confirmed from disk by servers that can say so, and else from memory.
    let primary = watched.primary().unwrap();
    let version: Vec<u32> = primary.info("redis_version").split('.').map(|part| part.parse().unwrap()).collect();
    let told = primary.ask(&["INFO", "commandstats"]);
    let [on_disk, in_memory] = ["cmdstat_waitaof:", "cmdstat_wait:"].map(|one| told.contains(one));
    assert_eq!((on_disk, in_memory), if version >= vec![7, 2] { (true, false) } else { (false, true) }, "{version:?}");
    failover(&replicas, || {
        watched.primary().unwrap().kill();
    });
}

#[test]
fn h9_a_failover_of_a_strict_cluster_loses_no_revocation_and_nobody_starts_anything_again() {
    let cluster = Cluster::start(STRICT);
    let more = format!("mode = \"cluster\"\nreplicas = 1\n{STALE}");
    let replicas = Replicas::start(2, &cluster.urls(), &more);
    failover(&replicas, || {
        let of_log = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", "countersign:{log}:records"]);
        let slot: u32 = of_log.trim_start_matches(':').trim().parse().unwrap();
        let range = |server: &&Server| {
            let told = server.ask(&["CLUSTER", "NODES"]);
            let own = told.lines().find(|line| line.contains("myself")).unwrap().to_owned();
            own.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse::<u32>().is_ok_and(|first| (first..=last.parse().unwrap()).contains(&slot))
            })
        };
        cluster.primaries().find(range).unwrap().kill();
    });
}

/// Revokes until the server dies, and looks at each revocation that was acknowledged.
fn failover(replicas: &Replicas, kill: impl FnOnce()) {
    let fresh = Fresh::default();
    let tokens: Vec<String> = (0..60).map(|_| replicas.all[0].exchange(&fresh.next(), &[]).token()).collect();
    let (before, during) = tokens.split_at(20);
    let revoke = |broker: &TestBroker, token: &str| broker.post("/revoke", &[("token", token)]).status == 200;
    assert!(before.iter().all(|token| revoke(&replicas.all[0], token)));
    let acknowledged: Vec<&String> = std::thread::scope(|scope| {
        let revoking = scope.spawn(|| during.iter().filter(|token| revoke(&replicas.all[1], token)).collect());
        std::thread::sleep(Duration::from_millis(50));
        kill();
        revoking.join().unwrap()
    });
    // One of them has gone for good, and not all that are left are those that strict asks for; what is read is answered.
    until("they follow the one that took over, or say that they do not", || {
        replicas.all.iter().all(|broker| {
            let told = broker.introspect("orders-api", &before[0]);
            told.status == 503 || told.text == "{\"active\":false}"
        })
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(15) {
        for token in before.iter().chain(acknowledged.iter().copied()) {
            let told = replicas.all[began.elapsed().subsec_micros() as usize % 2].introspect("orders-api", token);
            assert_ne!(told.json["active"], true, "it was acknowledged");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a server has lost its brokers remember: it is put back before they answer for anything, whole where it is not long ago.
#[test]
fn h9_what_a_store_has_lost_is_put_back_from_the_brokers_memory() {
    let server = Server::start(PLAIN);
    let replicas = Replicas::start(2, &[server.url()], &format!("durability = \"memory\"\n{STALE}"));
    let fresh = Fresh::default();
    let one = &replicas.all[0];
    let tokens: Vec<String> = (0..30).map(|_| one.exchange(&fresh.next(), &[]).token()).collect();
    let (dead, live) = tokens.split_at(20);
    assert!(dead.iter().all(|token| one.post("/revoke", &[("token", token)]).status == 200));
    let operate = |arguments: &[&str]| {
        let output = crate::cli::run(one.root.path(), arguments, "");
        assert!(output.status.success(), "{}", crate::cli::err(&output));
        crate::cli::out(&output)
    };
    operate(&["suspend", "--client", "somebody", "--reason", "INC-9"]);
    operate(&["revoke", "--workload", "cluster:somebody", "--before", "2020-01-01T00:00:00Z"]);
    until("both know", || dead.iter().all(|token| replicas.refuse(token)));
    let before = one.broker.revocations().position();
    server.kill();
    server.again();
    until("they have begun again", || {
        replicas.all.iter().all(|broker| broker.broker.revocations().position() > before)
    });
    assert!(dead.iter().all(|token| replicas.refuse(token)));
    until("and answer", || replicas.all.iter().all(|broker| broker.introspect("orders-api", &live[0]).status == 200));
    assert!(live.iter().all(|token| replicas.accept(token)), "none beside them");
    // Whoever starts now has it from the store.
    let Replicas { mut all, .. } = replicas;
    let third = all.remove(1).restart();
    assert!(dead.iter().all(|token| third.introspect("orders-api", token).text == "{\"active\":false}"));
    assert!(live.iter().all(|token| third.introspect("orders-api", token).json["active"] == true));
    let listed = crate::cli::out(&crate::cli::run(third.root.path(), &["revocations", "--json"], ""));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let of = |kind: &str| listed.as_array().unwrap().iter().find(|record| record["kind"] == kind).unwrap().clone();
    assert_eq!((&of("client")["act"], &of("client")["reason"]), (&json!("suspend"), &json!("INC-9")), "whole");
    assert_eq!(of("workload")["before"], "2020-01-01T00:00:00Z");
    // The position of what was issued since is beyond everything that was ever given.
    assert!(third.broker.revocations().position() > before);
}

/// H5: a revocation that holds here, and that no replica of the store has confirmed to whoever asks for it again.
#[test]
fn h5_what_is_revoked_already_is_told_done_when_it_is_for_good_and_not_before() {
    let watched = Watched::start(STRICT);
    let more = "mode = \"sentinel\"\nmaster = \"tokens\"\nreplicas = 2\ntimeout = \"1s\"\n[revocation]\nmax_staleness = \"30s\"";
    let replicas = Replicas::start(1, &watched.urls(), more);
    let broker = &replicas.all[0];
    let token = broker.exchange(&Fresh::default().next(), &[]).token();
    let revoke = || broker.post("/revoke", &[("token", &token)]);
    assert_eq!(revoke().status, 200);
    assert_eq!(revoke().status, 200, "and again");
    let primary = watched.primary().unwrap().port;
    let followers = || watched.servers.iter().filter(move |server| server.port != primary);
    followers().for_each(Server::pause);
    let told = revoke();
    assert_eq!((told.status, told.refusal().2), (503, "store_unavailable"), "{}", told.text);
    assert_eq!(broker.introspect("orders-api", &token).text, "{\"active\":false}", "dead all the same");
    followers().for_each(Server::go_on);
    until("it is for good again", || revoke().status == 200);
}

/// A Sentinel that neither answers nor refuses, and is the first of those that are asked.
#[test]
fn l9_a_sentinel_that_hangs_holds_nobody_up_for_longer_than_it_takes_to_ask_the_next_one() {
    let watched = Watched::start(PLAIN);
    let more = format!("mode = \"sentinel\"\nmaster = \"tokens\"\ndurability = \"memory\"\n{STALE}");
    let replicas = Replicas::start(1, &watched.urls(), &more);
    let (broker, fresh) = (&replicas.all[0], Fresh::default());
    assert_eq!(broker.exchange(&fresh.next(), &[]).status, 200);
    watched.sentinels[0].pause();
    // Every connection has to be made anew.
    let primary = watched.servers.iter().find(|server| server.info("role") == "master").unwrap();
    primary.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until("another Sentinel is asked", || {
        let reply = broker.exchange(&fresh.next(), &[]);
        assert!([200, 503].contains(&reply.status), "{}", reply.text);
        reply.status == 200
    });
    watched.sentinels[0].go_on();
}

/// A cluster may send a command again when a connection breaks: the same claim is the same, and another one comes too late.
#[test]
fn g1_a_claim_that_is_sent_twice_is_claimed_once_and_by_nobody_else() {
    let server = Server::start(PLAIN);
    let script = include_str!("../../src/store/redis/lua/reserve.lua");
    let claim =
        |nonce: &str| server.ask(&["EVAL", script, "2", "mark", "task", "1", "60000", nonce, "100", "50", "90"]);
    server.ask(&["HSET", "task", "budget", "2", "used", "0", "idle_since", "100"]);
    let whole = |used: u32| format!("*2\r\n$5\r\nwhole\r\n:{used}\r\n");
    assert_eq!(claim("one"), whole(1));
    assert_eq!(claim("one"), whole(1), "sent again");
    assert!(server.ask(&["HGET", "task", "used"]).contains("\r\n1\r\n"), "counted once");
    assert_eq!(claim("two"), "*2\r\n$4\r\nused\r\n:1\r\n", "somebody else's");
    server.ask(&["DEL", "mark"]);
    assert_eq!(claim("three"), whole(2));
    server.ask(&["DEL", "mark"]);
    assert_eq!(claim("four"), "*2\r\n$6\r\nbudget\r\n:0\r\n");
    assert_eq!(server.ask(&["EXISTS", "mark"]), ":0\r\n", "what is refused leaves nothing");
}
