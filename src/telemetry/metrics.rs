//! Figures for Prometheus. Every label has a closed set of values: nothing that a caller sends becomes one.

use super::{Job, JobRuns, Stage};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

type Label = (&'static str, &'static str);

/// The figures that are read from the broker's parts when metrics are asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Configured issuers.
    pub issuers: i64,
    /// Those of them without keys that are fresh enough.
    pub issuers_without_keys: i64,
    /// The age of the oldest key set that is held, in seconds.
    pub oldest_issuer_keys: i64,
    /// The smallest difference between our clock and that of an issuer, in seconds.
    pub clock_skew: i64,
    /// Live revocations in memory.
    pub revocations: i64,
    /// Tokens with an entry of a status list.
    pub status_rows: i64,
    /// The position in the revocation log that is applied.
    pub revocation_position: i64,
    /// How long the shared revocation log could not be read, in milliseconds.
    pub revocation_staleness: i64,
    /// First-use marks in memory.
    pub first_uses: i64,
    /// Signing keys by state.
    pub keys: Vec<(&'static str, i64)>,
    /// Purposes and algorithms that there has to be a key for, and none can sign.
    pub keys_missing: i64,
    /// The age of the oldest key that signs, in seconds.
    pub oldest_signing_key: i64,
    /// The audit log: lines, counted refusals, failed writes, gaps; the next line's number, free bytes.
    pub audit: [i64; 6],
    /// Since when the configuration is in force, in seconds since 1970.
    pub configured_at: i64,
    /// Resident memory, in bytes.
    pub resident: i64,
}

/// The endpoints that answers are counted by.
const ENDPOINTS: [&str; 9] =
    ["token", "introspect", "revoke", "revocations", "status", "jwks", "metadata", "reasons", "other"];

/// The counters of an endpoint, looked up once.
struct Endpoint {
    name: &'static str,
    ok: Counter,
    seconds: Histogram,
}

/// Every figure.
pub struct Metrics {
    registry: Registry,
    requests: Family<[Label; 2], Counter>,
    endpoints: [Endpoint; 9],
    stages: [Histogram; 8],
    audit: Histogram,
    refusals: Family<[Label; 2], Counter>,
    minted: Family<[Label; 1], Counter>,
    introspections: Family<[Label; 2], Counter>,
    reloads: Family<[Label; 1], Counter>,
    jobs: Family<[Label; 2], Counter>,
    gauges: Gauges,
}

/// Set when figures are asked for.
#[derive(Default)]
struct Gauges {
    issuers: Gauge,
    issuers_without_keys: Gauge,
    oldest_issuer_keys: Gauge,
    clock_skew: Gauge,
    revocations: Gauge,
    status_rows: Gauge,
    revocation_position: Gauge,
    revocation_staleness: Gauge,
    first_uses: Gauge,
    keys: Family<[Label; 1], Gauge>,
    keys_missing: Gauge,
    oldest_signing_key: Gauge,
    audit_next: Gauge,
    audit_free: Gauge,
    audit_lines: Counter<u64, AtomicU64>,
    audit_counted: Counter<u64, AtomicU64>,
    audit_failed: Counter<u64, AtomicU64>,
    audit_gaps: Counter<u64, AtomicU64>,
    configured_at: Gauge,
    resident: Gauge,
}

