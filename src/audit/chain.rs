//! Reads the chain: whether it holds, where it does not, and the event of one decision.
//!
//! An edit, a deletion and a reordering inside the file are found. Cutting lines off the end is not found by the file
//! alone, nor is a forger who writes the whole rest of the chain anew.

use super::event::{Event, SCHEMA_VERSION};
use crate::domain::sha256;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

pub(super) const FILE: &str = "chain.jsonl";
/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1024 * 1024;
/// Stands where the first line names the one before it.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where a chain stands: the number of the next line, and the hash of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The number of the next line, from 0.
    pub next: u64,
    /// The last line's hash, in hexadecimal.
    pub hash: String,
}

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where it stands.
    pub head: Head,
    /// How long its whole lines are together, in bytes.
    pub length: u64,
    /// Bytes after the last whole line: a crash in the middle of a write.
    pub torn: u64,
}

/// Where and how a chain does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    Io(PathBuf, io::Error),
    /// A line is not an event.
    #[error("line {0} is not an event")]
    NotAnEvent(u64),
    /// A line is of another version of this format.
    #[error("line {0} is of version {1}, and this program reads version {SCHEMA_VERSION}")]
    Version(u64, u64),
    /// A line's hash is not the hash of what it says: it was edited.
    #[error("line {0} was edited: its hash does not match what it says")]
    Edited(u64),
    /// A line does not follow the one before it: lines are missing, were added or were reordered.
    #[error("line {0} does not follow the line before it: a line was deleted, added or moved")]
    Unchained(u64),
}

pub(super) fn hash(line: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    sha256(&[line]).into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Walks the chain in `directory` from its first line to its last.
///
/// # Errors
/// [`Broken`] names the first line that does not hold, counted from 1.
pub fn verify(directory: &Path) -> Result<Report, Broken> {
    let mut report = Report { head: Head { next: 0, hash: GENESIS.to_owned() }, length: 0, torn: 0 };
    walk(directory, |number, line| {
        let Some(whole) = line.strip_suffix(b"\n") else {
            report.torn = without_zeros(line).len() as u64;
            return Ok(true);
        };
        report.head = follow(&report.head, number, whole)?;
        report.length += line.len() as u64;
        Ok(true)
    })?;
    Ok(report)
}

/// What a writer reserved ahead of its lines is not part of the chain.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

/// Where the chain ends, read from its last line alone: opening the log takes no longer as it grows.
pub(super) fn tail(file: &mut File, path: &Path) -> Result<Report, Broken> {
    let io = |fault| Broken::Io(path.to_owned(), fault);
    let size = file.metadata().map_err(io)?.len();
    let start = size.saturating_sub(2 * MAX_LINE as u64);
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(size - start).read_to_end(&mut bytes).map_err(io)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let behind = bytes.get(whole..).unwrap_or_default();
    let (length, torn) = (size - behind.len() as u64, without_zeros(behind).len() as u64);
    let mut report = Report { head: Head { next: 0, hash: GENESIS.to_owned() }, length, torn };
    if let Some(line) =
        bytes.get(..whole.saturating_sub(1)).and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next())
        && !line.is_empty()
    {
        let (link, _) = read(0, line)?;
        report.head = follow(&Head { next: link.sequence, hash: link.previous }, link.sequence + 1, line)?;
    }
    Ok(report)
}

/// The event of `decision`, if the log in `directory` has one.
///
/// # Errors
/// [`Broken::Io`] when the log cannot be read, [`Broken::NotAnEvent`] when the line is not an event.
pub fn find(directory: &Path, decision: &str) -> Result<Option<Event>, Broken> {
    let needle = format!("\"decision\":\"{decision}\"");
    let mut found = None;
    walk(directory, |number, line| {
        if !line.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            return Ok(true);
        }
        found = Some(read(number, line)?.1);
        Ok(false)
    })?;
    Ok(found)
}

/// What the chain adds to an event.
struct Link {
    sequence: u64,
    previous: String,
    hash: String,
}

fn walk(directory: &Path, mut each: impl FnMut(u64, &[u8]) -> Result<bool, Broken>) -> Result<(), Broken> {
    let path = directory.join(FILE);
    let io = |fault| Broken::Io(path.clone(), fault);
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(&path).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = io::Read::take(&mut reader, MAX_LINE as u64).read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(());
        }
        if read == MAX_LINE {
            return Err(Broken::NotAnEvent(number));
        }
        if !each(number, &line)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read(number: u64, line: &[u8]) -> Result<(Link, Event), Broken> {
    let wrong = || Broken::NotAnEvent(number);
    let mut members = countersign_verify::json::object(line).map_err(|_| wrong())?;
    let version = members.remove("v").and_then(|version| version.as_u64()).ok_or_else(wrong)?;
    if version != u64::from(SCHEMA_VERSION) {
        return Err(Broken::Version(number, version));
    }
    let sequence = members.remove("seq").and_then(|sequence| sequence.as_u64()).ok_or_else(wrong)?;
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong()),
    };
    let (previous, hash) = (text("prev")?, text("hash")?);
    let event = serde_json::from_value(Value::Object(members)).map_err(|_| wrong())?;
    Ok((Link { sequence, previous, hash }, event))
}

fn follow(head: &Head, number: u64, line: &[u8]) -> Result<Head, Broken> {
    let (link, _) = read(number, line)?;
    let tail = format!(",\"hash\":\"{}\"}}", link.hash);
    let covered = line.strip_suffix(tail.as_bytes()).ok_or(Broken::Edited(number))?;
    if hash(covered) != link.hash {
        return Err(Broken::Edited(number));
    }
    if link.sequence != head.next || link.previous != head.hash {
        return Err(Broken::Unchained(number));
    }
    Ok(Head { next: head.next + 1, hash: link.hash })
}
