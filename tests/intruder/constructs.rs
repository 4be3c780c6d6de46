//! As `alters.rs`: code that would make a stage, or the proof of a check, without having passed it. A file of its own, because
//! the compiler looks at private constructors only where everything else is right.

use super::{AuthorizedExchange, BoundExchange, Issued};
use crate::assertion::{SubjectToken, Verified};
use crate::domain::{Scopes, Timestamp, Workload};
use crate::rates::{WithinIssuerRate, WithinWorkloadRate};
use crate::revocation::{Fresh, NotSuspended};
use crate::token::{CompactToken, TokenShape};
use countersign_verify::jws::Payload;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};
use std::sync::Arc;

fn vouch_for_claims_that_nobody_signed(claims: Map<String, Value>) -> Payload {
    Payload { 0: claims } // refused: E0451
}

fn take_another_workload_for_the_one_that_was_verified(
    verified: Verified<SubjectToken>,
    workload: Arc<Workload>,
) -> Verified<SubjectToken> {
    Verified { workload, ..verified } // refused: E0451
}

fn authorize_without_policy(bound: BoundExchange, scopes: Scopes, rate: WithinIssuerRate) -> AuthorizedExchange {
    AuthorizedExchange { bound, scopes, expires: Timestamp::MAX, purpose_tested: true, _issuer_rate: rate } // refused: E0451
}

fn respond_without_a_record(token: CompactToken, shape: TokenShape, scope: String) -> Issued {
    Issued { token, shape, expires_in: 1, scope, algorithm: Algorithm::Es256, key: None } // refused: E0451
}

fn skip_the_rate_check_of_the_workload() -> WithinWorkloadRate {
    WithinWorkloadRate { _checked: () } // refused: E0451
}

fn skip_the_rate_check_of_the_issuer() -> WithinIssuerRate {
    WithinIssuerRate { _checked: () } // refused: E0451
}

fn skip_the_suspension_check() -> NotSuspended {
    NotSuspended { _looked_up: () } // refused: E0451
}

fn skip_the_freshness_check() -> Fresh {
    Fresh { position: 0 } // refused: E0451
}
