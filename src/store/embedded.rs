//! The store of one machine: revocations in redb, synced before an answer; replay guards in memory with a
//! journal.

use super::first_use::Journal;
use super::rows::{self, Rows};
use super::tasks::{self, Tasks};
use super::{
    AuditHeads, Begun, Entry, GRACE, HeadFile, KeyRecords, Lease, Leases, Page, Place, Reservation, Reservations,
    Reserved, RevocationLog, Revoked, StoreAnswer, StoreError, TaskRecords, key_record, revocation_record,
};
use crate::domain::{ChainHead, KeyRecord, StatusRow, TaskRecord, TaskState, Timestamp};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, TableError,
};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Position → version byte, name, end. Positions are never used again, so they need no clock.
const REVOCATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("revocations");
/// The last position that was given, under key 0; other numbers under others.
pub(super) const LAST: TableDefinition<'_, u8, u64> = TableDefinition::new("last");
/// The format of the whole directory, under key 0.
const FORMAT: TableDefinition<'_, u8, u64> = TableDefinition::new("format");
/// The format that this version writes, and the last that it reads. A store without a mark is of the first.
const CURRENT: u64 = 1;
/// Key id → its record.
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// Number of revocations between two sweeps of expired ones.
pub(super) const SWEEP: u64 = 1_024;
/// Limit of records, or rows, in one read.
pub(super) const PAGE: usize = 5_000;
/// Number of attempts to open a database that another process has open, and the delay between them.
const OPEN_TRIES: u32 = 20;
const OPEN_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);
/// Memory that redb may use as a cache, in bytes.
const CACHE: usize = 4 * 1024 * 1024;

/// The embedded store in one directory.
pub struct Embedded {
    database: Arc<Opened>,
    journal: Journal,
    tasks: Arc<Tasks>,
    rows: Arc<Rows>,
    head: HeadFile,
}

impl Embedded {
    /// Opens the store in `directory`, which is created with mode 0700, and reads the replay guards in force at
    /// `now`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Newer`] when a newer version wrote it,
    /// [`StoreError`] when it cannot be read.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let head = HeadFile::open(directory)?;
        let database = Opened { path: directory.join("store.redb"), open: Mutex::new(None) };
        database.with(check_format)?;
        let journal = Journal::open(&directory.join("first-use"), now)?;
        let tasks = Arc::new(Tasks::of(database.with(|database| tasks::read(database, now))?, &journal, now));
        Ok(Self { database: Arc::new(database), journal, tasks, rows: Arc::default(), head })
    }
}

/// The database, open or to be opened again: after a write that failed redb takes no other, and what is in the file is
/// whole.
pub(super) struct Opened {
    path: PathBuf,
    open: Mutex<Option<Database>>,
}

impl Opened {
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => self.open()?,
        };
        let done = work(&database);
        if !matches!(done, Err(StoreError::Io(_))) {
            *open = Some(database);
        }
        done
    }

    /// Opens the database. Waits up to a second for another process to close it: the broker before this one that is
    /// still ending, or a child of it that has the file for a moment between `fork` and `exec`.
    fn open(&self) -> Result<Database, StoreError> {
        for _ in 1..OPEN_TRIES {
            match self.try_open() {
                Err(StoreError::InUse) => std::thread::sleep(OPEN_AGAIN),
                opened => return opened,
            }
        }
        self.try_open()
    }

    fn try_open(&self) -> Result<Database, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path).map_err(io)?;
        let backend = FileBackend::new(file);
        match backend.and_then(|file| Database::builder().set_cache_size(CACHE).create_with_backend(file)) {
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse),
            opened => opened.map_err(io),
        }
    }
}

impl Reservations for Embedded {
    fn reserve(&self, reservation: Reservation, now: Timestamp) -> StoreAnswer<'_, Reserved> {
        Box::pin(std::future::ready(self.reserve_all(&reservation, now)))
    }

    fn release(&self, reservation: Reservation, slot: u32) -> StoreAnswer<'_, ()> {
        let released = reservation.first_uses.iter().map(|mark| self.journal.release(mark.key, mark.until));
        let given_back = reservation.budget.map(|spent| self.tasks.give_back(&spent.task, slot, &self.journal));
        // Each of them, whatever becomes of the others.
        let all: Vec<_> = released.chain(given_back).collect();
        Box::pin(std::future::ready(all.into_iter().collect()))
    }

    fn count(&self) -> usize {
        self.journal.count()
    }
}

