//! The status lists: which entries are set, kept in step with the view. A replica holds the rows of all of them, by
//! when they end; what revokes a thousand tokens finds them by one name.

use crate::domain::{Entropy, ListId, StatusRow, Timestamp};
use crate::store::StoreError;
use countersign_verify::revocation::{Name, Named, Reach};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Limit of rows, about 400 bytes each.
const MAX_ROWS: usize = 4_000_000;
/// Limit of allotted entries in a list. At most half of a list is used, so that a random free index is found in about
/// two tries.
const MAX_GIVEN: u32 = ListId::ENTRIES / 2;
/// Number of seconds of expiries that share a bucket.
const BUCKET: i64 = 300;
/// How many seconds a list stays after its last token expired, because clocks differ.
const GRACE: i64 = 300;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Every list that has a token alive.
pub(super) struct Statuses {
    lists: HashMap<ListId, List>,
    buckets: BTreeMap<i64, Bucket>,
    count: usize,
    most: usize,
    own: Option<Own>,
    /// Lists of which rows have gone: they are told of no more, rather than in part.
    gone: HashSet<ListId>,
    /// Lists of which a row was not taken in, because it seemed to be over.
    missed: HashSet<ListId>,
    /// The wall clock's time at the latest removal of rows, in seconds since 1970. If the clock is earlier now, it was
    /// ahead then.
    swept: i64,
    /// True if this replica dropped its lists because its clock was ahead: it then has to read every row again.
    is_doubted: bool,
}

impl Default for Statuses {
    fn default() -> Self {
        Self::within(MAX_ROWS)
    }
}

/// The list that this replica gives entries of, as long as it lives.
struct Own {
    list: ListId,
    given: Bits,
    count: u32,
    /// The expiry of the last token, if there is one.
    until: Option<i64>,
}

/// Rows that a store has.
#[derive(Default)]
pub(super) struct There(HashMap<ListId, Bits>);

impl There {
    pub(super) fn note(&mut self, row: &StatusRow) {
        self.0.entry(row.list).or_insert_with(Bits::new).set(row.index);
    }

    fn has(&self, row: &Row) -> bool {
        self.0.get(&row.list).is_some_and(|rows| rows.has(row.index))
    }
}

struct List {
    known: Bits,
    dead: Bits,
    /// Number of changes.
    changes: u64,
    /// The expiry of the last token, in seconds since 1970.
    until: i64,
}

/// A bit for each entry, the first in the lowest of the first byte, as it is published.
#[derive(Clone)]
struct Bits(Vec<u8>);

impl Bits {
    fn new() -> Self {
        Self(vec![0; ListId::ENTRIES as usize / 8])
    }

    /// Sets the bit, and returns true if it was not set before.
    fn set(&mut self, index: u32) -> bool {
        let Some(byte) = self.0.get_mut(index as usize / 8) else { return false };
        let bit = 1 << (index % 8);
        let is_new = *byte & bit == 0;
        *byte |= bit;
        is_new
    }

    fn has(&self, index: u32) -> bool {
        self.0.get(index as usize / 8).is_some_and(|byte| byte & 1 << (index % 8) != 0)
    }
}

/// Rows that end at about the same time, and go together.
#[derive(Default)]
struct Bucket {
    rows: Vec<Row>,
    /// The beginning of the chain of each name.
    chains: HashMap<Name, u32>,
    links: Vec<NameLink>,
}

struct Row {
    list: ListId,
    pos: u64,
    until: i64,
    index: u32,
}

/// A row that has a name, and the next row that has it.
struct NameLink {
    row: u32,
    next: u32,
    /// In seconds since 1970; what does not fit is as old as can be.
    iat: u32,
    once: bool,
}

impl Statuses {
    /// With room for `most` rows.
    fn within(most: usize) -> Self {
        let (lists, buckets, own) = (HashMap::new(), BTreeMap::new(), None);
        let (gone, missed) = (HashSet::new(), HashSet::new());
        Self { lists, buckets, count: 0, most, own, gone, missed, swept: i64::MIN, is_doubted: false }
    }

