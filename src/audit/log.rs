//! Appends events to the chain. An event is one line of JSON that ends with the hash of the line before it and its own; it is written with one `write` before anything leaves.

use super::chain::{self, Broken, Head};
use super::event::{Event, SCHEMA_VERSION};
use crate::append::Appender;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Room for a usual line, in bytes.
const LINE: usize = 4096;

/// Why an event was not written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file or directory cannot be used.
    #[error("the audit log `{0}` cannot be written: {1}")]
    Io(PathBuf, io::Error),
    /// The chain that is there is broken, so nothing may be added to it.
    #[error("the audit log is broken: {0}; keep it aside as evidence and start with an empty directory")]
    Broken(#[from] Broken),
}

/// The log of this broker.
pub struct AuditLog {
    path: PathBuf,
    writer: Mutex<Writer>,
}

struct Writer {
    file: Appender,
    head: Head,
}

impl AuditLog {
    /// Opens the log in `directory`, which is created with mode 0700, and finds where its chain ends. A last line that a
    /// crash cut short is taken away: its answer never left.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be opened or its last line is broken.
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        let path = directory.join(chain::FILE);
        let io = |fault| AuditError::Io(path.clone(), fault);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).write(true).truncate(false).read(true).mode(0o600).open(&path).map_err(io)?;
        // One chain has one writer.
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|fault| {
            AuditError::Io(path.clone(), io::Error::other(format!("another broker writes it ({fault})")))
        })?;
        let report = chain::tail(&mut file, &path)?;
        if report.torn > 0 {
            tracing::warn!(bytes = report.torn, "the last line was cut short by a crash and is removed");
        }
        let file = Appender::new(file, report.length).map_err(io)?;
        let writer = Writer { file, head: report.head };
        Ok(Self { path, writer: Mutex::new(writer) })
    }

    /// Writes `event` as the next line.
    ///
    /// # Errors
    /// [`AuditError`] when it is not written whole; the chain is then as it was.
    pub fn append(&self, event: &Event) -> Result<(), AuditError> {
        let io = |fault| AuditError::Io(self.path.clone(), fault);
        let mut line = Vec::with_capacity(LINE);
        serde_json::to_writer(&mut line, event).map_err(|fault| io(fault.into()))?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let next = writer.head.chain(&mut line);
        writer.file.write(&line).map_err(io)?;
        writer.head = next;
        Ok(())
    }
}

impl Head {
    /// Ends `line`, the JSON of an event, with its place in the chain, and gives the head after it.
    fn chain(&self, line: &mut Vec<u8>) -> Head {
        line.pop();
        line.extend_from_slice(
            format!(",\"v\":{SCHEMA_VERSION},\"seq\":{},\"prev\":\"{}\"", self.next, self.hash).as_bytes(),
        );
        let hash = chain::hash(line);
        line.extend_from_slice(format!(",\"hash\":\"{hash}\"}}\n").as_bytes());
        Head { next: self.next + 1, hash }
    }
}
