//! The log of revocations: a stream, whose ids are positions. A server that takes over may lack what the one before it
//! had acknowledged; so the log says whose history it is, and positions never come again.

use super::confirm::Wait;
use super::link::{Call, RedisLink};
use super::{LinkSettings, probe};
use crate::domain::{StatusRow, Timestamp};
use crate::store::{Begun, Entry, GRACE, Page, Place, ROW_GRACE, Revoked, StoreError, revocation_record, status_row};
use redis::{FromRedisValue as _, Script, Value, cmd};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/begin.lua")));
static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/append.lua")));
static SWEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/sweep.lua")));
static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/check.lua")));

/// How long to listen to the log before the history is checked again.
const LISTEN: Duration = Duration::from_millis(200);
/// Limit of records in one read.
const AT_ONCE: usize = 1_000;
/// Interval at which a server has to confirm that it is not cut off, and expired records are dropped.
const TENDED_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Log {
    /// A connection of its own: who listens keeps it busy.
    listening: RedisLink,
    settings: Arc<LinkSettings>,
    /// The history that was read.
    history: Mutex<String>,
    tended: Mutex<Option<Instant>>,
}

impl Log {
    pub(super) fn new(settings: Arc<LinkSettings>) -> Result<Self, StoreError> {
        let listening = RedisLink::new(&settings, 1, settings.timeout + LISTEN)?;
        let (history, tended) = (Mutex::default(), Mutex::default());
        Ok(Self { listening, settings, history, tended })
    }

    /// The confirmation of the listener's writes by replicas, if it is required.
    pub(super) fn waits(&self) -> Option<&Wait> {
        self.listening.waits()
    }

    fn key(&self, name: &str) -> String {
        format!("{}{{log}}:{name}", self.settings.prefix)
    }

