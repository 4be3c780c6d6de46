//! The store that several brokers share: Redis, as one server, watched by Sentinels, or as a cluster. What is written
//! in one step is a script; nothing is answered for that a server has not confirmed, as durably as is asked for.

mod confirm;
mod link;
mod log;
mod probe;
mod settings;

pub use settings::{Durability, LinkSettings, Mode};

use super::{
    AuditHeads, Begun, Entry, HeadFile, KeyRecords, Lease, Leases, MAX_OF_ONE, MAX_TASKS, Page, Place, Reservation,
    Reservations, Reserved, RevocationLog, StoreAnswer, StoreError, TaskRecords, key_record,
};
use crate::domain::{ChainHead, FirstUse, KeyRecord, StatusRow, TaskRecord, TaskState, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use link::{Call, RedisLink};
use log::Log;
use redis::{Script, cmd};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/reserve.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));
static ADMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/admit.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/forget.lua")));
static KEYS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/keys.lua")));
static LET_GO: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/let_go.lua")));
static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/publish.lua")));

/// Longest duration of a lease, in milliseconds: longer than making a key takes.
const LEASE: u64 = 10_000;
/// A replica counts as ready for this many seconds after its last sign of life.
const HEARD_OF: u32 = 10;
/// Limit of tasks in one read.
const TASKS_AT_ONCE: usize = 500;

/// The shared store, as one replica sees it.
pub struct Redis {
    link: RedisLink,
    log: Log,
    settings: Arc<LinkSettings>,
    /// This replica's name.
    replica: String,
    /// A random number that tells this process's reservations from all others.
    own: u64,
    reservations: AtomicU64,
    head: HeadFile,
}

impl Redis {
    /// The store behind `settings`, for the replica of this name, which keeps what is its own in `directory`. Nothing
    /// is asked of a server yet.
    ///
    /// # Errors
    /// [`StoreError`] when the settings cannot be used.
    pub fn new(settings: LinkSettings, replica: &str, directory: &Path) -> Result<Self, StoreError> {
        let settings = Arc::new(settings);
        let link = RedisLink::new(&settings, settings.connections, settings.timeout)?;
        let log = Log::new(Arc::clone(&settings))?;
        let own = RandomState::new().hash_one(replica);
        let (replica, reservations, head) = (replica.to_owned(), AtomicU64::default(), HeadFile::open(directory)?);
        Ok(Self { link, log, settings, replica, own, reservations, head })
    }

