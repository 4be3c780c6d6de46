//! The form of RFC 8693 §2.1 as an [`ExchangeRequest`]: every parameter is honoured, or refused with the code it has.

use super::task::TaskTerms;
use crate::assertion::{SubjectToken, Untrusted};
use crate::audit;
use crate::domain::{Lifetime, Scopes, TokenType, is_absolute_uri};
use crate::form::{Form, Parameter, RequestError, Required};
use crate::token::TokenShape;

/// The grant type of RFC 8693 §2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The grant type of RFC 6749 §4.4, for clients that speak no RFC 8693: the client is the subject.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";
/// The suffix of a scope by which such clients ask for every scope of a target.
const DEFAULT_SCOPE: &str = "/.default";

/// A well-formed request. Nothing in it is believed yet.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// The subject token; none where the caller itself is the subject.
    subject_token: Option<Untrusted<SubjectToken>>,
    requested: Requested,
}

/// The contents of a request. They cannot be changed once they are read.
#[derive(Debug)]
pub(super) struct Requested {
    targets: Vec<String>,
    token_type: Option<TokenType>,
    scopes: Scopes,
    lifetime: Option<Lifetime>,
    claimed_client: Option<String>,
    task: TaskTerms,
    every_scope: Option<String>,
}

impl Requested {
    /// The names of the target: every `audience` and `resource` value.
    pub(super) fn targets(&self) -> &[String] {
        &self.targets
    }

    /// The type of token asked for; any if there is none.
    pub(super) fn token_type(&self) -> Option<TokenType> {
        self.token_type
    }

    /// The scopes asked for; none if all that policy permits are asked for.
    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The lifetime asked for.
    pub(super) fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// The `client_id` that was sent, which proves nothing.
    pub(super) fn claimed_client(&self) -> Option<&str> {
        self.claimed_client.as_deref()
    }

    /// The terms of the task to open.
    pub(super) fn task(&self) -> &TaskTerms {
        &self.task
    }

    /// The scope that stands for every scope of the target, as the client wrote it.
    pub(super) fn every_scope(&self) -> Option<&str> {
        self.every_scope.as_deref()
    }
}

impl ExchangeRequest {
    /// Reads `form`. `unsupported` is what the head of the request asks for and nobody here does.
    ///
    /// # Errors
    /// [`RequestError`] for the first thing that is wrong.
    pub fn read(form: &Form, unsupported: Option<RequestError>) -> Result<Self, RequestError> {
        let exchange = match form.single(Parameter::GrantType)? {
            None => return Err(RequestError::Missing(Required::GrantType)),
            Some(GRANT_TYPE) => true,
            Some(CLIENT_CREDENTIALS) => false,
            Some(_) => return Err(RequestError::GrantType),
        };
        if let Some(unsupported) = unsupported {
            return Err(unsupported);
        }
        refuse_unsupported(form)?;
        let subject_token = if exchange { Some(subject_token(form)?) } else { None };
        let requested_type = form.single(Parameter::RequestedTokenType)?.map(str::parse::<TokenType>).transpose();
        let requested_type = requested_type.map_err(|_| RequestError::RequestedTokenType)?;
        if requested_type.is_some_and(|requested| !TokenShape::any_satisfies(requested)) {
            return Err(RequestError::RequestedTokenType);
        }
        let lifetime = form.single(Parameter::Lifetime)?.map(seconds).transpose()?;
        let (targets, scope, every_scope) = targets_and_scope(form, exchange)?;
        let requested = Requested {
            targets,
            token_type: requested_type,
            scopes: scope.parse().map_err(|_| RequestError::Scope)?,
            lifetime,
            claimed_client: form.single(Parameter::ClientId)?.map(|id| id.chars().take(256).collect()),
            task: TaskTerms::read(form)?,
            every_scope,
        };
        Ok(Self { subject_token, requested })
    }

    /// Returns the requested target and scope, for the audit log.
    pub(super) fn summary(&self) -> audit::Asked {
        audit::Asked {
            targets: self.requested.targets.iter().map(|name| name.chars().take(256).collect()).collect(),
            scope: self.requested.scopes.to_string(),
            lifetime: self.requested.lifetime.map(Lifetime::seconds),
        }
    }

    pub(super) fn into_parts(self) -> (Option<Untrusted<SubjectToken>>, Requested) {
        (self.subject_token, self.requested)
    }
}

fn subject_token(form: &Form) -> Result<Untrusted<SubjectToken>, RequestError> {
    let token = form.single(Parameter::SubjectToken)?.ok_or(RequestError::Missing(Required::SubjectToken))?;
    let declared =
        form.single(Parameter::SubjectTokenType)?.ok_or(RequestError::Missing(Required::SubjectTokenType))?;
    match declared.parse() {
        Ok(known @ (TokenType::AccessToken | TokenType::IdToken | TokenType::Jwt)) => {
            Ok(Untrusted::new(token.to_owned(), known))
        }
        _ => Err(RequestError::SubjectTokenType),
    }
}

/// Reads the targets and the scope (RFC 8693, RFC 8707). In the client_credentials grant, a scope `<target>/.default`
/// names the target if neither `audience` nor `resource` does.
fn targets_and_scope(form: &Form, exchange: bool) -> Result<(Vec<String>, &str, Option<String>), RequestError> {
    let scope = form.single(Parameter::Scope)?.unwrap_or_default();
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

/// Refuses parameters that this version does not support. Unknown parameters are ignored (RFC 6749 §3.2).
fn refuse_unsupported(form: &Form) -> Result<(), RequestError> {
    match (form.single(Parameter::ActorToken)?, form.single(Parameter::ActorTokenType)?) {
        (None, None) => {}
        (Some(_), Some(_)) => return Err(RequestError::Actor),
        _ => return Err(RequestError::ActorPair),
    }
    if form.single(Parameter::AuthorizationDetails)?.is_some() {
        return Err(RequestError::AuthorizationDetails);
    }
    Ok(())
}

fn targets(form: &Form) -> Result<Vec<String>, RequestError> {
    if form.all("resource").any(|resource| !is_absolute_uri(resource)) {
        return Err(RequestError::Resource);
    }
    let names = form.targets(&["audience", "resource"])?;
    if names.is_empty() { Err(RequestError::NoTarget) } else { Ok(names) }
}

fn seconds(text: &str) -> Result<Lifetime, RequestError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).and_then(Lifetime::new).ok_or(RequestError::Lifetime)
}
