//! Writes the chain: each event one line, written before anything leaves. Owns the segments, their seals, how long they
//! are kept, and how much of the disk a stranger's refusals may take.

use super::event::{Event, SCHEMA_VERSION};
use super::line::{self, Broken, Checkpoint, Note};
use super::seal::is_sealed;
use super::segment::{self, Segment};
use crate::append::Appender;
use crate::domain::{ChainHead, DigestKey, Lifetime, Timestamp};
use crate::files;
use crate::store::{AuditHeads, StoreError};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for a usual line, in bytes.
const LINE: usize = 4096;
/// The seconds of a day, by which segments end.
pub(super) const DAY: i64 = 86_400;

/// Signs a checkpoint with the key that is active at the time; none if it cannot be signed.
pub type Seal = Arc<dyn Fn(Checkpoint, Timestamp) -> SealAnswer + Send + Sync>;
/// The wait for a signed checkpoint.
pub type SealAnswer = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// The limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Size limit of a segment, in bytes.
    pub segment: u64,
    /// How long a segment is stored after its last line; for ever if there is no limit.
    pub retention: Option<Lifetime>,
    /// Limit of unverified refusals that are written in a second; further refusals are counted.
    pub refusals: u32,
    /// Free space on the disk that such refusals leave, in bytes.
    pub reserve: u64,
}

/// Why an event was not written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file or directory cannot be used.
    #[error("the audit log `{0}` cannot be written: {1}")]
    Io(PathBuf, io::Error),
    /// The log that is there is broken, so nothing may be added to it.
    #[error("the audit log is broken: {0}; move it away as evidence and start with an empty directory")]
    Broken(#[from] Broken),
    /// The head of the log cannot be stored.
    #[error("the head of the audit log cannot be written to the store: {0}")]
    Head(#[from] StoreError),
    /// A checkpoint was not written; the next second tries again.
    #[error("a checkpoint of the audit log was not written: {0}")]
    Unsealed(&'static str),
    /// The clock stands before the last event.
    #[error(
        "the clock says {0}, and the last event of the audit log is dated {1}; correct the clock, or, if it is right now and was ahead before, move the log away and start with an empty directory"
    )]
    ClockBehind(Timestamp, Timestamp),
}

/// The figures of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogFigures {
    /// Lines that this process wrote.
    pub lines: u64,
    /// Refusals that were counted and not written.
    pub counted: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Times that lines were found to be lost.
    pub gaps: u64,
    /// The number of the next line.
    pub next: u64,
    /// Free bytes of its file system when it was last looked at.
    pub free: u64,
}

/// The log of this broker.
pub struct AuditLog {
    pub(super) directory: PathBuf,
    pub(super) replica: String,
    pub(super) keeping: Keeping,
    heads: Arc<dyn AuditHeads>,
    pub(super) seal: Seal,
    /// Locked while a checkpoint is signed, so that one is signed at a time.
    pub(super) sealing: tokio::sync::Mutex<()>,
    digests: DigestKey,
    writer: Mutex<Writer>,
    /// True if the disk is so full that only verified events are written.
    pub(super) tight: AtomicBool,
    pub(super) free: AtomicU64,
    pub(super) failed: AtomicU64,
    /// True if the last write failed.
    failing: AtomicBool,
    _lock: File,
}

pub(super) struct Writer {
    pub(super) segment: Segment,
    pub(super) file: Appender,
    pub(super) head: ChainHead,
    /// The day of the segment's first line; none where it has none.
    pub(super) day: Option<i64>,
    /// The time of the last checkpoint, and the number of the first line that it does not cover.
    pub(super) sealed: (Timestamp, u64),
    /// The second that refusals are counted in, how many of it were written, and which were not.
    pub(super) second: i64,
    pub(super) written: u32,
    pub(super) counted: BTreeMap<String, u64>,
    pub(super) figures: LogFigures,
    /// Bytes written, and how many they were a second ago.
    pub(super) bytes: u64,
    pub(super) bytes_before: u64,
}

/// The settings with which a log is opened.
pub struct Opening {
    /// This replica's name.
    pub replica: String,
    /// The limits of the log.
    pub keeping: Keeping,
    /// The store of the log's head.
    pub heads: Arc<dyn AuditHeads>,
    /// The signer of checkpoints.
    pub seal: Seal,
    /// The key of token digests.
    pub digests: DigestKey,
}