    /// An entry that nobody was given, and that nobody can guess from others.
    ///
    /// # Errors
    /// [`StoreError`] where there are too many, or there is no randomness.
    pub(super) fn allot(&mut self, entropy: &dyn Entropy, now: Timestamp) -> Result<(ListId, u32), StoreError> {
        self.look_at_the_clock(now);
        if self.count >= self.most {
            self.sweep(now);
        }
        if self.count >= self.most {
            return Err(StoreError::TooManyRows);
        }
        let random = |bytes: &mut [u8]| entropy.fill(bytes).map_err(|fault| StoreError::Io(fault.to_string()));
        // An empty list may already have been deleted.
        let is_open = |own: &Own| own.count < MAX_GIVEN && own.until.is_none_or(|until| until >= now.seconds());
        let mut own = match self.own.take().filter(is_open) {
            Some(own) => own,
            None => {
                let mut id = [0; 16];
                random(&mut id)?;
                Own { list: ListId::new(id), given: Bits::new(), count: 0, until: None }
            }
        };
        loop {
            let mut bytes = [0; 4];
            random(&mut bytes)?;
            let index = u32::from_be_bytes(bytes) % ListId::ENTRIES;
            if own.given.set(index) {
                own.count += 1;
                let given = (own.list, index);
                self.own = Some(own);
                return Ok(given);
            }
        }
    }

    /// Takes in a row, which `reach` may say is revoked already. A known row changes nothing. Returns true if its list
    /// is new.
    pub(super) fn add(&mut self, row: &StatusRow, reach: impl Fn(Name) -> Option<Reach>, now: Timestamp) -> bool {
        self.look_at_the_clock(now);
        let until = row.until.seconds();
        if until.saturating_add(GRACE) < now.seconds() {
            // As if it had been swept: if the clock is wrong, it is missed.
            self.swept = self.swept.max(now.seconds());
            self.missed.insert(row.list);
            return false;
        }
        if self.gone.contains(&row.list) {
            return false;
        }
        let is_new = !self.lists.contains_key(&row.list);
        let fresh = || List { known: Bits::new(), dead: Bits::new(), changes: 0, until };
        let list = self.lists.entry(row.list).or_insert_with(fresh);
        if !list.known.set(row.index) {
            return false;
        }
        list.until = list.until.max(until);
        for own in self.own.iter_mut().filter(|own| own.list == row.list) {
            own.until = own.until.max(Some(until));
        }
        if row.names.iter().any(|named| reach(named.name).is_some_and(|reach| reach.hits(named, row.pos))) {
            list.kill(row.index);
        }
        if !self.buckets.contains_key(&(until / BUCKET)) {
            self.sweep(now);
        }
        self.buckets.entry(until / BUCKET).or_default().add(row);
        self.count += 1;
        is_new
    }

    /// Sets the entries of what is hit by what is in force against `name`.
    pub(super) fn judge(&mut self, name: Name, reach: &Reach) {
        for bucket in self.buckets.values() {
            for (link, row) in bucket.chain(name) {
                let named = link.named(name);
                if reach.hits(&named, row.pos)
                    && let Some(list) = self.lists.get_mut(&row.list)
                {
                    list.kill(row.index);
                }
            }
        }
    }

    /// Judges every name, as [`Statuses::judge`] does.
    pub(super) fn judge_all(&mut self, reach: impl Fn(Name) -> Option<Reach>) {
        let names: HashSet<Name> = self.buckets.values().flat_map(|bucket| bucket.chains.keys().copied()).collect();
        for (name, reach) in names.into_iter().filter_map(|name| Some((name, reach(name)?))) {
            self.judge(name, &reach);
        }
    }

    /// The rows that are not `there`, as they were written.
    pub(super) fn lacking(&self, there: &There, now: Timestamp) -> Vec<StatusRow> {
        let mut lacking = Vec::new();
        for bucket in self.buckets.values() {
            let first = lacking.len();
            let mut places = HashMap::new();
            let lost = |row: &&Row| row.until >= now.seconds() && !there.has(row);
            for (row, place) in bucket.rows.iter().zip(0_u32..).filter(|(row, _)| lost(row)) {
                let until = Timestamp::new(row.until).unwrap_or(Timestamp::MAX);
                places.insert(place, lacking.len() - first);
                lacking.push(StatusRow { list: row.list, index: row.index, until, pos: row.pos, names: Vec::new() });
            }
            let Some(lost) = lacking.get_mut(first..).filter(|lost| !lost.is_empty()) else { continue };
            for name in bucket.chains.keys() {
                for (link, _) in bucket.chain(*name) {
                    let row = places.get(&link.row).and_then(|place| lost.get_mut(*place));
                    row.into_iter().for_each(|row| {
                        row.names.push(link.named(*name));
                    });
                }
            }
        }
        lacking
    }

