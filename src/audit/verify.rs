//! Verification of a log: whether its chain is intact, where it is broken, and the event of one decision.
//!
//! The chain finds an edit, a deletion and a reordering. A checkpoint, which is signed, finds a chain that somebody
//! wrote anew. The head that the store keeps, or one that an operator kept, finds lines that were cut off the end.

use super::event::{Event, SCHEMA_VERSION};
use super::line::{self, Broken, Checkpoint, Line, LineContent, LinePlace, MAX_LATE, Note};
use super::segment::{self, Segment};
use crate::domain::ChainHead;
use countersign_verify::jws::Compact;
use countersign_verify::key::KeySet;
use std::collections::VecDeque;
use std::path::Path;

/// Longest time that lines may go without a checkpoint, in seconds: some minutes more than a running broker ever
/// leaves.
const UNSIGNED: i64 = 300;

/// The public keys that checkpoints are verified with.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// Keys whose checkpoints vouch for what is before them.
    pub good: &'a KeySet,
    /// Compromised ones, whose checkpoints vouch for nothing.
    pub revoked: &'a KeySet,
}

/// A log that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The head of the log.
    pub head: ChainHead,
    /// Number of lines, including notes.
    pub lines: u64,
    /// Number of events.
    pub events: u64,
    /// Number of segments.
    pub segments: usize,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// The number of the line up to which a checkpoint vouches for all of it.
    pub signed: u64,
    /// Places where lines are lost: numbers of the notes that say so.
    pub gaps: Vec<u64>,
    /// Refusals that were counted and not written.
    pub counted: u64,
    /// Bytes after the last whole line: a crash in the middle of a write.
    pub torn: u64,
}

/// Walks the chain in `directory` from its first line to its last. Where `keys` are given, checkpoints are verified
/// with them and have to be there; a head that was kept elsewhere has to be in it.
///
/// # Errors
/// [`Broken`] names the first line that does not hold, counted from 1 in its segment.
pub fn verify(directory: &Path, keys: Option<Sealing<'_>>, kept: Option<&ChainHead>) -> Result<Report, Broken> {
    let segments = segment::list(directory)?;
    let mut walk = Walk::new(keys, kept);
    for segment in &segments {
        segment::walk(segment, |place, line, whole| {
            if !whole {
                walk.report.torn = line.len() as u64;
                return Ok(true);
            }
            walk.follow(line::read(line, place)?, place)?;
            Ok(true)
        })?;
    }
    walk.end(segments.first(), segments.len())
}

struct Walk<'a> {
    keys: Option<Sealing<'a>>,
    /// The first event that no checkpoint vouches for yet.
    unsigned: Option<EventPlace>,
    /// Time of the last event.
    last_event: i64,
    /// The last lines that no checkpoint vouches for yet, oldest first, at most [`MAX_LATE`]: the next checkpoint names
    /// one of them.
    pending: VecDeque<Pending>,
    /// The first line that only a compromised key vouches for: where it stands, until a good checkpoint names it too.
    doubtful: Option<(String, u64)>,
    kept: Option<&'a ChainHead>,
    found: bool,
    /// The head before the first line that is there, where that is not the first line of all.
    missing: Option<ChainHead>,
    report: Report,
}

/// The place and the time of an event.
#[derive(Debug, Clone)]
struct EventPlace {
    segment: String,
    number: u64,
    time: i64,
}

/// A line that no checkpoint vouches for yet.
struct Pending {
    /// The head of the log after the line.
    head: ChainHead,
    event: Option<EventPlace>,
}

impl<'a> Walk<'a> {
    fn new(keys: Option<Sealing<'a>>, kept: Option<&'a ChainHead>) -> Self {
        let report = Report {
            head: ChainHead::genesis(),
            lines: 0,
            events: 0,
            segments: 0,
            checkpoints: 0,
            signed: 0,
            gaps: Vec::new(),
            counted: 0,
            torn: 0,
        };
        let found = kept.is_none_or(|kept| *kept == report.head);
        Self {
            keys,
            unsigned: None,
            last_event: 0,
            pending: VecDeque::new(),
            doubtful: None,
            kept,
            found,
            missing: None,
            report,
        }
    }

    fn follow(&mut self, line: Line, place: LinePlace<'_>) -> Result<(), Broken> {
        let unchained = || Broken::Unchained(place.segment.to_owned(), place.number);
        let begins = self.report.lines == 0 && line.sequence > 0;
        if begins {
            let before = ChainHead { next: line.sequence, hash: line.previous.clone() };
            self.found |= self.kept == Some(&before);
            self.report.head = before.clone();
            // A checkpoint of this segment may name the last line of the one before it.
            self.pending.push_back(Pending { head: before.clone(), event: None });
            self.missing = Some(before);
        }
        let jumps =
            matches!(line.content, LineContent::Note(Note::Gap(_), _)) && line.sequence >= self.report.head.next;
        if line.previous != self.report.head.hash || (line.sequence != self.report.head.next && !jumps) {
            return Err(unchained());
        }
        match &line.content {
            LineContent::Event(_) => self.report.events += 1,
            LineContent::Note(Note::Counted(reasons), _) => self.report.counted += reasons.values().sum::<u64>(),
            LineContent::Note(Note::Gap(_), _) => self.report.gaps.push(line.sequence),
            LineContent::Note(Note::Pruned(head), _) => {
                if self.missing.as_ref().is_some_and(|missing| missing.to_string() == *head) {
                    self.missing = None;
                }
            }
            LineContent::Note(Note::Checkpoint(signed), _) => self.checkpoint(signed, &line, place)?,
        }
        self.report.lines += 1;
        self.report.head = ChainHead { next: line.sequence + 1, hash: line.hash };
        self.found |= self.kept == Some(&self.report.head);
        // Lines of the version before had no checkpoints. Notes come by themselves; what a forger would make up are
        // events.
        let is_event = line.version >= SCHEMA_VERSION && matches!(line.content, LineContent::Event(_));
        self.wait_for_checkpoint(is_event.then(|| line.content.time()), place);
        Ok(())
    }

