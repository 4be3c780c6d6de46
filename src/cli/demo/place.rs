//! The folder of the demo, below the system's temporary folder. It is deleted when the demo ends.

use super::{BROKER, ORDERS};
use crate::app::Installation;
use crate::cli::Failure;
use crate::domain::{Entropy, SystemEntropy, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub(super) struct DemoPlace {
    root: PathBuf,
    secret: String,
}

impl DemoPlace {
    /// Writes a configuration that trusts `issuer`, and one policy.
    pub(super) fn create(issuer: &str) -> Result<Self, Failure> {
        let mut random = [0; 41];
        SystemEntropy.fill(&mut random)?;
        let (name, secret) = random.split_at(9);
        let root = std::env::temp_dir().join(format!("countersign-demo-{}", URL_SAFE_NO_PAD.encode(name)));
        let place = Self { root, secret: URL_SAFE_NO_PAD.encode(secret) };
        DirBuilder::new().mode(0o700).create(&place.root)?;
        fs::create_dir(place.root.join("policies"))?;
        fs::write(place.root.join("policies/orders.cedar"), policy())?;
        fs::write(place.config(), place.configuration(issuer))?;
        Ok(place)
    }

    pub(super) fn installation(&self) -> Result<Installation, Failure> {
        Ok(Installation::read(&self.config())?)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.root.join("countersign.toml")
    }

    pub(super) fn folder(&self) -> &Path {
        &self.root
    }

    pub(super) fn audit(&self) -> PathBuf {
        self.root.join("data/audit")
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    fn configuration(&self, issuer: &str) -> String {
        let digest = hex::encode(sha256(&[self.secret.as_bytes()]));
        format!(
            r#"[server]
issuer = "{BROKER}"
listen = "127.0.0.1:0"

[store]
kind = "embedded"
path = "data"

[signing]
directory = "keys"

[audit]
path = "data/audit"

[policy]
directory = "policies"

[[issuers]]
name = "github"
kind = "github-actions"
issuer = "{issuer}"
audiences = ["{BROKER}"]
accept = {{ repository_owner_id = ["41"] }}
allow_private_addresses = true

[[targets]]
audience = "{ORDERS}"
scopes = ["orders:read", "orders:write"]
max_lifetime = "5m"

[[clients]]
id = "orders-api"
method = "client_secret_basic"
secret_digest = "sha256:{digest}"
introspects = ["{ORDERS}"]
"#
        )
    }
}

impl Drop for DemoPlace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn policy() -> String {
    format!(
        r#"@id("orders-from-main")
@max_lifetime("5m")
permit (
  principal == Workload::"github:repo:acme/app:ref:refs/heads/main",
  action == Action::"exchange",
  resource == Target::"{ORDERS}"
) when {{
  context.scope == "orders:read" && principal has github && principal.github has repository_id && principal.github.repository_id == "74"
}};
"#
    )
}
