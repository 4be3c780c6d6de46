//! `countersign client add`: a new client, as a block to paste.

use super::Failure;
use super::output::{BOLD, DIM, Output};
use crate::domain::{Audience, ClientId, Entropy, SystemEntropy, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Register clients.
#[derive(Debug, Subcommand)]
pub(super) enum ClientArguments {
    /// Print a block for the configuration and the client's new secret.
    #[command(
        after_help = "The secret is printed once and stored nowhere. Put it where the client reads it, and the block into the
configuration. The secret has 256 random bits, written in letters, digits, `-` and `_`, so that no client has to encode it."
    )]
    Add(Add),
}

/// A new client.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The client's id.
    id: String,
    /// The method by which the client sends its secret.
    #[arg(long, value_enum, default_value = "client-secret-basic")]
    method: MethodArgument,
    /// An audience whose tokens the client may introspect and exchange. Can be repeated.
    #[arg(long, value_name = "NAME")]
    introspects: Vec<String>,
}

/// The method by which a client sends its secret.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodArgument {
    /// In `Authorization: Basic`.
    #[value(alias = "client_secret_basic")]
    ClientSecretBasic,
    /// In the body.
    #[value(alias = "client_secret_post")]
    ClientSecretPost,
}

impl MethodArgument {
    fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

pub(super) fn run(arguments: &ClientArguments, output: Output) -> Result<ExitCode, Failure> {
    let ClientArguments::Add(Add { id, method, introspects }) = arguments;
    let id: ClientId = id.parse()?;
    let audiences: Vec<Audience> = introspects.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let mut random = Zeroizing::new([0; 32]);
    SystemEntropy.fill(random.as_mut_slice())?;
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_slice()));
    let digest: String = hex::encode(sha256(&[secret.as_bytes()]));
    let quoted: Vec<String> = audiences.iter().map(|audience| json!(audience.as_str()).to_string()).collect();
    let block = format!(
        "[[clients]]\nid = {}\nmethod = \"{}\"\nsecret_digest = \"sha256:{digest}\"\nintrospects = [{}]\n",
        json!(id.as_str()),
        method.name(),
        quoted.join(", ")
    );
    let text = format!("{block}\n{DIM}# the secret, shown this once:{DIM:#}\n{BOLD}{}{BOLD:#}", *secret);
    output.print(&text, &json!({"block": block, "client_id": id.as_str(), "client_secret": *secret}));
    Ok(ExitCode::SUCCESS)
}