    /// Notes a line that a checkpoint has to cover: a forger who has no key would leave the checkpoints out.
    fn wait_for_checkpoint(&mut self, event: Option<i64>, place: LinePlace<'_>) {
        if self.keys.is_none() {
            return;
        }
        let event = event.map(|time| EventPlace { segment: place.segment.to_owned(), number: place.number, time });
        self.pending.push_back(Pending { head: self.report.head.clone(), event: event.clone() });
        if self.pending.len() as u64 > MAX_LATE + 1 {
            self.pending.pop_front();
        }
        if let Some(event) = event {
            self.last_event = event.time;
            self.unsigned.get_or_insert(event);
        }
    }

    fn checkpoint(&mut self, signed: &str, line: &Line, place: LinePlace<'_>) -> Result<(), Broken> {
        let Some(keys) = self.keys else { return Ok(()) };
        let broken = |what| Broken::Checkpoint(place.segment.to_owned(), place.number, what);
        let compact = Compact::parse(signed).map_err(|_| broken("it is no signed checkpoint"))?;
        if compact.header().media_type.as_deref() != Some("audit-checkpoint+jws") {
            return Err(broken("it is signed as something else"));
        }
        let (kid, algorithm) = (compact.header().key_id.as_deref(), compact.header().algorithm);
        let key = match keys.good.find(kid, algorithm) {
            Ok(key) => key,
            Err(_) if keys.revoked.find(kid, algorithm).is_ok() => {
                let from = self.unsigned.take().map(|event| (event.segment, event.number));
                self.doubtful = self.doubtful.take().or(from);
                self.pending.clear();
                return Ok(());
            }
            Err(_) => return Err(broken("no key of this broker has its kid")),
        };
        let payload = compact.verify(key).map_err(|_| broken("its signature does not verify"))?;
        let checkpoint: Checkpoint = serde_json::from_value(serde_json::Value::Object(payload.into_members()))
            .map_err(|_| broken("it is no checkpoint of a log"))?;
        let covered = checkpoint.head.parse().ok().and_then(|head| self.cover(&head, line.sequence));
        covered.ok_or_else(|| broken("it was signed for another place in the log"))?;
        self.report.checkpoints += 1;
        Ok(())
    }

    /// Takes the lines up to `head` for signed, and the checkpoint itself, number `sequence`, if it follows them at
    /// once. None if no checkpoint here can cover `head`.
    fn cover(&mut self, head: &ChainHead, sequence: u64) -> Option<()> {
        match self.pending.iter().rposition(|pending| pending.head == *head) {
            Some(covered) => drop(self.pending.drain(..=covered)),
            // The first line of all.
            None if *head == ChainHead::genesis() && self.report.lines == 0 => {}
            None => return None,
        }
        self.unsigned = self.pending.iter().find_map(|pending| pending.event.clone());
        self.doubtful = None;
        self.report.signed = if self.pending.is_empty() { sequence + 1 } else { head.next };
        Some(())
    }

    fn end(mut self, first: Option<&Segment>, segments: usize) -> Result<Report, Broken> {
        if let (Some(_), Some(first)) = (&self.missing, first) {
            return Err(Broken::Beginning(first.name()));
        }
        // A compromised key may have vouched for anything: a good one has to have come after it.
        if let Some((segment, number)) = self.doubtful {
            return Err(Broken::Unsigned(segment, number));
        }
        // While no key could sign, lines wait; a later checkpoint covers them too.
        if let Some(event) = self.unsigned.filter(|event| self.last_event.saturating_sub(event.time) > UNSIGNED) {
            return Err(Broken::Unsigned(event.segment, event.number));
        }
        match self.kept {
            Some(kept) if !self.found => Err(Broken::Head(kept.to_string())),
            _ => {
                self.report.segments = segments;
                Ok(self.report)
            }
        }
    }
}

/// The event of `decision`, if the log in `directory` has one. The newest segment is looked through first.
///
/// # Errors
/// [`Broken`] when the log cannot be read or the line is not an event.
pub fn find(directory: &Path, decision: &str) -> Result<Option<Event>, Broken> {
    let needle = format!("\"decision\":\"{decision}\"");
    let mut found = None;
    for segment in segment::list(directory)?.iter().rev() {
        segment::walk(segment, |place, line, whole| {
            if !whole || !line.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                return Ok(true);
            }
            if let LineContent::Event(event) = line::read(line, place)?.content {
                found = Some(*event);
            }
            Ok(found.is_none())
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Returns true if the log contains the line that ends at `head`.
pub(super) fn has(segments: &[Segment], head: &ChainHead) -> Result<bool, Broken> {
    let needle = format!("\"hash\":\"{}\"}}", head.hash);
    for segment in segments.iter().rev() {
        let whole = segment::walk(segment, |_, line, whole| Ok(!(whole && line.ends_with(needle.as_bytes()))))?;
        if !whole {
            return Ok(true);
        }
    }
    Ok(*head == ChainHead::genesis())
}
