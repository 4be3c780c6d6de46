//! The store of one machine: revocations in redb, synced before an answer; first-use marks in memory with a journal.

use super::first_use::Journal;
use super::{Answer, FirstUses, Replayed, RevocationLog, Revoked, StoreError};
use crate::domain::{Digest, Timestamp};
use countersign_verify::revocation::Name;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Position → version byte, name, end. Positions are never used again, so they need no clock.
const REVOCATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("revocations");
/// The last position that was given, under key 0.
const LAST: TableDefinition<'_, u8, u64> = TableDefinition::new("last");
/// The version of a revocation record, its first byte.
const VERSION: u8 = 1;
/// How long a record is kept after its end, in seconds: a clock that jumps ahead for a moment must not lose it.
const GRACE: i64 = 7 * 86_400;
/// How many revocations pass between two sweeps of those that are over.
const SWEEP: u64 = 1_024;
/// Memory that redb may use as a cache, in bytes.
const CACHE: usize = 4 * 1024 * 1024;

/// The embedded store in one directory.
pub struct Embedded {
    database: Arc<Database>,
    journal: Journal,
}

impl Embedded {
    /// Opens the store in `directory`, which is created with mode 0700, and reads the marks that are alive at `now`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError`] when it cannot be read.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let path = directory.join("store.redb");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let opened =
            FileBackend::new(file).and_then(|file| Database::builder().set_cache_size(CACHE).create_with_backend(file));
        let database = match opened {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse),
            Err(fault) => return Err(io(fault)),
        };
        Ok(Self { database: Arc::new(database), journal: Journal::open(&directory.join("first-use"), now)? })
    }
}

impl FirstUses for Embedded {
    fn claim(&self, key: Digest, until: Timestamp, now: Timestamp) -> Answer<'_, bool> {
        let claimed = self.journal.claim(key, until, now);
        Box::pin(std::future::ready(claimed))
    }

    fn release(&self, key: Digest, until: Timestamp) -> Answer<'_, ()> {
        let released = self.journal.release(key, until);
        Box::pin(std::future::ready(released))
    }
}

impl RevocationLog for Embedded {
    fn append(&self, name: Name, until: Timestamp, now: Timestamp) -> Answer<'_, u64> {
        let database = Arc::clone(&self.database);
        Box::pin(async move { off_the_reactor(move || append(&database, name, until, now)).await })
    }

    fn replay(&self, now: Timestamp) -> Answer<'_, Replayed> {
        let database = Arc::clone(&self.database);
        Box::pin(async move { off_the_reactor(move || replay(&database, now)).await })
    }
}

/// A sync takes milliseconds, and a request must not wait for another one's.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(io)?
}

fn append(database: &Database, name: Name, until: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
    let mut write = database.begin_write().map_err(io)?;
    write.set_durability(Durability::Immediate).map_err(io)?;
    let position = {
        let mut last = write.open_table(LAST).map_err(io)?;
        let position = last.get(0).map_err(io)?.map_or(0, |last| last.value()) + 1;
        last.insert(0, position).map_err(io)?;
        let mut table = write.open_table(REVOCATIONS).map_err(io)?;
        table.insert(position, encode(name, until).as_slice()).map_err(io)?;
        // What is over goes from time to time, and at start.
        if position % SWEEP == 0 {
            table.retain(|_, record| decode(record).is_none_or(|(_, until)| until.plus(GRACE) >= now)).map_err(io)?;
        }
        position
    };
    write.commit().map_err(io)?;
    Ok(position)
}

fn replay(database: &Database, now: Timestamp) -> Result<Replayed, StoreError> {
    let write = database.begin_write().map_err(io)?;
    write.open_table(LAST).map_err(io)?;
    {
        let mut table = write.open_table(REVOCATIONS).map_err(io)?;
        // A record that cannot be read is kept: only one that is known to be over may go.
        table.retain(|_, record| decode(record).is_none_or(|(_, until)| until.plus(GRACE) >= now)).map_err(io)?;
    }
    write.commit().map_err(io)?;
    let read = database.begin_read().map_err(io)?;
    let table = read.open_table(REVOCATIONS).map_err(io)?;
    let mut records = Vec::new();
    for entry in table.iter().map_err(io)? {
        let (position, record) = entry.map_err(io)?;
        let (name, until) = decode(record.value()).ok_or(StoreError::UnknownRecord)?;
        if until >= now {
            records.push(Revoked { position: position.value(), name, until });
        }
    }
    let position = read.open_table(LAST).map_err(io)?.get(0).map_err(io)?.map_or(0, |last| last.value());
    Ok(Replayed { position, records })
}

fn encode(name: Name, until: Timestamp) -> [u8; 25] {
    let mut record = [VERSION; 25];
    for (to, from) in record.iter_mut().skip(1).zip(name.to_bytes().into_iter().chain(until.seconds().to_be_bytes())) {
        *to = from;
    }
    record
}

fn decode(record: &[u8]) -> Option<(Name, Timestamp)> {
    let (version, rest) = record.split_first()?;
    let (name, until) = rest.split_first_chunk::<16>()?;
    let until = Timestamp::new(i64::from_be_bytes(until.try_into().ok()?))?;
    (*version == VERSION).then_some((Name::from_bytes(*name), until))
}

pub(super) fn io(fault: impl std::fmt::Display) -> StoreError {
    StoreError::Io(fault.to_string())
}