#[derive(Serialize)]
struct NoteLine<'a> {
    note: &'a Note,
    time: i64,
}

impl AuditLog {
    /// Opens the log in `directory`, which is created with mode 0700, and finds where its chain ends. A last line that
    /// a crash cut short is taken away: its answer never left. Where the store knows of lines that are not there, that
    /// is noted in the log permanently, and logged. The caller seals what an earlier process wrote and did not seal.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be opened, its last line is broken, or the clock stands before it.
    pub fn open(directory: &Path, opening: Opening, now: Timestamp) -> Result<Self, AuditError> {
        let Opening { replica, keeping, heads, seal, digests } = opening;
        let io = |fault| AuditError::Io(directory.to_owned(), fault);
        files::private_directory(directory).map_err(io)?;
        // One chain has one writer.
        let lock = file_at(&directory.join("lock")).map_err(io)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|fault| io(io::Error::other(format!("another broker writes it ({fault})"))))?;
        let (segments, tail) = last_written(directory)?;
        let segment = segments.last().cloned().unwrap_or_else(|| Segment::new(directory, 1));
        if tail.torn > 0 {
            tracing::warn!(bytes = tail.torn, "the last line was cut short by a crash and is removed");
        }
        let last = tail.last.as_ref().map(|line| line.content.time()).and_then(Timestamp::new);
        if let Some(last) = last.filter(|last| last.since(now) > crate::domain::MAX_SKEW) {
            return Err(AuditError::ClockBehind(now, last));
        }
        let head = tail.head().unwrap_or_else(ChainHead::genesis);
        let file = file_at(&segment.path).and_then(|file| Appender::new(file, tail.length)).map_err(io)?;
        let ends_sealed = tail.last.as_ref().is_some_and(is_sealed);
        let day = last.map(|last| last.seconds() / DAY).filter(|_| tail.length > 0);
        let writer = Writer {
            segment,
            file,
            day,
            // What was written and not sealed, because the broker was killed, is sealed before anything follows it.
            sealed: (now, if ends_sealed { head.next } else { 0 }),
            head: head.clone(),
            second: 0,
            written: 0,
            counted: BTreeMap::new(),
            figures: LogFigures::default(),
            bytes: 0,
            bytes_before: 0,
        };
        let log = Self {
            directory: directory.to_owned(),
            replica,
            keeping,
            heads,
            seal,
            sealing: tokio::sync::Mutex::default(),
            digests,
            writer: Mutex::new(writer),
            tight: AtomicBool::new(false),
            free: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            _lock: lock,
        };
        let head_expected = tail.last.as_ref().is_some_and(|line| line.version == SCHEMA_VERSION);
        log.compare_with_store(&segments, &head, head_expected, now)?;
        log.look_at_disk();
        Ok(log)
    }

    /// `head_expected` says that the last line is of a version that keeps a head.
    fn compare_with_store(
        &self,
        segments: &[Segment],
        head: &ChainHead,
        head_expected: bool,
        now: Timestamp,
    ) -> Result<(), AuditError> {
        let kept = match self.heads.kept() {
            Ok(Some(kept)) if kept == *head || segment_has(segments, &kept)? => return Ok(()),
            Ok(None) if !head_expected => return Ok(()),
            Ok(Some(kept)) => kept,
            // It was removed, or what a power cut left of it cannot be read.
            Ok(None) | Err(StoreError::UnknownRecord) => head.clone(),
            Err(fault) => return Err(fault.into()),
        };
        tracing::error!(
            expected = %kept, found = %head,
            "lines of the audit log are lost: it was cut or written anew, or the machine went down before they were on disk"
        );
        let mut writer = self.writer();
        writer.figures.gaps += 1;
        // The numbers of what is lost are not given again.
        writer.head.next = head.next.max(kept.next);
        self.note(&mut writer, &Note::Gap(kept.to_string()), now)
    }

    /// Writes `event` as the next line.
    ///
    /// # Errors
    /// [`AuditError`] when it is not written whole; the chain is then as it was.
    pub fn append(&self, event: &Event) -> Result<(), AuditError> {
        let mut line = self.line(event)?;
        let mut writer = self.writer();
        writer.day = writer.day.or(Some(event.time / DAY));
        self.write(&mut writer, &mut line)
    }

    /// Writes a refusal of something that nobody vouched for, as long as there are few of them and the disk is not
    /// nearly full; else it is counted.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    pub fn append_bounded(&self, event: &Event, reason: &str) -> Result<(), AuditError> {
        let mut line = self.line(event)?;
        let mut writer = self.writer();
        // Never back: requests that waited came from a second that is over.
        if event.time > writer.second {
            self.write_counted(&mut writer)?;
            (writer.second, writer.written) = (event.time, 0);
        }
        if writer.written >= self.keeping.refusals || self.tight.load(Ordering::Relaxed) {
            *writer.counted.entry(reason.to_owned()).or_default() += 1;
            writer.figures.counted += 1;
            return Ok(());
        }
        // A long line counts for several.
        writer.written = writer.written.saturating_add(1 + u32::try_from(line.len() / LINE).unwrap_or(u32::MAX));
        writer.day = writer.day.or(Some(event.time / DAY));
        self.write(&mut writer, &mut line)
    }

    /// The head of the chain.
    #[must_use]
    pub fn head(&self) -> ChainHead {
        self.writer().head.clone()
    }

    /// Returns true if the last write failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Returns the digest by which the log names `token`. Without the key, nobody can tell which token a digest is of.
    #[must_use]
    pub fn digest(&self, token: &str) -> String {
        self.digests.digest(token)
    }

    /// The figures of the log.
    #[must_use]
    pub fn figures(&self) -> LogFigures {
        let (free, failed) = (self.free.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        let writer = self.writer();
        LogFigures { next: writer.head.next, free, failed, ..writer.figures }
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, line: &impl Serialize) -> Result<Vec<u8>, AuditError> {
        let mut bytes = Vec::with_capacity(LINE);
        serde_json::to_writer(&mut bytes, line).map_err(|fault| self.fault(fault.into()))?;
        Ok(bytes)
    }

    pub(super) fn fault(&self, fault: io::Error) -> AuditError {
        self.failed.fetch_add(1, Ordering::Relaxed);
        AuditError::Io(self.directory.clone(), fault)
    }

    fn write(&self, writer: &mut Writer, line: &mut Vec<u8>) -> Result<(), AuditError> {
        let next = line::chain(line, &writer.head, writer.head.next);
        let written = writer.file.write(line).map_err(|fault| self.fault(fault));
        self.failing.store(written.is_err(), Ordering::Relaxed);
        written?;
        writer.head = next;
        writer.figures.lines += 1;
        writer.bytes += line.len() as u64;
        // Behind the line: the log may be ahead of what the store knows, and never the other way round. The line is
        // there whether or not this succeeds, and the next one tries again.
        if let Err(fault) = self.heads.keep(&writer.head) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%fault, "where the audit log stands is not kept in the store");
        }
        Ok(())
    }

    pub(super) fn note(&self, writer: &mut Writer, note: &Note, now: Timestamp) -> Result<(), AuditError> {
        let mut line = self.line(&NoteLine { note, time: now.seconds() })?;
        self.write(writer, &mut line)
    }

    pub(super) fn write_counted(&self, writer: &mut Writer) -> Result<(), AuditError> {
        if writer.counted.is_empty() || self.tight.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (counted, second) = (std::mem::take(&mut writer.counted), writer.second);
        let note = Note::Counted(counted);
        let written = self.note(writer, &note, Timestamp::new(second).unwrap_or_default());
        if let (Err(_), Note::Counted(counted)) = (&written, note) {
            writer.counted = counted;
        }
        written
    }
}

pub(super) fn file_at(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path)
}

fn segment_has(segments: &[Segment], head: &ChainHead) -> Result<bool, AuditError> {
    Ok(super::verify::has(segments, head)?)
}

/// The segments up to the last that something is written in, and where that ends. One that was begun and not used is
/// removed.
fn last_written(directory: &Path) -> Result<(Vec<Segment>, segment::Tail), AuditError> {
    let mut segments = segment::list(directory)?;
    while let Some(last) = segments.last() {
        let tail = segment::tail(last)?;
        if tail.length > 0 || segments.len() == 1 {
            return Ok((segments, tail));
        }
        fs::remove_file(&last.path).map_err(|fault| AuditError::Io(last.path.clone(), fault))?;
        segments.pop();
    }
    Ok((segments, segment::Tail { length: 0, torn: 0, last: None }))
}
