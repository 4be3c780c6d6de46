//! Every log line of the whole suite, for `tests/logs` to search: where `COUNTERSIGN_TRACES` names a file, everything logs
//! at TRACE, and into it.

use std::fs::{File, OpenOptions};
use std::sync::{Mutex, Once};

/// The file, where there is one. The brokers of this process log into it from the first call on.
pub fn traces() -> Option<File> {
    static INSTALLED: Once = Once::new();
    let path = std::env::var_os("COUNTERSIGN_TRACES")?;
    let open = || OpenOptions::new().create(true).append(true).open(&path).unwrap();
    INSTALLED.call_once(|| {
        let level = tracing_subscriber::filter::LevelFilter::TRACE;
        let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(Mutex::new(open()));
        tracing::subscriber::set_global_default(lines.finish()).unwrap();
    });
    Some(open())
}