    /// The key of something; what is in braces says what lies together in a cluster.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.settings.prefix)
    }

    fn mark(&self, mark: &FirstUse) -> String {
        let mut key = String::with_capacity(self.settings.prefix.len() + 27);
        key.push_str(&self.settings.prefix);
        key.push_str("used:");
        URL_SAFE_NO_PAD.encode_string(mark.key.to_bytes(), &mut key);
        key
    }

    fn task(&self, id: &str) -> String {
        self.key(&format!("task:{id}"))
    }

    fn lease(&self) -> String {
        self.key("{keys}:lease")
    }

    async fn reserve_at_once(&self, reservation: &Reservation, now: Timestamp) -> Result<Reserved, StoreError> {
        let first_uses: Vec<&FirstUse> = reservation.first_uses.iter().collect();
        let call = first_uses.iter().fold(Call::new(&RESERVE), |call, mark| call.key(self.mark(mark)));
        let call =
            first_uses.iter().fold(call.arg(first_uses.len()), |call, mark| call.arg(milliseconds(mark.until, now)));
        let call = call.arg(format!("{:x}-{:x}", self.own, self.reservations.fetch_add(1, Ordering::Relaxed)));
        let call = match &reservation.budget {
            None => call,
            Some(spent) => {
                let call = call.key(self.task(&spent.task));
                call.arg(now.seconds()).arg(spent.idle.seconds()).arg(spent.until.seconds())
            }
        };
        let (done, number): (String, u32) = self.link.write(call).await?;
        let place = usize::try_from(number).ok().and_then(|number| first_uses.get(number.checked_sub(1)?));
        Ok(match (done.as_str(), place) {
            ("whole", _) => Reserved::Whole(number),
            ("used", Some(first_use)) => Reserved::Used(first_use.of),
            ("budget", _) => Reserved::BudgetSpent,
            ("idle", _) => Reserved::Idle,
            ("unknown", _) => Reserved::UnknownTask,
            _ => return Err(StoreError::UnknownRecord),
        })
    }

    /// Reserves as [`Redis::reserve_at_once`] does, where the keys lie on several servers: each by itself, at the same
    /// time. The parts of an incomplete reservation are released.
    async fn reserve_each(&self, reservation: &Reservation, now: Timestamp) -> Result<Reserved, StoreError> {
        let single = |part: Reservation| async move { self.reserve_at_once(&part, now).await };
        let mut parts: Vec<Reservation> = reservation.first_uses.iter().copied().map(Reservation::from).collect();
        parts.extend(
            reservation.budget.clone().map(|budget| Reservation { budget: Some(budget), ..Reservation::default() }),
        );
        let done = join_all(parts.iter().cloned().map(single)).await;
        let Some(refused) = done.iter().find(|done| !matches!(done, Ok(Reserved::Whole(_)))).cloned() else {
            let slot = done.last().map_or(0, |last| if let Ok(Reserved::Whole(slot)) = last { *slot } else { 0 });
            return Ok(Reserved::Whole(slot));
        };
        for (part, done) in parts.into_iter().zip(&done) {
            if let Ok(Reserved::Whole(_)) = done
                && let Err(fault) = self.release_at_once(&part).await
            {
                tracing::error!(%fault, "what was reserved of a reservation that is not whole counts as used");
            }
        }
        refused
    }

    async fn release_at_once(&self, reservation: &Reservation) -> Result<(), StoreError> {
        let first_uses: Vec<&FirstUse> = reservation.first_uses.iter().collect();
        let call = first_uses.iter().fold(Call::new(&RELEASE), |call, mark| call.key(self.mark(mark)));
        let call = reservation.budget.iter().fold(call, |call, spent| call.key(self.task(&spent.task)));
        self.link.write(call.arg(first_uses.len())).await
    }
}

/// Returns the lifetime of a replay guard, in milliseconds. The last second counts.
fn milliseconds(until: Timestamp, now: Timestamp) -> i64 {
    until.since(now).max(0).saturating_add(1).saturating_mul(1_000)
}

impl Reservations for Redis {
    fn reserve(&self, reservation: Reservation, now: Timestamp) -> StoreAnswer<'_, Reserved> {
        Box::pin(async move {
            match self.settings.mode {
                Mode::Cluster => self.reserve_each(&reservation, now).await,
                Mode::Standalone | Mode::Sentinel { .. } => self.reserve_at_once(&reservation, now).await,
            }
        })
    }

    fn release(&self, reservation: Reservation, _slot: u32) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            if self.settings.mode != Mode::Cluster {
                return self.release_at_once(&reservation).await;
            }
            let mut parts: Vec<Reservation> = reservation.first_uses.iter().copied().map(Reservation::from).collect();
            parts.extend(
                reservation.budget.map(|budget| Reservation { budget: Some(budget), ..Reservation::default() }),
            );
            let all = join_all(parts.iter().map(|part| self.release_at_once(part))).await;
            all.into_iter().collect()
        })
    }

    fn count(&self) -> usize {
        0
    }
}

