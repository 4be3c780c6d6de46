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

/// Make clients.
#[derive(Debug, Subcommand)]
pub(super) enum Client {
    /// Print a block for the configuration, and the secret that belongs to it.
    #[command(
        after_help = "The secret is shown once and kept nowhere: put it where the client finds it, and the block into the
configuration. It has 256 random bits, in letters, digits, `-` and `_`: every way to send it reads the same."
    )]
    Add(Add),
}

/// A new client.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The client's id.
    id: String,
    /// How it sends its secret.
    #[arg(long, value_enum, default_value = "client-secret-basic")]
    method: Method,
    /// An audience whose tokens it may introspect, and exchange onward; can be repeated.
    #[arg(long, value_name = "NAME")]
    introspects: Vec<String>,
}

/// How a client sends its secret.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    /// In `Authorization: Basic`.
    #[value(alias = "client_secret_basic")]
    ClientSecretBasic,
    /// In the body.
    #[value(alias = "client_secret_post")]
    ClientSecretPost,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

pub(super) fn run(arguments: &Client, output: Output) -> Result<ExitCode, Failure> {
    let Client::Add(Add { id, method, introspects }) = arguments;
    let id: ClientId = id.parse()?;
    let audiences: Vec<Audience> = introspects.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let mut random = Zeroizing::new([0; 32]);
    SystemEntropy.fill(random.as_mut_slice())?;
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_slice()));
    let digest: String = sha256(&[secret.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
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
