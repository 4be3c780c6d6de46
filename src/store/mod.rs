//! The stores of what outlives a request, behind narrow traits. Nothing here decides. A store that cannot answer
//! returns an error, never a guess. `embedded` serves one machine, `redis` is shared by several brokers. Every
//! implementation passes `tests/it/store.rs`.

mod embedded;
mod first_use;
mod head;
mod key_record;
mod redis;
mod revocation_record;
mod rows;
mod status_row;
mod tasks;

pub use embedded::Embedded;
use head::HeadFile;
pub use head::audit_head;
pub use redis::{Durability, LinkSettings, Mode, Redis};

use crate::domain::{
    ChainHead, FirstUse, FirstUses, KeyRecord, Lifetime, StatusRow, TaskRecord, TaskState, Timestamp, UsedOnce,
};
pub use countersign_verify::revocation::Act;
use countersign_verify::revocation::{Kind, Name, Record};
use serde::{Deserialize, Serialize};
use std::pin::Pin;

/// An answer that may take a round trip.
pub type StoreAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The store could not answer. The broker answers 503 for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("the store cannot be used: {0}")]
    Io(String),
    /// Another broker has it open.
    #[error("the store is in use by another process")]
    InUse,
    /// A record is not one that this version reads, so what it revokes is not known.
    #[error("the store holds a record that this version cannot read; run the version that wrote it")]
    UnknownRecord,
    /// It was written by a newer version.
    #[error(
        "the store has format {0}, and this version reads formats up to {1}; run the version that wrote it, or restore a backup from before that version"
    )]
    Newer(u64, u64),
    /// The limit of replay guards is reached.
    #[error("the limit of replay guards is reached: too many assertions that count once are in force")]
    Full,
    /// The limit of open tasks is reached.
    #[error("the limit of open tasks is reached, for this workload or in total")]
    TooManyTasks,
    /// The limit of tokens with a status list entry is reached.
    #[error("every status list entry is in use: too many tokens are in force")]
    TooManyRows,
    /// A server would lose what it is given, or is not what it is configured as.
    #[error("the server of the store is not suitable: {0}")]
    Unfit(String),
    /// Another server has taken over, and may lack what the one before it had.
    #[error("another server has taken over the store, and this replica is reading its log; try again")]
    History,
    /// The shared log could not be read for too long, so that the revocations of other brokers are not known.
    #[error("the revocation log could not be read for longer than `revocation.max_staleness`")]
    Stale,
    /// Somebody else may have changed the keys meanwhile.
    #[error("the lease of the signing keys has expired; try again")]
    LeaseLost,
}

/// Things that can be used a number of times: assertions and proofs once, a task as often as its budget allows.
/// Concurrent callers never exceed the limit.
pub trait Reservations: Send + Sync {
    /// Claims all of `reservation`, or nothing of it. Where it fails, it may be used up.
    fn reserve(&self, reservation: Reservation, now: Timestamp) -> StoreAnswer<'_, Reserved>;

    /// Takes back what [`Reserved::Whole`] said was reserved, in this place of the task's budget, and for which nothing
    /// was issued.
    fn release(&self, reservation: Reservation, slot: u32) -> StoreAnswer<'_, ()>;

    /// Returns the number of replay guards that this replica holds itself.
    fn count(&self) -> usize;
}

/// The uses that one request reserves, all or none: replay guards, and one token of a task's budget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Each at most once.
    pub first_uses: FirstUses,
    /// A token of a task.
    pub budget: Option<BudgetUse>,
}

impl From<FirstUse> for Reservation {
    fn from(first_use: FirstUse) -> Self {
        Self { first_uses: [first_use].into_iter().collect(), budget: None }
    }
}

/// The result of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// All of it is reserved. A token of a task is this one of its budget, from 1; 0 where it has none.
    Whole(u32),
    /// This was used before.
    Used(UsedOnce),
    /// The task's budget is used up.
    BudgetSpent,
    /// The task was idle for too long.
    Idle,
    /// The store knows no such task.
    UnknownTask,
}

/// The log of revocations: append-only, in one order. With it goes what tokens with an entry of a status list can be
/// revoked by.
pub trait RevocationLog: Send + Sync {
    /// Appends a record durably and returns its position. Fails with [`StoreError::History`] if
    /// the log is not the one that was begun.
    fn append(&self, entry: Entry, now: Timestamp) -> StoreAnswer<'_, u64>;

    /// Keeps a row as an entry is kept, until a while after it is over.
    fn keep(&self, row: StatusRow, now: Timestamp) -> StoreAnswer<'_, ()>;

    /// Begins to read the log, and drops records that expired before `now` minus a margin: a clock that is ahead for a
    /// moment must lose nothing. The last position that comes back is never one that was given for another record, as
    /// far as they are `known`.
    fn begin(&self, known: u64, now: Timestamp) -> StoreAnswer<'_, Begun>;

    /// The first of what comes after a place; nothing where there is no more.
    fn page(&self, after: Place) -> StoreAnswer<'_, Page>;

    /// Waits for what was added after `place`, and returns nothing after a while. Drops what has expired at `now`.
    /// Fails with [`StoreError::History`] if the log is not the one that was begun.
    fn follow(&self, place: Place, now: Timestamp) -> StoreAnswer<'_, Page>;

