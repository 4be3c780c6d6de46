//! The errors of a request before anything in it is believed. A malformed request is always explained.

macro_rules! parameters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A parameter of a form that may be sent once.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Parameter { $($(#[$doc])* $variant,)* }

        impl Parameter {
            /// Every parameter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The parameter's name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The description of a request that sent the parameter more than once.
            pub(crate) const fn repeated(self) -> &'static str {
                match self { $(Self::$variant => concat!($name, " was sent more than once; send it once"),)* }
            }
        }
    };
}

parameters! {
    /// RFC 6749 §4.4.2, RFC 8693 §2.1.
    GrantType = "grant_type",
    /// RFC 8693 §2.1.
    SubjectToken = "subject_token",
    /// RFC 8693 §2.1.
    SubjectTokenType = "subject_token_type",
    /// RFC 8693 §2.1.
    ActorToken = "actor_token",
    /// RFC 8693 §2.1.
    ActorTokenType = "actor_token_type",
    /// RFC 8693 §2.1.
    RequestedTokenType = "requested_token_type",
    /// RFC 8693 §2.1.
    Scope = "scope",
    /// RFC 9396 §2.
    AuthorizationDetails = "authorization_details",
    /// The lifetime asked for, in seconds; a parameter of this broker.
    Lifetime = "lifetime",
    /// The purpose of a task; a parameter of this broker.
    TaskPurpose = "task_purpose",
    /// The deadline of a task; a parameter of this broker.
    TaskDeadline = "task_deadline",
    /// The budget of a task; a parameter of this broker.
    TaskBudget = "task_budget",
    /// RFC 6749 §2.3.1.
    ClientId = "client_id",
    /// RFC 6749 §2.3.1.
    ClientSecret = "client_secret",
    /// RFC 7521 §4.2.
    ClientAssertion = "client_assertion",
    /// RFC 7521 §4.2.
    ClientAssertionType = "client_assertion_type",
    /// RFC 7009 §2.1, RFC 7662 §2.1.
    Token = "token",
    /// RFC 7009 §2.1, RFC 7662 §2.1.
    TokenTypeHint = "token_type_hint",
}

/// A parameter without which a request cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// `grant_type`.
    GrantType,
    /// `subject_token`, for the token exchange grant.
    SubjectToken,
    /// `subject_token_type`, for the token exchange grant.
    SubjectTokenType,
    /// `client_id`, beside `client_secret`.
    ClientId,
    /// `token`, for introspection and revocation.
    Token,
}

impl Required {
    fn name(self) -> &'static str {
        match self {
            Self::GrantType => "grant_type",
            Self::SubjectToken => "subject_token",
            Self::SubjectTokenType => "subject_token_type",
            Self::ClientId => "client_id",
            Self::Token => "token",
        }
    }
}

/// A parameter that opens a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskParameter {
    /// `task_purpose`.
    Purpose,
    /// `task_deadline`.
    Deadline,
    /// `task_budget`.
    Budget,
    /// `task_target`.
    Target,
}

impl TaskParameter {
    fn name(self) -> &'static str {
        match self {
            Self::Purpose => "task_purpose",
            Self::Deadline => "task_deadline",
            Self::Budget => "task_budget",
            Self::Target => "task_target",
        }
    }
}

/// A request that HTTP itself makes unusable, or that is larger or slower than this broker reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The content type is not a form.
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
    /// The body arrived too slowly.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The request names more than one host.
    #[error("the request names more than one host")]
    Host,
    /// Parameters were sent in the request target.
    #[error("parameters were sent in the URL")]
    Query,
}

/// A malformed request, or one that asks for something this version does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request cannot be read as HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The body is not form-encoded UTF-8.
    #[error("the body is not form-encoded UTF-8")]
    Form,
    /// The form has more parameters than the limit.
    #[error("the form has more parameters than the limit")]
    TooMany,
    /// A parameter was sent more than once.
    #[error("`{}` was sent more than once", .0.name())]
    Repeated(Parameter),
    /// A required parameter is missing or empty.
    #[error("`{}` is missing or empty", .0.name())]
    Missing(Required),
    /// The grant type is not supported.
    #[error("the grant type is neither token exchange nor client_credentials")]
    GrantType,
    /// `subject_token_type` is not supported.
    #[error("`subject_token_type` names a token type that is not supported")]
    SubjectTokenType,
    /// `requested_token_type` is not supported.
    #[error("`requested_token_type` names a token type that is not supported")]
    RequestedTokenType,
    /// `actor_token` and `actor_token_type` do not come together.
    #[error("`actor_token` and `actor_token_type` were not sent together")]
    ActorPair,
    /// An actor token was sent.
    #[error("an actor token was sent, and this version does not support delegation")]
    Actor,
    /// `resource` is not an absolute URI without a fragment.
    #[error("`resource` is not an absolute URI without a fragment")]
    Resource,
    /// Neither `audience` nor `resource` was sent.
    #[error("neither `audience` nor `resource` was sent")]
    NoTarget,
    /// The form names more targets than the limit.
    #[error("the form has more `audience`, `resource` or `task_target` values than the limit")]
    TooManyTargets,
    /// A parameter begins with `task_` and is unknown.
    #[error("a parameter that begins with `task_` is unknown")]
    UnknownTaskParameter,
    /// A parameter that opens a task is malformed.
    #[error("`{}` is malformed", .0.name())]
    TaskParameter(TaskParameter),
    /// Task parameters were sent, and no task is opened.
    #[error("a `task_` parameter was sent, and the target is not the broker itself, so no task is opened")]
    NoTaskOpened,
    /// `lifetime` is not a number of seconds.
    #[error("`lifetime` is not a whole number of seconds from 1")]
    Lifetime,
    /// `scope` is malformed.
    #[error("`scope` is malformed")]
    Scope,
    /// `authorization_details` was sent.
    #[error("`authorization_details` was sent, and this version does not support it")]
    AuthorizationDetails,
    /// A DPoP proof was sent to an endpoint that takes none.
    #[error("a DPoP proof was sent to an endpoint that takes none")]
    Dpop,
    /// The client's credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Client credentials that cannot be read, or that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// `Authorization` has another scheme than Basic.
    #[error("`Authorization` has another scheme than Basic")]
    Scheme,
    /// The client authenticated in more than one way.
    #[error("the client authenticated in more than one way")]
    SeveralMethods,
    /// `client_id` is not the client that authenticated.
    #[error("`client_id` is not the client that authenticated")]
    Mismatch,
    /// `client_assertion` and `client_assertion_type` do not come together.
    #[error("`client_assertion` and `client_assertion_type` were not sent together")]
    AssertionPair,
    /// `client_assertion_type` is unknown.
    #[error("`client_assertion_type` names a kind of assertion that is not supported")]
    AssertionType,
}
