//! The contents of a token of ours. The shape itself is in `countersign-verify`, so that writer and reader agree.

mod access;
mod compact;

pub use access::{Grant, Opens, claims};
pub use compact::CompactToken;