    /// Ends when everything that was ever read of the log is durable: a record that was followed may not be, yet.
    fn confirm(&self) -> StoreAnswer<'_, ()>;
}

/// A log that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The last position.
    pub position: u64,
    /// Number of records.
    pub records: usize,
    /// The latest time at which rows were dropped by this broker's clock, in seconds since 1970; the least number if
    /// none were.
    pub swept: i64,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The position of the last record.
    pub position: u64,
    /// The last row after it, as the store counts them.
    pub row: u64,
}

/// Some of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its records, in order.
    pub records: Vec<Revoked>,
    /// Its rows.
    pub rows: Vec<StatusRow>,
    /// The end of the page; the place it was asked for if the page is empty.
    pub last: Place,
}

impl Page {
    /// Returns the number of records and rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len() + self.rows.len()
    }

    /// Returns true if there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The right to change what only one replica at a time may change.
pub trait Leases: Send + Sync {
    /// Takes it under the name of `lease`, which nobody else has; none where another one holds it. It ends by itself.
    fn take(&self, lease: Lease) -> StoreAnswer<'_, Option<Lease>>;

    /// Gives the lease back.
    fn let_go(&self, lease: Lease) -> StoreAnswer<'_, ()>;
}

/// A lease that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease(String);

impl Lease {
    /// A lease under a name that nobody else has.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tasks that were opened.
pub trait TaskRecords: Send + Sync {
    /// Keeps `task`, synced to disk first.
    fn open(&self, task: TaskRecord, now: Timestamp) -> StoreAnswer<'_, ()>;

    /// Deletes a task whose token nobody got.
    fn forget(&self, id: &str) -> StoreAnswer<'_, ()>;

    /// Every task whose deadline lies ahead.
    fn list(&self, now: Timestamp) -> StoreAnswer<'_, Vec<TaskState>>;
}

/// The use of one token of a task's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The task's id.
    pub task: String,
    /// The longest time for which the task may be idle before it ends.
    pub idle: Lifetime,
    /// The token's expiry: a task is not idle while it has a token.
    pub until: Timestamp,
}

/// Remembers where this replica's audit chain stands, away from the chain itself: lines that are cut off its end show.
pub trait AuditHeads: Send + Sync {
    /// Remembers `head`. Called with each event, so it must not wait for a disk or a network.
    ///
    /// # Errors
    /// [`StoreError`] when it is not kept.
    fn keep(&self, head: &ChainHead) -> Result<(), StoreError>;

    /// The head that was kept last.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn kept(&self) -> Result<Option<ChainHead>, StoreError>;
}

/// The records of the broker's own keys. They hold no secret.
pub trait KeyRecords: Leases {
    /// Every record.
    fn read(&self) -> StoreAnswer<'_, Vec<KeyRecord>>;

    /// Replaces every record durably, all or none. Only the holder of the lease may.
    fn write(&self, records: &[KeyRecord], lease: &Lease) -> StoreAnswer<'_, ()>;

    /// Says that this replica publishes the keys with these ids, and gives those of every replica that is ready, each a
    /// list.
    fn publish(&self, kids: &[String]) -> StoreAnswer<'_, Vec<Vec<String>>>;
}

/// Limit of open tasks, about a kilobyte each.
const MAX_TASKS: usize = 50_000;
/// Limit of open tasks of one workload.
const MAX_OF_ONE: usize = 1_000;
/// How many seconds longer than it can hit something a record is stored: a clock that jumps ahead for a moment must
/// lose nothing.
const GRACE: i64 = 86_400;
/// The same of a row, which nobody looks at once its token is over.
const ROW_GRACE: i64 = 300;

/// A record of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The position in the log, from 1.
    pub position: u64,
    /// The entry.
    pub entry: Entry,
}

/// The content of a record of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of what is revoked.
    pub name: Name,
    /// Until when it can hit something.
    pub until: Timestamp,
    /// Revoke, suspend or resume.
    pub act: Act,
    /// Details for people.
    pub about: About,
}

impl Entry {
    /// An entry about what is named `id` of `kind`.
    #[must_use]
    pub fn new(kind: Kind, id: &str, act: Act, until: Timestamp, about: About) -> Self {
        let about = About { kind: kind.name().to_owned(), id: id.to_owned(), ..about };
        Self { name: Name::new(kind, id), until, act, about }
    }
}

impl Entry {
    /// Returns the part of the entry that each check needs.
    #[must_use]
    pub fn record(&self) -> Record {
        Record { name: self.name, until: self.until.seconds(), act: self.act }
    }

    /// Returns true if the entry names a single thing that is never issued again.
    #[must_use]
    pub fn is_of_one(&self) -> bool {
        [Kind::Token, Kind::Key, Kind::Task].iter().any(|kind| kind.name() == self.about.kind)
    }
}

/// Details of a record, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The kind of what is named.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Why, in the words of who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The actor: a client, the presenter of the token, or an operator by uid.
    pub by: String,
    /// Time of the act, in seconds since 1970.
    pub at: i64,
    /// The decision.
    pub decision: String,
}
