//! The figures of a broker, for its metrics.

use super::Operator;
use crate::domain::KeyState;
use crate::exchange::Parts;
use crate::telemetry::Figures;
use std::collections::BTreeMap;

impl Operator {
    /// Collects the figures of the broker's parts.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let Parts { revocations, reservations, audit, clock, .. } = self.parts();
        let (now, snapshot, ring, log) = (clock.now(), self.broker.snapshot(), self.keys.ring(), audit.figures());
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut states: BTreeMap<&'static str, i64> =
            [KeyState::Published, KeyState::Active, KeyState::Retiring].map(|state| (state.name(), 0)).into();
        for key in ring.records() {
            *states.entry(key.state(now).name()).or_default() += 1;
        }
        let signing = ring.records().filter(|key| key.state(now) == KeyState::Active);
        let without = self.issuers_without_keys().len();
        Figures {
            issuers: snapshot.issuers.iter().count().try_into().unwrap_or(i64::MAX),
            issuers_without_keys: without.try_into().unwrap_or(i64::MAX),
            oldest_issuer_keys: snapshot.issuers.iter().filter_map(|issuer| issuer.keys.age(now)).max().unwrap_or(0),
            clock_skew: self.clock_skew(),
            revocations: revocations.count().try_into().unwrap_or(i64::MAX),
            status_rows: revocations.status_rows().try_into().unwrap_or(i64::MAX),
            revocation_position: whole(revocations.position()),
            revocation_staleness: whole(revocations.staleness()),
            first_uses: reservations.count().try_into().unwrap_or(i64::MAX),
            keys: states.into_iter().collect(),
            keys_missing: ring.missing(now).try_into().unwrap_or(i64::MAX),
            oldest_signing_key: signing.map(|key| now.since(key.signs_from)).max().unwrap_or(0),
            audit: [log.lines, log.counted, log.failed, log.gaps, log.next, log.free].map(whole),
            configured_at: snapshot.loaded.seconds(),
            resident: resident(),
        }
    }
}

/// Resident memory of this process, in bytes; 0 where the system does not say.
fn resident() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)).and_then(|pages| pages.parse::<i64>().ok());
    let page = i64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages.unwrap_or(0).saturating_mul(page)
}
