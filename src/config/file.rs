//! Every key of the file, with what it means: the one list from which keys are read, unknown ones are refused, and the
//! JSON Schema is made.

use super::issuer::{AcceptedValue, Attribute, kinds};
use super::raw::{Field, Section};
use schemars::JsonSchema;
use std::collections::BTreeMap;
use toml::Spanned;

macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $key:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, serde::Deserialize, JsonSchema)]
        #[serde(default)]
        $(#[$about])*
        #[schemars(deny_unknown_fields)]
        pub(super) struct $name { $($(#[$meta])* pub(super) $key: $type,)* }

        impl KnownKeys for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }
    };
}

/// The keys that a section knows.
pub(super) trait KnownKeys {
    const KEYS: &'static [&'static str];
}

type Text = Field<String>;
type Texts = Field<Vec<String>>;

section!(
/// The configuration of a Countersign broker.
#[schemars(rename = "Countersign", extend("required" = ["server", "store", "signing", "audit", "policy"]))]
File {
    /// The listeners and the identity of the broker.
    #[schemars(with = "Server")]
    server: Section<Server>,
    /// The store of what outlives a request.
    #[schemars(with = "Store")]
    store: Section<Store>,
    /// The freshness of the shared revocation log.
    #[schemars(with = "Revocation")]
    revocation: Section<Revocation>,
    /// Its own keys.
    #[schemars(with = "Signing")]
    signing: Section<Signing>,
    /// The log of every decision.
    #[schemars(with = "Audit")]
    audit: Section<Audit>,
    /// The policies.
    #[schemars(with = "Policy")]
    policy: Section<Policy>,
    /// Tasks that outlive the assertion that opens them. Where there is no such section, none can be opened.
    #[schemars(with = "Tasks")]
    tasks: Section<Tasks>,
    /// The refresh of issuers' keys.
    #[schemars(with = "Refresh")]
    keys: Section<Refresh>,
    /// Traces.
    #[schemars(with = "Telemetry")]
    telemetry: Section<Telemetry>,
    /// Whose assertions are accepted.
    #[schemars(with = "Vec<Issuer>")]
    issuers: Vec<Spanned<Issuer>>,
    /// The targets that tokens are minted for.
    #[schemars(with = "Vec<Target>")]
    targets: Vec<Spanned<Target>>,
    /// The clients that authenticate.
    #[schemars(with = "Vec<Client>")]
    clients: Vec<Spanned<Client>>,
});
section!(
#[schemars(extend("required" = ["issuer", "listen"]))]
Server {
    /// The broker's `iss`, exact: the https URL that clients know it by.
    issuer: Text,
    /// Address and port of the public listener.
    listen: Text,
    /// Address and port of `/livez`, `/readyz`, `/metrics` and `/audit/head`; none where it is left out.
    management: Text,
    /// The Unix socket by which the command line reaches a running broker. By default `data/control.sock`.
    control: Text,
    /// Threads that serve requests. By default one for each core.
    workers: Field<usize>,
    /// The longest time for which requests in progress may go on when the broker stops. Default: `10s`.
    drain: Text,
    /// A path segment below which SDKs that know tenants (Azure, MSAL) find the broker.
    tenant: Text,
    /// Networks of the proxies in front of the broker, whose `X-Forwarded-For` is believed: of it, the rightmost hop
    /// that is none of them. By default none, and the header is ignored.
    trusted_proxies: Field<Vec<String>>,
    /// TLS of the public listener, reloaded when its files change.
    #[schemars(with = "Tls")]
    tls: Section<Tls>,
    /// The limits of a request, and of requests in progress.
    #[schemars(with = "Limits")]
    limits: Section<Limits>,
});
section!(
    #[schemars(extend("required" = ["certificate", "key"]))]
    Tls {
        /// PEM file of the chain, leaf first.
        certificate: Text,
        /// PEM file of the private key.
        key: Text,
    }
);
section!(Limits {
    /// The longest body, in bytes; more is 413. By default 65536.
    body_bytes: Field<usize>,
    /// All header fields together, in bytes; more is 431. By default 16384.
    head_bytes: Field<usize>,
    /// The longest request target, in bytes; more is 414. By default 2048.
    uri_bytes: Field<usize>,
    /// The longest assertion, in bytes; more is 400. By default 16384.
    token_bytes: Field<usize>,
    /// Limit of nesting in the JSON of an assertion; a deeper one is 400. Default: 16.
    json_depth: Field<u8>,
    /// Parameters of a form; more is 400. By default 64.
    parameters: Field<usize>,
    /// `audience` and `resource` values together; more is 400. By default 16.
    targets: Field<usize>,
    /// Time limit of the head; a slower one is 408. Default: `5s`.
    head_timeout: Text,
    /// Time limit of the body; a slower one is 408. Default: `5s`.
    body_timeout: Text,
    /// Idle time after which a connection is closed. Default: `65s`.
    idle_timeout: Text,
    /// Requests worked on at once; more is 503. By default 512.
    in_flight: Field<usize>,
    /// Limit of requests in progress from one network, which is an address or a /64 of IPv6; one more is 429. Default:
    /// 128.
    in_flight_per_network: Field<usize>,
    /// Requests of one network in a second, twice as many at once; more is 429, and 0 is no bound. By default 2000.
    requests_per_network: Field<u32>,
    /// Exchanges of one workload in a second, as above. By default 500.
    requests_per_workload: Field<u32>,
    /// Exchanges of all workloads of one issuer in a second, as above. By default 5000.
    requests_per_issuer: Field<u32>,
    /// Connections at once for each worker; more wait. By default 4096.
    connections: Field<usize>,
    /// Limit of connections from one network, except trusted proxies; further ones are closed at once. Default: 512.
    connections_per_network: Field<usize>,
});
section!(
    #[schemars(extend("required" = ["kind", "path"]))]
    Store {
        /// `embedded` serves one machine; `redis` is shared by several brokers.
        #[schemars(extend("enum" = ["embedded", "redis"]))]
        kind: Text,
        /// The store's directory; for `redis`, where the broker keeps what is its own.
        path: Text,
        /// The shared store.
        #[schemars(with = "Redis")]
        redis: Section<Redis>,
    }
);
section!(
    #[schemars(extend("required" = ["urls"]))]
    Redis {
        /// `standalone` is one server, `sentinel` one that Sentinels watch, `cluster` a cluster. By default
        /// `standalone`.
        #[schemars(extend("enum" = ["standalone", "sentinel", "cluster"]))]
        mode: Text,
        /// `rediss://host:port` of the server, of the Sentinels, or of some of the cluster.
        urls: Texts,
        /// The name by which the Sentinels know the server.
        master: Text,
        /// The ACL user.
        username: Text,
        /// A file with its password.
        password_file: Text,
        /// Allows `redis://` to another machine. Only for a network that is trusted.
        allow_plaintext: Field<bool>,
        /// The prefix of every key. Brokers that share a store share the prefix. Default: `countersign:`.
        key_prefix: Text,
        /// What a crash may lose. `strict`: nothing that was acknowledged. `persisted`: the last second, and what no
        /// replica had at a failover. `memory`: everything, when the server stops. Default: `strict`.
        #[schemars(extend("enum" = ["strict", "persisted", "memory"]))]
        durability: Text,
        /// Number of replicas that confirm a write under `strict`: as many as could be promoted.
        replicas: Field<u32>,
        /// Time limit of an answer of the store; a slower one is 503. Default: `1s`.
        timeout: Text,
        /// Connections of each worker, each shared by many requests. By default 2.
        connections: Field<usize>,
        /// PEM certificates to trust, instead of the machine's.
        ca_file: Text,
        /// PEM file of the certificate that the broker shows.
        certificate: Text,
        /// PEM file of the private key of that certificate.
        key: Text,
    }
);
section!(Revocation {
    /// Longest time without reading the shared revocation log; after it, exchange and introspection answer 503.
    /// Default: `5s`.
    max_staleness: Text,
});
section!(
    #[schemars(extend("required" = ["directory"]))]
    Signing {
        /// The directory of the keys, of mode 0700; made, with a first key, where it is empty.
        directory: Text,
        /// The algorithm of tokens whose target names none. Default: `ES256`.
        #[schemars(extend("enum" = ["ES256", "EdDSA", "Ed25519", "RS256"]))]
        algorithm: Text,
        /// How long a key signs before its successor takes over. Default: `30d`.
        rotate_every: Text,
    }
);
section!(
#[schemars(extend("required" = ["path"]))]
Audit {
    /// The log's directory.
    path: Text,
    /// Size at which a segment is sealed, in bytes. Default: 67108864.
    segment_bytes: Field<u64>,
    /// How long a segment is stored after its last line. Default: `400d`.
    retention: Text,
    /// Limit of unverified refusals that are written in a second; further refusals are counted. Default: 100.
    refusals_per_second: Field<u32>,
    /// Free space on the disk that such refusals leave, in bytes. Default: 67108864.
    reserve_bytes: Field<u64>,
});
section!(
    #[schemars(extend("required" = ["directory"]))]
    Policy {
        /// The directory of the `*.cedar` files.
        directory: Text,
    }
);
section!(Tasks {
    /// The longest duration of a task. Default: `6h`.
    max_deadline: Text,
    /// The longest time for which a task may be idle before it ends. Default: `1h`.
    idle: Text,
});
section!(Refresh {
    /// The time between two refreshes of an issuer's keys. By default `5m`.
    refresh_every: Text,
    /// The greatest age of a key set that is still trusted. Default: `1h`.
    max_stale: Text,
    /// The least time between two refreshes that tokens with an unknown `kid` cause. By default `30s`.
    unknown_kid_cooldown: Text,
});
section!(Telemetry {
    /// The receiver of traces by OTLP over HTTP, e.g. `http://127.0.0.1:4318`. Default: none.
    otlp_endpoint: Text,
    /// The share of exchanges that are traced where the caller does not say, from 0 to 1. By default 1.
    sample: Field<f64>,
});
section!(
#[schemars(extend("required" = ["name", "kind", "audiences"]))]
Issuer {
    /// A short name; the names of its workloads begin with it.
    name: Text,
    /// The kind of issuer.
    #[schemars(extend("enum" = kinds()))]
    kind: Text,
    /// The exact `iss` of its assertions.
    issuer: Text,
    /// The trust domain, for a kind whose issuers are trust domains.
    trust_domain: Text,
    /// The accepted values of the assertion's `aud`.
    audiences: Texts,
    /// Values that an assertion must have: for each attribute of the kind, or for each claim of kind `oidc`, one of the
    /// values. A claim within another one is named by a JSON pointer.
    accept: Field<BTreeMap<String, Vec<AcceptedValue>>>,
    /// A file with its keys, a JWK Set.
    jwks_file: Text,
    /// The URL of its keys.
    jwks_uri: Text,
    /// The trust domain's bundle.
    bundle_file: Text,
    /// The algorithms that the issuer may sign with.
    algorithms: Texts,
    /// The longest life of an assertion. The default is the kind's.
    max_lifetime: Text,
    /// Allows each assertion to be exchanged only once. The default is the kind's.
    single_use: Field<bool>,
    /// Allows the keys to be fetched from private addresses.
    allow_private_addresses: Field<bool>,
    /// PEM certificates to trust, instead of the machine's, when its keys are fetched.
    ca_file: Text,
    /// The template of workload names, e.g. `{namespace}/{name}`.
    workload: Text,
    /// The attributes that policy sees as `principal.<name of the entry>`, for kind `oidc`.
    attributes: Field<BTreeMap<String, Attribute>>,
    /// `required`: its assertions are taken from authenticated clients alone.
    #[schemars(extend("enum" = ["required"]))]
    client: Text,
    /// The owner of the issuer, for policy and people.
    owner: Text,
    /// The environment, e.g. `production`.
    environment: Text,
});
section!(
    #[schemars(extend("required" = ["audience", "max_lifetime"]))]
    Target {
        /// The `aud` of its tokens.
        audience: Text,
        /// Further names by which `resource` may ask for it.
        resources: Texts,
        /// The scopes that it knows, at most 32.
        scopes: Texts,
        /// The longest life of a token for it.
        max_lifetime: Text,
        /// The algorithm of the target's tokens. Default: `signing.algorithm`.
        #[schemars(extend("enum" = ["ES256", "EdDSA", "Ed25519", "RS256"]))]
        algorithm: Text,
        /// `required`: only authenticated clients get a token for it.
        #[schemars(extend("enum" = ["required"]))]
        client: Text,
        /// Gives each token of the target an entry of a status list, which anyone may read.
        status_list: Field<bool>,
        /// The owner of the target, for policy and people.
        owner: Text,
        /// The environment, e.g. `production`.
        environment: Text,
        /// The sensitivity of the target's data, e.g. `internal`.
        sensitivity: Text,
    }
);
section!(
    #[schemars(extend("required" = ["id"]))]
    Client {
        /// The client's id.
        id: Text,
        /// The method by which the client authenticates; absent if `issuer` and `subject` are given.
        #[schemars(extend("enum" = ["client_secret_basic", "client_secret_post", "private_key_jwt"]))]
        method: Text,
        /// `sha256:` and the SHA-256 of its secret, in hexadecimal. `countersign client add` makes both.
        secret_digest: Text,
        /// A file with its public keys, a JWK Set, for `private_key_jwt`.
        jwks_file: Text,
        /// The URL of its public keys, for `private_key_jwt`.
        jwks_uri: Text,
        /// The name of the issuer that vouches for it.
        issuer: Text,
        /// The exact `sub` of the issuer's assertions about this client.
        subject: Text,
        /// Audiences that it serves: their tokens it may introspect, and exchange onward.
        introspects: Texts,
    }
);

/// The keys of the section `name`, wherever it stands.
pub(super) fn keys_of_section(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "server" => Server::KEYS,
        "tls" => Tls::KEYS,
        "limits" => Limits::KEYS,
        "store" => Store::KEYS,
        "redis" => Redis::KEYS,
        "revocation" => Revocation::KEYS,
        "signing" => Signing::KEYS,
        "audit" => Audit::KEYS,
        "policy" => Policy::KEYS,
        "keys" => Refresh::KEYS,
        "tasks" => Tasks::KEYS,
        "telemetry" => Telemetry::KEYS,
        "issuers" => Issuer::KEYS,
        "targets" => Target::KEYS,
        "clients" => Client::KEYS,
        _ => return None,
    })
}
