//! The question in Cedar's terms. Entity ids are built from their parts, never parsed from text, so that no name can be
//! read as code; entities are built once for all scopes of a question.

use super::question::{Question, Verdict};
use super::reads::Reads;
use super::slices::Slices;
use crate::domain::{AttributeValue, Timestamp};
use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression as Value, Schema,
};
use countersign_verify::confirmation::ConfirmationKey;
use std::fmt::Display;

/// Asks Cedar. Built once for a policy set.
pub(super) struct Asker {
    authorizer: Authorizer,
    schema: Schema,
    workload: EntityTypeName,
    issuer: EntityTypeName,
    target: EntityTypeName,
    client: EntityTypeName,
    action: EntityTypeName,
    reads: Reads,
}

impl Asker {
    /// Building a date or an address costs more than deciding, so those two enter the question, and the schema that it
    /// is held against, only if they are among what the policies read.
    pub(super) fn new(schema: &str, reads: Reads) -> Result<Self, String> {
        let (reads_now, reads_network) = (reads.context.contains("now"), reads.context.contains("network"));
        let needed = |line: &&str| {
            (reads_now || line.trim() != "now: datetime,") && (reads_network || line.trim() != "network: ipaddr,")
        };
        let schema: String = schema.lines().filter(needed).flat_map(|line| [line, "\n"]).collect();
        let (schema, _) = Schema::from_cedarschema_str(&schema).map_err(|fault| fault.to_string())?;
        let name = |name: &str| name.parse::<EntityTypeName>().map_err(|fault| fault.to_string());
        Ok(Self {
            authorizer: Authorizer::new(),
            schema,
            workload: name("Workload")?,
            issuer: name("Issuer")?,
            target: name("Target")?,
            client: name("Client")?,
            action: name("Action")?,
            reads,
        })
    }

    /// Returns one verdict for each scope. A question that cannot be asked is denied.
    pub(super) fn ask(
        &self,
        question: &Question,
        slices: &Slices,
        bound: impl Fn(&str) -> Option<i64>,
    ) -> Vec<Verdict> {
        let sets: Vec<&PolicySet> =
            slices.about(&question.principal.name, &question.principal.issuer, &question.resource.audience).collect();
        let entities = self.entities(question);
        let one = |scope: &String| match &entities {
            Ok(entities) => match self.request(question, scope) {
                Ok(request) => self.verdict(scope, (&request, entities), &sets, &bound),
                Err(fault) => denied(scope, fault),
            },
            Err(fault) => denied(scope, fault.clone()),
        };
        question.scopes.iter().map(one).collect()
    }

    fn verdict(
        &self,
        scope: &str,
        (request, entities): (&Request, &Entities),
        sets: &[&PolicySet],
        bound: &impl Fn(&str) -> Option<i64>,
    ) -> Verdict {
        let (mut permits, mut forbids, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for set in sets {
            let response = self.authorizer.is_authorized(request, set, entities);
            let permitted = response.decision() == cedar_policy::Decision::Allow;
            let determining = if permitted { &mut permits } else { &mut forbids };
            determining.extend(response.diagnostics().reason().map(ToString::to_string));
            // Cedar skips a policy that errs, a forbid too. Here one that errs denies.
            errors.extend(response.diagnostics().errors().map(ToString::to_string));
        }
        let permitted = !permits.is_empty() && forbids.is_empty() && errors.is_empty();
        let mut determining = if forbids.is_empty() { permits } else { forbids };
        determining.sort();
        // Of several permits the longest counts, and one without a bound is longer than any.
        let max_lifetime =
            determining.iter().map(|id| bound(id)).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        Verdict {
            scope: scope.to_owned(),
            permitted,
            determining,
            errors,
            max_lifetime: max_lifetime.filter(|_| permitted),
            compared: Vec::new(),
        }
    }

    fn entities(&self, question: &Question) -> Result<Entities, String> {
        let principal = &question.principal;
        let mut attributes = Vec::new();
        optional(&mut attributes, "owner", principal.owner.as_ref());
        optional(&mut attributes, "environment", principal.environment.as_ref());
        for (record, values) in &principal.attributes {
            let read = self.reads.among(record, values).into_iter();
            let values = read.map(|(name, value)| (name.to_owned(), attribute(value)));
            attributes.push((record.to_string(), Value::new_record(values).map_err(said)?));
        }
        let issuer = uid(&self.issuer, &principal.issuer);
        let (mut of_issuer, mut of_target) = (Vec::new(), Vec::new());
        optional(&mut of_issuer, "owner", principal.owner.as_ref());
        optional(&mut of_issuer, "environment", principal.environment.as_ref());
        let target = &question.resource;
        optional(&mut of_target, "owner", target.owner.as_ref());
        optional(&mut of_target, "environment", target.environment.as_ref());
        optional(&mut of_target, "sensitivity", target.sensitivity.as_ref());
        let workload = uid(&self.workload, &principal.name);
        let all = [
            Entity::new_with_tags(workload, attributes, [issuer.clone()], []).map_err(said)?,
            Entity::new_with_tags(issuer, of_issuer, [], []).map_err(said)?,
            Entity::new_with_tags(uid(&self.target, &target.audience), of_target, [], []).map_err(said)?,
        ];
        Entities::from_entities(all, None).map_err(said)
    }

    fn request(&self, question: &Question, scope: &str) -> Result<Request, String> {
        let mut hints = Vec::new();
        optional(&mut hints, "client_id", question.hints.client_id.as_ref());
        optional(&mut hints, "task_purpose", question.hints.task_purpose.as_ref());
        let mut context =
            vec![("scope".to_owned(), text(scope)), ("hints".to_owned(), Value::new_record(hints).map_err(said)?)];
        if let Some(client) = &question.client {
            context.push(("client".to_owned(), Value::new_entity_uid(uid(&self.client, client))));
        }
        if let Some(task) = &question.task {
            let mut members = vec![("id".to_owned(), text(&task.id))];
            optional(&mut members, "purpose", task.purpose.as_ref());
            context.push(("task".to_owned(), Value::new_record(members).map_err(said)?));
        }
        if let Some(key) = &question.confirmation {
            let key = match key {
                ConfirmationKey::Jkt(thumbprint) => [("jkt".to_owned(), text(thumbprint.to_string()))],
                ConfirmationKey::X5t(thumbprint) => [("x5t".to_owned(), text(thumbprint.to_string()))],
                ConfirmationKey::SpiffeId(id) => [("spiffe_id".to_owned(), text(id))],
            };
            context.push(("confirmation".to_owned(), Value::new_record(key).map_err(said)?));
        }
        if let Some(lifetime) = question.lifetime {
            context.push(("lifetime".to_owned(), Value::new_long(lifetime)));
        }
        if self.reads.context.contains("now") {
            let now = Timestamp::new(question.now).ok_or_else(|| "`now` is no date".to_owned())?;
            context.push(("now".to_owned(), Value::new_datetime(now.to_string())));
        }
        if self.reads.context.contains("network") {
            context.push(("network".to_owned(), Value::new_ip(&question.network)));
        }
        let context = Context::from_pairs(context).map_err(said)?;
        let principal = uid(&self.workload, &question.principal.name);
        let action = uid(&self.action, question.action.name());
        let resource = uid(&self.target, &question.resource.audience);
        Request::new(principal, action, resource, context, Some(&self.schema)).map_err(said)
    }
}

fn denied(scope: &str, fault: String) -> Verdict {
    Verdict {
        scope: scope.to_owned(),
        permitted: false,
        determining: Vec::new(),
        errors: vec![fault],
        max_lifetime: None,
        compared: Vec::new(),
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: impl Into<String>) -> Value {
    Value::new_string(value.into())
}

fn attribute(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Boolean(value) => Value::new_bool(*value),
        AttributeValue::Integer(value) => Value::new_long(*value),
        AttributeValue::Text(value) => text(value),
        AttributeValue::Set(values) => Value::new_set(values.iter().map(text)),
    }
}

fn optional(attributes: &mut Vec<(String, Value)>, name: &str, value: Option<&String>) {
    attributes.extend(value.map(|value| (name.to_owned(), text(value))));
}

fn said(fault: impl Display) -> String {
    fault.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttributeDeclaration, AttributeRecord, AttributeType, AttributeValues, Attributes, Workload};
    use crate::policy::{Action, Facts, Hints, TaskFacts, schema};
    use countersign_verify::confirmation::Thumbprint;
    use std::sync::Arc;