impl RevocationLog for Embedded {
    fn append(&self, entry: Entry, now: Timestamp) -> StoreAnswer<'_, u64> {
        self.off_the_reactor(move |database| append(database, &entry, now))
    }

    fn begin(&self, _known: u64, now: Timestamp) -> StoreAnswer<'_, Begun> {
        self.off_the_reactor(move |database| begin(database, now))
    }

    fn keep(&self, row: StatusRow, now: Timestamp) -> StoreAnswer<'_, ()> {
        let (rows, database) = (Arc::clone(&self.rows), Arc::clone(&self.database));
        let keep = move || rows.keep(row, &database, now);
        Box::pin(async move { tokio::task::spawn_blocking(keep).await.map_err(io)? })
    }

    fn page(&self, after: Place) -> StoreAnswer<'_, Page> {
        self.off_the_reactor(move |database| {
            // All records, and then all rows.
            let records = page(database, after.position)?;
            if let Some(last) = records.last() {
                let last = Place { position: last.position, ..after };
                return Ok(Page { records, last, ..Page::default() });
            }
            let (rows, row) = rows::page(database, after.row)?;
            Ok(Page { rows, last: Place { row, ..after }, ..Page::default() })
        })
    }

    fn follow(&self, _place: Place, _now: Timestamp) -> StoreAnswer<'_, Page> {
        // Nobody else appends to it.
        Box::pin(std::future::pending())
    }

    fn confirm(&self) -> StoreAnswer<'_, ()> {
        // Nothing is seen of a record before it is synced.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl TaskRecords for Embedded {
    fn open(&self, task: TaskRecord, now: Timestamp) -> StoreAnswer<'_, ()> {
        let (tasks, database) = (Arc::clone(&self.tasks), Arc::clone(&self.database));
        // In one piece: a caller that goes away must not leave a task on disk that is nowhere else.
        let keep = move || {
            tasks.admit(&task.workload, now)?;
            database.with(|database| tasks::keep(database, &task, now))?;
            tasks.add(task, now);
            Ok(())
        };
        Box::pin(async move { tokio::task::spawn_blocking(keep).await.map_err(io)? })
    }

    fn forget(&self, id: &str) -> StoreAnswer<'_, ()> {
        self.tasks.remove(id);
        let id = id.to_owned();
        self.off_the_reactor(move |database| tasks::forget(database, &id))
    }

    fn list(&self, now: Timestamp) -> StoreAnswer<'_, Vec<TaskState>> {
        Box::pin(std::future::ready(Ok(self.tasks.list(now))))
    }
}

impl AuditHeads for Embedded {
    fn keep(&self, head: &ChainHead) -> Result<(), StoreError> {
        self.head.keep(head)
    }

    fn kept(&self) -> Result<Option<ChainHead>, StoreError> {
        self.head.kept()
    }
}

impl Leases for Embedded {
    fn take(&self, lease: Lease) -> StoreAnswer<'_, Option<Lease>> {
        // Nobody else has the store open.
        Box::pin(std::future::ready(Ok(Some(lease))))
    }

    fn let_go(&self, _lease: Lease) -> StoreAnswer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl KeyRecords for Embedded {
    fn read(&self) -> StoreAnswer<'_, Vec<KeyRecord>> {
        self.off_the_reactor(read_keys)
    }

    fn write(&self, records: &[KeyRecord], _lease: &Lease) -> StoreAnswer<'_, ()> {
        let encoded: Result<Vec<_>, _> =
            records.iter().map(|record| Ok((record.kid.clone(), key_record::encode(record)?))).collect();
        self.off_the_reactor(move |database| write_keys(database, &encoded?))
    }

    fn publish(&self, kids: &[String]) -> StoreAnswer<'_, Vec<Vec<String>>> {
        Box::pin(std::future::ready(Ok(vec![kids.to_vec()])))
    }
}

impl Embedded {
    fn reserve_all(&self, reservation: &Reservation, now: Timestamp) -> Result<Reserved, StoreError> {
        let mut done = Ok(Reserved::Whole(0));
        let mut reserved = 0;
        for first_use in reservation.first_uses.iter() {
            match self.journal.reserve(first_use.key, first_use.until, now) {
                Ok(true) => reserved += 1,
                Ok(false) => done = Ok(Reserved::Used(first_use.of)),
                Err(fault) => done = Err(fault),
            }
            if !matches!(done, Ok(Reserved::Whole(_))) {
                break;
            }
        }
        if let (Ok(Reserved::Whole(_)), Some(budget)) = (&done, &reservation.budget) {
            done = self.tasks.spend(budget, &self.journal, now);
        }
        if !matches!(done, Ok(Reserved::Whole(_))) {
            for first_use in reservation.first_uses.iter().take(reserved) {
                if let Err(fault) = self.journal.release(first_use.key, first_use.until) {
                    tracing::error!(%fault, "first-use mark not taken back");
                }
            }
        }
        done
    }

