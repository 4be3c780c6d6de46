//! The source of a command's token: a file, standard input, or the environment of a CI job. Never an argument, because
//! other users can read arguments.

use super::Failure;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The longest token that is read, in bytes.
const MAX: u64 = 64 * 1024;

/// The source of the token. Default: standard input.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct TokenSource {
    /// A file with the token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An environment variable with the token.
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// A CI system to ask for a token with the audience `--assertion-audience`.
    #[arg(long, value_name = "CI")]
    from: Option<Ci>,
}

/// CI systems that issue a token on request.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ci {
    /// GitHub Actions: a job with `permissions: id-token: write`.
    GithubActions,
}

impl TokenSource {
    /// Returns true if a source is given.
    pub(super) fn is_given(&self) -> bool {
        self.token_file.is_some() || self.token_env.is_some() || self.from.is_some()
    }

    /// Reads the token. `audience` is what a CI system is asked to put into its `aud`.
    pub(super) fn read(&self, audience: &str) -> Result<Zeroizing<String>, Failure> {
        let text = match (&self.token_env, &self.from, &self.token_file) {
            (Some(name), _, _) => variable(name)?,
            (None, Some(Ci::GithubActions), _) => github(audience)?,
            (None, None, Some(path)) if path.as_os_str() != "-" => {
                let file = File::open(path)
                    .map_err(|fault| Failure(format!("`{}` cannot be read: {fault}", path.display())))?;
                bounded(file)?
            }
            _ => bounded(std::io::stdin())?,
        };
        let token = text.trim();
        if token.is_empty() {
            return Err(Failure(
                "there is no token; give one with --token-file, --token-env, --from or on standard input".to_owned(),
            ));
        }
        Ok(Zeroizing::new(token.to_owned()))
    }
}

fn bounded(reader: impl std::io::Read) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    reader.take(MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads an environment variable whose name the user gave, or that a CI system documents.
#[expect(clippy::disallowed_methods, reason = "a CI job's credentials are in its environment")]
pub(super) fn variable(name: &str) -> Result<Zeroizing<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Zeroizing::new(value)),
        _ => Err(Failure(format!("the environment variable `{name}` is not set"))),
    }
}

fn github(audience: &str) -> Result<Zeroizing<String>, Failure> {
    let missing = |_| {
        Failure(
            "this is no GitHub Actions job that may ask for a token; give it `permissions: id-token: write`".to_owned(),
        )
    };
    let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL").map_err(missing)?;
    let bearer = variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN").map_err(missing)?;
    let audience: String = form_urlencoded::byte_serialize(audience.as_bytes()).collect();
    let answer = super::wire::HttpClient::new(None)?.get(&format!("{}&audience={audience}", *url), Some(&bearer))?;
    let token = answer.body.get("value").and_then(serde_json::Value::as_str);
    token
        .map(|token| Zeroizing::new(token.to_owned()))
        .ok_or_else(|| Failure(format!("GitHub gave no token (HTTP status {})", answer.status)))
}
