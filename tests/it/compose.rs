//! What docker-compose.yml starts, without its containers: the very configuration, a Redis with its very settings and the user
//! that `prepare` makes, two brokers and the demo's issuer.

use crate::cli::{Serving, err, out, program};
use crate::support::redis::Server;
use crate::support::until;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

struct Issuer(Child);

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks as the page's own `curl` does, by the name that the certificate has.
fn curl(place: &Path, broker: &Serving, path: &str, more: &[&str]) -> Output {
    let port = broker.url.rsplit_once(':').unwrap().1.to_owned();
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert"])
        .arg(place.join("tls/chain.pem"))
        .args(["--connect-to", &format!("localhost:8443:127.0.0.1:{port}")])
        .arg(format!("https://localhost:8443{path}"))
        .args(more)
        .output()
        .unwrap();
    assert!(curl.status.success(), "{}", err(&curl));
    curl
}

#[test]
fn what_the_compose_file_starts_works_together() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("compose");
    let copied = Command::new("cp").arg("-R").arg(root().join("deploy/compose")).arg(&place).status().unwrap();
    assert!(copied.success());
    assert!(Command::new(place.join("prepare")).status().unwrap().success());
    let config = fs::read_to_string(place.join("redis.conf")).unwrap();
    let config =
        config.replace("dir /data\n", "").replace("/etc/redis/users.acl", place.join("users.acl").to_str().unwrap());
    let redis = Server::start(&config);
    let issued = folder.path().join("issuer");
    fs::create_dir(&issued).unwrap();
    let issuer = program().args(["demo", "--issuer"]).arg(&issued).stdout(Stdio::null()).spawn().unwrap();
    let _issuer = Issuer(issuer);
    until("the issuer has issued", || issued.join("assertion.jwt").exists());
    let written = fs::read_to_string(place.join("countersign.toml")).unwrap();
    let brokers: Vec<Serving> = (1..=2)
        .map(|number| {
            let own = folder.path().join(format!("broker-{number}"));
            let config = written
                .replace("redis://redis:6379", &redis.url())
                .replace("/var/lib/countersign-keys", folder.path().join("keys").to_str().unwrap())
                .replace("/var/lib/countersign", own.to_str().unwrap())
                .replace("/issuer/issuer.jwks", issued.join("issuer.jwks").to_str().unwrap())
                .replace("0.0.0.0:8443", "127.0.0.1:0")
                .replace("0.0.0.0:9090", "127.0.0.1:0");
            fs::create_dir(&own).unwrap();
            // Beside the others, so that what it names by a relative path is there.
            for name in ["tls", "policies", "redis-password"] {
                std::os::unix::fs::symlink(place.join(name), own.join(name)).unwrap();
            }
            fs::write(own.join("countersign.toml"), config).unwrap();
            Serving::start(&own)
        })
        .collect();
    let assertion = format!("subject_token@{}", issued.join("assertion.jwt").display());
    let exchange = |broker: &Serving| -> Value {
        let form = [
            "--data-urlencode",
            &assertion,
            "-d",
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
            "-d",
            "subject_token_type=urn:ietf:params:oauth:token-type:jwt",
            "-d",
            "audience=https://orders.demo.example",
        ];
        serde_json::from_str(&out(&curl(&place, broker, "/token", &form))).unwrap()
    };
    let given = exchange(&brokers[0]);
    assert_eq!(given["scope"], "orders:read", "{given}");
    assert_eq!(exchange(&brokers[1])["reason"], "subject_token_replayed", "the other one knows");
    let keys: Vec<String> = brokers.iter().map(|broker| out(&curl(&place, broker, "/jwks", &[]))).collect();
    assert_eq!(keys[0], keys[1], "one line of keys");
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let balancer = fs::read_to_string(place.join("haproxy.cfg")).unwrap();
    for name in ["broker-1", "broker-2"] {
        assert!(compose.contains(&format!("\n  {name}:\n")) && balancer.contains(&format!("{name}:8443")), "{name}");
    }
    for part in ["/issuer:ro", "/etc/redis/redis.conf", "/etc/redis/users.acl", "/var/lib/countersign-keys"] {
        assert!(compose.contains(part), "{part}");
    }
}