impl RevocationLog for Redis {
    fn append(&self, entry: Entry, _now: Timestamp) -> StoreAnswer<'_, u64> {
        Box::pin(async move { self.log.append(&self.link, &entry).await })
    }

    fn keep(&self, row: StatusRow, _now: Timestamp) -> StoreAnswer<'_, ()> {
        Box::pin(async move { self.log.keep(&self.link, &row).await })
    }

    fn begin(&self, known: u64, now: Timestamp) -> StoreAnswer<'_, Begun> {
        Box::pin(async move {
            let on_disk = probe::probe(&self.link, &self.settings).await?;
            self.link.waits().into_iter().chain(self.log.waits()).for_each(|wait| wait.on_disk(on_disk));
            while self.log.sweep(&self.link, now).await? {}
            self.log.begin(&self.link, known).await
        })
    }

    fn page(&self, after: Place) -> StoreAnswer<'_, Page> {
        Box::pin(self.log.page(&self.link, after))
    }

    fn follow(&self, place: Place, now: Timestamp) -> StoreAnswer<'_, Page> {
        Box::pin(self.log.follow(place, now))
    }

    fn confirm(&self) -> StoreAnswer<'_, ()> {
        Box::pin(self.log.confirm(&self.link))
    }
}

impl TaskRecords for Redis {
    fn open(&self, task: TaskRecord, now: Timestamp) -> StoreAnswer<'_, ()> {
        Box::pin(async move {
            let record = serde_json::to_string(&task).map_err(|fault| StoreError::Io(fault.to_string()))?;
            let admit = Call::new(&ADMIT).key(self.key("{tasks}:all")).key(self.of(&task.workload));
            let admit = admit.arg(now.seconds()).arg(&task.id).arg(task.deadline).arg(MAX_TASKS).arg(MAX_OF_ONE);
            if self.link.write::<u8>(admit).await? == 0 {
                return Err(StoreError::TooManyTasks);
            }
            let key = self.task(&task.id);
            let mut keep = redis::pipe();
            let fields =
                [("record", record), ("budget", task.budget.unwrap_or(0).to_string()), ("used", "0".to_owned())];
            let times = [("last_used", now.seconds()), ("idle_since", now.seconds())];
            keep.atomic().hset_multiple(&key, &fields).ignore().hset_multiple(&key, &times).ignore();
            let seconds = task.deadline.saturating_sub(now.seconds()).max(1);
            keep.expire(&key, seconds).ignore();
            let kept = self.link.pipeline(keep, &key).await;
            if kept.is_err() {
                // Where this fails too, its place is free when its deadline has passed.
                let _ = self.give_up_place(&task.id, &task.workload).await;
            }
            kept
        })
    }

    fn forget(&self, id: &str) -> StoreAnswer<'_, ()> {
        let key = self.task(id);
        let id = id.to_owned();
        Box::pin(async move {
            let mut read = cmd("HGET");
            read.arg(&key).arg("record");
            let record: Option<Vec<u8>> =
                self.link.with(async |mut handle| read.query_async(&mut handle).await).await?;
            if let Some(task) = record.and_then(|record| serde_json::from_slice::<TaskRecord>(&record).ok()) {
                self.give_up_place(&id, &task.workload).await?;
            }
            let mut gone = cmd("DEL");
            self.link.command(gone.arg(&key).to_owned(), &key).await
        })
    }

    fn list(&self, now: Timestamp) -> StoreAnswer<'_, Vec<TaskState>> {
        Box::pin(async move {
            let mut all = cmd("ZRANGE");
            all.arg(self.key("{tasks}:all")).arg(format!("({}", now.seconds())).arg("+inf").arg("BYSCORE");
            let ids: Vec<String> = self.link.with(async |mut handle| all.query_async(&mut handle).await).await?;
            let mut tasks = Vec::with_capacity(ids.len());
            for some in ids.chunks(TASKS_AT_ONCE) {
                let read = some.iter().map(|id| {
                    let mut read = cmd("HGETALL");
                    read.arg(self.task(id));
                    self.link.with(async move |mut handle| read.query_async(&mut handle).await)
                });
                for fields in join_all(read).await {
                    let fields: HashMap<String, String> = fields?;
                    // Over since the list was read.
                    if !fields.is_empty() {
                        tasks.push(task_state(&fields)?);
                    }
                }
            }
            Ok(tasks)
        })
    }
}

