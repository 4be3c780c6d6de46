//! Policies by what their scope names, so that a question meets only those that can speak to it. Cedar evaluates every
//! policy of a set; ten thousand of them would take 23 ms.

use cedar_policy::{EntityUid, Policy, PolicySet, PolicySetError, PrincipalConstraint, ResourceConstraint};
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Slices {
    by_scope: HashMap<(Principals, Resources), PolicySet>,
    count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Principals {
    Workload(String),
    Issuer(String),
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Resources {
    Target(String),
    Any,
}

impl Slices {
    pub(super) fn add(&mut self, policy: Policy) -> Result<(), Box<PolicySetError>> {
        let key = (principals(&policy.principal_constraint()), resources(&policy.resource_constraint()));
        self.by_scope.entry(key).or_default().add(policy)?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Every set that can hold a policy about `workload` of `issuer` and `target`. Together they are asked as one.
    pub(super) fn about(&self, workload: &str, issuer: &str, target: &str) -> impl Iterator<Item = &PolicySet> {
        let principals =
            [Principals::Workload(workload.to_owned()), Principals::Issuer(issuer.to_owned()), Principals::Any];
        let resources = [Resources::Target(target.to_owned()), Resources::Any];
        principals.into_iter().flat_map(move |principal| {
            let resources = resources.clone();
            resources.into_iter().filter_map(move |resource| self.by_scope.get(&(principal.clone(), resource)))
        })
    }
}

/// Returns the principals of a policy. A policy that may be about several workloads or issuers is asked about every
/// one.
fn principals(constraint: &PrincipalConstraint) -> Principals {
    match constraint {
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            match type_of(uid).as_str() {
                "Workload" => Principals::Workload(id(uid)),
                "Issuer" => Principals::Issuer(id(uid)),
                _ => Principals::Any,
            }
        }
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => Principals::Any,
    }
}

fn resources(constraint: &ResourceConstraint) -> Resources {
    match constraint {
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
            if type_of(uid) == "Target" { Resources::Target(id(uid)) } else { Resources::Any }
        }
        ResourceConstraint::Any | ResourceConstraint::Is(_) => Resources::Any,
    }
}

fn type_of(uid: &EntityUid) -> String {
    uid.type_name().to_string()
}

fn id(uid: &EntityUid) -> String {
    uid.id().unescaped().to_owned()
}
