//! Reads the log as it grows.

use super::line::{self, Broken, LineContent, LinePlace};
use super::segment::{self, Segment};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Size of one read, in bytes.
const CHUNK: u64 = 1024 * 1024;

/// A reader that stands behind the last line that it gave.
pub struct AuditFollower {
    directory: PathBuf,
    segment: Option<Segment>,
    /// Length of the part of the segment that was returned, in bytes.
    read: u64,
    number: u64,
}

impl AuditFollower {
    /// Starts behind everything in `directory`, and gives the last `count` lines.
    ///
    /// # Errors
    /// [`Broken`] when the log cannot be read.
    pub fn last(directory: &Path, count: usize) -> Result<(Self, Vec<LineContent>), Broken> {
        let segments = segment::list(directory)?;
        // As many segments as it takes, from the last one back.
        for start in (0..segments.len().max(1)).rev() {
            let segment = segments.get(start).cloned();
            let mut follower = Self { directory: directory.to_owned(), segment, read: 0, number: 0 };
            let mut last = VecDeque::new();
            loop {
                let lines = follower.more()?;
                if lines.is_empty() {
                    break;
                }
                last.extend(lines);
                last.drain(..last.len().saturating_sub(count));
            }
            if last.len() == count || start == 0 {
                return Ok((follower, last.into()));
            }
        }
        Ok((Self { directory: directory.to_owned(), segment: None, read: 0, number: 0 }, Vec::new()))
    }

    /// The whole lines that have come since, some of them where there are many.
    ///
    /// # Errors
    /// [`Broken`] when the log cannot be read.
    pub fn more(&mut self) -> Result<Vec<LineContent>, Broken> {
        if self.segment.is_none() {
            self.segment = segment::list(&self.directory)?.into_iter().next();
        }
        let Some(segment) = self.segment.clone() else { return Ok(Vec::new()) };
        // Looked for first: what is written here before the next one begins must not be missed.
        let next = segment::list(&self.directory)?.into_iter().find(|other| other.number > segment.number);
        let io = |fault| Broken::Io(segment.path.clone(), fault);
        let mut bytes = Vec::new();
        let mut file = File::open(&segment.path).map_err(io)?;
        file.seek(SeekFrom::Start(self.read)).map_err(io)?;
        file.take(CHUNK).read_to_end(&mut bytes).map_err(io)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole == 0 {
            return match next {
                Some(next) => {
                    (self.segment, self.read, self.number) = (Some(next), 0, 0);
                    self.more()
                }
                None => Ok(Vec::new()),
            };
        }
        self.read += whole as u64;
        let lines = bytes.get(..whole - 1).unwrap_or_default().split(|byte| *byte == b'\n');
        let name = segment.name();
        lines
            .map(|line| {
                self.number += 1;
                Ok(line::read(line, LinePlace { segment: &name, number: self.number })?.content)
            })
            .collect()
    }
}
