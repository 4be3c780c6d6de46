//! The words of the field as types. No I/O, no clock and no randomness of its own, and nothing here imports another
//! part of the broker.

mod attribute;
mod chain_head;
mod confirmation;
mod digest;
mod entropy;
mod ids;
mod name_template;
mod network;
mod scope;
mod signing_key;
mod status;
mod target;
mod task;
mod time;
mod token_type;
mod workload;

pub use attribute::{
    AttributeDeclaration, AttributeFault, AttributeRecord, AttributeType, AttributeValue, AttributeValues, Attributes,
    ClaimPointer, MAX_ATTRIBUTE, MAX_SET, NoObject,
};
pub use chain_head::ChainHead;
pub use confirmation::confirmation_key;
pub use digest::{Digest, DigestKey, FirstUse, FirstUses, UsedOnce, sha256};
pub use entropy::{Entropy, NoEntropy, SystemEntropy};
pub use ids::{Audience, ClientId, DecisionId, IssuerName, Malformed, SpiffeId, TokenId, TrustDomain, WorkloadName};
pub use name_template::NameTemplate;
pub use network::Network;
pub use scope::{MAX_SCOPES, Scope, Scopes};
pub use signing_key::{JWKS_MAX_AGE, KeyRecord, KeyState, PUBLISHED_BEFORE_USE, Purpose, UnknownPurpose};
pub use status::{ListId, StatusRow};
pub use target::{Target, Targets, is_absolute_uri};
pub use task::{MAX_BUDGET, TaskRecord, TaskState};
pub use time::{Clock, Lifetime, MAX_SKEW, Sleep, SystemClock, Timestamp, within};
pub use token_type::TokenType;
pub use workload::Workload;
