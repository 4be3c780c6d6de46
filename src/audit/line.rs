//! A line of the log: an event, or a note of the log about itself, followed by its place in the chain.

use super::event::{Event, OLDEST_VERSION, SCHEMA_VERSION};
use crate::domain::{ChainHead, sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The longest line that is read, in bytes.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// The largest number of lines between the last line that a checkpoint covers and the checkpoint: those that were
/// written while it was being signed.
pub(super) const MAX_LATE: u64 = 65_536;

/// A note of the log about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Note {
    /// Refusals of one second that were counted and not written: for each reason how many.
    Counted(BTreeMap<String, u64>),
    /// A signed [`Checkpoint`], as a compact JWS.
    Checkpoint(String),
    /// Segments past their retention were deleted, up to this head.
    Pruned(String),
    /// The store knew another head than the log had when the broker started: lines in between are lost.
    Gap(String),
}

/// A checkpoint: it states that every line up to its head is unchanged since it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Whose log it is.
    pub replica: String,
    /// The head of the log when it was signed. The checkpoint stands at most 65,536 lines after it.
    pub head: String,
    /// Time of the signature, in seconds since 1970.
    pub time: i64,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum LineContent {
    /// An event.
    Event(Box<Event>),
    /// A note, and when it was made.
    Note(Note, i64),
}

/// A line with its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) content: LineContent,
    pub(super) version: u32,
    pub(super) sequence: u64,
    pub(super) previous: String,
    pub(super) hash: String,
}

/// The place and the reason of a break in a log.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    Io(PathBuf, std::io::Error),
    /// A line is not an event.
    #[error("`{0}` line {1} is not an event")]
    NotAnEvent(String, u64),
    /// A line is of another version of this format.
    #[error("`{0}` line {1} is of version {2}, and this program reads versions {OLDEST_VERSION} to {SCHEMA_VERSION}")]
    Version(String, u64, u64),
    /// A line's hash is not the hash of what it says: it was edited.
    #[error("`{0}` line {1} was edited: its hash does not match what it says")]
    Edited(String, u64),
    /// A line does not follow the one before it: lines are missing, were added or were reordered.
    #[error("`{0}` line {1} does not follow the line before it: a line was deleted, added or moved")]
    Unchained(String, u64),
    /// A checkpoint's signature does not verify, or it is about something else.
    #[error("`{0}` line {1} is a checkpoint that does not hold: {2}")]
    Checkpoint(String, u64, &'static str),
    /// The oldest segments are gone, and no note of the log says that they were too old.
    #[error("`{0}` does not begin the log: the segments before it were removed, but not by the broker")]
    Beginning(String),
    /// Lines that no checkpoint vouches for, though one was due.
    #[error(
        "no checkpoint covers the lines from `{0}` line {1} on, although one was due: the lines were replaced, or no key could sign"
    )]
    Unsigned(String, u64),
    /// A head that was kept elsewhere is not in the log.
    #[error("the log does not contain the head {0}: the log was truncated or replaced")]
    Head(String),
}

/// The place of a line, for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinePlace<'a> {
    pub(super) segment: &'a str,
    pub(super) number: u64,
}

impl LinePlace<'_> {
    fn not_an_event(self) -> Broken {
        Broken::NotAnEvent(self.segment.to_owned(), self.number)
    }
}

/// Ends `line`, the JSON of an event or a note, with its place in the chain, and gives the head after it.
pub(super) fn chain(line: &mut Vec<u8>, head: &ChainHead, sequence: u64) -> ChainHead {
    line.pop();
    line.extend_from_slice(format!(",\"v\":{SCHEMA_VERSION},\"seq\":{sequence},\"prev\":\"{}\"", head.hash).as_bytes());
    let hash = hash(line);
    line.extend_from_slice(format!(",\"hash\":\"{hash}\"}}\n").as_bytes());
    ChainHead { next: sequence + 1, hash }
}

fn hash(line: &[u8]) -> String {
    hex::encode(sha256(&[line]))
}

/// Reads a whole line, without its line feed, and checks that its hash is the hash of what it says.
pub(super) fn read(line: &[u8], place: LinePlace<'_>) -> Result<Line, Broken> {
    let wrong = || place.not_an_event();
    let mut members = countersign_verify::json::object(line).map_err(|_| wrong())?;
    let version = members.remove("v").and_then(|version| version.as_u64()).ok_or_else(wrong)?;
    if !(u64::from(OLDEST_VERSION)..=u64::from(SCHEMA_VERSION)).contains(&version) {
        return Err(Broken::Version(place.segment.to_owned(), place.number, version));
    }
    let sequence = members.remove("seq").and_then(|sequence| sequence.as_u64()).ok_or_else(wrong)?;
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong()),
    };
    let (previous, claimed) = (text("prev")?, text("hash")?);
    let content = match members.remove("note") {
        Some(note) => {
            let time = members.get("time").and_then(Value::as_i64).ok_or_else(wrong)?;
            LineContent::Note(serde_json::from_value(note).map_err(|_| wrong())?, time)
        }
        None => LineContent::Event(Box::new(serde_json::from_value(Value::Object(members)).map_err(|_| wrong())?)),
    };
    let edited = || Broken::Edited(place.segment.to_owned(), place.number);
    let covered = line.strip_suffix(format!(",\"hash\":\"{claimed}\"}}").as_bytes()).ok_or_else(edited)?;
    if hash(covered) != claimed {
        return Err(edited());
    }
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    Ok(Line { content, version, sequence, previous, hash: claimed })
}
