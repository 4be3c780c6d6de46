//! The log's files: numbered segments of one chain, read from the first line to the last.

use super::line::{self, Broken, Line, LinePlace, MAX_LINE};
use crate::domain::ChainHead;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The name of the log of version 0.1: one file without an end. It becomes the first segment.
const BEFORE_SEGMENTS: &str = "chain.jsonl";

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
}

impl Segment {
    pub(super) fn new(directory: &Path, number: u32) -> Self {
        Self { number, path: directory.join(format!("{number:08}.jsonl")) }
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The segments in `directory`, oldest first. Other files are nobody's.
pub(super) fn list(directory: &Path) -> Result<Vec<Segment>, Broken> {
    let io = |fault| Broken::Io(directory.to_owned(), fault);
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == BEFORE_SEGMENTS {
            segments.push(Segment { number: 0, path });
        } else if let Some(number) = name.strip_suffix(".jsonl").filter(|number| number.len() == 8)
            && let Ok(number) = number.parse()
        {
            segments.push(Segment { number, path });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// Gives each line of `segment` to `each`, with whether it is whole, until that says stop. Zeros at the end were
/// reserved, and never written.
pub(super) fn walk(
    segment: &Segment,
    mut each: impl FnMut(LinePlace<'_>, &[u8], bool) -> Result<bool, Broken>,
) -> Result<bool, Broken> {
    let io = |fault| Broken::Io(segment.path.clone(), fault);
    let name = segment.name();
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(&segment.path).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = io::Read::take(&mut reader, MAX_LINE as u64).read_until(b'\n', &mut line).map_err(io)?;
        let place = LinePlace { segment: &name, number };
        let (whole, line) = match line.strip_suffix(b"\n") {
            Some(whole) => (true, whole),
            None => (false, without_zeros(&line)),
        };
        if read == 0 || (!whole && line.is_empty()) {
            return Ok(true);
        }
        if read == MAX_LINE {
            return Err(Broken::NotAnEvent(name, number));
        }
        if !each(place, line, whole)? {
            return Ok(false);
        }
        if !whole {
            return Ok(true);
        }
    }
    Ok(true)
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

/// The end of a segment.
pub(super) struct Tail {
    /// Length of the segment's whole lines together, in bytes.
    pub(super) length: u64,
    /// Bytes after the last whole line: a crash in the middle of a write.
    pub(super) torn: u64,
    /// Its last whole line, where it has one.
    pub(super) last: Option<Line>,
}

impl Tail {
    pub(super) fn head(&self) -> Option<ChainHead> {
        self.last.as_ref().map(|line| ChainHead { next: line.sequence + 1, hash: line.hash.clone() })
    }
}

/// Reads the end of `segment` from its end alone, so that opening the log does not take longer as it grows.
pub(super) fn tail(segment: &Segment) -> Result<Tail, Broken> {
    let io = |fault| Broken::Io(segment.path.clone(), fault);
    let mut file = File::open(&segment.path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    // What was reserved and not used can be longer than any line: look for where it begins.
    let written = end_of_zeros(&mut file, size).map_err(io)?;
    let start = written.saturating_sub(2 * MAX_LINE as u64);
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(written - start).read_to_end(&mut bytes).map_err(io)?;
    let mut whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // Of a line that goes over two pages a power cut can leave the second alone: zeros in it are no line either.
    loop {
        let before = bytes.get(..whole.saturating_sub(1)).unwrap_or_default();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if !before.get(start..).is_some_and(|line| line.contains(&0)) {
            break;
        }
        whole = start;
    }
    let torn = bytes.len().saturating_sub(whole) as u64;
    let lines = bytes.get(..whole.saturating_sub(1)).unwrap_or_default();
    let last = lines.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
    let last = last.map(|line| line::read(line, LinePlace { segment: &segment.name(), number: 0 })).transpose()?;
    Ok(Tail { length: written - torn, torn, last })
}

fn end_of_zeros(file: &mut File, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let length = usize::try_from(end - start).unwrap_or(0);
        let Some(part) = block.get_mut(..length) else { break };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
