//! Tasks of one machine: records in redb, what they used in memory. Each token of a task with a budget is a mark in the
//! first-use journal, so that what was used is known again after a restart.

use super::embedded::{SWEEP, io};
use super::first_use::Journal;
use super::{BudgetUse, MAX_OF_ONE, MAX_TASKS, Reserved, StoreError};
use crate::domain::{Digest, TaskRecord, TaskState, Timestamp};
use redb::{Database, Durability, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Task id → its record, as JSON.
const TASKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tasks");
/// A day, in seconds.
const DAY: i64 = 86_400;

#[derive(Default)]
pub(super) struct Tasks {
    live: Mutex<HashMap<String, TaskState>>,
}

impl Tasks {
    /// `records` as they are used so far, which the journal knows.
    pub(super) fn of(records: Vec<TaskRecord>, journal: &Journal, now: Timestamp) -> Self {
        // As far as they were used one after the other; a place that was given back may be missed, and is found when it
        // is asked for: what counts is the mark.
        let state = |record: TaskRecord| {
            let slots = 1..=record.budget.unwrap_or(0);
            let used = slots.take_while(|slot| journal.has(key(&record.id, *slot))).last().unwrap_or(0);
            (record.id.clone(), TaskState { record, used, last_used: now, idle_since: now })
        };
        Self { live: Mutex::new(records.into_iter().map(state).collect()) }
    }

    /// Checks that there is room for one more task of `workload`.
    pub(super) fn admit(&self, workload: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut live = self.lock();
        let of_it = |live: &HashMap<String, TaskState>| {
            live.values().filter(|task| task.record.workload == workload).take(MAX_OF_ONE).count()
        };
        // Looked at in full only where it may be full.
        if live.len() >= MAX_OF_ONE && (live.len() >= MAX_TASKS || of_it(&live) >= MAX_OF_ONE) {
            live.retain(|_, task| !task.record.is_over(now));
        }
        let full = live.len() >= MAX_TASKS || (live.len() >= MAX_OF_ONE && of_it(&live) >= MAX_OF_ONE);
        if full { Err(StoreError::TooManyTasks) } else { Ok(()) }
    }

    pub(super) fn add(&self, record: TaskRecord, now: Timestamp) {
        let state = TaskState { record, used: 0, last_used: now, idle_since: now };
        self.lock().insert(state.record.id.clone(), state);
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<TaskState> {
        self.lock().values().filter(|task| !task.record.is_over(now)).cloned().collect()
    }

    /// Counts one token, by the next place of its budget that is free.
    pub(super) fn spend(&self, budget: &BudgetUse, journal: &Journal, now: Timestamp) -> Result<Reserved, StoreError> {
        let mut live = self.lock();
        let Some(task) = live.get_mut(&budget.task) else { return Ok(Reserved::UnknownTask) };
        if now.since(task.idle_since) > budget.idle.seconds() {
            return Ok(Reserved::Idle);
        }
        let until = marked_until(&task.record);
        let mut slot = 0;
        if let Some(budget) = task.record.budget {
            if task.used >= budget {
                return Ok(Reserved::BudgetSpent);
            }
            let next = task.used + 1;
            for free in (next..=budget).chain(1..next) {
                if journal.reserve(key(&task.record.id, free), until, now)? {
                    slot = free;
                    break;
                }
            }
            if slot == 0 {
                return Ok(Reserved::BudgetSpent);
            }
        }
        task.used += 1;
        task.last_used = now;
        task.idle_since = task.idle_since.max(budget.until);
        Ok(Reserved::Whole(slot))
    }

    /// Takes back a token that was counted and not given.
    pub(super) fn give_back(&self, id: &str, slot: u32, journal: &Journal) -> Result<(), StoreError> {
        let mut live = self.lock();
        let Some(task) = live.get_mut(id) else { return Ok(()) };
        task.used = task.used.saturating_sub(1);
        let until = marked_until(&task.record);
        if slot == 0 { Ok(()) } else { journal.release(key(id, slot), until) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, TaskState>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until the end of the day of its deadline: marks that end together share a file.
fn marked_until(task: &TaskRecord) -> Timestamp {
    Timestamp::new((task.deadline / DAY + 1) * DAY).unwrap_or(Timestamp::MAX)
}

fn key(task: &str, slot: u32) -> Digest {
    Digest::of("task", &[task, &slot.to_string()])
}

/// Every task whose deadline lies ahead; the others go.
pub(super) fn read(database: &Database, now: Timestamp) -> Result<Vec<TaskRecord>, StoreError> {
    let decode: fn(&[u8]) -> Result<TaskRecord, StoreError> =
        |record| serde_json::from_slice(record).map_err(|_| StoreError::UnknownRecord);
    let write = database.begin_write().map_err(io)?;
    let mut records = Vec::new();
    {
        let mut table = write.open_table(TASKS).map_err(io)?;
        for entry in table.iter().map_err(io)? {
            records.push(decode(entry.map_err(io)?.1.value())?);
        }
        table.retain(|_, record| decode(record).is_ok_and(|task| !task.is_over(now))).map_err(io)?;
    }
    write.commit().map_err(io)?;
    records.retain(|task| !task.is_over(now));
    Ok(records)
}

pub(super) fn keep(database: &Database, task: &TaskRecord, now: Timestamp) -> Result<(), StoreError> {
    let record = serde_json::to_vec(task).map_err(io)?;
    let mut write = database.begin_write().map_err(io)?;
    write.set_durability(Durability::Immediate).map_err(io)?;
    {
        let mut table = write.open_table(TASKS).map_err(io)?;
        table.insert(task.id.as_str(), record.as_slice()).map_err(io)?;
        // What is over goes from time to time, and at start.
        if table.len().map_err(io)? % SWEEP == 0 {
            let alive =
                |record: &[u8]| serde_json::from_slice(record).map_or(true, |task: TaskRecord| !task.is_over(now));
            table.retain(|_, record| alive(record)).map_err(io)?;
        }
    }
    write.commit().map_err(io)
}

pub(super) fn forget(database: &Database, id: &str) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(io)?;
    write.open_table(TASKS).map_err(io)?.remove(id).map_err(io)?;
    write.commit().map_err(io)
}