    /// The entries of a list as they are published, and how often they have changed.
    pub(super) fn entries(&self, list: &ListId) -> Option<(Vec<u8>, u64)> {
        self.lists.get(list).map(|list| (list.dead.0.clone(), list.changes))
    }

    /// Returns the number of changes of a list; none if there is no such list.
    pub(super) fn changes(&self, list: &ListId) -> Option<u64> {
        self.lists.get(list).map(|list| list.changes)
    }

    /// Every list, and how often each has changed, when what is over has gone.
    pub(super) fn tended(&mut self, now: Timestamp) -> Vec<ListId> {
        self.look_at_the_clock(now);
        self.sweep(now);
        let mut lists: Vec<ListId> = self.lists.keys().copied().collect();
        lists.sort_unstable();
        lists
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// After a forward clock jump is corrected, rows may have been swept too early. Stop publishing the lists they
    /// belonged to, which are all that there are, and entries are given of others.
    pub(super) fn look_at_the_clock(&mut self, now: Timestamp) {
        if now.seconds() < self.swept.saturating_sub(GRACE) {
            tracing::error!(lists = self.lists.len(), "the clock was ahead, so status lists of before are not served");
            self.gone.extend(self.lists.drain().map(|(list, _)| list));
            self.gone.extend(self.own.take().map(|own| own.list));
            self.gone.extend(self.missed.drain());
            self.buckets.clear();
            (self.count, self.swept, self.is_doubted) = (0, now.seconds(), true);
        }
    }

    /// Takes notice that the store dropped rows at `swept`, in seconds since 1970. After a forward clock jump is
    /// corrected, rows may have been swept too early.
    pub(super) fn were_swept(&mut self, swept: i64, now: Timestamp) {
        self.swept = self.swept.max(swept);
        self.look_at_the_clock(now);
    }

    /// Returns true if another replica still uses a list that this one dropped. The caller must then clear its state
    /// and read every row again.
    pub(super) fn begin_again(&mut self) -> bool {
        if self.is_doubted {
            self.gone.clear();
            self.lists.clear();
            self.buckets.clear();
            (self.count, self.is_doubted) = (0, false);
            return true;
        }
        false
    }

    /// Drops expired rows.
    fn sweep(&mut self, now: Timestamp) {
        let over = now.seconds() - GRACE;
        self.buckets.retain(|bucket, _| (bucket + 1) * BUCKET >= over);
        self.gone.extend(self.lists.extract_if(|_, list| list.until < over).map(|(list, _)| list));
        self.count = self.buckets.values().map(|bucket| bucket.rows.len()).sum();
        self.swept = self.swept.max(now.seconds());
    }
}

impl List {
    fn kill(&mut self, index: u32) {
        self.changes += u64::from(self.dead.set(index));
    }
}

impl NameLink {
    fn named(&self, name: Name) -> Named {
        Named { name, iat: self.iat.into(), once: self.once }
    }
}

impl Bucket {
    fn add(&mut self, row: &StatusRow) {
        let place = |length: usize| u32::try_from(length).unwrap_or(NONE);
        let this = place(self.rows.len());
        self.rows.push(Row { list: row.list, pos: row.pos, until: row.until.seconds(), index: row.index });
        for named in &row.names {
            let next = self.chains.insert(named.name, place(self.links.len())).unwrap_or(NONE);
            let iat = u32::try_from(named.iat).unwrap_or(0);
            self.links.push(NameLink { row: this, next, iat, once: named.once });
        }
    }

