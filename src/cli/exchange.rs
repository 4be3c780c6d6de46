//! `countersign exchange`: a client.

use super::output::Output;
use super::token_source::{TokenSource, variable};
use super::wire::{HttpClient, refusal};
use super::{Failure, output};
use crate::domain::{Clock as _, SystemClock, TokenType};
use crate::exchange::GRANT_TYPE;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exchange a token at a broker.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign exchange --broker https://sts.acme.example --audience https://orders.acme.example \\
      --from github-actions
  countersign exchange --broker https://sts.acme.example --audience https://orders.acme.example \\
      --scope orders:read --token-file /var/run/secrets/token --json")]
pub(super) struct Exchange {
    /// The broker's issuer identifier.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// The audience of the target.
    #[arg(long, value_name = "NAME", required_unless_present = "resource")]
    audience: Option<String>,
    /// A resource of the target (RFC 8707).
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Scopes, separated by spaces. Default: every scope that policy permits.
    #[arg(long)]
    scope: Option<String>,
    /// The longest lifetime of the new token, in seconds.
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
    #[command(flatten)]
    token: TokenSource,
    /// The type of the presented token: jwt, id_token or access_token.
    #[arg(long, default_value = "jwt", value_name = "TYPE")]
    token_type: String,
    /// The `aud` that a CI system is asked to put into the assertion. Default: the broker.
    #[arg(long, value_name = "NAME")]
    assertion_audience: Option<String>,
    /// The id of the client to authenticate as.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A file with the client's secret.
    #[arg(long, value_name = "FILE", requires = "client_id", conflicts_with = "client_secret_env")]
    client_secret_file: Option<PathBuf>,
    /// An environment variable with the client's secret.
    #[arg(long, value_name = "NAME", requires = "client_id")]
    client_secret_env: Option<String>,
    /// Print the token in the format of a Kubernetes credential plugin, for kubectl.
    #[arg(long)]
    exec_credential: bool,
    /// A PEM file with the certificates to trust, instead of the machine's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Exchange, output: Output) -> Result<ExitCode, Failure> {
    let broker = arguments.broker.trim_end_matches('/');
    let token = arguments.token.read(arguments.assertion_audience.as_deref().unwrap_or(&arguments.broker))?;
    let token_type = format!("urn:ietf:params:oauth:token-type:{}", arguments.token_type);
    if token_type.parse::<TokenType>().is_err() {
        return Err(Failure(format!("`{}` is no token type; use jwt, id_token or access_token", arguments.token_type)));
    }
    let lifetime = arguments.lifetime.map(|seconds| seconds.to_string());
    let mut form = vec![
        ("grant_type", GRANT_TYPE),
        ("subject_token", token.as_str()),
        ("subject_token_type", token_type.as_str()),
    ];
    let optional = [
        ("audience", &arguments.audience),
        ("resource", &arguments.resource),
        ("scope", &arguments.scope),
        ("lifetime", &lifetime),
    ];
    form.extend(optional.into_iter().filter_map(|(name, value)| value.as_deref().map(|value| (name, value))));
    let secret = match (&arguments.client_secret_file, &arguments.client_secret_env) {
        (Some(path), _) => {
            let secret = std::fs::read_to_string(path)
                .map_err(|fault| Failure(format!("`{}` cannot be read: {fault}", path.display())))?;
            Some(zeroize::Zeroizing::new(secret.trim().to_owned()))
        }
        (None, Some(name)) => Some(variable(name)?),
        (None, None) => None,
    };
    if arguments.client_id.is_some() && secret.is_none() {
        let message = "`--client-id` needs its secret; name it with --client-secret-file or --client-secret-env";
        return Err(Failure(message.to_owned()));
    }
    let basic = arguments.client_id.as_deref().zip(secret.as_ref().map(|secret| secret.as_str()));
    let client = HttpClient::new(arguments.ca_file.as_deref())?;
    let answer = crate::http::block_on(client.post(&format!("{broker}/token"), &form, basic))?;
    let text = |name: &str| answer.body.get(name).and_then(Value::as_str).map(output::printable);
    match (answer.status, text("access_token")) {
        (200, Some(token)) if arguments.exec_credential => {
            let lives = answer.body.get("expires_in").and_then(Value::as_i64).unwrap_or_default();
            let credential = json!({
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": {"token": token, "expirationTimestamp": SystemClock.now().plus(lives).to_string()},
            });
            output.print(&credential.to_string(), &credential);
            Ok(ExitCode::SUCCESS)
        }
        (200, Some(token)) => {
            output.print(&token, &answer.body);
            Ok(ExitCode::SUCCESS)
        }
        _ if output.json => {
            output.print("", &answer.body);
            Ok(ExitCode::FAILURE)
        }
        _ => Err(refusal(&answer)),
    }
}
