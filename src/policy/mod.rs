//! Asks policy. Owns the question, the answer, and how policies are loaded; Cedar stays in here. Denies by default, on
//! any error of evaluation, and where the question itself does not fit the schema.

mod annotations;
mod cedar;
mod load;
mod patterns;
mod question;
mod slices;

pub use load::{LoadError, SCHEMA};
pub use question::{Action, Decision, Facts, Hints, Question, Task, Verdict};

use cedar::Asker;
use slices::Slices;
use std::collections::{BTreeSet, HashMap};

/// A loaded, validated policy set. It never changes: a reload makes another one.
pub struct Policy {
    digest: String,
    slices: Slices,
    max_lifetimes: HashMap<String, i64>,
    /// Policies that say something of `confirmation`, or of the `purpose` of a task.
    compares: HashMap<String, Vec<&'static str>>,
    asker: Asker,
}

impl Policy {
    /// Stands for the whole set: two sets with the same one decide alike.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many policies there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slices.len()
    }

    /// Answers `question`: one verdict for each of its scopes, in order.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        let mut verdicts = self.asker.ask(question, &self.slices, |policy| self.max_lifetimes.get(policy).copied());
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.permitted && question.action == Action::OpenTask) {
            let compared = verdict.determining.iter().filter_map(|policy| self.compares.get(policy)).flatten();
            verdict.compared = compared.collect::<BTreeSet<_>>().into_iter().map(|what| (*what).to_owned()).collect();
        }
        Decision { policies: self.digest.clone(), verdicts }
    }
}
