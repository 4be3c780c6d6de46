//! Logs, on standard error: for people, or as JSON.

use super::Tracing;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Logs from `level` on, and exports traces where that is configured. A second call changes nothing.
pub fn install(level: LevelFilter, format: LogFormat, traces: Option<&Tracing>) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_filter(level).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(level).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(traces.map(Tracing::layer)).with(lines);
    let _ = tracing::subscriber::set_global_default(subscriber);
}
