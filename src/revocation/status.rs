//! The status lists: which entries are set, kept in step with the view. A replica holds the rows of all of them, by when they
//! end; what revokes a thousand tokens finds them by one name.

use crate::domain::{Entropy, ListId, StatusRow, Timestamp};
use crate::store::StoreError;
use countersign_verify::revocation::{Name, Named, Reach};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many rows may be alive, some 400 bytes each.
const MAX_ROWS: usize = 4_000_000;
/// How many entries of a list are given at most: as long as half of them are free, one that nobody can guess is found at once.
const MAX_GIVEN: u32 = ListId::ENTRIES / 2;
/// How many seconds of ends share a bucket.
const BUCKET: i64 = 300;
/// For how long a list that names nothing alive is still there, in seconds: clocks differ.
const GRACE: i64 = 300;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Every list that has a token alive.
#[derive(Default)]
pub(super) struct Statuses {
    lists: HashMap<ListId, List>,
    buckets: BTreeMap<i64, Bucket>,
    count: usize,
    own: Option<Own>,
}

/// The list that this replica gives entries of, as long as it lives.
struct Own {
    list: ListId,
    given: Bits,
    count: u32,
}

struct List {
    known: Bits,
    dead: Bits,
    /// How often it has changed.
    changes: u64,
    /// When its last token is over, in seconds since 1970.
    until: i64,
}

/// A bit for each entry, the first in the lowest of the first byte, as it is published.
#[derive(Clone)]
struct Bits(Vec<u8>);

impl Bits {
    fn new() -> Self {
        Self(vec![0; ListId::ENTRIES as usize / 8])
    }

    /// Whether it was not set before.
    fn set(&mut self, index: u32) -> bool {
        let Some(byte) = self.0.get_mut(index as usize / 8) else { return false };
        let bit = 1 << (index % 8);
        let is_new = *byte & bit == 0;
        *byte |= bit;
        is_new
    }
}

/// Rows that end at about the same time, and go together.
#[derive(Default)]
struct Bucket {
    rows: Vec<Row>,
    /// Where the chain of each name begins.
    chains: HashMap<Name, u32>,
    links: Vec<Link>,
}

struct Row {
    list: ListId,
    pos: u64,
    until: i64,
    index: u32,
}

/// That a row has a name, and the next row that has it.
struct Link {
    row: u32,
    next: u32,
    /// In seconds since 1970; what does not fit is as old as can be.
    iat: u32,
    once: bool,
}

impl Statuses {
    /// An entry that nobody was given, and that nobody can guess from others.
    ///
    /// # Errors
    /// [`StoreError`] where there are too many, or there is no randomness.
    pub(super) fn allot(&mut self, entropy: &dyn Entropy, now: Timestamp) -> Result<(ListId, u32), StoreError> {
        if self.count >= MAX_ROWS {
            self.sweep(now);
        }
        if self.count >= MAX_ROWS {
            return Err(StoreError::TooManyRows);
        }
        let random = |bytes: &mut [u8]| entropy.fill(bytes).map_err(|fault| StoreError::Io(fault.to_string()));
        let mut own = match self.own.take().filter(|own| own.count < MAX_GIVEN) {
            Some(own) => own,
            None => {
                let mut id = [0; 16];
                random(&mut id)?;
                Own { list: ListId::new(id), given: Bits::new(), count: 0 }
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

    /// Takes in a row, which `reach` may say is dead already. One that is known changes nothing.
    pub(super) fn add(&mut self, row: &StatusRow, reach: impl Fn(Name) -> Option<Reach>, now: Timestamp) {
        let until = row.until.seconds();
        if until + GRACE < now.seconds() {
            return;
        }
        let fresh = || List { known: Bits::new(), dead: Bits::new(), changes: 0, until };
        let list = self.lists.entry(row.list).or_insert_with(fresh);
        if !list.known.set(row.index) {
            return;
        }
        list.until = list.until.max(until);
        if row.names.iter().any(|named| reach(named.name).is_some_and(|reach| reach.hits(named, row.pos))) {
            list.kill(row.index);
        }
        if !self.buckets.contains_key(&(until / BUCKET)) {
            self.sweep(now);
        }
        self.buckets.entry(until / BUCKET).or_default().add(row);
        self.count += 1;
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

    /// As [`Statuses::judge`], for every name.
    pub(super) fn judge_all(&mut self, reach: impl Fn(Name) -> Option<Reach>) {
        let names: HashSet<Name> = self.buckets.values().flat_map(|bucket| bucket.chains.keys().copied()).collect();
        for (name, reach) in names.into_iter().filter_map(|name| Some((name, reach(name)?))) {
            self.judge(name, &reach);
        }
    }

    /// The rows that are not among `there`, as they were written.
    pub(super) fn lacking(&self, there: &HashSet<(ListId, u32)>, now: Timestamp) -> Vec<StatusRow> {
        let mut lacking = Vec::new();
        for bucket in self.buckets.values() {
            let first = lacking.len();
            let mut places = HashMap::new();
            let lost = |row: &&Row| row.until >= now.seconds() && !there.contains(&(row.list, row.index));
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

    /// How often a list has changed; none where there is no such list.
    pub(super) fn changes(&self, list: &ListId) -> Option<u64> {
        self.lists.get(list).map(|list| list.changes)
    }

    /// Every list.
    pub(super) fn lists(&mut self, now: Timestamp) -> Vec<ListId> {
        self.sweep(now);
        let mut lists: Vec<ListId> = self.lists.keys().copied().collect();
        lists.sort_unstable();
        lists
    }

    /// How many rows are alive.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Lets go of what is over.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let over = now.seconds() - GRACE;
        self.buckets.retain(|bucket, _| (bucket + 1) * BUCKET >= over);
        self.lists.retain(|_, list| list.until >= over);
        self.count = self.buckets.values().map(|bucket| bucket.rows.len()).sum();
    }
}

impl List {
    fn kill(&mut self, index: u32) {
        self.changes += u64::from(self.dead.set(index));
    }
}

impl Link {
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
            self.links.push(Link { row: this, next, iat, once: named.once });
        }
    }

    /// Every row that has a name.
    fn chain(&self, name: Name) -> impl Iterator<Item = (&Link, &Row)> {
        let at = |place: u32| self.links.get(place as usize);
        let links =
            std::iter::successors(self.chains.get(&name).and_then(|first| at(*first)), move |link| at(link.next));
        links.filter_map(|link| Some((link, self.rows.get(link.row as usize)?)))
    }
}
