//! What has to outlive a request, behind narrow traits. Nothing here decides; what a store cannot answer for is an error,
//! and never a guess. `embedded` serves one machine, `redis` is shared by several brokers. Every implementation passes
//! `tests/it/store.rs`.

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
pub use redis::{Durability, Mode, Redis, Settings};

use crate::domain::{ChainHead, FirstUse, KeyRecord, Lifetime, StatusRow, TaskRecord, TaskState, Timestamp};
pub use countersign_verify::revocation::Act;
use countersign_verify::revocation::{Kind, Name, Record};
use serde::{Deserialize, Serialize};
use std::pin::Pin;

/// An answer that may take a round trip.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

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
    /// As many first-use first_uses as it may hold are alive.
    #[error("the limit of replay guards is reached: too many assertions that count once are in force")]
    Full,
    /// As many tasks as may be are open.
    #[error("the limit of open tasks is reached, for this workload or in total")]
    TooManyTasks,
    /// As many tokens of targets with a status list as may be are alive.
    #[error("every status list entry is in use: too many tokens are in force")]
    TooManyRows,
    /// A server would lose what it is given, or is not what it is configured as.
    #[error("the server of the store is not suitable: {0}")]
    Unfit(String),
    /// Another server has taken over, and may lack what the one before it had.
    #[error("another server has taken over the store, and this replica is reading its log; try again")]
    History,
    /// What others have revoked is not known, because the shared log was not heard of for too long.
    #[error("the revocation log could not be read for longer than `revocation.max_staleness`")]
    Stale,
    /// Somebody else may have changed the keys meanwhile.
    #[error("the lease of the signing keys has expired; try again")]
    LeaseLost,
}

/// What can be used a number of times: assertions and proofs once, a task as often as its budget says. Whoever asks at the
/// same time, nothing is used once more than that.
pub trait Reservations: Send + Sync {
    /// Claims all of `reservation`, or nothing of it. Where it fails, it may be used up.
    fn reserve(&self, reservation: Reservation, now: Timestamp) -> Answer<'_, Reserved>;

    /// Takes back what [`Reserved::Whole`] said was reserved, in this place of the task's budget, and for which nothing was
    /// issued.
    fn release(&self, reservation: Reservation, slot: u32) -> Answer<'_, ()>;

    /// How many first_uses this replica holds itself.
    fn count(&self) -> usize;
}

/// What is to be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Each at most once.
    pub first_uses: [Option<FirstUse>; 3],
    /// A token of a task.
    pub budget: Option<BudgetUse>,
}

impl From<FirstUse> for Reservation {
    fn from(mark: FirstUse) -> Self {
        Self { first_uses: [Some(mark), None, None], budget: None }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// All of it is reserved. A token of a task is this one of its budget, from 1; 0 where it has none.
    Whole(u32),
    /// The mark in this place was set before.
    Used(usize),
    /// The task's budget is used up.
    BudgetSpent,
    /// The task was idle for too long.
    Idle,
    /// The store knows no such task.
    UnknownTask,
}

/// The log of revocations: append-only, in one order. With it goes what tokens with an entry of a status list can be revoked by.
pub trait RevocationLog: Send + Sync {
    /// Appends a record; what comes back is its position. It is kept for good first. Fails with [`StoreError::History`] where
    /// the log is not the one that was begun.
    fn append(&self, entry: Entry, now: Timestamp) -> Answer<'_, u64>;

    /// Keeps a row as an entry is kept, until a while after it is over.
    fn keep(&self, row: StatusRow, now: Timestamp) -> Answer<'_, ()>;

    /// Begins to read the log, and lets go of what could hit nothing at `now` nor a little earlier: a clock that is ahead for a
    /// moment must lose nothing. The last position that comes back is never one that was given for another record, as far as they
    /// are `known`.
    fn begin(&self, known: u64, now: Timestamp) -> Answer<'_, Begun>;

    /// The first of what comes after a place; nothing where there is no more.
    fn page(&self, after: Place) -> Answer<'_, Page>;

    /// What was added after `place`, as soon as there is something, or nothing after a while; what is over at `now` is let go
    /// of meanwhile. Fails with
    /// [`StoreError::History`] where the log is not the one that was begun.
    fn follow(&self, place: Place, now: Timestamp) -> Answer<'_, Page>;

    /// Ends when everything that was ever seen of the log is kept for good: what was followed may not have been, yet.
    fn confirm(&self) -> Answer<'_, ()>;
}

/// A log that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The last position.
    pub position: u64,
    /// How many records there are.
    pub records: usize,
    /// The latest time at which rows were let go of by this broker's clock, in seconds since 1970; the least where none were.
    pub swept: i64,
}

/// How far the log was read.
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
    /// Where it ends; the place it was asked for where there is nothing.
    pub last: Place,
}

impl Page {
    /// How much there is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len() + self.rows.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The right to change what only one replica at a time may change.
pub trait Leases: Send + Sync {
    /// Takes it under the name of `lease`, which nobody else has; none where another one holds it. It ends by itself.
    fn take(&self, lease: Lease) -> Answer<'_, Option<Lease>>;

    /// Gives it back.
    fn let_go(&self, lease: Lease) -> Answer<'_, ()>;
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
    fn open(&self, task: TaskRecord, now: Timestamp) -> Answer<'_, ()>;

    /// Lets go of a task whose token nobody got.
    fn forget(&self, id: &str) -> Answer<'_, ()>;

    /// Every task whose deadline lies ahead.
    fn list(&self, now: Timestamp) -> Answer<'_, Vec<TaskState>>;
}

/// What one token of a task needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The task's id.
    pub task: String,
    /// How long it may be idle before it is over.
    pub idle: Lifetime,
    /// When the token ends: a task is not idle while it has one.
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

/// What is known of the broker's own keys. Holds no secret.
pub trait KeyRecords: Leases {
    /// Every record.
    fn read(&self) -> Answer<'_, Vec<KeyRecord>>;

    /// Replaces every record, all at once or not at all, and for good; by who still holds the lease.
    fn write(&self, records: &[KeyRecord], lease: &Lease) -> Answer<'_, ()>;

    /// Says that this replica publishes the keys with these ids, and gives those of every replica that is ready, each a list.
    fn publish(&self, kids: &[String]) -> Answer<'_, Vec<Vec<String>>>;
}

/// How many tasks may be open, some kilobyte each.
const MAX_TASKS: usize = 50_000;
/// Of these, of one workload.
const MAX_OF_ONE: usize = 1_000;
/// How much longer than it can hit something a record is kept, in seconds: a clock that jumps ahead for a moment must lose
/// nothing.
const GRACE: i64 = 86_400;
/// The same of a row, which nobody looks at once its token is over.
const ROW_GRACE: i64 = 300;

/// One record of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Where it stands in the log, from 1.
    pub position: u64,
    /// What it says.
    pub entry: Entry,
}

/// What a record of the revocation log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub name: Name,
    /// Until when it can hit something.
    pub until: Timestamp,
    /// What it does.
    pub act: Act,
    /// What people want to know of it.
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
    /// What has to be known of it at each check.
    #[must_use]
    pub fn record(&self) -> Record {
        Record { name: self.name, until: self.until.seconds(), act: self.act }
    }

    /// Whether it names one thing that never comes again.
    #[must_use]
    pub fn is_of_one(&self) -> bool {
        [Kind::Token, Kind::Key, Kind::Task].iter().any(|kind| kind.name() == self.about.kind)
    }
}

/// What people want to know of a record.
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
    /// Who did it: a client, whoever presented the token, or an operator by his uid.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The decision.
    pub decision: String,
}
