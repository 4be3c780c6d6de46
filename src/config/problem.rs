//! The problems of a configuration, each with its place and what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in the line, from 1.
    pub column: usize,
    /// A sentence without a full stop: what is wrong, and what to do.
    pub message: String,
}

/// All problems of one file.
#[derive(Debug, Clone)]
pub struct Problems {
    path: PathBuf,
    line_starts: Vec<usize>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn of(path: &Path, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { path: path.to_owned(), line_starts: starts.collect(), list: Vec::new() }
    }

    pub(super) fn unreadable(path: &Path, fault: &std::io::Error) -> Self {
        let mut problems = Self::of(path, "");
        problems.add(0..0, format!("the file cannot be read ({fault}); name an existing one with `--config`"));
        problems
    }

    pub(super) fn add(&mut self, place: Range<usize>, message: impl Into<String>) {
        let line = self.line_starts.partition_point(|start| *start <= place.start).max(1);
        let column = place.start - self.line_starts.get(line - 1).copied().unwrap_or(0) + 1;
        let problem = Problem { line, column, message: message.into() };
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// Returns true if there is no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems in the order of the file.
    #[must_use]
    pub fn sorted(&self) -> Vec<Problem> {
        let mut list = self.list.clone();
        list.sort_by_key(|problem| (problem.line, problem.column));
        list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            writeln!(out, "{}:{}:{}: {}", self.path.display(), problem.line, problem.column, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
