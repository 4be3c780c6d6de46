//! What is in force, by name, in as little memory as it takes: nearly all of it is revoked once, and then looked up.

use crate::domain::Timestamp;
use crate::store::{About, Act, Entry};
use countersign_verify::revocation::{Name, Reach};
use std::collections::HashMap;

/// How much longer than it can hit something a record stays in the view, in seconds: a clock that jumps ahead for a moment
/// must not lose it.
const GRACE: i64 = 86_400;

#[derive(Default)]
pub(super) struct View {
    revoked: HashMap<Name, Packed>,
    /// What is suspended, or was revoked as of a moment in the past: few, by operators.
    others: HashMap<Name, Other>,
    suspended: usize,
    /// How large the view may grow before what is over is dropped, so that a revocation costs no walk through all of them.
    swept: usize,
}

/// A position in the log (40 bits) and an end (32 bits, in minutes since 1970): with its name a revocation is 25 bytes.
#[derive(Clone, Copy)]
struct Packed([u8; 9]);

impl Packed {
    fn new(position: u64, until: Timestamp) -> Self {
        // Rounded up, never down: it may stay a minute too long.
        let minutes = u32::try_from(until.seconds() / 60 + 1).unwrap_or(u32::MAX);
        let position = position.min((1 << 40) - 1);
        let mut bytes = [0; 9];
        let parts = position.to_be_bytes().into_iter().skip(3).chain(minutes.to_be_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    fn position(self) -> u64 {
        self.0.iter().take(5).fold(0, |position, byte| position << 8 | u64::from(*byte))
    }

    fn until(self) -> Timestamp {
        let minutes = self.0.iter().skip(5).fold(0, |minutes, byte| minutes << 8 | i64::from(*byte));
        Timestamp::new(minutes * 60).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Clone, Copy, Default)]
struct Other {
    before: Option<i64>,
    suspended: bool,
    until: Timestamp,
}

impl View {
    pub(super) fn is_empty(&self) -> bool {
        self.revoked.is_empty() && self.others.is_empty()
    }

    pub(super) fn suspends_any(&self) -> bool {
        self.suspended > 0
    }

    pub(super) fn count(&self) -> usize {
        self.revoked.len() + self.others.len()
    }

    /// What is in force against `name`.
    pub(super) fn reach(&self, name: Name) -> Option<Reach> {
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

    /// Whether what never comes again is revoked for as long as `entry` would revoke it.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        let long_enough = |held: &Packed| held.until() >= entry.until;
        entry.act == Act::Revoke && entry.is_of_one() && self.revoked.get(&entry.name).is_some_and(long_enough)
    }

    /// Puts the record at `position` in force. Of several against one name each counts: the latest position, the latest moment.
    pub(super) fn apply(&mut self, position: u64, entry: &Entry, now: Timestamp) {
        if self.count() >= self.swept {
            self.revoked.retain(|_, revoked| revoked.until().plus(GRACE) >= now);
            self.others.retain(|_, other| other.suspended || other.until.plus(GRACE) >= now);
            self.swept = self.count() * 2 + 1_024;
            self.revoked.shrink_to(self.swept);
        }
        match entry.act {
            Act::Revoke => self.revoke(position, entry),
            Act::RevokeBefore(moment) => {
                let other = self.others.entry(entry.name).or_default();
                other.before = other.before.max(Some(moment));
                other.until = other.until.max(entry.until);
            }
            Act::Suspend => {
                self.revoke(position, entry);
                let other = self.others.entry(entry.name).or_default();
                self.suspended += usize::from(!other.suspended);
                other.suspended = true;
                other.until = other.until.max(entry.until);
            }
            Act::Resume => {
                // What was issued before the suspension stays dead.
                if let Some(other) = self.others.get_mut(&entry.name) {
                    self.suspended -= usize::from(other.suspended);
                    other.suspended = false;
                    if other.before.is_none() {
                        self.others.remove(&entry.name);
                    }
                }
            }
        }
    }

    /// What is in force here and not, or not as far, in `other`.
    pub(super) fn lacking_in(&self, other: &Self, now: Timestamp) -> Vec<Entry> {
        let entry = |name: &Name, act, until| Entry { name: *name, until, act, about: About::default() };
        let suspended = |view: &Self, name: &Name| view.others.get(name).is_some_and(|other| other.suspended);
        let revoked = self.revoked.iter().filter_map(|(name, held)| {
            let there = other.revoked.get(name);
            let is_there =
                there.is_some_and(|there| there.position() >= held.position() && there.until() >= held.until());
            let act = if suspended(self, name) { Act::Suspend } else { Act::Revoke };
            (!is_there && held.until() >= now).then(|| entry(name, act, held.until()))
        });
        let others = self.others.iter().flat_map(|(name, held)| {
            let there = other.others.get(name).copied().unwrap_or_default();
            let before = held.before.filter(|before| there.before < Some(*before) && held.until >= now);
            let before = before.map(|before| entry(name, Act::RevokeBefore(before), held.until));
            let is_lost = held.suspended && !there.suspended && other.revoked.contains_key(name);
            before.into_iter().chain(is_lost.then(|| entry(name, Act::Suspend, Timestamp::MAX)))
        });
        revoked.chain(others).collect()
    }

    fn revoke(&mut self, position: u64, entry: &Entry) {
        let until = self.revoked.get(&entry.name).map_or(entry.until, |held| held.until().max(entry.until));
        self.revoked.insert(entry.name, Packed::new(position, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_comes_out() {
        for (position, seconds) in [(0, 0), (1, 59), (1 << 39, 1_795_304_539), ((1 << 40) - 1, 253_402_300_000)] {
            let until = Timestamp::new(seconds).unwrap();
            let packed = Packed::new(position, until);
            assert_eq!(packed.position(), position);
            assert!((1..=60).contains(&packed.until().since(until)), "{seconds}");
        }
        assert_eq!(size_of::<(Name, Packed)>(), 25);
    }
}
