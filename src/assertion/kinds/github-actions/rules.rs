//! The rule of GitHub's tokens that a description cannot say: `sub` must not contradict the ids. A `sub` has GitHub's
//! old form (`repo:OWNER/REPO:…`), its immutable one (`repo:OWNER@ID/REPO@ID:…`, the default for repositories made
//! after 15 July 2026), or one that the repository's admins chose.

use crate::assertion::AssertionError;
use crate::domain::{AttributeValue, AttributeValues};

/// Refuses a `subject` in one of GitHub's own forms if its repository, repository id or owner id differs from the
/// attributes.
pub(super) fn claims(subject: &str, values: &mut AttributeValues) -> Result<(), AssertionError> {
    match Repository::of_subject(subject) {
        Some(named) if !named.agrees(values) => Err(AssertionError::Claim("sub".into())),
        _ => Ok(()),
    }
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

    /// Returns true if the attributes that are present agree with the name.
    fn agrees(&self, values: &AttributeValues) -> bool {
        let agrees = |attribute: &str, is_named: &dyn Fn(&str) -> bool| match values.get(attribute) {
            Some(AttributeValue::Text(value)) => is_named(value),
            _ => true,
        };
        let full_name = format!("{}/{}", self.owner, self.name);
        agrees("repository", &|name| name.eq_ignore_ascii_case(&full_name))
            && agrees("repository_owner_id", &|id| self.owner_id.is_none_or(|named| named == id))
            && agrees("repository_id", &|id| self.id.is_none_or(|named| named == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let pairs = [("repository", "acme/app"), ("repository_id", "74"), ("repository_owner_id", "41")];
        let mut github: AttributeValues = pairs.into_iter().map(|(name, value)| (name.into(), text(value))).collect();
        assert!(claims("repo:acme@41/app@74:ref:refs/heads/main", &mut github).is_ok());
        assert!(claims("repo:acme/app:ref:refs/heads/main", &mut github).is_ok());
        for contradicting in
            ["repo:acme@42/app@74:x", "repo:acme@41/app@75:x", "repo:evil/app:x", "repo:acme@/app@74:x"]
        {
            let refused = Err(AssertionError::Claim("sub".into()));
            assert_eq!(claims(contradicting, &mut github), refused, "{contradicting}");
        }
    }
}
