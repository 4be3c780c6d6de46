//! What is known of the server that is asked.

use crate::Fault;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A profile.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The server's name, for people and for files.
    pub(crate) name: String,
    /// Its issuer identifier; its metadata is found from there.
    pub(crate) issuer: String,
    /// Endpoints that the metadata does not tell: `token`, `introspect`, `revoke`, `jwks`.
    #[serde(default)]
    pub(crate) endpoints: BTreeMap<String, String>,
    /// A certificate to trust, as PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// Where the issuers that are signed as listen: `127.0.0.1:4100`. Each has the URL `http://<listen>/<name>`.
    pub(crate) listen: String,
    /// Those that the server trusts: `good`, and some of `private`, `symmetric`, `encryption`, `doubled`, `small`, `mixed`, `single`,
    /// `spiffe`.
    pub(crate) issuers: Vec<String>,
    /// The trust domain of `spiffe`, and where its bundle is to be written before the server starts.
    pub(crate) trust_domain: Option<String>,
    /// Directory for the bundle and key sets, where the server reads them as files.
    pub(crate) directory: Option<PathBuf>,
    /// What it says that it supports; cases that need something else are not tried.
    pub(crate) supports: Vec<String>,
    pub(crate) targets: Targets,
    #[serde(default)]
    pub(crate) clients: BTreeMap<String, Client>,
    pub(crate) exchange: Exchange,
    /// The codes that answer an assertion that is refused.
    pub(crate) refusals: Vec<String>,
}

/// What may be asked for.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Targets {
    /// A target, one of its scopes, and a name by which `resource` finds it.
    pub(crate) audience: String,
    pub(crate) scope: String,
    pub(crate) resource: Option<String>,
    /// Another target, and a scope of the first one, which policy denies.
    pub(crate) other: Option<String>,
    pub(crate) denied_scope: Option<String>,
}

/// A client: `first` serves the target, `second` another one.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
}

/// What a good exchange looks like.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    /// The form; `{assertion}`, `{audience}` and `{scope}` are filled in.
    pub(crate) form: BTreeMap<String, String>,
    /// How the client authenticates, where it has to.
    #[serde(default)]
    pub(crate) auth: Option<String>,
    /// The `aud` of assertions; the issuer identifier where it says nothing.
    pub(crate) assertion_audience: Option<String>,
}

/// Reads the profile at `path`.
pub(crate) fn read(path: &Path) -> Result<Profile, Fault> {
    let text = std::fs::read_to_string(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    Ok(toml::from_str(&text).map_err(|fault| format!("{}: {fault}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_is_shown_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["countersign", "dex", "keycloak"] {
            let profile = read(&root.join(format!("profiles/{name}.toml"))).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(profile.name, name);
        }
        let page = include_str!("../../docs/conformance.md");
        let shown =
            page.split("```toml profile\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let profile: Profile = toml::from_str(shown).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(profile.name, "mine");
    }
}
