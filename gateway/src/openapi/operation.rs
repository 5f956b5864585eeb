//! An operation: what its action offers, and what its route asks for beside.

use std::collections::BTreeSet;

use http::Method;

use super::{
    Described,
    components::Components,
    config::{Describe, Examples},
    document::Fault,
    failure, limits,
    node::Node,
    offer::{Offer, parameter, text},
    path::Path,
    security,
};
use crate::{
    config::Authentication,
    error::ErrorKind,
    limit::Policies,
    route::{Authenticate, Conditions, Wanted},
    snapshot::Listed,
};

/// What holds for all operations.
pub struct Surroundings<'a> {
    pub authentication: &'a Authentication,
    /// Limits that come before any route.
    pub everywhere: &'a Policies,
}

/// What an action says, as an operation of its own.
pub fn of_offer(offer: &Offer, path: &Path) -> Node {
    let mut parameters: Vec<Node> = path.parameters.iter().map(|own| path_parameter(own, offer)).collect();
    parameters.extend(offer.parameters.iter().cloned());
    let mut operation = Node::object()
        .with_some("operationId", Some(offer.id.clone()))
        .with_some("tags", (!offer.tag.name.is_empty()).then(|| Node::list([offer.tag.name.clone()])))
        .with_some("summary", Some(offer.summary.clone()))
        .with_some("description", Some(offer.description.clone()))
        .with_some("deprecated", offer.deprecated.then_some(true))
        .with_some("parameters", Some(Node::List(parameters)))
        .with_some("requestBody", offer.body.clone())
        .with("responses", Node::Object(offer.responses.clone()));
    for (name, value) in &offer.more {
        operation.set(name, value.clone());
    }
    operation
}

fn path_parameter(own: &super::path::Parameter, offer: &Offer) -> Node {
    let variable = own.variable.as_deref().filter(|_| own.part_of.is_none());
    let schema = variable.and_then(|name| offer.variables.get(name)).cloned();
    let mut schema = schema.unwrap_or_else(|| Node::object().with("type", "string"));
    let whole = own.variable.as_deref().unwrap_or_default();
    let mut said = schema.get("description").and_then(Node::text).unwrap_or_default().to_owned();
    if let Some(pattern) = &own.part_of {
        said = format!("A part of `{whole}`, which is `{pattern}`.");
    }
    if own.is_rest {
        said = format!("{said} Takes all that remains of the path, slashes included, even nothing.").trim().to_owned();
    }
    if !said.is_empty() {
        schema.set("description", said);
    }
    parameter("path", &own.name, schema).with("required", true)
}

