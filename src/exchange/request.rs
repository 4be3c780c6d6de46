//! The form of RFC 8693 §2.1 as an [`ExchangeRequest`]: every parameter is honoured, or refused with the code it has.

use super::Form;
use super::task::Terms;
use crate::assertion::{SubjectToken, Untrusted};
use crate::audit;
use crate::domain::{Lifetime, Scopes, TokenType, is_absolute_uri};
use crate::error::Wire;

/// The grant type of RFC 8693 §2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The grant type of RFC 6749 §4.4, for clients that speak no RFC 8693: the client is the subject.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";
/// What such clients put behind the name of a target to ask for every scope that they may have.
const DEFAULT_SCOPE: &str = "/.default";

/// A well-formed request. Nothing in it is believed yet.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// The subject token; none where the caller itself is the subject.
    subject_token: Option<Untrusted<SubjectToken>>,
    asked: Asked,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) targets: Vec<String>,
    pub(super) scopes: Scopes,
    pub(super) lifetime: Option<Lifetime>,
    pub(super) claimed_client: Option<String>,
    /// What a task is to be opened with.
    pub(super) task: Terms,
    /// The scope that stands for every scope of the target, as it was asked for.
    pub(super) every_scope: Option<String>,
}

/// What is wrong with a request. A malformed request is always explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not form-encoded UTF-8.
    #[error("the body is not form-encoded UTF-8")]
    Form,
    /// The content type is another one.
    #[error("the content type is not application/x-www-form-urlencoded in UTF-8")]
    ContentType,
    /// The body is too large.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// The request target is too long.
    #[error("the request target is longer than the limit")]
    UriTooLong,
    /// The header fields are too large.
    #[error("the header fields are larger than the limit")]
    HeadTooLarge,
    /// The body came too slowly.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// More parameters than are read.
    #[error("there are more parameters than are read")]
    TooMany,
    /// More than one host.
    #[error("the request names more than one host")]
    Host,
    /// Parameters in the request target.
    #[error("parameters were sent in the URL")]
    Query,
    /// Sent more than once.
    #[error("`{0}` was sent more than once")]
    Repeated(&'static str),
    /// Not sent, or empty.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Another grant type.
    #[error("the grant type is neither token exchange nor client_credentials")]
    GrantType,
    /// A token type that is unknown or not taken.
    #[error("`{0}` names a token type that is not supported here")]
    TokenType(&'static str),
    /// `actor_token` and `actor_token_type` do not come together.
    #[error("`actor_token` and `actor_token_type` were not sent together")]
    ActorPair,
    /// Delegation.
    #[error("an actor token was sent, and delegation is not supported by this version")]
    Actor,
    /// `resource` is no absolute URI without a fragment.
    #[error("`resource` is not an absolute URI without a fragment")]
    Resource,
    /// Neither `audience` nor `resource`.
    #[error("neither `audience` nor `resource` was sent")]
    NoTarget,
    /// More names of targets than are read.
    #[error("there are more `audience` and `resource` values than are read")]
    TooManyTargets,
    /// A parameter that begins with `task_` and is not known.
    #[error("a `task_` parameter was sent that is not known")]
    Task,
    /// A parameter of tasks that is malformed.
    #[error("`{0}` is malformed")]
    TaskParameter(&'static str),
    /// Terms of a task where none is opened.
    #[error("a `task_` parameter was sent, and the target is not the broker itself, so no task is opened")]
    NoTaskOpened,
    /// `lifetime` is no number of seconds.
    #[error("`lifetime` is not a whole number of seconds from 1")]
    Lifetime,
    /// `scope` is malformed.
    #[error("`scope` is malformed")]
    Scope,
    /// `authorization_details`.
    #[error("`authorization_details` was sent, and it is not supported by this version")]
    AuthorizationDetails,
    /// A DPoP proof where none is of use.
    #[error("a DPoP proof was sent where none is of use")]
    Dpop,
    /// `Authorization` of another scheme than Basic.
    #[error("the client used another scheme than Basic in `Authorization`")]
    ClientScheme,
    /// More than one way to authenticate.
    #[error("the client authenticated in more than one way")]
    SeveralMethods,
    /// `client_id` is not the client that authenticated.
    #[error("`client_id` is not the client that authenticated")]
    ClientMismatch,
    /// `client_assertion` and `client_assertion_type` do not come together.
    #[error("`client_assertion` and `client_assertion_type` were not sent together")]
    ClientAssertionPair,
    /// A `client_assertion_type` that is not known.
    #[error("`client_assertion_type` names a kind of assertion that is not supported here")]
    ClientAssertionType,
}

impl ExchangeRequest {
    /// Reads `form`. `unsupported` is what the head of the request asks for and nobody here does.
    ///
    /// # Errors
    /// [`RequestError`] for the first thing that is wrong.
    pub fn read(form: &Form, unsupported: Option<RequestError>) -> Result<Self, RequestError> {
        let exchange = match form.single("grant_type")? {
            None => return Err(RequestError::Missing("grant_type")),
            Some(GRANT_TYPE) => true,
            Some(CLIENT_CREDENTIALS) => false,
            Some(_) => return Err(RequestError::GrantType),
        };
        if let Some(unsupported) = unsupported {
            return Err(unsupported);
        }
        refuse_unsupported(form)?;
        let subject_token = if exchange { Some(subject_token(form)?) } else { None };
        match form.single("requested_token_type")?.map(str::parse) {
            None | Some(Ok(TokenType::AccessToken | TokenType::Jwt)) => {}
            Some(_) => return Err(RequestError::TokenType("requested_token_type")),
        }
        let lifetime = form.single("lifetime")?.map(seconds).transpose()?;
        let (targets, scope, every_scope) = targets_and_scope(form, exchange)?;
        let asked = Asked {
            targets,
            scopes: scope.parse().map_err(|_| RequestError::Scope)?,
            lifetime,
            claimed_client: form.single("client_id")?.map(|id| id.chars().take(256).collect()),
            task: Terms::read(form)?,
            every_scope,
        };
        Ok(Self { subject_token, asked })
    }

    /// What was asked for, for the audit log.
    pub(super) fn summary(&self) -> audit::Asked {
        audit::Asked {
            targets: self.asked.targets.iter().map(|name| name.chars().take(256).collect()).collect(),
            scope: self.asked.scopes.to_string(),
            lifetime: self.asked.lifetime.map(Lifetime::seconds),
        }
    }

    pub(super) fn into_parts(self) -> (Option<Untrusted<SubjectToken>>, Asked) {
        (self.subject_token, self.asked)
    }
}

fn subject_token(form: &Form) -> Result<Untrusted<SubjectToken>, RequestError> {
    let token = form.single("subject_token")?.ok_or(RequestError::Missing("subject_token"))?;
    let declared = form.single("subject_token_type")?.ok_or(RequestError::Missing("subject_token_type"))?;
    match declared.parse() {
        Ok(known @ (TokenType::AccessToken | TokenType::IdToken | TokenType::Jwt)) => {
            Ok(Untrusted::new(token.to_owned(), known))
        }
        _ => Err(RequestError::TokenType("subject_token_type")),
    }
}

/// What is asked for: by RFC 8693 and RFC 8707; in the client_credentials grant, where neither `audience` nor `resource` is
/// sent, also by a scope `<target>/.default`.
fn targets_and_scope(form: &Form, exchange: bool) -> Result<(Vec<String>, &str, Option<String>), RequestError> {
    let scope = form.single("scope")?.unwrap_or_default();
    let named = form.all("audience").chain(form.all("resource")).next().is_some();
    if !exchange
        && !named
        && let Some(target) = scope.strip_suffix(DEFAULT_SCOPE)
    {
        return if target.contains(' ') {
            Err(RequestError::Scope)
        } else {
            Ok((vec![target.to_owned()], "", Some(scope.to_owned())))
        };
    }
    Ok((targets(form)?, scope, None))
}

/// What a later version may do is refused here; unknown parameters are ignored (RFC 6749 §3.2).
fn refuse_unsupported(form: &Form) -> Result<(), RequestError> {
    match (form.single("actor_token")?, form.single("actor_token_type")?) {
        (None, None) => {}
        (Some(_), Some(_)) => return Err(RequestError::Actor),
        _ => return Err(RequestError::ActorPair),
    }
    if form.single("authorization_details")?.is_some() {
        return Err(RequestError::AuthorizationDetails);
    }
    Ok(())
}

fn targets(form: &Form) -> Result<Vec<String>, RequestError> {
    if form.all("resource").any(|resource| !is_absolute_uri(resource)) {
        return Err(RequestError::Resource);
    }
    let names = form.targets()?;
    if names.is_empty() { Err(RequestError::NoTarget) } else { Ok(names) }
}

fn seconds(text: &str) -> Result<Lifetime, RequestError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).and_then(Lifetime::new).ok_or(RequestError::Lifetime)
}

