//! The audit log: exactly one event for each exchange, on every exit, chained so that an edit, a deletion and a
//! reordering show. Owns the shape of an event and the files; must never hold a token or a secret.

mod chain;
mod event;
mod log;
mod trail;

pub use chain::{Broken, Head, Report, find, verify};
pub use event::{Asked, Check, Event, Granted, Kind, Outcome, Refused, SCHEMA_VERSION, Subject};
pub use log::{AuditError, AuditLog};
pub use trail::Trail;