    fn history(&self) -> String {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn append(&self, link: &RedisLink, entry: &Entry) -> Result<u64, StoreError> {
        let end = entry.until.plus(GRACE);
        self.add(link, ("record", "ends"), revocation_record::encode(entry), end).await
    }

    pub(super) async fn keep(&self, link: &RedisLink, row: &StatusRow) -> Result<(), StoreError> {
        let end = row.until.plus(ROW_GRACE);
        self.add(link, ("row", "row_ends"), status_row::encode(row), end).await.map(drop)
    }

    /// Adds `bytes`, which may go after `end`. Gives the position of the last record.
    async fn add(
        &self,
        link: &RedisLink,
        (what, ends): (&str, &str),
        bytes: Vec<u8>,
        end: Timestamp,
    ) -> Result<u64, StoreError> {
        let call = Call::new(&APPEND).key(self.key("state")).key(self.key("records")).key(self.key(ends));
        let call = call.arg(self.history()).arg(what).arg(bytes).arg(end.seconds());
        let position: String = link.write(call).await?;
        position.parse().map_err(|_| StoreError::UnknownRecord)
    }

    /// Drops some records that have expired at `now`, by the server's clock too. Returns true if there may be more.
    /// Replicas need not confirm it.
    pub(super) async fn sweep(&self, link: &RedisLink, now: Timestamp) -> Result<bool, StoreError> {
        let call = Call::new(&SWEEP).key(self.key("records")).key(self.key("ends")).key(self.key("row_ends"));
        let gone: usize = link.ask(call.arg(now.seconds()).arg(AT_ONCE)).await?;
        Ok(gone >= AT_ONCE)
    }

    /// Begins to read the log: whose history it is, and where it stands; positions go on from beyond `known`.
    pub(super) async fn begin(&self, link: &RedisLink, known: u64) -> Result<Begun, StoreError> {
        let begin = Call::new(&BEGIN).key(self.key("state")).key(self.key("ends")).arg(known.to_string());
        let (history, position, records): (String, String, usize) = link.write(begin).await?;
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = history;
        let position = position.parse().map_err(|_| StoreError::UnknownRecord)?;
        Ok(Begun { position, records, swept: i64::MIN })
    }

    /// Some of what comes after `after`.
    pub(super) async fn page(&self, link: &RedisLink, after: Place) -> Result<Page, StoreError> {
        let mut read = cmd("XRANGE");
        let Place { position, row } = after;
        read.arg(self.key("records")).arg(format!("({position}-{row}")).arg("+").arg("COUNT").arg(AT_ONCE);
        let some: Vec<Value> = link.with(async |mut handle| read.query_async(&mut handle).await).await?;
        some.into_iter().try_fold(Page { last: after, ..Page::default() }, add)
    }

    /// Waits for what was added after `place`, and returns nothing after a while.
    pub(super) async fn follow(&self, place: Place, now: Timestamp) -> Result<Page, StoreError> {
        let mut listen = cmd("XREAD");
        let wait = u64::try_from(LISTEN.as_millis()).unwrap_or(u64::MAX);
        listen.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(wait).arg("STREAMS");
        listen.arg(self.key("records")).arg(format!("{}-{}", place.position, place.row));
        let heard: Value = self.listening.with(async |mut handle| listen.query_async(&mut handle).await).await?;
        self.check(now).await?;
        let mut heard = entries(heard)?.into_iter().try_fold(Page { last: place, ..Page::default() }, add)?;
        let mut whole = heard.len() < AT_ONCE;
        while !whole {
            let more = self.page(&self.listening, heard.last).await?;
            whole = more.len() < AT_ONCE;
            heard.records.extend(more.records);
            heard.rows.extend(more.rows);
            heard.last = more.last;
        }
        Ok(heard)
    }

    /// After what was heard: it is of the history that was read, by a server that is not cut off.
    async fn check(&self, over: Timestamp) -> Result<(), StoreError> {
        let is_due = {
            let tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
            tended.is_none_or(|at| at.elapsed() >= TENDED_EVERY)
        };
        if is_due && self.waits().is_some() {
            self.confirm(&self.listening).await?;
        } else {
            self.judge(&self.listening.ask(Call::new(&CHECK).key(self.key("state")).arg("0")).await?)?;
        }
        if is_due {
            *self.tended.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
            // By itself: a server that is full takes nothing else.
            if let Err(fault) = self.sweep(&self.listening, over).await {
                tracing::warn!(%fault, "expired records are not dropped");
            }
        }
        Ok(())
    }

    /// Writes something, as durably as everything: then what was written before it is durable too.
    pub(super) async fn confirm(&self, link: &RedisLink) -> Result<(), StoreError> {
        self.judge(&link.write(Call::new(&CHECK).key(self.key("state")).arg("1")).await?)
    }

    fn judge(&self, (history, replicas): &(String, u32)) -> Result<(), StoreError> {
        if *history != self.history() {
            // The server that took over is found by a new connection.
            self.listening.give_up();
            return Err(StoreError::History);
        }
        probe::promotable(*replicas, &self.settings)
    }
}

/// The entries of the one stream that `XREAD` gives, which is nothing, or an array, or a map in newer protocols.
fn entries(heard: Value) -> Result<Vec<Value>, StoreError> {
    let streams: Vec<(String, Vec<Value>)> = match heard {
        Value::Nil => Vec::new(),
        heard => Vec::from_redis_value(heard).map_err(|fault| StoreError::Io(fault.to_string()))?,
    };
    Ok(streams.into_iter().flat_map(|(_, entries)| entries).collect())
}

/// Adds one entry of the stream: its id, and one field. A record is the first of its position, and rows come after it.
fn add(mut page: Page, entry: Value) -> Result<Page, StoreError> {
    let (id, [_, bytes]): (String, [Vec<u8>; 2]) = <(String, Vec<Vec<u8>>)>::from_redis_value(entry)
        .ok()
        .and_then(|(id, fields)| Some((id, fields.try_into().ok()?)))
        .ok_or(StoreError::UnknownRecord)?;
    let place = id
        .split_once('-')
        .and_then(|(position, row)| Some(Place { position: position.parse().ok()?, row: row.parse().ok()? }));
    page.last = place.ok_or(StoreError::UnknownRecord)?;
    if page.last.row == 0 {
        let entry = revocation_record::decode(&bytes).ok_or(StoreError::UnknownRecord)?;
        page.records.push(Revoked { position: page.last.position, entry });
    } else {
        page.rows.push(status_row::decode(&bytes).ok_or(StoreError::UnknownRecord)?);
    }
    Ok(page)
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn now() -> Instant {
    Instant::now()
}
