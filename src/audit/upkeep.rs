//! The periodic work of the log: sealing segments, making room, watching the disk, and deleting old segments.

use super::line::Note;
use super::log::{AuditError, AuditLog, Writer, file_at};
use super::segment::{self, Segment};
use crate::append::Appender;
use crate::domain::Timestamp;
use rustix::fs::statvfs;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bounds of the room that is made ahead of the writes, in bytes: twice what the last second wrote.
const AHEAD: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
/// Longest time without a checkpoint while lines are written, in seconds.
const CHECKPOINT_EVERY: i64 = 60;

/// The work that is due.
enum DueWork {
    Nothing,
    Checkpoint,
    Segment,
}

impl AuditLog {
    /// Does what is due each second: counted refusals are written, a full or finished segment is sealed, the file grows
    /// ahead, what is older than may be kept goes, and a log that somebody removed is put back. What waits for the disk
    /// does so on a thread of its own.
    ///
    /// # Errors
    /// [`AuditError`]; the log goes on as it was, and the next second tries again.
    pub async fn tend(self: &Arc<Self>, now: Timestamp) -> Result<(), AuditError> {
        let (sealed, ended) = match self.blocking(move |log| log.due(now)).await? {
            DueWork::Nothing => (Ok(()), None),
            DueWork::Checkpoint => (self.seal(now).await, None),
            DueWork::Segment => {
                let (sealed, ended) = self.begin_segment(now).await?;
                (sealed, Some(ended))
            }
        };
        self.blocking(move |log| {
            // Nobody waits for this: events go into the next segment already.
            if let Some(ended) = ended {
                let synced = ended.file().sync_all().and_then(|()| File::open(&log.directory)?.sync_all());
                synced.map_err(|fault| log.fault(fault))?;
            }
            log.grow();
            log.prune(now)
        })
        .await?;
        // A key that cannot sign holds up nothing else.
        sealed
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let log = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&log)).await;
        done.map_err(|fault| self.fault(io::Error::other(fault)))?
    }

    fn due(&self, now: Timestamp) -> Result<DueWork, AuditError> {
        self.look_at_disk();
        let mut writer = self.writer();
        if writer.second != now.seconds() {
            self.write_counted(&mut writer)?;
        }
        self.put_back(&mut writer)?;
        let ended = writer.file.length() >= self.keeping.segment
            || writer.day.is_some_and(|day| day != now.seconds() / super::log::DAY);
        if ended {
            return Ok(DueWork::Segment);
        }
        let unsealed = now.since(writer.sealed.0) >= CHECKPOINT_EVERY && writer.head.next > writer.sealed.1;
        // After a write that failed too: a broker that is not ready gets no request that would try again.
        Ok(if self.is_failing() || unsealed { DueWork::Checkpoint } else { DueWork::Nothing })
    }

    /// Begins a segment, sealed or not, and gives back the file of the one before it.
    async fn begin_segment(&self, now: Timestamp) -> Result<(Result<(), AuditError>, Appender), AuditError> {
        let _sealing = self.sealing.lock().await;
        let sealed = self.checkpoint(now).await;
        let mut writer = self.writer();
        let next = Segment::new(&self.directory, writer.segment.number + 1);
        let file = file_at(&next.path).and_then(|file| Appender::new(file, 0)).map_err(|fault| self.fault(fault))?;
        (writer.segment, writer.day) = (next, Some(now.seconds() / super::log::DAY));
        Ok((sealed, std::mem::replace(&mut writer.file, file)))
    }

    /// Somebody who removes or replaces the file must not make the broker write into nothing.
    fn put_back(&self, writer: &mut Writer) -> Result<(), AuditError> {
        let own = writer.file.file().metadata().map_err(|fault| self.fault(fault))?;
        let there = fs::metadata(&writer.segment.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(());
        }
        tracing::error!(segment = %writer.segment.path.display(), "the audit log was removed or replaced, and is put back");
        let put_back = || {
            let aside = writer.segment.path.with_extension("replaced");
            if writer.segment.path.exists() {
                fs::rename(&writer.segment.path, aside)?;
            }
            let (length, copy) = (writer.file.length(), file_at(&writer.segment.path)?);
            io::copy(&mut io::Read::take(Whole { file: writer.file.file(), at: 0 }, length), &mut &copy)?;
            copy.sync_all()?;
            Appender::new(copy, length)
        };
        let file = put_back().map_err(|fault| self.fault(fault))?;
        writer.file = file;
        Ok(())
    }

    fn grow(&self) {
        let ahead = {
            let mut writer = self.writer();
            let last_second = writer.bytes - writer.bytes_before;
            writer.bytes_before = writer.bytes;
            writer.file.ahead((2 * last_second).clamp(*AHEAD.start(), *AHEAD.end()))
        };
        if !self.tight.load(Ordering::Relaxed)
            && let Err(fault) = ahead.grow()
        {
            tracing::warn!(%fault, "the audit log does not grow ahead");
        }
    }

    pub(super) fn look_at_disk(&self) {
        if let Ok(disk) = statvfs(&self.directory) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            self.free.store(free, Ordering::Relaxed);
            let tight = free < self.keeping.reserve;
            if tight && !self.tight.swap(tight, Ordering::Relaxed) {
                tracing::error!(
                    free,
                    "the disk of the audit log is nearly full: refusals of what nobody vouched for are only counted"
                );
            }
            self.tight.store(tight, Ordering::Relaxed);
        }
    }

    /// Removes the oldest segments whose last line is older than may be kept, and says so in the log first.
    fn prune(&self, now: Timestamp) -> Result<(), AuditError> {
        let Some(retention) = self.keeping.retention else { return Ok(()) };
        let current = self.writer().segment.number;
        let mut gone = Vec::new();
        for segment in segment::list(&self.directory)?.into_iter().filter(|segment| segment.number < current) {
            let tail = segment::tail(&segment)?;
            let last = tail.last.as_ref().and_then(|line| Timestamp::new(line.content.time()));
            match (last, tail.head()) {
                (Some(last), Some(head)) if now.since(last) > retention.seconds() => gone.push((segment, head)),
                _ => break,
            }
        }
        let Some((_, head)) = gone.last() else { return Ok(()) };
        let note = Note::Pruned(head.to_string());
        self.note(&mut self.writer(), &note, now)?;
        for (segment, _) in gone {
            fs::remove_file(&segment.path).map_err(|fault| self.fault(fault))?;
        }
        Ok(())
    }
}

/// Reads a file from its beginning without moving where others read it.
struct Whole<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for Whole<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.file, bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
