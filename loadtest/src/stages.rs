//! Where the time of an exchange goes, by the broker's own figures.

use crate::process::Process;
use crate::{Fault, load};

/// The stages in the order in which an exchange passes them.
const NAMES: [&str; 8] = ["parse", "keys", "verify", "bind", "decide", "mint", "record", "respond"];

/// Seconds and count of each stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages(Vec<(f64, f64)>);

impl Stages {
    /// What the broker has counted so far.
    pub(crate) async fn read(broker: &Process) -> Result<Self, Fault> {
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let text = load::one(broker.management(), request).await?;
        let value = |name: &str, stage: &str| {
            let start = format!("countersign_stage_seconds_{name}{{stage=\"{stage}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start)).ok_or("no figure for a stage")?;
            line.trim().parse::<f64>().map_err(Fault::from)
        };
        NAMES.iter().map(|stage| Ok((value("sum", stage)?, value("count", stage)?))).collect::<Result<_, _>>().map(Self)
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| (now.0 - then.0, now.1 - then.1)).collect())
    }

    /// Each stage with its mean, in microseconds of wall clock.
    pub(crate) fn micros(&self) -> Vec<(&'static str, f64)> {
        NAMES.into_iter().zip(&self.0).map(|(name, (sum, count))| (name, 1e6 * sum / count.max(1.0))).collect()
    }

    pub(crate) fn of(&self, stage: &str) -> f64 {
        self.micros().into_iter().find(|(name, _)| *name == stage).map_or(0.0, |(_, micros)| micros)
    }
}
