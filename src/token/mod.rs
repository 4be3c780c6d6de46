//! The contents of a token of ours. The shape itself is in `countersign-verify`, so that writer and reader agree.

mod access;
mod compact;
mod shape;

pub use access::{Grant, Opens};
pub use compact::CompactToken;
pub use shape::{LifetimeRule, TokenShape};
