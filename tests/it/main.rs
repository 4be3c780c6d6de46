//! The integration tests: one binary, because linking is slow. Each starts a whole broker over HTTP, with a clock to
//! advance, and issuers that sign real tokens.
#![expect(unreachable_pub, reason = "a test crate is nobody's library")]
#![expect(clippy::too_many_lines, reason = "a test is as long as its table of cases, or as the story that it tells")]
#![expect(clippy::disallowed_methods, reason = "tests wait for real processes and read their own environment")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod architecture;
mod assertions;
mod audit;
mod bounds;
mod callers;
mod cli;
mod cli_operate;
mod compose;
mod config;
mod crash;
mod docs;
mod exchange;
mod feed;
mod fuzz;
mod http;
mod issuer_contract;
mod issuer_keys;
mod keys;
mod kinds;
mod limits;
mod operate;
mod outage;
mod parameters;
mod policy;
mod proofs;
mod properties;
mod prose;
mod replicas;
mod revocations;
mod secured;
mod signing;
mod snapshots;
mod status;
mod store;
mod support;
mod tasks;
mod threats;
mod tokens;
