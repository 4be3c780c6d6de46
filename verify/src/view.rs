//! The revocations in force, by name, in as little memory as possible: nearly all are single revocations that are only
//! looked up. Each replica of the broker holds a view, and each resource server that follows the feed.

use crate::AccessToken;
use crate::revocation::{Act, Name, Reach, Record, is_hit};
use std::collections::HashMap;

/// How many seconds longer than it can hit something a record stays in the view: a clock that jumps ahead for a moment
/// must not drop it.
const GRACE: i64 = 86_400;

/// The revocations in force.
#[derive(Debug, Default)]
pub struct View {
    revoked: HashMap<Name, Packed>,
    /// The suspensions, and the revocations of everything before a time: few, made by operators.
    others: HashMap<Name, Other>,
    suspended: usize,
    /// The size at which expired records are dropped, so that a revocation does not walk through all of them.
    swept: usize,
}

/// A position in the log (40 bits) and an end (32 bits, in minutes since 1970): with its name a revocation is 25 bytes.
#[derive(Debug, Clone, Copy)]
struct Packed([u8; 9]);

impl Packed {
    fn new(position: u64, until: i64) -> Self {
        // Rounded up, never down: it may stay a minute too long.
        let minutes = u32::try_from(until / 60 + 1).unwrap_or(u32::MAX);
        let position = position.min((1 << 40) - 1);
        let mut bytes = [0; 9];
        let parts = position.to_be_bytes().into_iter().skip(3).chain(minutes.to_be_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    fn position(self) -> u64 {
        self.0.iter().take(5).fold(0, |position, byte| position << 8 | u64::from(*byte))
    }

    fn until(self) -> i64 {
        let minutes = self.0.iter().skip(5).fold(0, |minutes, byte| minutes << 8 | i64::from(*byte));
        minutes * 60
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Other {
    before: Option<i64>,
    suspended: bool,
    until: i64,
}

impl View {
    /// Returns an empty view with room for `names`: a table that grows to its size wastes half of it.
    #[must_use]
    pub fn with_room(names: usize) -> Self {
        Self { revoked: HashMap::with_capacity(names), swept: names, ..Self::default() }
    }

    /// Returns true if nothing is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty() && self.others.is_empty()
    }

    /// Returns true if anything is suspended.
    #[must_use]
    pub fn suspends_any(&self) -> bool {
        self.suspended > 0
    }

    /// Returns the number of names with a revocation in force.
    #[must_use]
    pub fn count(&self) -> usize {
        self.revoked.len() + self.others.len()
    }

    /// Returns what is in force against `name`.
    #[must_use]
    pub fn reach(&self, name: Name) -> Option<Reach> {
        let revoked = self.revoked.get(&name);
        let other = if self.others.is_empty() { None } else { self.others.get(&name) };
        if revoked.is_none() && other.is_none() {
            return None;
        }
        let other = other.copied().unwrap_or_default();
        Some(Reach {
            position: revoked.map_or(0, |revoked| revoked.position()),
            before: other.before,
            suspended: other.suspended,
        })
    }

    /// Returns true if a single thing is revoked at least until `until`.
    #[must_use]
    pub fn has(&self, name: Name, until: i64) -> bool {
        self.revoked.get(&name).is_some_and(|held| held.until() >= until)
    }

    /// Returns true if `token` is revoked: itself, a token above it, or something that one of them belongs to.
    #[must_use]
    pub fn hits(&self, token: &AccessToken) -> bool {
        !self.is_empty() && is_hit(token, |name| self.reach(name))
    }

    /// Puts the record at `position` in force at `now`, in seconds since 1970. Of several against one name each counts:
    /// the latest position, the latest moment.
    pub fn apply(&mut self, position: u64, record: &Record, now: i64) {
        if self.count() >= self.swept {
            self.revoked.retain(|_, revoked| revoked.until() + GRACE >= now);
            self.others.retain(|_, other| other.suspended || other.until.saturating_add(GRACE) >= now);
            self.swept = self.count() * 2 + 1_024;
            self.revoked.shrink_to(self.swept);
        }
        match record.act {
            Act::Revoke => self.revoke(position, record),
            Act::RevokeBefore(moment) => {
                let other = self.others.entry(record.name).or_default();
                other.before = other.before.max(Some(moment));
                other.until = other.until.max(record.until);
            }
            Act::Suspend => {
                self.revoke(position, record);
                let other = self.others.entry(record.name).or_default();
                self.suspended += usize::from(!other.suspended);
                other.suspended = true;
                other.until = other.until.max(record.until);
            }
            Act::Resume => {
                // What was issued before the suspension stays dead.
                if let Some(other) = self.others.get_mut(&record.name) {
                    self.suspended -= usize::from(other.suspended);
                    other.suspended = false;
                    if other.before.is_none() {
                        self.others.remove(&record.name);
                    }
                }
            }
        }
    }

    /// Returns the records that are in force here and not, or less far, in `other`.
    #[must_use]
    pub fn lacking_in(&self, other: &Self, now: i64) -> Vec<Record> {
        let record = |name: &Name, act, until| Record { name: *name, until, act };
        let suspended = |view: &Self, name: &Name| view.others.get(name).is_some_and(|other| other.suspended);
        let revoked = self.revoked.iter().filter_map(|(name, held)| {
            let there = other.revoked.get(name);
            let is_there =
                there.is_some_and(|there| there.position() >= held.position() && there.until() >= held.until());
            let act = if suspended(self, name) { Act::Suspend } else { Act::Revoke };
            (!is_there && held.until() >= now).then(|| record(name, act, held.until()))
        });
        let others = self.others.iter().filter_map(|(name, held)| {
            let there = other.others.get(name).copied().unwrap_or_default();
            let before = held.before.filter(|before| there.before < Some(*before) && held.until >= now);
            // A suspension is a revocation too: one that was lost lacks there as such.
            before.map(|before| record(name, Act::RevokeBefore(before), held.until))
        });
        revoked.chain(others).collect()
    }

    /// Returns the single revocations, each with its position and its expiry in seconds since 1970.
    pub fn revoked(&self) -> impl Iterator<Item = (Name, u64, i64)> {
        self.revoked.iter().map(|(name, held)| (*name, held.position(), held.until()))
    }

    /// Returns the suspensions and the revocations before a time: the time, whether it is a suspension, and the expiry.
    pub fn others(&self) -> impl Iterator<Item = (Name, Option<i64>, bool, i64)> {
        self.others.iter().map(|(name, held)| (*name, held.before, held.suspended, held.until))
    }

    fn revoke(&mut self, position: u64, record: &Record) {
        let until = self.revoked.get(&record.name).map_or(record.until, |held| held.until().max(record.until));
        self.revoked.insert(record.name, Packed::new(position, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_comes_out() {
        for (position, seconds) in [(0, 0), (1, 59), (1 << 39, 1_795_304_539), ((1 << 40) - 1, 253_402_300_000)] {
            let packed = Packed::new(position, seconds);
            assert_eq!(packed.position(), position);
            assert!((1..=60).contains(&(packed.until() - seconds)), "{seconds}");
        }
        assert_eq!(size_of::<(Name, Packed)>(), 25);
    }
}
