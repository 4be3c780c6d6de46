//! First-use marks: a set in memory, and a journal that is written before an answer. Marks lie in buckets by when they
//! end; a bucket is one file, appended to, read again at start, and deleted whole when its last mark is over.

use super::StoreError;
use super::embedded::io;
use crate::append::Appender;
use crate::domain::{Digest, Timestamp};
use crate::files;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Number of seconds of expiries that share a bucket.
const BUCKET: i64 = 600;
/// Limit of replay guards: about 400 MiB, an hour of 2 000 exchanges a second.
const MAX_MARKS: usize = 8_000_000;
/// A record: one byte that says whether the mark is set or taken back, and its key.
const RECORD: usize = 17;
const SET: u8 = b'+';
const TAKEN_BACK: u8 = b'-';

pub(super) struct Journal {
    directory: PathBuf,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    buckets: BTreeMap<i64, GuardBucket>,
    count: usize,
}

struct GuardBucket {
    keys: HashSet<Digest>,
    file: Appender,
}

impl Journal {
    pub(super) fn open(directory: &Path, now: Timestamp) -> Result<Self, StoreError> {
        files::private_directory(directory).map_err(io)?;
        let mut marks = Marks::default();
        for entry in fs::read_dir(directory).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<i64>().ok());
            let Some(number) = number else { return Err(StoreError::UnknownRecord) };
            if is_over(number, now) {
                fs::remove_file(&path).map_err(io)?;
            } else {
                let bucket = GuardBucket::open(&path)?;
                marks.count += bucket.keys.len();
                marks.buckets.insert(number, bucket);
            }
        }
        Ok(Self { directory: directory.to_owned(), marks: Mutex::new(marks) })
    }

    pub(super) fn reserve(&self, key: Digest, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old(&mut marks, now);
        if marks.count >= MAX_MARKS {
            return Err(StoreError::Full);
        }
        // In every bucket: an issuer can give one `jti` two ends.
        if marks.buckets.values().any(|bucket| bucket.keys.contains(&key)) {
            return Ok(false);
        }
        let bucket = self.bucket(&mut marks, until)?;
        bucket.write(SET, key)?;
        bucket.keys.insert(key);
        marks.count += 1;
        Ok(true)
    }

    pub(super) fn release(&self, key: Digest, until: Timestamp) -> Result<(), StoreError> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = self.bucket(&mut marks, until)?;
        if bucket.keys.remove(&key) {
            let written = bucket.write(TAKEN_BACK, key);
            marks.count -= 1;
            return written;
        }
        Ok(())
    }

    pub(super) fn has(&self, key: Digest) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.buckets.values().any(|bucket| bucket.keys.contains(&key))
    }

    pub(super) fn count(&self) -> usize {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    fn bucket<'a>(&self, marks: &'a mut Marks, until: Timestamp) -> Result<&'a mut GuardBucket, StoreError> {
        let number = until.seconds().div_euclid(BUCKET);
        match marks.buckets.entry(number) {
            std::collections::btree_map::Entry::Occupied(bucket) => Ok(bucket.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                Ok(place.insert(GuardBucket::open(&self.directory.join(format!("{number}.marks")))?))
            }
        }
    }

    fn drop_old(&self, marks: &mut Marks, now: Timestamp) {
        while let Some(entry) = marks.buckets.first_entry()
            && is_over(*entry.key(), now)
        {
            let (number, bucket) = entry.remove_entry();
            marks.count -= bucket.keys.len();
            if let Err(fault) = fs::remove_file(self.directory.join(format!("{number}.marks"))) {
                tracing::warn!(%fault, number, "a file of first-use marks that are over was not removed");
            }
        }
    }
}

impl GuardBucket {
    /// Opens or creates the bucket's file. A last record that a crash cut short is taken away: its answer never left.
    fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .read(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut keys = HashSet::new();
        // Zeros at the end were reserved, and never written.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let whole = if bytes.len() - written >= RECORD {
            written.next_multiple_of(RECORD).min(bytes.len())
        } else {
            bytes.len()
        };
        let whole = whole - whole % RECORD;
        for record in bytes.get(..whole).unwrap_or_default().chunks_exact(RECORD) {
            let (kind, key) = record.split_first().ok_or(StoreError::UnknownRecord)?;
            let key = Digest::from_bytes(key.try_into().map_err(|_| StoreError::UnknownRecord)?);
            // Reserved, and lost in a power cut between two that were not.
            if record.iter().all(|byte| *byte == 0) {
                continue;
            }
            match *kind {
                SET => keys.insert(key),
                TAKEN_BACK => keys.remove(&key),
                _ => return Err(StoreError::UnknownRecord),
            };
        }
        Ok(Self { keys, file: Appender::new(file, whole as u64).map_err(io)? })
    }

    /// Writes one record whole, or leaves the file as it was.
    fn write(&mut self, kind: u8, key: Digest) -> Result<(), StoreError> {
        let mut record = [kind; RECORD];
        for (to, from) in record.iter_mut().skip(1).zip(key.to_bytes()) {
            *to = from;
        }
        self.file.write(&record).map_err(io)
    }
}

fn is_over(bucket: i64, now: Timestamp) -> bool {
    (bucket + 1).saturating_mul(BUCKET) <= now.seconds()
}
