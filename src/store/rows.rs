//! Rows of status lists on one machine: in redb, in the order in which they end. A sync takes milliseconds, so a caller
//! that waits for one takes along what others want synced.

use super::embedded::{LAST, Opened, PAGE, SWEEP, io};
use super::{ROW_GRACE, StoreError, status_row};
use crate::domain::{StatusRow, Timestamp};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The minute after its end and a number → a row.
const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("status_rows");
/// The key of the last number, in the table of last numbers.
const NUMBER: u8 = 1;
/// The key of the latest time at which rows were dropped.
const SWEPT: u8 = 2;

/// Rows that wait for a sync, each with the ticket of who wants it.
#[derive(Default)]
pub(super) struct Rows {
    waiting: Mutex<Vec<(u64, StatusRow)>>,
    tickets: AtomicU64,
}

impl Rows {
    /// Ends when `row` is on disk.
    pub(super) fn keep(&self, row: StatusRow, database: &Opened, now: Timestamp) -> Result<(), StoreError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting().push((ticket, row));
        let kept = database.with(|database| {
            let batch = std::mem::take(&mut *self.waiting());
            let is_own = |(other, _): &(u64, StatusRow)| *other == ticket;
            // Nobody else writes meanwhile: a row that does not wait any more is on disk.
            let done = if batch.iter().any(is_own) { write(database, &batch, now) } else { Ok(()) };
            if done.is_err() || !batch.iter().any(is_own) {
                self.waiting().extend(batch);
            }
            done
        });
        if kept.is_err() {
            self.waiting().retain(|(other, _)| *other != ticket);
        }
        kept
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(u64, StatusRow)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(database: &Database, batch: &[(u64, StatusRow)], now: Timestamp) -> Result<(), StoreError> {
    let mut write = database.begin_write().map_err(io)?;
    write.set_durability(Durability::Immediate).map_err(io)?;
    {
        let mut last = write.open_table(LAST).map_err(io)?;
        let mut table = write.open_table(ROWS).map_err(io)?;
        let first = last.get(NUMBER).map_err(io)?.map_or(0, |last| last.value());
        let mut number = first;
        for (_, row) in batch {
            number += 1;
            // What wraps around has gone long ago.
            let key = (minute(row.until.seconds()) + 1) << 32 | (number & 0xffff_ffff);
            table.insert(key, status_row::encode(row).as_slice()).map_err(io)?;
        }
        last.insert(NUMBER, number).map_err(io)?;
        if first / SWEEP < number / SWEEP {
            sweep(&mut table, now)?;
            let now = u64::try_from(now.seconds()).unwrap_or(0);
            let before = last.get(SWEPT).map_err(io)?.map_or(0, |swept| swept.value());
            last.insert(SWEPT, now.max(before)).map_err(io)?;
        }
    }
    write.commit().map_err(io)
}

/// Sees to it that there are rows to be read. None of them goes: whether the clock is right is not known yet. Gives the
/// latest time at which some went.
pub(super) fn prepare(write: &redb::WriteTransaction) -> Result<i64, StoreError> {
    write.open_table(ROWS).map_err(io)?;
    let swept = write.open_table(LAST).map_err(io)?.get(SWEPT).map_err(io)?.map(|swept| swept.value());
    Ok(swept.and_then(|swept| i64::try_from(swept).ok()).unwrap_or(i64::MIN))
}

/// Drops expired rows.
fn sweep(table: &mut Table<'_, u64, &[u8]>, now: Timestamp) -> Result<(), StoreError> {
    table.retain_in(..minute(now.seconds() - ROW_GRACE) << 32, |_, _| false).map_err(io)
}

fn minute(seconds: i64) -> u64 {
    u64::try_from(seconds / 60).unwrap_or(0).min(u64::from(u32::MAX) - 1)
}

/// The first rows after one, and the last of them.
pub(super) fn page(database: &Database, after: u64) -> Result<(Vec<StatusRow>, u64), StoreError> {
    let read = database.begin_read().map_err(io)?;
    let table = read.open_table(ROWS).map_err(io)?;
    let (mut rows, mut last) = (Vec::new(), after);
    for entry in table.range(after.saturating_add(1)..).map_err(io)?.take(PAGE) {
        let (key, row) = entry.map_err(io)?;
        last = key.value();
        rows.push(status_row::decode(row.value()).ok_or(StoreError::UnknownRecord)?);
    }
    Ok((rows, last))
}
