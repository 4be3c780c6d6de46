//! Logs: for people, on standard error. Never a token, at any level: no type of ours that holds one prints it.

use tracing::level_filters::LevelFilter;

/// Logs from `level` on. A second call changes nothing.
pub fn install(level: LevelFilter) {
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}
