//! The audit log: exactly one event for each exchange, on every exit, in a chain whose edits, deletions and reorderings
//! show, whose checkpoints are signed, and whose end is known elsewhere. Owns the shape of an event and the files; must
//! never hold a token or a secret.

mod event;
mod follow;
mod line;
mod log;
mod seal;
mod segment;
mod trail;
mod upkeep;
mod verify;

pub use event::{Asked, Check, Event, EventKind, Granted, Outcome, Refused, SCHEMA_VERSION, Subject};
pub use follow::AuditFollower;
pub use line::{Broken, Checkpoint, LineContent, Note};
pub use log::{AuditError, AuditLog, Keeping, LogFigures, Opening, Seal, SealAnswer};
pub use trail::{AuditTrail, GrantWritten};
pub use verify::{Report, Sealing, find, verify};

impl LineContent {
    /// Time of the line, in seconds since 1970.
    #[must_use]
    pub fn time(&self) -> i64 {
        match self {
            Self::Event(event) => event.time,
            Self::Note(_, time) => *time,
        }
    }
}
