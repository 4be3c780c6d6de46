//! Countersign: a token exchange broker, an OAuth 2.0 Security Token Service (RFC 8693) for workloads.
//!
//! One exchange, told by the types that it passes through:
//!
//! 1. [`exchange::Presented`]: a form, perhaps credentials, an address. Nothing is believed.
//! 2. [`exchange::ExchangeRequest`]: well formed, within size.
//! 3. [`client::Client`]: who is calling, if anyone says, by the one method that it is registered with.
//! 4. [`assertion::Verified`]: an issuer that is trusted vouches for a workload that is accepted; signature, `aud`, times
//!    and type hold.
//! 5. [`exchange::BoundExchange`]: subject, client and target belong together.
//! 6. [`exchange::AuthorizedExchange`]: policy permits, within bounds.
//! 7. [`exchange::MintedToken`]: claims fixed and signed.
//! 8. [`exchange::Issued`]: first use claimed, on the audit log. Only this leaves.
//!
//! [`exchange::Broker::exchange`] is that list; [`app`] puts a broker together from a configuration.

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
