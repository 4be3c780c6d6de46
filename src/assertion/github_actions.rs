//! Kind `github-actions`: the OIDC tokens of GitHub's runners. Its workloads are named by `sub`, in its old form
//! (`repo:OWNER/REPO:…`) or its immutable one (`repo:OWNER@ID/REPO@ID:…`, the default for repositories made after 15
//! July 2026); a repository's admins can choose another form, so policy had better ask `principal.github`. A token is
//! single use: GitHub gives every request a new `jti`.

use super::AssertionError;
use crate::domain::{Attributes, GitHub};
use serde_json::{Map, Value};

/// Reads the typed attributes and holds `sub` against them where it has one of GitHub's own forms.
pub(super) fn attributes(claims: &Map<String, Value>, subject: &str) -> Result<Attributes, AssertionError> {
    let github = GitHub::read(claims).map_err(AssertionError::Claim)?;
    if let Some(named) = Repository::of_subject(subject)
        && !named.agrees(&github)
    {
        return Err(AssertionError::Claim("sub"));
    }
    Ok(Attributes::GitHubActions(Box::new(github)))
}

/// The repository that a `sub` of one of GitHub's own forms names.
#[derive(Debug, PartialEq, Eq)]
struct Repository<'a> {
    owner: &'a str,
    owner_id: Option<&'a str>,
    name: &'a str,
    id: Option<&'a str>,
}

impl<'a> Repository<'a> {
    /// None where the form is one that the repository's admins chose.
    fn of_subject(subject: &'a str) -> Option<Self> {
        let repository = subject.strip_prefix("repo:")?.split(':').next()?;
        let (owner, name) = repository.split_once('/')?;
        let numbered = |part: &'a str| match part.split_once('@') {
            Some((name, id)) => (name, Some(id)),
            None => (part, None),
        };
        let ((owner, owner_id), (name, id)) = (numbered(owner), numbered(name));
        Some(Self { owner, owner_id, name, id })
    }

    /// Returns true if the separate claims that are present agree with the name.
    fn agrees(&self, github: &GitHub) -> bool {
        let same = |claim: &Option<String>, named: Option<&str>| match (claim, named) {
            (Some(claim), Some(named)) => claim == named,
            _ => true,
        };
        let repository = github
            .repository
            .as_ref()
            .is_none_or(|full| full.eq_ignore_ascii_case(&format!("{}/{}", self.owner, self.name)));
        repository && same(&github.repository_owner_id, self.owner_id) && same(&github.repository_id, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let old = Repository::of_subject("repo:acme/app:ref:refs/heads/main").unwrap();
        assert_eq!((old.owner, old.owner_id, old.name, old.id), ("acme", None, "app", None));
        let new = Repository::of_subject("repo:acme@41/app@74:environment:prod").unwrap();
        assert_eq!((new.owner, new.owner_id, new.name, new.id), ("acme", Some("41"), "app", Some("74")));
        assert_eq!(Repository::of_subject("repository_owner:acme"), None);
    }

    #[test]
    fn a_subject_that_contradicts_the_ids_is_refused() {
        let github =
            claims(&serde_json::json!({"repository": "acme/app", "repository_id": "74", "repository_owner_id": "41"}));
        assert!(attributes(&github, "repo:acme@41/app@74:ref:refs/heads/main").is_ok());
        assert!(attributes(&github, "repo:acme/app:ref:refs/heads/main").is_ok());
        for contradicting in
            ["repo:acme@42/app@74:x", "repo:acme@41/app@75:x", "repo:evil/app:x", "repo:acme@/app@74:x"]
        {
            assert_eq!(attributes(&github, contradicting), Err(AssertionError::Claim("sub")), "{contradicting}");
        }
    }

    #[test]
    fn ids_are_strings_and_nothing_else() {
        let number = claims(&serde_json::json!({"repository_id": 74}));
        assert_eq!(attributes(&number, "x"), Err(AssertionError::Claim("repository_id")));
        let reserved = claims(&serde_json::json!({"ref": "refs/heads/main"}));
        let Ok(Attributes::GitHubActions(github)) = attributes(&reserved, "x") else { panic!("read") };
        assert_eq!(github.git_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!(serde_json::to_value(github).unwrap(), serde_json::json!({"ref": "refs/heads/main"}));
    }
}