    /// Every row that has a name.
    fn chain(&self, name: Name) -> impl Iterator<Item = (&NameLink, &Row)> {
        let at = |place: u32| self.links.get(place as usize);
        let links =
            std::iter::successors(self.chains.get(&name).and_then(|first| at(*first)), move |link| at(link.next));
        links.filter_map(|link| Some((link, self.rows.get(link.row as usize)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SystemEntropy;
    use countersign_verify::revocation::Kind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(4_000_000_000 + seconds).unwrap_or_default()
    }

    fn row(list: ListId, index: u32, until: i64) -> StatusRow {
        let names = vec![Named::new(Kind::Token, &index.to_string(), 1), Named::new(Kind::Workload, "w", 1)];
        StatusRow { list, index, until: at(until), pos: 5, names }
    }

    #[test]
    fn an_entry_is_given_once_and_a_list_is_left_when_half_of_it_is_given() {
        let mut statuses = Statuses::default();
        let mut given = HashSet::new();
        for _ in 0..=MAX_GIVEN {
            assert!(statuses.allot(&SystemEntropy, at(0)).is_ok_and(|entry| given.insert(entry)));
        }
        let lists: HashSet<ListId> = given.iter().map(|(list, _)| *list).collect();
        assert_eq!(lists.len(), 2);
        let last = given.iter().find(|(list, _)| statuses.own.as_ref().is_some_and(|own| own.list == *list)).copied();
        let (list, index) = last.unwrap_or((ListId::new([9; 16]), 0));
        let _ = statuses.add(&row(list, index, 60), |_| None, at(0));
        assert!(statuses.allot(&SystemEntropy, at(60)).is_ok_and(|(other, _)| other == list));
        let later = statuses.allot(&SystemEntropy, at(61)).map_or(list, |(later, _)| later);
        assert!(
            !lists.contains(&later),
            "nor is one gone on with whose tokens are all over: elsewhere it may have gone"
        );
    }

    #[test]
    fn as_many_as_may_be_are_alive_until_some_are_over() {
        let mut statuses = Statuses::within(3);
        let list = ListId::new([1; 16]);
        for index in 0..3 {
            assert_eq!(statuses.add(&row(list, index, 60), |_| None, at(0)), index == 0);
        }
        assert_eq!(statuses.allot(&SystemEntropy, at(0)), Err(StoreError::TooManyRows));
        assert!(statuses.allot(&SystemEntropy, at(60 + GRACE + BUCKET + 1)).is_ok());
    }

    #[test]
    fn rows_that_are_lacking_come_out_as_they_went_in() {
        let (mut statuses, list) = (Statuses::default(), ListId::new([1; 16]));
        let rows: Vec<StatusRow> = (0..5).map(|index| row(list, index, 60 + i64::from(index) * BUCKET)).collect();
        for row in &rows {
            let _ = statuses.add(row, |_| None, at(0));
        }
        let mut there = There::default();
        rows.iter().take(2).for_each(|row| there.note(row));
        let mut lacking = statuses.lacking(&there, at(0));
        lacking.iter_mut().for_each(|row| row.names.sort_by_key(|named| (!named.once, named.name)));
        assert_eq!(lacking, rows[2..]);
        assert_eq!(statuses.lacking(&there, at(60 + 4 * BUCKET + 1)), [], "none that is over");
    }

    /// H19: lists of which a clock that was ahead dropped rows are not served in part.
    #[test]
    fn a_clock_that_was_ahead_makes_lists_go_and_never_come_back_empty() {
        let hit = Reach { position: 9, ..Reach::default() };
        for sweeps in [true, false] {
            let mut statuses = Statuses::default();
            let (list, index) = statuses.allot(&SystemEntropy, at(0)).unwrap_or((ListId::new([9; 16]), 0));
            statuses.add(&row(list, index, 600), |_| Some(hit), at(0));
            assert_eq!(statuses.changes(&list), Some(1));
            if sweeps {
                statuses.tended(at(7_200));
            } else {
                // A row that another replica has just kept.
                statuses.add(&row(list, index ^ 1, 600), |_| None, at(7_200));
            }
            let (other, next) = statuses.allot(&SystemEntropy, at(10)).unwrap_or((list, 0));
            assert_ne!(other, list);
            assert_eq!(statuses.changes(&list), None, "404, and not a list that says that all is well");
            statuses.add(&row(list, 7, 600), |_| None, at(10));
            assert_eq!(statuses.changes(&list), None, "even if another replica goes on with it");
            statuses.add(&row(other, next, 610), |_| None, at(10));
            assert_eq!(statuses.changes(&other), Some(0));
        }
        // A list that was never held, because all of its rows seemed to have expired.
        let (mut statuses, list) = (Statuses::default(), ListId::new([3; 16]));
        statuses.add(&row(list, 1, 600), |_| None, at(7_200));
        statuses.add(&row(list, 2, 600), |_| None, at(10));
        assert_eq!(statuses.changes(&list), None);
        // Where others go on with them, all rows are read again.
        assert!(statuses.begin_again() && !statuses.begin_again());
        let _ = [1, 2].map(|index| statuses.add(&row(list, index, 600), |_| None, at(10)));
        assert_eq!(statuses.changes(&list), Some(0));
        // Rows that a store dropped while the clock was ahead, before this broker was started.
        statuses.were_swept(at(7_200).seconds(), at(10));
        assert_eq!(statuses.changes(&list), None);
    }
}