impl RequestError {
    /// What the caller is told: all of it.
    pub(crate) fn wire(self) -> Wire {
        let told = |status, error, reason, description| Wire { status, error, reason, description };
        let invalid = |reason, description| told(400, "invalid_request", reason, description);
        match self {
            Self::Form => invalid("form_malformed", "the body is not form-encoded UTF-8; percent-encode every value"),
            Self::ContentType => told(
                415,
                "invalid_request",
                "content_type_unsupported",
                "send the parameters as application/x-www-form-urlencoded in UTF-8",
            ),
            Self::TooLarge => {
                told(413, "invalid_request", "body_too_large", "the body is larger than this broker reads")
            }
            Self::UriTooLong => {
                told(414, "invalid_request", "uri_too_long", "the URL is longer than this broker reads")
            }
            Self::HeadTooLarge => {
                told(431, "invalid_request", "head_too_large", "the header fields are larger than this broker reads")
            }
            Self::TooSlow => told(408, "invalid_request", "body_too_slow", "the body did not arrive in time"),
            Self::TooMany => invalid("too_many_parameters", "there are more parameters than this broker reads"),
            Self::Host => invalid("host_ambiguous", "the request names more than one host; send one Host header"),
            Self::Query => invalid("query_not_allowed", "send the parameters in the body and not in the URL"),
            Self::Repeated(_) => {
                invalid("parameter_repeated", "a parameter other than audience and resource was sent more than once")
            }
            Self::Missing("grant_type") => invalid("grant_type_missing", "grant_type is missing"),
            Self::Missing("subject_token") => invalid("subject_token_missing", "subject_token is missing or empty"),
            Self::Missing("subject_token_type") => {
                invalid("subject_token_type_missing", "subject_token_type is missing or empty")
            }
            Self::Missing("client_id") => invalid("client_id_missing", "client_secret was sent without client_id"),
            Self::Missing("token") => invalid("token_missing", "token is missing or empty"),
            Self::Missing(_) => invalid("parameter_missing", "a required parameter is missing or empty"),
            Self::GrantType => told(
                400,
                "unsupported_grant_type",
                "grant_type_unsupported",
                "grant_type must be urn:ietf:params:oauth:grant-type:token-exchange or client_credentials",
            ),
            Self::TokenType("subject_token_type") => invalid(
                "subject_token_type_unsupported",
                "subject_token_type must be the URN of jwt, of id_token, or of access_token for a token of this broker",
            ),
            Self::TokenType(_) => invalid(
                "requested_token_type_unsupported",
                "requested_token_type must be the URN of access_token or of jwt",
            ),
            Self::ActorPair => {
                invalid("actor_token_incomplete", "actor_token and actor_token_type must be sent together")
            }
            Self::Actor => invalid(
                "actor_token_unsupported",
                "actor tokens are not supported by this version; leave actor_token out",
            ),
            Self::Resource => {
                told(400, "invalid_target", "resource_malformed", "resource must be an absolute URI without a fragment")
            }
            Self::NoTarget => {
                told(400, "invalid_target", "target_missing", "name one target with audience or resource")
            }
            Self::TooManyTargets => told(
                400,
                "invalid_target",
                "too_many_targets",
                "there are more audience and resource values than this broker reads",
            ),
            Self::Task => invalid(
                "task_parameter_unknown",
                "a task_ parameter is not known; there are task_purpose, task_deadline, task_budget and task_target",
            ),
            Self::TaskParameter("task_purpose") => {
                invalid("task_parameter_malformed", "task_purpose must be at most 256 printable characters")
            }
            Self::TaskParameter("task_budget") => {
                invalid("task_parameter_malformed", "task_budget must be a whole number from 1 to 10000")
            }
            Self::TaskParameter(_) => invalid(
                "task_parameter_malformed",
                "task_deadline must be a time in whole seconds since 1970 that lies ahead",
            ),
            Self::NoTaskOpened => invalid(
                "task_not_opened",
                "task_ parameters open a task: name this broker itself as the audience, or leave them out",
            ),
            Self::Lifetime => invalid("lifetime_malformed", "lifetime must be a whole number of seconds from 1"),
            Self::Scope => told(
                400,
                "invalid_scope",
                "scope_malformed",
                "scope must be at most 32 names of printable ASCII, separated by one space each",
            ),
            Self::AuthorizationDetails => told(
                400,
                "invalid_authorization_details",
                "authorization_details_unsupported",
                "authorization_details is not supported by this version; use scope",
            ),
            Self::Dpop => {
                invalid("dpop_unsupported", "a DPoP proof is of no use at this endpoint; leave the DPoP header out")
            }
            Self::ClientScheme => told(
                401,
                "invalid_client",
                "client_method_unsupported",
                "this way to authenticate is not supported; use Basic in Authorization, or client_secret or client_assertion in the body",
            ),
            Self::SeveralMethods => {
                invalid("several_client_methods", "the client authenticated in more than one way; use one")
            }
            Self::ClientMismatch => {
                invalid("client_id_mismatch", "client_id is not the client that authenticated; leave it out")
            }
            Self::ClientAssertionPair => invalid(
                "client_assertion_incomplete",
                "client_assertion and client_assertion_type must be sent together",
            ),
            Self::ClientAssertionType => invalid(
                "client_assertion_type_unsupported",
                "client_assertion_type must be the URN of jwt-bearer, or of jwt-spiffe for a JWT-SVID",
            ),
        }
    }
}
