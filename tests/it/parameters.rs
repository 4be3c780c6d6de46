//! Every parameter of a request: a malformed one is answered with a description that names it.

use crate::support::*;
use countersign::form::Parameter;

/// A request whose answer the parameters under test decide, whatever else is right in it.
fn send(broker: &TestBroker, path: &str, form: &[(&str, &str)]) -> Reply {
    broker.post_as("orders-api", path, form)
}

fn exchange<'a>(token: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT)];
    form.push(("audience", ORDERS));
    form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    form.extend(more);
    form
}

#[test]
fn a_parameter_that_is_sent_twice_is_named() {
    let broker = TestBroker::new();
    let token = Token::github().sign();
    for parameter in Parameter::ALL {
        let name = parameter.name();
        let (path, form) = match parameter {
            Parameter::Token | Parameter::TokenTypeHint => {
                let mut form = vec![(name, "a"), (name, "b")];
                form.extend((*parameter == Parameter::TokenTypeHint).then_some(("token", "a")));
                ("/introspect", form)
            }
            _ => ("/token", exchange(&token, &[(name, "a"), (name, "b")])),
        };
        // Credentials in two ways are refused before anything else.
        let reply = match parameter {
            Parameter::ClientSecret | Parameter::ClientAssertion | Parameter::ClientAssertionType => {
                broker.post(path, &form)
            }
            _ => send(&broker, path, &form),
        };
        assert_eq!(reply.refusal(), (400, "invalid_request", "parameter_repeated"), "{name}: {}", reply.text);
        assert_eq!(reply.text("error_description"), format!("{name} was sent more than once; send it once"));
    }
}

#[test]
fn a_parameter_that_is_missing_or_malformed_is_named() {
    let broker = TestBroker::new();
    let (token, long) = (Token::github().sign(), "x".repeat(1_100));
    let many = [("task_target", "x"); 17];
    let to_us = |name, value| exchange(&token, &[("audience", STS), (name, value)]);
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("grant_type", exchange(&token, &[("grant_type", "")])),
        ("grant_type", exchange(&token, &[("grant_type", "password")])),
        ("subject_token", exchange(&token, &[("subject_token", "")])),
        ("subject_token_type", exchange(&token, &[("subject_token_type", "")])),
        ("subject_token_type", exchange(&token, &[("subject_token_type", "urn:x")])),
        ("requested_token_type", exchange(&token, &[("requested_token_type", "urn:x")])),
        ("actor_token", exchange(&token, &[("actor_token", "x")])),
        ("actor_token_type", exchange(&token, &[("actor_token_type", "x")])),
        ("actor_token", exchange(&token, &[("actor_token", "x"), ("actor_token_type", "x")])),
        ("authorization_details", exchange(&token, &[("authorization_details", "[]")])),
        ("scope", exchange(&token, &[("scope", "a\"b")])),
        ("lifetime", exchange(&token, &[("lifetime", "5m")])),
        ("resource", exchange(&token, &[("resource", "orders")])),
        ("audience", exchange(&token, &[("audience", "")])),
        ("audience", exchange(&token, &[("audience", "x"); 17])),
        ("resource", exchange(&token, &[("resource", "https://x.test"); 17])),
        ("task_target", exchange(&token, &many)),
        ("task_target", to_us("task_target", &long)),
        ("task_purpose", to_us("task_purpose", &long)),
        ("task_deadline", to_us("task_deadline", "tomorrow")),
        ("task_deadline", to_us("task_deadline", "1")),
        ("task_budget", to_us("task_budget", "0")),
        ("task_purpose", to_us("task_colour", "red")),
        ("client_id", exchange(&token, &[("client_secret", "x")])),
        ("client_assertion", exchange(&token, &[("client_assertion", "x")])),
        ("client_assertion_type", exchange(&token, &[("client_assertion_type", "x")])),
        ("client_assertion_type", exchange(&token, &[("client_assertion", "x"), ("client_assertion_type", "urn:x")])),
    ];
    let opens = Setup::new().policies(OPENS).start();
    for (name, form) in cases {
        let opened = form.contains(&("audience", STS));
        let reply = if opened { opens.post("/token", &form) } else { broker.post("/token", &form) };
        assert!((400..=401).contains(&reply.status), "{form:?}: {}", reply.text);
        let words = reply.text("error_description").split([' ', ',', ';']).collect::<Vec<_>>();
        assert!(words.contains(&name), "{name}: {}", reply.text);
    }
    let without = send(&broker, "/introspect", &[("token", "")]);
    assert_eq!(without.text("error_description"), "token is missing or empty");
}

const OPENS: &str = r#"@id("opens")
permit (principal in Issuer::"github", action == Action::"open_task", resource == Target::"https://sts.test")
when { !(context has confirmation) };"#;

#[test]
fn a_token_that_grows_too_large_is_refused_as_that() {
    let broker = Setup::new().policies(OPENS).start();
    let token = Token::github().sign();
    let names: Vec<String> = (0..16).map(|number| format!("{number:x>1024}")).collect();
    let mut form = exchange(&token, &[("audience", STS)]);
    form.extend(names.iter().map(|name| ("task_target", name.as_str())));
    let reply = broker.post("/token", &form);
    assert_eq!(reply.refusal(), (400, "invalid_request", "token_too_large"), "{}", reply.text);
    assert!(reply.text("error_description").contains("task_target"));
}