    fn declared((value, required): (AttributeType, bool)) -> AttributeDeclaration {
        AttributeDeclaration {
            name: format!("a_{}_{required}", value.name().replace('-', "_")).into(),
            claim: None,
            value,
            required,
            nullable: false,
            stable: true,
            outsider: true,
            about: "x".to_owned(),
        }
    }

    #[test]
    fn what_is_built_fits_the_schema_for_every_kind_of_workload() {
        let types =
            ["string", "integer", "boolean", "set", "boolean-string"].map(|name| AttributeType::named(name).unwrap());
        let values = [
            AttributeValue::Text("x".to_owned()),
            AttributeValue::Integer(74),
            AttributeValue::Boolean(true),
            AttributeValue::Set(["x".to_owned()].into()),
            AttributeValue::Boolean(false),
        ];
        let attributes =
            types.into_iter().flat_map(|value| [declared((value, true)), declared((value, false))]).collect();
        let record = AttributeRecord { name: "every".into(), attributes, of_kind: true };
        let value =
            |(at, declared): (usize, &AttributeDeclaration)| (Arc::clone(&declared.name), values[at / 2].clone());
        let all: AttributeValues = record.attributes.iter().enumerate().map(value).collect();
        let mut required = all.clone();
        required.retain(|name, _| name.ends_with("true"));
        let every = [
            Attributes::new(),
            Attributes::from([("every".into(), all)]),
            Attributes::from([("every".into(), required)]),
        ];
        let mut reads = Reads::default();
        reads.whole("every");
        reads.context.extend(["now".to_owned(), "network".to_owned()]);
        let asker = Asker::new(&schema(&[Arc::new(record)]), reads).unwrap();
        for attributes in every {
            let text = || Some("x".to_owned());
            let question = Question {
                principal: Arc::new(Workload {
                    name: "a:b".to_owned(),
                    issuer: "a".to_owned(),
                    owner: text(),
                    environment: text(),
                    attributes,
                }),
                action: Action::Impersonate,
                resource: Facts { audience: "t".to_owned(), owner: text(), environment: text(), sensitivity: text() },
                scopes: vec![String::new()],
                client: text(),
                confirmation: Some(ConfirmationKey::Jkt(Thumbprint::new([1; 32]))),
                lifetime: Some(1),
                now: 1_795_304_539,
                network: "::1".to_owned(),
                hints: Hints { client_id: text(), task_purpose: text() },
                task: Some(TaskFacts { id: "t".to_owned(), purpose: text() }),
            };
            let entities: Vec<Entity> = asker.entities(&question).unwrap().iter().cloned().collect();
            Entities::from_entities(entities, Some(&asker.schema)).unwrap();
            asker.request(&question, "x").unwrap();
        }
    }
}
