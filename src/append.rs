//! A file that is added to on the request path. It grows ahead of what is written, by zeros: a write then goes over
//! what is there already, which takes no block, no size and no journal of the file system, and does not fail for want
//! of space. A reader of the file ignores zeros at its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The zeros by which the file grows at a time.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// A file with what was written to it, and zeros behind that.
pub struct Appender {
    room: Arc<Room>,
    /// The offset of the next write.
    length: u64,
    /// True if bytes may lie behind `length` that do not belong to the file.
    dirty: bool,
}

/// A file, and the length up to which space is reserved: its content, and the zeros behind it.
struct Room {
    file: File,
    reserved: AtomicU64,
    growing: Mutex<()>,
}

/// Grows the file from another thread, so that a request seldom has to.
pub struct Ahead {
    room: Arc<Room>,
    wanted: u64,
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
        let room = Room { file, reserved: AtomicU64::new(length), growing: Mutex::new(()) };
        Ok(Self { room: Arc::new(room), length, dirty: false })
    }

    /// Adds `bytes` whole, or leaves the file as it was. Where that cannot be done either, nothing is added before it
    /// was mended.
    ///
    /// # Errors
    /// When they are not written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.mend()?;
        }
        let end = self.length + bytes.len() as u64;
        let written = self.room.reach(end).and_then(|()| self.room.file.write_all_at(bytes, self.length));
        if let Err(fault) = written {
            self.dirty = true;
            let _ = self.mend();
            return Err(fault);
        }
        self.length = end;
        Ok(())
    }

    /// Length of the file's content, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.room.file
    }

    /// Returns a task that makes room for `bytes` more.
    #[must_use]
    pub fn ahead(&self, bytes: u64) -> Ahead {
        Ahead { room: Arc::clone(&self.room), wanted: self.length + bytes }
    }

    fn mend(&mut self) -> io::Result<()> {
        let _alone = self.room.growing.lock().unwrap_or_else(PoisonError::into_inner);
        self.room.file.set_len(self.length)?;
        self.room.reserved.store(self.length, Ordering::Release);
        self.dirty = false;
        Ok(())
    }
}

impl Ahead {
    /// Makes the room.
    ///
    /// # Errors
    /// When there is none; what is there stays.
    pub fn grow(&self) -> io::Result<()> {
        self.room.reach(self.wanted)
    }
}

impl Room {
    fn reach(&self, end: u64) -> io::Result<()> {
        while self.reserved.load(Ordering::Acquire) < end {
            let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
            let from = self.reserved.load(Ordering::Acquire);
            if from < end {
                self.file.write_all_at(&ZEROS, from)?;
                self.reserved.store(from + ZEROS.len() as u64, Ordering::Release);
            }
        }
        Ok(())
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _ = self.mend();
    }
}
