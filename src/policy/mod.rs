//! Asks policy. Owns the question, the answer, and how policies are loaded; Cedar stays in here. Denies by default, on
//! any error of evaluation, and where the question itself does not fit the schema.

mod annotations;
mod cedar;
mod load;
mod patterns;
mod question;
mod reads;
mod schema;
mod slices;

pub use load::LoadError;
pub use question::{Action, Decision, Facts, Hints, Question, TaskFacts, Verdict};
pub use schema::schema;

use cedar::Asker;
use countersign_verify::confirmation::{ConfirmationKey, Thumbprint};
use slices::Slices;
use std::collections::HashMap;

/// A purpose that no caller can send.
const NOBODYS: &str = "\u{0}";
/// A thumbprint of which nobody has the key.
const NOBODYS_KEY: Thumbprint = Thumbprint::new([0; 32]);

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

    /// Returns the number of policies.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slices.len()
    }

    /// Answers `question`: one verdict for each of its scopes, in order.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        let mut verdicts = self.verdicts(question);
        if question.action == Action::OpenTask {
            for what in ["confirmation", "purpose"] {
                self.note_compared(what, question, &mut verdicts);
            }
        }
        Decision { policies: self.digest.clone(), verdicts }
    }

    fn verdicts(&self, question: &Question) -> Vec<Verdict> {
        self.asker.ask(question, &self.slices, |policy| self.max_lifetimes.get(policy).copied())
    }

    /// Notes the facts that a permit tested. A permit counts as testing a fact only if changing the fact changes the
    /// verdict: it is evaluated again with an impossible value. Reading a fact is not enough: `x != "drill"` permits
    /// almost any value.
    fn note_compared(&self, what: &str, question: &Question, verdicts: &mut [Verdict]) {
        let reads = |policy: &String| self.compares.get(policy).is_some_and(|compared| compared.contains(&what));
        if !verdicts.iter().any(|verdict| verdict.permitted && verdict.determining.iter().any(reads)) {
            return;
        }
        let mut other = question.clone();
        match what {
            "purpose" => other.hints.task_purpose = Some(NOBODYS.to_owned()),
            _ => other.confirmation = Some(ConfirmationKey::Jkt(NOBODYS_KEY)),
        }
        for (verdict, other) in verdicts.iter_mut().zip(self.verdicts(&other)) {
            let depends = |policy: &String| reads(policy) && !(other.permitted && other.determining.contains(policy));
            if verdict.permitted && verdict.determining.iter().any(depends) {
                verdict.compared.push(what.to_owned());
            }
        }
    }
}