/// Adds what its route asks for and limits, and what can go wrong. `failures` are its action's.
pub fn dress(
    mut operation: Node,
    listed: &Listed,
    method: &Method,
    failures: &[ErrorKind],
    around: &Surroundings<'_>,
    components: &mut Components,
) -> Node {
    let (route, policy) = (&listed.route, &listed.route.policy);
    let has_body = operation.get("requestBody").is_some();
    if let Some(idempotency) = &policy.idempotency
        && !method.is_safe()
    {
        let description = "Made up by the client, another for each request that is meant as another: a repeat with the \
                           same one gets the first one's answer.";
        let schema = text(description).with("minLength", 1_u64).with("maxLength", 255_u64);
        let key = parameter("header", "Idempotency-Key", schema);
        operation.entry("parameters").push(key.with("required", idempotency.required));
    }
    let limited = limits::are_there(policy, around.everywhere);
    let kinds = kinds(listed, method, failures, has_body, limited);
    let anything = failure::anything(components);
    let request_id = components.header("RequestId", || {
        let schema = Node::object().with("type", "string");
        Node::object().with("description", "Names the request, in logs, too.").with("schema", schema)
    });
    let fields = [
        ("RateLimit-Policy", "The limits that counted it (draft-ietf-httpapi-ratelimit-headers-10)."),
        ("RateLimit", "What is left of each (draft-ietf-httpapi-ratelimit-headers-10)."),
    ];
    let fields: Vec<_> = fields.into_iter().filter(|_| limited).collect();
    if let Some(Node::Object(responses)) = operation.get_mut("responses") {
        for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
            response.entry("headers").set("X-Request-Id", request_id.clone());
            for (name, description) in &fields {
                let header = components.header(&name.replace('-', ""), || {
                    let schema = Node::object().with("type", "string");
                    Node::object().with("description", *description).with("schema", schema)
                });
                response.entry("headers").set(name, header);
            }
        }
        for (status, answer) in failure::answers(&kinds, components) {
            if !responses.iter().any(|(known, _)| *known == status) {
                responses.push((status, answer));
            }
        }
        responses.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !responses.iter().any(|(known, _)| known == "default") {
            responses.push(("default".to_owned(), anything));
        }
    }
    let when = conditions(&listed.conditions);
    let said = operation.get("description").and_then(Node::text).unwrap_or_default().to_owned();
    let only = when.as_ref().map(|(sentence, _)| sentence.clone()).unwrap_or_default();
    let limits = limits::sentence(policy, around.everywhere, has_body);
    let own = [only, security::sentence(policy), limits].into_iter().filter(|text| !text.is_empty());
    let own = own.collect::<Vec<_>>().join(" ");
    let whole = [said, own].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
    if !whole.is_empty() {
        operation.set("description", whole);
    }
    if let Some(host) = listed.conditions.host.as_deref().filter(|host| !host.starts_with('*')) {
        operation.set("servers", Node::list([Node::object().with("url", format!("//{host}"))]));
    }
    operation
        .with("security", security::requirements(policy, around.authentication))
        .with("x-turnpike-route", &*route.id)
        .with_some("x-turnpike-when", when.map(|(_, when)| when))
        .with("x-turnpike-limits", limits::extension(policy, around.everywhere, has_body))
        .with_some("x-turnpike-authorise", policy.rule.as_ref().map(|rule| rule.to_string()))
}

/// What can go wrong, of the action and of what comes before it.
fn kinds(listed: &Listed, method: &Method, failures: &[ErrorKind], has_body: bool, limited: bool) -> Vec<ErrorKind> {
    let policy = &listed.route.policy;
    let mut kinds = failures.to_vec();
    let may_forbid = security::sentence(policy).is_empty();
    let asks = !listed.route.action.asks().is_empty();
    let wanted = [
        (policy.authenticate != Authenticate::None, ErrorKind::Unauthenticated),
        (!may_forbid || policy.addresses.is_some(), ErrorKind::Forbidden),
        // A page of another site can't use a session.
        (policy.authenticate != Authenticate::None && !method.is_safe(), ErrorKind::Forbidden),
        (has_body, ErrorKind::BodyTooLarge),
        (has_body && policy.decompress, ErrorKind::UnsupportedMediaType),
        (limited, ErrorKind::RateLimited),
        (!policy.concurrency.is_empty(), ErrorKind::TooManyAtOnce),
        (asks, ErrorKind::BadGateway),
        (asks, ErrorKind::Unavailable),
        (asks, ErrorKind::Timeout),
    ];
    kinds.extend(wanted.into_iter().filter(|(holds, _)| *holds).map(|(_, kind)| kind));
    if let Some(idempotency) = policy.idempotency.filter(|_| !method.is_safe()) {
        kinds.extend([ErrorKind::Conflict, ErrorKind::KeyReused]);
        kinds.extend(idempotency.required.then_some(ErrorKind::BadRequest));
    }
    kinds
}

