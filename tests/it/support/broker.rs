//! A whole broker in a folder of its own, served over HTTP on loopback.

use super::traces;
use super::{CLUSTER, GITHUB, GRANT, JWT, LEDGER, ORDERS, Reply, STS, TestClock, keys, send_to};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::admin::Operator;
use countersign::app::Installation;
use countersign::assertion::IssuerKind;
use countersign::audit::Event;
use countersign::config::Config;
use countersign::domain::{AttributeRecord, Entropy, SystemEntropy, sha256};
use countersign::exchange::Broker;
use countersign::signing::KeyBackends;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Secret of the client `NAME`.
pub fn secret(name: &str) -> String {
    format!("{name}-secret-wIth+p%us:and=colon")
}

/// `Authorization` of the client `NAME`.
pub fn basic(client: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(client), encoded(&secret(client)))))
}

/// What a broker is started with; `change` rewrites the configuration.
pub struct Setup {
    pub config: String,
    pub policies: String,
}

impl Setup {
    pub fn new() -> Self {
        let digest = |name: &str| {
            let hex: String = sha256(&[secret(name).as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        };
        let client = |name: &str, audience: &str| {
            format!(
                "[[clients]]\nid = \"{name}\"\nmethod = \"client_secret_basic\"\nsecret_digest = \"{}\"\nintrospects = [\"{audience}\"]\n",
                digest(name)
            )
        };
        let config = format!(
            r#"
[server]
issuer = "{STS}"
listen = "127.0.0.1:0"
workers = 2
[store]
kind = "embedded"
path = "data"
[signing]
directory = "keys"
[audit]
path = "data/audit"
[policy]
directory = "policies"
[tasks]
max_deadline = "6h"
idle = "1h"
[[issuers]]
name = "github"
kind = "github-actions"
issuer = "{GITHUB}"
audiences = ["{STS}"]
accept = {{ repository_owner_id = ["41"] }}
jwks_file = "github.jwks"
owner = "platform"
[[issuers]]
name = "cluster"
kind = "oidc"
issuer = "{CLUSTER}"
audiences = ["{STS}"]
jwks_file = "cluster.jwks"
single_use = false
attributes = {{ env = {{ claim = "/env" }} }}
[[issuers]]
name = "prod"
kind = "spiffe"
trust_domain = "td.test"
audiences = ["{STS}"]
bundle_file = "td.bundle.json"
[[targets]]
audience = "{ORDERS}"
resources = ["{ORDERS}/v1"]
scopes = ["orders:read", "orders:write"]
max_lifetime = "10m"
sensitivity = "internal"
[[targets]]
audience = "{LEDGER}"
max_lifetime = "2m"
{}{}"#,
            client("orders-api", ORDERS),
            client("ledger-api", LEDGER),
        );
        Self { config, policies: POLICIES.to_owned() }
    }

    /// Replaces `from`, which has to be there.
    pub fn change(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "{from}");
        self.config = self.config.replace(from, to);
        self
    }

    pub fn policies(mut self, policies: &str) -> Self {
        self.policies = policies.to_owned();
        self
    }

    /// Writes everything into a new folder.
    pub fn write(&self) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(root.path().join(name), text).unwrap();
        std::fs::create_dir(root.path().join("policies")).unwrap();
        write("countersign.toml", self.config.clone());
        write("policies/all.cedar", self.policies.clone());
        write("github.jwks", keys().github.jwks().to_string());
        write("cluster.jwks", keys().cluster.jwks().to_string());
        let bundle = json!({"keys": [keys().spiffe.public("jwt-svid")], "spiffe_sequence": 7});
        write("td.bundle.json", bundle.to_string());
        root
    }

    pub fn start(&self) -> TestBroker {
        TestBroker::start(self.write(), TestClock::new())
    }
}

const POLICIES: &str = r#"
@id("orders-read-from-main")
permit (
  principal == Workload::"github:repo:acme/app:ref:refs/heads/main",
  action == Action::"exchange",
  resource == Target::"https://orders.test"
) when { context.scope == "orders:read" && principal has github && principal.github has repository_id && principal.github.repository_id == "74" };

@id("orders-from-cluster")
@max_lifetime("60s")
permit (principal in Issuer::"cluster", action == Action::"exchange", resource == Target::"https://orders.test")
when { principal has cluster && principal.cluster has env && principal.cluster.env == "prod" };

@id("ledger-from-td")
permit (principal in Issuer::"prod", action == Action::"exchange", resource == Target::"https://ledger.test")
when { principal has spiffe && principal.spiffe.path like "/ns/pay/*" };

@id("orders-again")
permit (principal, action == Action::"exchange", resource == Target::"https://orders.test")
when { context has client && context.client == Client::"orders-api" && context.scope == "orders:read" };

@id("orders-api-onward")
permit (principal, action == Action::"impersonate", resource == Target::"https://ledger.test")
when { context has client && context.client == Client::"orders-api" };
"#;

/// The attributes of every kind of issuer, and of the `cluster` of [`Setup`].
pub fn records() -> Vec<Arc<AttributeRecord>> {
    let config = Config::parse(&Setup::new().config, "countersign.toml".as_ref(), "".as_ref()).unwrap();
    let cluster = config.issuers.into_iter().filter(|issuer| issuer.name.as_str() == "cluster");
    let kinds = IssuerKind::all().iter().filter_map(|kind| kind.attributes.clone());
    kinds.chain(cluster.filter_map(|issuer| issuer.attributes)).collect()
}

