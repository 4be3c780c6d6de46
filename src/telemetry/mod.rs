//! Logs, metrics and traces. They never contain a token, at any level: no type that holds one prints it, and labels
//! come from closed sets.

mod jobs;
mod logs;
mod metrics;
mod stages;
mod traces;

pub use jobs::{Job, JobRuns};
pub use logs::{LogFormat, install};
pub use metrics::{Figures, Metrics};
pub use stages::{Stage, StageTimer};
pub use traces::{TraceParent, Traces, Tracing, TracingError, adopt};
