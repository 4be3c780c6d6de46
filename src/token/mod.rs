//! What is inside a token of ours. The shape itself is in `countersign-verify`, so that who writes and who reads agree.

mod access;
mod compact;

pub use access::{Grant, Opens, claims};
pub use compact::CompactToken;