/// From 10 µs to some 5 s, each twice as long as the one before it.
fn histogram() -> Histogram {
    Histogram::new(std::iter::successors(Some(0.00001), |bucket| Some(bucket * 2.0)).take(20))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that all start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let build: Family<[Label; 1], Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build", "The version of the running broker", build);
        let requests: Family<[Label; 2], Counter> = Family::default();
        registry.register("requests", "Answered requests, by endpoint and HTTP status", Family::clone(&requests));
        let seconds: Family<[Label; 1], Histogram> = Family::new_with_constructor(histogram);
        registry.register_with_unit(
            "request",
            "Duration of a request, from its head to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        let endpoints = ENDPOINTS.map(|name| Endpoint {
            name,
            ok: requests.get_or_create(&[("endpoint", name), ("status", "200")]).clone(),
            seconds: seconds.get_or_create(&[("endpoint", name)]).clone(),
        });
        let by_stage: Family<[Label; 1], Histogram> = Family::new_with_constructor(histogram);
        let stages = Stage::ALL.map(|stage| by_stage.get_or_create(&[("stage", stage.name())]).clone());
        registry.register_with_unit("stage", "Duration of each stage of an exchange", Unit::Seconds, by_stage);
        let audit = histogram();
        let help = "Duration of writing the audit line of a grant, which is part of the stage record";
        registry.register_with_unit("audit_write", help, Unit::Seconds, audit.clone());
        let refusals = Family::default();
        registry.register(
            "refusals",
            "Refused requests, by endpoint and the reason in the answer",
            Family::clone(&refusals),
        );
        let minted = Family::default();
        registry.register("tokens_minted", "Issued tokens, by signing algorithm", Family::clone(&minted));
        let introspections = Family::default();
        registry.register(
            "introspections",
            "Introspected tokens: whether the token was active, and whether it had been verified before",
            Family::clone(&introspections),
        );
        let reloads = Family::default();
        registry.register("reloads", "Reloads of the configuration, by result", Family::clone(&reloads));
        let jobs = Family::default();
        registry.register("job_runs", "Runs of background jobs, by job and result", Family::clone(&jobs));
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        let metrics = Self {
            registry,
            requests,
            endpoints,
            stages,
            audit,
            refusals,
            minted,
            introspections,
            reloads,
            jobs,
            gauges,
        };
        // A job that never ran is shown too.
        Job::ALL.iter().for_each(|job| drop(metrics.job(*job)));
        metrics
    }

    /// An answer of `endpoint`.
    pub fn answered(&self, endpoint: &'static str, status: u16, took: Duration) {
        let known = self.endpoints.iter().find(|known| known.name == endpoint);
        let _ = match known {
            Some(known) if status == 200 => known.ok.inc(),
            _ => self.requests.get_or_create(&[("endpoint", endpoint), ("status", status_name(status))]).inc(),
        };
        if let Some(known) = known {
            known.seconds.observe(took.as_secs_f64());
        }
    }

    /// A refusal of `endpoint`, with what the caller was told.
    pub fn refused(&self, endpoint: &'static str, reason: &'static str) {
        self.refusals.get_or_create(&[("endpoint", endpoint), ("reason", reason)]).inc();
    }

    /// A token that left.
    pub fn minted(&self, algorithm: &'static str) {
        self.minted.get_or_create(&[("algorithm", algorithm)]).inc();
    }

    /// An answer of introspection.
    pub fn introspected(&self, active: bool, known: bool) {
        let name = |flag| if flag { "true" } else { "false" };
        self.introspections.get_or_create(&[("active", name(active)), ("known", name(known))]).inc();
    }

    /// A reload that was taken over, or refused.
    pub fn reloaded(&self, done: bool) {
        self.reloads.get_or_create(&[("outcome", if done { "done" } else { "refused" })]).inc();
    }

    /// The counters of the runs of `job`.
    #[must_use]
    pub fn job(&self, job: Job) -> JobRuns {
        let runs = |result| self.jobs.get_or_create(&[("job", job.name()), ("result", result)]).clone();
        JobRuns { ok: runs("ok"), failed: runs("failed") }
    }

    pub(super) fn audited(&self, took: Duration) {
        self.audit.observe(took.as_secs_f64());
    }

    pub(super) fn stage(&self, stage: Stage, took: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Everything in the text format of OpenMetrics.
    #[must_use]
    pub fn render(&self, figures: &Figures) -> String {
        self.gauges.set(figures);
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let gauges: [(&str, &str, &Gauge); 15] = [
            ("signing_keys_missing", "Required signing keys that are missing or cannot sign", &self.keys_missing),
            ("issuers", "Configured issuers", &self.issuers),
            ("issuers_without_keys", "Issuers whose key set is too old to be trusted", &self.issuers_without_keys),
            ("oldest_issuer_keys_seconds", "Age of the oldest key set of an issuer", &self.oldest_issuer_keys),
            (
                "clock_skew_seconds",
                "Smallest difference between this clock and the clock of an issuer",
                &self.clock_skew,
            ),
            ("revocations", "Revocations in force", &self.revocations),
            ("status_rows", "Tokens that have a status list entry, at most 4 million", &self.status_rows),
            (
                "revocation_position",
                "Position in the revocation log that this replica has applied",
                &self.revocation_position,
            ),
            (
                "revocation_staleness_milliseconds",
                "Time since the shared revocation log was last read",
                &self.revocation_staleness,
            ),
            ("first_uses", "Replay guards in memory", &self.first_uses),
            ("oldest_signing_key_seconds", "Age of the oldest key that signs", &self.oldest_signing_key),
            ("audit_next_line", "Number of the next line of the audit log", &self.audit_next),
            ("audit_free_bytes", "Free bytes on the file system of the audit log", &self.audit_free),
            (
                "configured_at_seconds",
                "Time at which the configuration was loaded, in seconds since 1970",
                &self.configured_at,
            ),
            ("resident_memory_bytes", "Resident memory of the broker", &self.resident),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("audit_lines", "Lines written to the audit log", &self.audit_lines),
            (
                "audit_counted_refusals",
                "Refusals that were counted instead of written to the audit log",
                &self.audit_counted,
            ),
            ("audit_failed_writes", "Failed writes to the audit log", &self.audit_failed),
            ("audit_gaps", "Detected losses of audit log lines", &self.audit_gaps),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("signing_keys", "Signing keys, by state", self.keys.clone());
    }

    fn set(&self, figures: &Figures) {
        self.issuers.set(figures.issuers);
        self.issuers_without_keys.set(figures.issuers_without_keys);
        self.oldest_issuer_keys.set(figures.oldest_issuer_keys);
        self.clock_skew.set(figures.clock_skew);
        self.revocations.set(figures.revocations);
        self.status_rows.set(figures.status_rows);
        self.revocation_position.set(figures.revocation_position);
        self.revocation_staleness.set(figures.revocation_staleness);
        self.first_uses.set(figures.first_uses);
        self.keys_missing.set(figures.keys_missing);
        self.oldest_signing_key.set(figures.oldest_signing_key);
        self.configured_at.set(figures.configured_at);
        self.resident.set(figures.resident);
        for (state, count) in &figures.keys {
            self.keys.get_or_create(&[("state", state)]).set(*count);
        }
        let [lines, counted, failed, gaps, next, free] = figures.audit;
        self.audit_next.set(next);
        self.audit_free.set(free);
        let counters = [
            (&self.audit_lines, lines),
            (&self.audit_counted, counted),
            (&self.audit_failed, failed),
            (&self.audit_gaps, gaps),
        ];
        for (counter, now) in counters {
            counter.inc_by(u64::try_from(now).unwrap_or(0).saturating_sub(counter.get()));
        }
    }
}

/// Statuses that the broker answers with.
fn status_name(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        404 => "404",
        405 => "405",
        408 => "408",
        413 => "413",
        414 => "414",
        415 => "415",
        429 => "429",
        431 => "431",
        503 => "503",
        _ => "other",
    }
}
