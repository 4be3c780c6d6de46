//! The head of this replica's audit chain: one line of fixed length in a file of its own, overwritten with each event.

use super::StoreError;
use super::embedded::io;
use crate::domain::ChainHead;
use crate::files;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Its name in the store's directory.
const NAME: &str = "audit-head";

pub(super) struct HeadFile(File);

impl HeadFile {
    /// Opens it in `directory`, which is created with mode 0700.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        files::private_directory(directory).map_err(io)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(directory.join(NAME)).map(Self).map_err(io)
    }

    pub(super) fn keep(&self, head: &ChainHead) -> Result<(), StoreError> {
        self.0.write_all_at(head.to_string().as_bytes(), 0).map_err(io)
    }

    pub(super) fn kept(&self) -> Result<Option<ChainHead>, StoreError> {
        read(&self.0)
    }
}

/// Reads the head from the file in `directory`, which may be in use.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub fn audit_head(directory: &Path) -> Result<Option<ChainHead>, StoreError> {
    match File::open(directory.join(NAME)) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        file => read(&file.map_err(io)?),
    }
}

fn read(file: &File) -> Result<Option<ChainHead>, StoreError> {
    let mut line = [0; ChainHead::LENGTH];
    let length = file.read_at(&mut line, 0).map_err(io)?;
    if length == 0 {
        return Ok(None);
    }
    let head = std::str::from_utf8(&line).ok().and_then(|line| line.parse().ok());
    head.map(Some).ok_or(StoreError::UnknownRecord)
}
