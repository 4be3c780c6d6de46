//! The duration of each stage of an exchange.

use super::Metrics;
use std::sync::Arc;
use std::time::Instant;

/// A stage of an exchange, in the order in which they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The form is read, and who is calling.
    Parse,
    /// The issuer and its keys are found.
    Keys,
    /// The token is verified.
    Verify,
    /// Subject, client and target are bound.
    Bind,
    /// Policy is asked.
    Decide,
    /// The token is minted and signed.
    Mint,
    /// First use is claimed, and the grant is on the audit log.
    Record,
    /// The answer is rendered.
    Respond,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] =
        [Self::Parse, Self::Keys, Self::Verify, Self::Bind, Self::Decide, Self::Mint, Self::Record, Self::Respond];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Keys => "keys",
            Self::Verify => "verify",
            Self::Bind => "bind",
            Self::Decide => "decide",
            Self::Mint => "mint",
            Self::Record => "record",
            Self::Respond => "respond",
        }
    }
}

/// A stopwatch that runs through the stages of one exchange.
pub struct StageTimer {
    since: Instant,
    metrics: Arc<Metrics>,
}

impl StageTimer {
    /// Starts the timer.
    #[must_use]
    pub fn start(metrics: Arc<Metrics>) -> Self {
        Self { since: Self::now(), metrics }
    }

    /// This moment, to measure from.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
    pub fn now() -> Instant {
        Instant::now()
    }

    /// A line of the audit log took as long as since `began`.
    pub fn audited(&self, began: Instant) {
        self.metrics.audited(began.elapsed());
    }

    /// `stage` ends here, and the next one begins.
    pub fn lap(&mut self, stage: Stage) {
        let now = Self::now();
        let took = now.duration_since(self.since);
        self.since = now;
        self.metrics.stage(stage, took);
        tracing::trace!(target: "countersign::stage", stage = stage.name(), micros = took.as_micros(), "stage");
    }
}
