//! What is inside a token of ours. The shape itself is in `countersign-verify`, so that who writes and who reads agree.

mod access;

pub use access::{Grant, Opens, claims};
