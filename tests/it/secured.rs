//! A shared store that asks who one is: TLS, certificates of both sides, and a user of the brokers' own that may do nothing else.

use crate::http::TestCa;
use crate::replicas::{Replicas, TempKeys, on_redis};
use crate::support::redis::{Cluster, Port, STRICT, Server, Watched};
use crate::support::*;
use countersign::app::Installation;
use countersign::domain::SystemEntropy;
use countersign::http::block_on;
use std::path::Path;
use std::sync::Arc;

/// The user of the page about Redis, with a password.
const USER: &str =
    "user countersign on >s3cret-and-l0ng ~countersign:* +@all -@admin -@dangerous +info +role +config|get +cluster\n";

/// Why a broker with `more` in its section does not start.
fn refused(urls: &[String], more: &str) -> String {
    let root = on_redis(&TempKeys::new(), urls, more).write();
    let installation = Installation::read(&root.path().join("countersign.toml")).unwrap();
    let started = block_on(installation.assemble(Arc::new(TestClock::new()), Arc::new(SystemEntropy)));
    started.err().map(|fault| fault.to_string()).unwrap_or_default()
}

/// That what one gives and another takes back is dead on both.
fn works(replicas: &Replicas) {
    let assertion = Token::github().sign();
    let token = replicas.all[0].exchange(&assertion, &[]).token();
    assert!(replicas.accept(&token));
    assert_eq!(replicas.all[1].post("/revoke", &[("token", &token)]).status, 200);
    until("it is dead on both", || replicas.refuse(&token));
    assert_eq!(replicas.all[1].exchange(&assertion, &[]).status, 400, "marked once for all");
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn o6_a_store_is_reached_over_tls_with_certificates_of_both_sides_and_no_other_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (TestCa::new(), TestCa::new());
    let ca = file(folder.path(), "ca.pem", &own.ca);
    let strange = file(folder.path(), "strange.pem", &other.ca);
    let (chain, key) = (file(folder.path(), "chain.pem", &own.chain), file(folder.path(), "key.pem", &own.key));
    let (alien, alien_key) =
        (file(folder.path(), "alien.pem", &other.chain), file(folder.path(), "alien-key.pem", &other.key));
    let password = file(folder.path(), "password", "s3cret-and-l0ng\n");
    let held = Port::new();
    let port = held.number;
    let tls = format!(
        "{STRICT}tls-port {port}\ntls-cert-file {chain}\ntls-key-file {key}\ntls-ca-cert-file {ca}\ntls-auth-clients yes\n{USER}"
    );
    let server = Server::start(&tls);
    let urls = [format!("rediss://127.0.0.1:{port}")];
    let user = format!("username = \"countersign\"\npassword_file = \"{password}\"\n");
    let shown = format!("{user}certificate = \"{chain}\"\nkey = \"{key}\"\n");
    works(&Replicas::start(2, &urls, &format!("{shown}ca_file = \"{ca}\"")));
    assert!(server.ask(&["ACL", "LOG"]).starts_with("*0"), "nobody tried what he may not");

    for (what, more) in [
        ("certificates of the machine alone", shown.clone()),
        ("another authority", format!("{shown}ca_file = \"{strange}\"")),
        ("no certificate of ours", format!("{user}ca_file = \"{ca}\"")),
        (
            "a certificate of another authority",
            format!("{user}ca_file = \"{ca}\"\ncertificate = \"{alien}\"\nkey = \"{alien_key}\""),
        ),
    ] {
        let message = refused(&urls, &more);
        assert!(message.contains("cannot be used"), "{what}: {message}");
    }
    let plain = [server.url()];
    let wrong = file(folder.path(), "wrong", "guess");
    for more in
        [format!("username = \"countersign\"\npassword_file = \"{wrong}\""), format!("password_file = \"{wrong}\"")]
    {
        let message = refused(&plain, &more);
        assert!(message.contains("cannot be used") && !message.contains("guess"), "{message}");
    }
}

#[test]
fn o6_the_brokers_user_is_enough_with_sentinels_and_in_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let password = file(folder.path(), "password", "s3cret-and-l0ng");
    let user = format!("username = \"countersign\"\npassword_file = \"{password}\"");
    let is_used = |server: &Server| {
        let clients = server.ask(&["CLIENT", "LIST"]);
        let refused = server.ask(&["ACL", "LOG"]);
        assert!(refused.starts_with("*0"), "{refused}");
        clients.contains("user=countersign")
    };
    let watched = Watched::start(&format!("{STRICT}{USER}"));
    let replicas =
        Replicas::start(2, &watched.urls(), &format!("mode = \"sentinel\"\nmaster = \"tokens\"\nreplicas = 2\n{user}"));
    works(&replicas);
    assert!(is_used(watched.primary().unwrap()));
    drop((replicas, watched));
    let cluster = Cluster::start(&format!("{STRICT}{USER}"));
    let replicas = Replicas::start(2, &cluster.urls(), &format!("mode = \"cluster\"\nreplicas = 1\n{user}"));
    works(&replicas);
    assert!(cluster.primaries().all(is_used));
}