    /// A sync takes milliseconds, and a request must not wait for another one's.
    fn off_the_reactor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreAnswer<'_, T> {
        let database = Arc::clone(&self.database);
        Box::pin(async move { tokio::task::spawn_blocking(move || database.with(work)).await.map_err(io)? })
    }
}

/// Refuses a store of a newer format, and says in an unmarked one what it is.
fn check_format(database: &Database) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(io)?;
    {
        let mut table = write.open_table(FORMAT).map_err(io)?;
        let format = table.get(0).map_err(io)?.map(|format| format.value());
        match format {
            Some(newer) if newer > CURRENT => return Err(StoreError::Newer(newer, CURRENT)),
            Some(_) => return Ok(()),
            None => drop(table.insert(0, CURRENT).map_err(io)?),
        }
    }
    write.commit().map_err(io)
}

fn read_keys(database: &Database) -> Result<Vec<KeyRecord>, StoreError> {
    let read = database.begin_read().map_err(io)?;
    let table = match read.open_table(KEYS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table.map_err(io)?,
    };
    let entries = table.iter().map_err(io)?;
    entries.map(|entry| key_record::decode(entry.map_err(io)?.1.value())).collect()
}

fn write_keys(database: &Database, records: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
    let mut write = database.begin_write().map_err(io)?;
    write.set_durability(Durability::Immediate).map_err(io)?;
    {
        let mut table = write.open_table(KEYS).map_err(io)?;
        table.retain(|_, _| false).map_err(io)?;
        for (kid, record) in records {
            table.insert(kid.as_str(), record.as_slice()).map_err(io)?;
        }
    }
    write.commit().map_err(io)
}

fn append(database: &Database, entry: &Entry, now: Timestamp) -> Result<u64, StoreError> {
    let mut write = database.begin_write().map_err(io)?;
    write.set_durability(Durability::Immediate).map_err(io)?;
    let position = {
        let mut last = write.open_table(LAST).map_err(io)?;
        let position = last.get(0).map_err(io)?.map_or(0, |last| last.value()) + 1;
        last.insert(0, position).map_err(io)?;
        let mut table = write.open_table(REVOCATIONS).map_err(io)?;
        table.insert(position, revocation_record::encode(entry).as_slice()).map_err(io)?;
        // What is over goes from time to time, and at start.
        if position % SWEEP == 0 {
            table.retain(|_, record| is_kept(record, now)).map_err(io)?;
        }
        position
    };
    write.commit().map_err(io)?;
    Ok(position)
}

fn begin(database: &Database, now: Timestamp) -> Result<Begun, StoreError> {
    let write = database.begin_write().map_err(io)?;
    let position = write.open_table(LAST).map_err(io)?.get(0).map_err(io)?.map_or(0, |last| last.value());
    let records = {
        let mut table = write.open_table(REVOCATIONS).map_err(io)?;
        table.retain(|_, record| is_kept(record, now)).map_err(io)?;
        table.len().map_err(io)?
    };
    let swept = rows::prepare(&write)?;
    write.commit().map_err(io)?;
    Ok(Begun { position, records: usize::try_from(records).unwrap_or(0), swept })
}

fn page(database: &Database, after: u64) -> Result<Vec<Revoked>, StoreError> {
    let read = database.begin_read().map_err(io)?;
    let table = read.open_table(REVOCATIONS).map_err(io)?;
    let mut records = Vec::new();
    for entry in table.range(after.saturating_add(1)..).map_err(io)?.take(PAGE) {
        let (position, record) = entry.map_err(io)?;
        let entry = revocation_record::decode(record.value()).ok_or(StoreError::UnknownRecord)?;
        records.push(Revoked { position: position.value(), entry });
    }
    Ok(records)
}

/// A record that cannot be read is kept: only one that is known to be over may go.
fn is_kept(record: &[u8], now: Timestamp) -> bool {
    revocation_record::until(record).is_none_or(|until| until.plus(GRACE) >= now)
}

pub(super) fn io(fault: impl std::fmt::Display) -> StoreError {
    StoreError::Io(fault.to_string())
}