impl Redis {
    async fn give_up_place(&self, id: &str, workload: &str) -> Result<(), StoreError> {
        let call = Call::new(&FORGET).key(self.key("{tasks}:all")).key(self.of(workload)).arg(id);
        self.link.write(call).await
    }

    fn of(&self, workload: &str) -> String {
        let digest = crate::domain::Digest::of("workload", &[workload]).to_bytes();
        self.key(&format!("{{tasks}}:of:{}", URL_SAFE_NO_PAD.encode(digest)))
    }
}

fn task_state(fields: &HashMap<String, String>) -> Result<TaskState, StoreError> {
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<i64>().ok());
    let time = |name: &str| number(name).and_then(Timestamp::new).ok_or(StoreError::UnknownRecord);
    let record = fields.get("record").and_then(|record| serde_json::from_str(record).ok());
    Ok(TaskState {
        record: record.ok_or(StoreError::UnknownRecord)?,
        used: number("used").and_then(|used| u32::try_from(used).ok()).ok_or(StoreError::UnknownRecord)?,
        last_used: time("last_used")?,
        idle_since: time("idle_since")?,
    })
}

impl Leases for Redis {
    fn take(&self, lease: Lease) -> StoreAnswer<'_, Option<Lease>> {
        Box::pin(async move {
            let mut take = cmd("SET");
            take.arg(self.lease()).arg(lease.as_str()).arg("NX").arg("PX").arg(LEASE);
            let taken: Option<String> = self.link.command(take, &self.lease()).await?;
            Ok(taken.map(|_| lease))
        })
    }

    fn let_go(&self, lease: Lease) -> StoreAnswer<'_, ()> {
        let call = Call::new(&LET_GO).key(self.lease()).arg(lease.as_str());
        Box::pin(async move { self.link.ask(call).await })
    }
}

impl KeyRecords for Redis {
    fn read(&self) -> StoreAnswer<'_, Vec<KeyRecord>> {
        Box::pin(async move {
            let mut read = cmd("HVALS");
            read.arg(self.key("{keys}:records"));
            let records: Vec<Vec<u8>> = self.link.with(async |mut handle| read.query_async(&mut handle).await).await?;
            records.iter().map(|record| key_record::decode(record)).collect()
        })
    }

    fn write(&self, records: &[KeyRecord], lease: &Lease) -> StoreAnswer<'_, ()> {
        let mut call = Call::new(&KEYS).key(self.lease()).key(self.key("{keys}:records")).arg(lease.as_str());
        let encoded: Result<Vec<_>, _> =
            records.iter().map(|record| Ok((record.kid.clone(), key_record::encode(record)?))).collect();
        Box::pin(async move {
            for (kid, record) in encoded? {
                call = call.arg(kid).arg(record);
            }
            match self.link.write(call).await? {
                1_u8 => Ok(()),
                _ => Err(StoreError::LeaseLost),
            }
        })
    }

    fn publish(&self, kids: &[String]) -> StoreAnswer<'_, Vec<Vec<String>>> {
        let call = Call::new(&PUBLISH).key(self.key("{keys}:replicas"));
        let call = call.arg(&self.replica).arg(kids.join(" ")).arg(HEARD_OF);
        Box::pin(async move {
            let ready: Vec<String> = self.link.ask(call).await?;
            Ok(ready.iter().map(|kids| kids.split(' ').map(str::to_owned).collect()).collect())
        })
    }
}

impl AuditHeads for Redis {
    fn keep(&self, head: &ChainHead) -> Result<(), StoreError> {
        self.head.keep(head)
    }

    fn kept(&self) -> Result<Option<ChainHead>, StoreError> {
        self.head.kept()
    }
}
