//! Where the time of an exchange goes, by the broker's own figures.

use crate::process::Process;
use crate::{Fault, load};

/// The stages in the order in which an exchange passes them.
const NAMES: [&str; 8] = ["parse", "keys", "verify", "bind", "decide", "mint", "record", "respond"];

/// Seconds and count of each stage, and of the audit lines, which are a part of the stage record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages {
    each: Vec<(f64, f64)>,
    audit: (f64, f64),
}

impl Stages {
    /// What the broker has counted so far.
    pub(crate) async fn read(broker: &Process) -> Result<Self, Fault> {
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let text = load::one(broker.management(), request).await?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no figure for a stage")?;
            line.trim().parse::<f64>().map_err(Fault::from)
        };
        let stage = |stage: &&str| {
            let of = |part: &str| value(&format!("countersign_stage_seconds_{part}{{stage=\"{stage}\"}} "));
            Ok((of("sum")?, of("count")?))
        };
        let audit = (value("countersign_audit_write_seconds_sum ")?, value("countersign_audit_write_seconds_count ")?);
        Ok(Self { each: NAMES.iter().map(stage).collect::<Result<_, Fault>>()?, audit })
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let less = |now: &(f64, f64), then: &(f64, f64)| (now.0 - then.0, now.1 - then.1);
        Self {
            each: self.each.iter().zip(&before.each).map(|(now, then)| less(now, then)).collect(),
            audit: less(&self.audit, &before.audit),
        }
    }

    /// The mean of an audit line, in microseconds.
    pub(crate) fn audit(&self) -> f64 {
        1e6 * self.audit.0 / self.audit.1.max(1.0)
    }

    /// Each stage with its mean, in microseconds of wall clock.
    pub(crate) fn micros(&self) -> Vec<(&'static str, f64)> {
        NAMES.into_iter().zip(&self.each).map(|(name, (sum, count))| (name, 1e6 * sum / count.max(1.0))).collect()
    }
}