/// A running broker.
pub struct TestBroker {
    pub root: TempDir,
    pub clock: TestClock,
    pub address: SocketAddr,
    pub broker: Arc<Broker>,
    pub operator: Arc<Operator>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestBroker {
    pub fn start(root: TempDir, clock: TestClock) -> Self {
        Self::start_with(root, clock, Arc::new(SystemEntropy))
    }

    pub fn start_with(root: TempDir, clock: TestClock, entropy: Arc<dyn Entropy>) -> Self {
        let installation = Installation::read(&root.path().join("countersign.toml")).unwrap();
        Self::serve(installation, root, clock, entropy)
    }

    /// Starts a broker whose private keys are in `backends`.
    pub fn start_on(root: TempDir, clock: TestClock, backends: KeyBackends) -> Self {
        let installation = Installation::read(&root.path().join("countersign.toml")).unwrap();
        Self::serve(installation.with_key_backends(backends), root, clock, Arc::new(SystemEntropy))
    }

    fn serve(installation: Installation, root: TempDir, clock: TestClock, entropy: Arc<dyn Entropy>) -> Self {
        let _ = traces();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (started, starting) = mpsc::channel();
        let serving = clock.clone();
        let thread = std::thread::spawn(move || {
            countersign::http::block_on(async move {
                let listening = installation.listen(Arc::new(serving), entropy).await.unwrap();
                started.send((listening.address().unwrap(), Arc::clone(&listening.use_cases))).unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                let (_reload, reloads) = tokio::sync::mpsc::channel(1);
                listening.serve(stop, reloads).await.unwrap();
            });
        });
        let (address, use_cases) = starting.recv().expect("the broker starts");
        let (broker, operator) = (Arc::clone(&use_cases.broker), Arc::clone(&use_cases.operator));
        Self { root, clock, address, broker, operator, stop: Some(stop), thread: Some(thread) }
    }

    pub fn new() -> Self {
        Setup::new().start()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Stops, and starts again on the same folder.
    pub fn restart(self) -> Self {
        self.restart_after(|_| {})
    }

    /// As [`TestBroker::restart`], with `change` to the folder in between.
    pub fn restart_after(mut self, change: impl FnOnce(&Path)) -> Self {
        self.halt();
        let root = std::mem::replace(&mut self.root, tempfile::tempdir().unwrap());
        let clock = self.clock.clone();
        drop(self);
        // Threads of its server can close the store a moment later: the lock on its file says that all of them did.
        if let Ok(store) = std::fs::File::open(root.path().join("data/store.redb")) {
            store.lock().unwrap();
        }
        change(root.path());
        Self::start(root, clock)
    }

    fn halt(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    /// Exchanges `token` for orders, with more parameters.
    pub fn exchange(&self, token: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT)];
        if !more.iter().any(|(name, _)| matches!(*name, "audience" | "resource")) {
            form.push(("audience", ORDERS));
        }
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend_from_slice(more);
        self.post("/token", &form)
    }

    pub fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        send_to(self.address, path, &[], form)
    }

    /// Posts as a client.
    pub fn post_as(&self, client: &str, path: &str, form: &[(&str, &str)]) -> Reply {
        send_to(self.address, path, &[("authorization", basic(client))], form)
    }

    pub fn introspect(&self, client: &str, token: &str) -> Reply {
        self.post_as(client, "/introspect", &[("token", token)])
    }

    /// The event of an answer's decision.
    pub fn event(&self, reply: &Reply) -> Event {
        countersign::audit::find(&self.audit(), &reply.decision()).unwrap().expect("every decision leaves an event")
    }

    /// The operator's reason of a refusal.
    pub fn reason(&self, reply: &Reply) -> String {
        self.event(reply).refused.map(|refused| refused.reason).unwrap_or_default()
    }

    pub fn audit(&self) -> PathBuf {
        self.path("data/audit")
    }

    pub fn events(&self) -> u64 {
        countersign::audit::verify(&self.audit(), None, None).unwrap().events
    }

    /// The first segment of the audit log.
    pub fn segment(&self) -> PathBuf {
        self.audit().join("00000001.jsonl")
    }

    /// Does what the broker does each second.
    pub fn tend(&self) {
        countersign::http::block_on(async {
            self.operator.tend_keys().await;
            self.operator.tend_audit().await;
        });
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.path("countersign.toml")
    }

    /// Reads the keys of `issuer` again, as the background refresh does.
    pub fn refresh(&self, issuer: &str) -> Result<usize, countersign::assertion::KeyFault> {
        let snapshot = self.broker.snapshot();
        let issuer = snapshot.issuers.iter().find(|other| other.name.as_str() == issuer).cloned().unwrap();
        countersign::http::block_on(async move { issuer.keys.refresh().await })
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Everything in a folder as text, for searches.
pub fn everything(root: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text.push_str(&everything(&path));
        } else if path.is_file() {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
    text
}

/// Opens a store's database. Another test may start a process just now, which has a copy of the file, and its lock, between `fork`
/// and `exec`.
pub fn database(path: &Path) -> redb::Database {
    loop {
        match redb::Database::open(path) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
}
