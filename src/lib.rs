//! Countersign: a token exchange broker, an OAuth 2.0 Security Token Service (RFC 8693) for workloads.
//!
//! One exchange, told by the types that it passes through:
//!
//! 1. [`exchange::Presented`]: a form, perhaps credentials, an address. Nothing of it is believed.
//! 2. [`exchange::ExchangeRequest`]: the request is well formed and within size.
//! 3. [`exchange::Caller`]: the client, if the caller authenticated, by the one method that it is registered with.
//! 4. [`assertion::Verified`]: a trusted issuer vouches for an accepted workload; signature, `aud`, times and type are
//!    right.
//! 5. [`exchange::BoundExchange`]: subject, client, key and target belong together, and none of them is suspended.
//! 6. [`exchange::AuthorizedExchange`]: policy permits, within bounds.
//! 7. [`exchange::MintedToken`]: the claims are fixed and signed.
//! 8. [`exchange::Issued`]: its first use is reserved, and the grant is on the audit log. Only this leaves.
//!
//! [`exchange::Broker::exchange`] is that list; [`app`] puts a broker together from a configuration.
//! [`introspection`] is what happens to a token afterwards, and [`admin`] what an operator does.

pub mod admin;
pub mod app;
pub mod append;
pub mod assertion;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod domain;
pub mod error;
pub mod exchange;
pub mod files;
pub mod form;
pub mod http;
pub mod introspection;
pub mod policy;
pub mod rates;
pub mod revocation;
pub mod signing;
pub mod store;
pub mod telemetry;
pub mod token;
