//! What others build on, kept as it is: the table of errors, the metadata, the claims of a token. A change shows here.

use crate::support::*;
use countersign::assertion::{AssertionError, KeyFault, ProofFault};
use countersign::client::ClientError;
use countersign::error::{Error, Unavailable};
use countersign::form::{CredentialsError, HttpError, Parameter, RequestError, Required, TaskParameter};
use countersign::rates::Throttled;
use countersign::store::StoreError;
use countersign_verify::Refusal;
use countersign_verify::dpop::ProofError;
use countersign_verify::jws::EnvelopeError;
use countersign_verify::key::NoKey;
use countersign_verify::revocation::Kind;
use serde_json::Value;

fn every_error() -> Vec<Error> {
    let requests = [
        RequestError::Form,
        RequestError::Http(HttpError::ContentType),
        RequestError::Http(HttpError::TooLarge),
        RequestError::Http(HttpError::TooSlow),
        RequestError::TooMany,
        RequestError::Http(HttpError::Query),
        RequestError::Http(HttpError::Host),
        RequestError::Repeated(Parameter::Scope),
        RequestError::Missing(Required::GrantType),
        RequestError::Missing(Required::SubjectToken),
        RequestError::Missing(Required::SubjectTokenType),
        RequestError::Missing(Required::Token),
        RequestError::GrantType,
        RequestError::SubjectTokenType,
        RequestError::RequestedTokenType,
        RequestError::ActorPair,
        RequestError::Actor,
        RequestError::Resource,
        RequestError::NoTarget,
        RequestError::TooManyTargets,
        RequestError::Http(HttpError::UriTooLong),
        RequestError::Http(HttpError::HeadTooLarge),
        RequestError::UnknownTaskParameter,
        RequestError::TaskParameter(TaskParameter::Purpose),
        RequestError::TaskParameter(TaskParameter::Budget),
        RequestError::TaskParameter(TaskParameter::Deadline),
        RequestError::TaskParameter(TaskParameter::Target),
        RequestError::NoTaskOpened,
        RequestError::Lifetime,
        RequestError::Scope,
        RequestError::AuthorizationDetails,
        RequestError::Dpop,
        RequestError::Credentials(CredentialsError::Scheme),
        RequestError::Credentials(CredentialsError::SeveralMethods),
        RequestError::Credentials(CredentialsError::Mismatch),
        RequestError::Credentials(CredentialsError::AssertionPair),
        RequestError::Credentials(CredentialsError::AssertionType),
        RequestError::Missing(Required::ClientId),
    ];
    let assertions = [
        AssertionError::Envelope(EnvelopeError::NotCompact),
        AssertionError::UnknownIssuer,
        AssertionError::DeclaredType,
        AssertionError::Algorithm,
        AssertionError::HeaderMember,
        AssertionError::Key(NoKey::UnknownKid),
        AssertionError::Signature,
        AssertionError::Type,
        AssertionError::Claim("exp".into()),
        AssertionError::Audience,
        AssertionError::Expired,
        AssertionError::NotYetValid,
        AssertionError::Lifetime,
        AssertionError::NotAccepted,
        AssertionError::OwnToken(Refusal::Signature),
        AssertionError::Withdrawn,
        AssertionError::Revoked,
        AssertionError::Bound,
        AssertionError::Keys(KeyFault::NoneFresh),
    ];
    let rest = [
        Error::Proof(ProofFault::Several),
        Error::Proof(ProofFault::Invalid(ProofError::Type)),
        Error::Proof(ProofFault::Invalid(ProofError::Uri)),
        Error::Proof(ProofFault::Invalid(ProofError::Time)),
        Error::Proof(ProofFault::Required),
        Error::Proof(ProofFault::OtherKey),
        Error::Proof(ProofFault::Replayed),
        Error::SeveralTargets,
        Error::OutsideTask,
        Error::ConfirmationRequired,
        Error::TaskInTask,
        Error::TaskSpent,
        Error::TaskIdle,
        Error::TooManyTasks,
        Error::TaskUnknown,
        Error::Suspended(Kind::Workload),
        Error::Suspended(Kind::Target),
        Error::Client(ClientError::Suspended),
        Error::Client(ClientError::Required),
        Error::Client(ClientError::Refused),
        Error::Client(ClientError::Replayed),
        Error::Client(ClientError::Grant),
        Error::Client(ClientError::Throttled),
        Error::Client(ClientError::Assertion(AssertionError::Signature)),
        Error::Client(ClientError::Assertion(AssertionError::Audience)),
        Error::Client(ClientError::Assertion(AssertionError::Expired)),
        Error::Client(ClientError::Assertion(AssertionError::NotYetValid)),
        Error::Client(ClientError::Assertion(AssertionError::Type)),
        Error::TargetNeedsClient,
        Error::NotItsAudience,
        Error::LineageTooLong,
        Error::TokenTooLarge,
        Error::UnknownTarget,
        Error::TargetDenied,
        Error::ScopeDenied,
        Error::Replayed,
        Error::Throttled(Throttled::Network),
        Error::Throttled(Throttled::InFlight),
        Error::Throttled(Throttled::Workload),
        Error::Throttled(Throttled::Issuer),
        Error::Unavailable(Unavailable::Store(StoreError::Full)),
        Error::Unavailable(Unavailable::Audit),
        Error::Unavailable(Unavailable::Signing),
        Error::Unavailable(Unavailable::Entropy),
        Error::Unavailable(Unavailable::Busy),
    ];
    requests.map(Error::from).into_iter().chain(assertions.map(Error::from)).chain(rest).collect()
}

#[test]
fn the_table_of_errors() {
    let mut table = String::new();
    for error in every_error() {
        let wire = error.wire();
        table.push_str(&format!(
            "{:<34} {} {} {} — {}\n",
            error.reason(),
            wire.status,
            wire.error,
            wire.reason,
            wire.description
        ));
        let allowed = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        assert!(
            allowed(wire.description) && allowed(wire.error) && allowed(wire.reason),
            "RFC 6749 §5.2: {}",
            wire.description
        );
        assert_eq!(wire.status == 503, error.is_unavailable(), "{error:?}");
        for reason in [wire.reason, error.reason()] {
            assert!(countersign::error::page(reason).is_some(), "docs/reasons/{reason}.md");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_metadata() {
    let broker = TestBroker::new();
    let document = send(broker.address, b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: x\r\n\r\n");
    insta::assert_json_snapshot!(document.json);
}

#[test]
fn the_claims_of_a_token_and_of_its_child() {
    use base64::Engine as _;
    let broker = TestBroker::new();
    let first = broker.exchange(&Token::github().sign(), &[]).token();
    let form = [
        ("grant_type", GRANT),
        ("subject_token", first.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("audience", LEDGER),
    ];
    let child = broker.post_as("orders-api", "/token", &form).token();
    let read = |token: &str, part: usize| -> Value {
        let bytes =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap();
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        let named = ["jti", "kid"];
        hide(&mut value, &named);
        value
    };
    insta::assert_json_snapshot!([read(&first, 0), read(&first, 1), read(&child, 1)]);
}

/// Random values are hidden, and everything else is told.
fn hide(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if names.contains(&name.as_str()) || name == "task" {
                    *value = Value::String("…".to_owned());
                }
                hide(value, names);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, names)),
        _ => {}
    }
}
