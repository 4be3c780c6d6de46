//! Every key of the file, with what it means: the one list from which keys are read, unknown ones are refused, and the JSON
//! Schema is made.

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

        impl Keys for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }
    };
}

/// The keys that a section knows.
pub(super) trait Keys {
    const KEYS: &'static [&'static str];
}

type Text = Field<String>;
type Texts = Field<Vec<String>>;

section!(
/// The configuration of a Countersign broker.
#[schemars(rename = "Countersign", extend("required" = ["server", "store", "signing", "audit", "policy"]))]
File {
    /// Where the broker listens, and who it is.
    #[schemars(with = "Server")]
    server: Section<Server>,
    /// Where it keeps what has to outlive a request.
    #[schemars(with = "Store")]
    store: Section<Store>,
    /// How revocations of other brokers are followed.
    #[schemars(with = "Revocation")]
    revocation: Section<Revocation>,
    /// Its own keys.
    #[schemars(with = "Signing")]
    signing: Section<Signing>,
    /// The log of every decision.
    #[schemars(with = "Audit")]
    audit: Section<Audit>,
    /// What is permitted.
    #[schemars(with = "Policy")]
    policy: Section<Policy>,
    /// Tasks that outlive the assertion that opens them. Where there is no such section, none can be opened.
    #[schemars(with = "Tasks")]
    tasks: Section<Tasks>,
    /// How issuers' keys are kept.
    #[schemars(with = "Refresh")]
    keys: Section<Refresh>,
    /// Traces.
    #[schemars(with = "Telemetry")]
    telemetry: Section<Telemetry>,
    /// Whose assertions are accepted.
    #[schemars(with = "Vec<Issuer>")]
    issuers: Vec<Spanned<Issuer>>,
    /// What tokens are minted for.
    #[schemars(with = "Vec<Target>")]
    targets: Vec<Spanned<Target>>,
    /// Who authenticates.
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
    /// How long requests that are being worked on may take to end when the broker stops. By default `10s`.
    drain: Text,
    /// A path segment below which SDKs that know tenants (Azure, MSAL) find the broker.
    tenant: Text,
    /// Networks of the proxies in front of the broker, whose `X-Forwarded-For` is believed: of it, the rightmost hop that is
    /// none of them. By default none, and the header is ignored.
    trusted_proxies: Field<Vec<String>>,
    /// TLS of the public listener, reloaded when its files change.
    #[schemars(with = "Tls")]
    tls: Section<Tls>,
    /// How much of a request is read, and how many are worked on.
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
    /// How deep JSON may nest in an assertion; more is 400. By default 16.
    json_depth: Field<u8>,
    /// Parameters of a form; more is 400. By default 64.
    parameters: Field<usize>,
    /// `audience` and `resource` values together; more is 400. By default 16.
    targets: Field<usize>,
    /// How long the head may take; slower is 408. By default `5s`.
    head_timeout: Text,
    /// How long the body may take; slower is 408. By default `5s`.
    body_timeout: Text,
    /// How long a connection may be idle between two requests; longer, and it is closed. By default `65s`.
    idle_timeout: Text,
    /// Requests worked on at once; more is 503. By default 512.
    in_flight: Field<usize>,
    /// Of these, of one network, which is an address or a /64 of IPv6; more is 429. By default 128.
    in_flight_per_network: Field<usize>,
    /// Requests of one network in a second, twice as many at once; more is 429, and 0 is no bound. By default 2000.
    requests_per_network: Field<u32>,
    /// Exchanges of one workload in a second, as above. By default 500.
    requests_per_workload: Field<u32>,
    /// Exchanges of all workloads of one issuer in a second, as above. By default 5000.
    requests_per_issuer: Field<u32>,
    /// Connections at once for each worker; more wait. By default 4096.
    connections: Field<usize>,
    /// Connections at once of one network, but for trusted proxies; more are closed at once. By default 512.
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
        /// `standalone` is one server, `sentinel` one that Sentinels watch, `cluster` a cluster. By default `standalone`.
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
        /// Whether `redis://` may leave this machine, where the network between is trusted.
        allow_plaintext: Field<bool>,
        /// What every key begins with; brokers that share a store share it. By default `countersign:`.
        key_prefix: Text,
        /// What is not lost: with `strict` nothing that was acknowledged, with `persisted` nothing but the last second and what
        /// no replica had at a failover, with `memory` nothing while the server runs. By default `strict`.
        #[schemars(extend("enum" = ["strict", "persisted", "memory"]))]
        durability: Text,
        /// How many replicas confirm what is written under `strict`: as many as could be promoted.
        replicas: Field<u32>,
        /// How long the store may take to answer; longer is 503. By default `1s`.
        timeout: Text,
        /// Connections of each worker, each shared by many requests. By default 2.
        connections: Field<usize>,
        /// PEM certificates to trust, instead of the machine's.
        ca_file: Text,
        /// PEM file of the certificate that the broker shows.
        certificate: Text,
        /// PEM file of its key.
        key: Text,
    }
);
section!(Revocation {
    /// How long the shared revocation log may not be heard of; longer, and exchange and introspection are 503. By default `5s`.
    max_staleness: Text,
});
section!(
    #[schemars(extend("required" = ["directory"]))]
    Signing {
        /// The directory of the keys, of mode 0700; made, with a first key, where it is empty.
        directory: Text,
        /// What tokens are signed with where their target says nothing. By default `ES256`.
        #[schemars(extend("enum" = ["ES256", "EdDSA", "Ed25519", "RS256"]))]
        algorithm: Text,
        /// How long a key signs before another one takes over. By default `30d`.
        rotate_every: Text,
    }
);
section!(
#[schemars(extend("required" = ["path"]))]
Audit {
    /// The log's directory.
    path: Text,
    /// How large a segment grows before it is sealed, in bytes. By default 67108864.
    segment_bytes: Field<u64>,
    /// How long a segment is kept after its last line. By default `400d`.
    retention: Text,
    /// How many refusals of what nobody vouched for are written in a second; more are counted. By default 100.
    refusals_per_second: Field<u32>,
    /// How much of the disk such refusals leave free, in bytes. By default 67108864.
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
    /// How long a task may last at most. By default `6h`.
    max_deadline: Text,
    /// How long a task may ask for no token before it is over. By default `1h`.
    idle: Text,
});
section!(Refresh {
    /// The time between two refreshes of an issuer's keys. By default `5m`.
    refresh_every: Text,
    /// How old a key set may be and still be trusted. By default `1h`.
    max_stale: Text,
    /// The least time between two refreshes that tokens with an unknown `kid` cause. By default `30s`.
    unknown_kid_cooldown: Text,
});
section!(Telemetry {
    /// Where traces go, by OTLP over HTTP, e.g. `http://127.0.0.1:4318`; nowhere where it is left out.
    otlp_endpoint: Text,
    /// The share of exchanges that are traced where the caller does not say, from 0 to 1. By default 1.
    sample: Field<f64>,
});
section!(
#[schemars(extend("required" = ["name", "kind", "audiences"]))]
Issuer {
    /// A short name; the names of its workloads begin with it.
    name: Text,
    /// What kind of issuer it is.
    #[schemars(extend("enum" = ["oidc", "github-actions", "spiffe"]))]
    kind: Text,
    /// The exact `iss` of its assertions.
    issuer: Text,
    /// The trust domain, for kind `spiffe`.
    trust_domain: Text,
    /// What the assertion's `aud` has to be: one of these.
    audiences: Texts,
    /// Claim values that an assertion must have: for each claim, one of the values.
    accept: Field<BTreeMap<String, Vec<String>>>,
    /// A file with its keys, a JWK Set.
    jwks_file: Text,
    /// The URL of its keys.
    jwks_uri: Text,
    /// The trust domain's bundle, for kind `spiffe`.
    bundle_file: Text,
    /// What it may sign with.
    algorithms: Texts,
    /// The longest life of an assertion. By default `1h`.
    max_lifetime: Text,
    /// Whether an assertion can be exchanged once only. By default yes, for kind `spiffe` no.
    single_use: Field<bool>,
    /// Whether its keys may come from private addresses.
    allow_private_addresses: Field<bool>,
    /// PEM certificates to trust, instead of the machine's, when its keys are fetched.
    ca_file: Text,
    /// What its workloads are called, e.g. `{namespace}/{name}`.
    workload: Text,
    /// Claims that policy sees as tags, for kind `oidc`.
    tags: Field<BTreeMap<String, String>>,
    /// `required`: its assertions are taken from authenticated clients alone.
    #[schemars(extend("enum" = ["required"]))]
    client: Text,
    /// Who owns it, for policy and people.
    owner: Text,
    /// Where it runs, e.g. `production`.
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
        /// What its tokens are signed with, where that is not `signing.algorithm`.
        #[schemars(extend("enum" = ["ES256", "EdDSA", "Ed25519", "RS256"]))]
        algorithm: Text,
        /// `required`: only authenticated clients get a token for it.
        #[schemars(extend("enum" = ["required"]))]
        client: Text,
        /// Whether each of its tokens has an entry of a status list, which anyone may read.
        status_list: Field<bool>,
        /// Who owns it, for policy and people.
        owner: Text,
        /// Where it runs, e.g. `production`.
        environment: Text,
        /// How much its data matters, e.g. `internal`.
        sensitivity: Text,
    }
);
section!(
    #[schemars(extend("required" = ["id"]))]
    Client {
        /// The client's id.
        id: Text,
        /// How it authenticates; left out where `issuer` and `subject` say.
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
        /// The exact `sub` of the assertions that the issuer makes for it.
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
