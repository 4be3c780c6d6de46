//! A file that is added to on the request path. It grows ahead of what is written, by zeros: a write then goes over what is
//! there already, which takes no block, no size and no journal of the file system, and does not fail for want of space.
//! Whoever reads the file takes zeros at its end for nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// How far the file grows ahead, in bytes.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// A file with what was written to it, and zeros behind that.
pub struct Appender {
    file: File,
    /// Where the next write goes.
    length: u64,
    /// How far the file reaches.
    reserved: u64,
    closed: bool,
}

impl Appender {
    /// Adds to `file`, of which `length` bytes count; what is behind them is cut off.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn new(file: File, length: u64) -> io::Result<Self> {
        if file.metadata()?.len() > length {
            file.set_len(length)?;
        }
        Ok(Self { file, length, reserved: length, closed: false })
    }

    /// Adds `bytes` whole, or leaves the file as it was. Where that cannot be done either, nothing is added any more.
    ///
    /// # Errors
    /// When they are not written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::other(
                "it was closed after a write that could not be undone; start the broker again",
            ));
        }
        let end = self.length + bytes.len() as u64;
        while self.reserved < end {
            self.at(self.reserved, &ZEROS)?;
            self.reserved += ZEROS.len() as u64;
        }
        self.at(self.length, bytes)?;
        self.length = end;
        Ok(())
    }

    fn at(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, place).inspect_err(|_| {
            self.closed = self.file.set_len(self.length).is_err();
            self.reserved = self.length;
        })
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if !self.closed {
            let _ = self.file.set_len(self.length);
        }
    }
}