/// What else a request must be to take the route, in a sentence and for programs.
fn conditions(conditions: &Conditions) -> Option<(String, Node)> {
    let (mut said, mut when) = (Vec::new(), Node::object());
    if let Some(host) = &conditions.host {
        said.push(format!("at the host `{host}`"));
        when.set("host", host.as_str());
    }
    let headers = conditions.headers.iter().map(|(name, wanted)| ("header", name.as_str(), wanted));
    let query = conditions.query.iter().map(|(name, wanted)| ("query", name.as_str(), wanted));
    for (place, name, wanted) in headers.chain(query) {
        let called = if place == "header" { "header" } else { "parameter" };
        let (sentence, value) = match wanted {
            Wanted::Exact(value) => (format!("where the {called} `{name}` is `{value}`"), value.clone()),
            Wanted::Prefix(value) => {
                (format!("where the {called} `{name}` begins with `{value}`"), format!("{value}*"))
            }
            Wanted::Present => (format!("with the {called} `{name}`"), "*".to_owned()),
            Wanted::Absent => (format!("without the {called} `{name}`"), String::new()),
        };
        said.push(sentence);
        when.entry(place).set(name, value);
    }
    (!said.is_empty()).then(|| (format!("Only {}.", said.join(", ")), when))
}

/// Puts the configuration's own words in the place of others.
pub fn reword(operation: &mut Node, described: &Described) {
    let Describe { summary, description, tags, .. } = &described.describe;
    for (name, text) in [("summary", summary), ("description", description)] {
        if let Some(text) = text {
            operation.set(name, text.trim());
        }
    }
    if !tags.is_empty() {
        operation.set("tags", Node::list(tags.clone()));
    }
}

/// Puts the configuration's own examples in their places, and says which have none.
pub fn exemplify(operation: &mut Node, described: &Described) -> Vec<Fault> {
    let own = &described.describe;
    let Examples { parameters, request, response } = &own.examples;
    let mut faults = Vec::new();
    let mut fault = |place: String, message: String| {
        faults.push(Fault { path: format!("{}.describe.examples.{place}", described.path), message });
    };
    for (name, example) in parameters {
        let known = match operation.get_mut("parameters") {
            Some(Node::List(parameters)) => {
                parameters.iter_mut().find(|parameter| parameter.get("name").and_then(Node::text) == Some(name))
            }
            _ => None,
        };
        match known {
            Some(parameter) => parameter.set("example", example.clone()),
            None => fault(format!("parameters.{name}"), "there is no parameter of this name".to_owned()),
        }
    }
    if let Some(example) = request {
        let body = operation.get_mut("requestBody").and_then(json);
        match body {
            Some(media) => media.set("example", example.clone()),
            None => fault("request".to_owned(), "there is no body in JSON".to_owned()),
        }
    }
    if let Some(example) = response {
        let answers = match operation.get_mut("responses") {
            Some(Node::Object(answers)) => answers.as_mut_slice(),
            _ => &mut [],
        };
        let answer = answers.iter_mut().find(|(status, _)| status.starts_with('2'));
        match answer.and_then(|(_, answer)| json(answer)) {
            Some(media) => media.set("example", example.clone()),
            None => fault("response".to_owned(), "there is no answer in JSON".to_owned()),
        }
    }
    faults
}

fn json(part: &mut Node) -> Option<&mut Node> {
    part.get_mut("content")?.get_mut("application/json")
}

/// Names of the path's parameters become those of another path of the same shape.
pub fn rename(operation: &mut Node, from: &Path, to: &Path) {
    let Some(Node::List(parameters)) = operation.get_mut("parameters") else { return };
    let mut done = BTreeSet::new();
    for (own, other) in from.parameters.iter().zip(&to.parameters) {
        let found = parameters.iter_mut().enumerate().find(|(at, parameter)| {
            let is = |member: &str, value: &str| parameter.get(member).and_then(Node::text) == Some(value);
            is("in", "path") && is("name", &own.name) && !done.contains(at)
        });
        if let Some((at, parameter)) = found {
            done.insert(at);
            parameter.set("name", other.name.as_str());
        }
    }
}
