//! An aggregate: an object with a member for each part, and `_meta`, which says how each part went.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::Value;

use super::{
    comments,
    components::Components,
    node::Node,
    offer::{Offer, Tag, answer, content, parameter},
    schema::{Direction, Schemas},
    transcoded::{query, resolve, single},
};
use crate::{action::aggregate::PartConfig, error::ErrorKind, route::Template};

/// A part, and the method it calls, if it is a call.
pub struct Part {
    pub config: PartConfig,
    pub method: Option<MethodDescriptor>,
}

pub fn offer(parts: &[Part], template: &Template, schemas: &mut Schemas, components: &mut Components) -> Offer {
    let leading = parts.iter().find(|part| part.config.required && part.method.is_some());
    let leading = leading.or_else(|| parts.iter().find(|part| part.method.is_some()));
    let leading = leading.and_then(|part| part.method.as_ref());
    let tag = leading.map(|method| {
        let service = method.parent_service();
        Tag::of_service(service.name(), schemas.comments.of(&method.parent_file(), service.path()))
    });
    let comment = leading.map(|method| schemas.comments.of(&method.parent_file(), method.path()));
    let (summary, _) = comments::summary(&comment.unwrap_or_default());
    let names: Vec<_> = parts.iter().map(|part| format!("`{}`", part.config.part)).collect();
    let required: Vec<_> = parts.iter().filter(|part| part.config.required).collect();
    let needed = match required.as_slice() {
        [] => "None of them has to be there.".to_owned(),
        some => {
            let names: Vec<_> = some.iter().map(|part| format!("`{}`", part.config.part)).collect();
            format!("Without {} there is no answer.", names.join(", "))
        }
    };
    let description = format!(
        "One answer of {} parts: {}. {needed} Any other that failed is null, or what stands in for it, and \
         `_meta.parts` says so; nobody may store such an answer.",
        parts.len(),
        names.join(", ")
    );
    let (mut properties, mut always) = (Node::object(), Vec::new());
    let mut told = Node::object();
    let outcome = components.schema("turnpike.PartOutcome", "PartOutcome", outcome());
    for part in parts {
        let name = part.config.part.as_str();
        told.set(name, outcome.clone());
        if part.config.flatten {
            let output = part.method.as_ref().map(MethodDescriptor::output);
            for field in output.iter().flat_map(MessageDescriptor::fields) {
                properties.set(field.json_name(), schemas.field(&field, Direction::Response));
            }
            continue;
        }
        let Some(schema) = shape(part, schemas) else { continue };
        always.push(name.to_owned());
        properties.set(name, schema);
    }
    let parts_told = Node::object()
        .with("type", "object")
        .with("required", Node::list(told.members().iter().map(|(name, _)| name.clone())))
        .with("properties", told);
    let meta = Node::object()
        .with("type", "object")
        .with("description", "How each part went.")
        .with("properties", Node::object().with("parts", parts_told))
        .with("required", Node::list(["parts"]));
    properties.set("_meta", meta);
    always.push("_meta".to_owned());
    let schema =
        Node::object().with("type", "object").with("properties", properties).with("required", Node::list(always));
    let variables = template.variables.iter().filter_map(|variable| {
        let field = parts.iter().find_map(|part| takes(part, &variable.name))?;
        let schema = single(&field).with_some("description", Some(schemas.comment(&field)));
        Some((variable.name.to_string(), schema))
    });
    let calls = parts.iter().filter_map(|part| part.config.call.clone());
    Offer {
        summary,
        description,
        tag: tag.unwrap_or_else(|| Tag::new("Pages", "")),
        variables: variables.collect(),
        parameters: parameters(parts, template, schemas),
        responses: vec![("200".to_owned(), answer("The parts.", Some(content("application/json", schema))))],
        failures: vec![ErrorKind::Invalid, ErrorKind::NotFound],
        more: vec![("x-turnpike-calls", Node::list(calls))],
        ..Offer::default()
    }
}

/// What a part is in the answer. None: members of other parts' elements.
fn shape(part: &Part, schemas: &mut Schemas) -> Option<Node> {
    let config = &part.config;
    let mut comment = String::new();
    let one = match &part.method {
        None => Node::object(),
        Some(method) => match config.pick.as_ref().map(|name| resolve(&method.output(), name)) {
            Some(path) => path.and_then(|path| path.last().cloned()).map_or_else(Node::object, |field| {
                comment = schemas.comment(&field);
                let mut schema = schemas.field(&field, Direction::Response);
                schema.remove("description");
                schema
            }),
            None => schemas.message(&method.output(), Direction::Response),
        },
    };
    let may_lack = !config.required && config.fallback.as_ref().is_none_or(Value::is_null);
    let or_null = |schema: Node| match may_lack && !schema.is_empty() {
        true => Node::object().with("anyOf", Node::list([schema, Node::object().with("type", "null")])),
        false => schema,
    };
    if config.for_each.is_none() {
        return Some(or_null(one).with_some("description", Some(comment)));
    }
    if config.into.is_some() {
        return None;
    }
    let each = Node::object().with("anyOf", Node::list([one, Node::object().with("type", "null")]));
    let list = Node::object().with("type", "array").with("items", each);
    Some(or_null(list).with("description", "An answer for each element; null for one that failed."))
}

fn outcome() -> Node {
    let text = |description: &str| Node::object().with("type", "string").with("description", description);
    let status = text(
        "`ok`; `partial`: some elements of a list failed; `fallback`: it failed, and what stands in for it is there; \
         `failed`: null is; `skipped`: another part lacks what it is asked by.",
    );
    let properties = Node::object()
        .with("status", status.with("enum", Node::list(["ok", "partial", "fallback", "failed", "skipped"])))
        .with("reason", text("Why it failed: the name of a gRPC code, in lower case."))
        .with("http_status", Node::object().with("type", "integer").with("description", "What that is in HTTP."));
    Node::object()
        .with("type", "object")
        .with("description", "How a part of an aggregate went.")
        .with("properties", properties)
        .with("required", Node::list(["status"]))
        .with("additionalProperties", true)
        // Made from the schema it would have a reason, too.
        .with("examples", Node::list([Node::object().with("status", "ok")]))
}

/// The field of a part's request that a variable of the route, or `query.name`, is put into.
fn takes(part: &Part, variable: &str) -> Option<FieldDescriptor> {
    let input = part.method.as_ref()?.input();
    let Some(request) = &part.config.request else { return resolve(&input, variable)?.last().cloned() };
    let written = format!("{{{variable}}}");
    let (name, _) = request.iter().find(|(_, value)| value.as_str() == Some(&written))?;
    resolve(&input, name)?.last().cloned()
}

fn parameters(parts: &[Part], template: &Template, schemas: &mut Schemas) -> Vec<Node> {
    let mut parameters: Vec<Node> = Vec::new();
    let mut add = |made: Node| {
        if !parameters.iter().any(|known| known.get("name") == made.get("name")) {
            parameters.push(made);
        }
    };
    for part in parts {
        // Where it says nothing of its request, every field is a parameter.
        if let (Some(method), None) = (&part.method, &part.config.request) {
            let input = method.input();
            let bound: Vec<_> =
                template.variables.iter().filter_map(|variable| resolve(&input, &variable.name)).collect();
            let mut own = Vec::new();
            query(schemas, &input, &|path| bound.iter().any(|bound| bound == path), &mut Vec::new(), &mut own);
            own.into_iter().for_each(&mut add);
        }
        for name in asked(&part.config) {
            let field = takes(part, &format!("query.{name}")).filter(|field| !matches!(field.kind(), Kind::Message(_)));
            let schema = field.map_or_else(
                || Node::object().with("type", "string"),
                |field| single(&field).with_some("description", Some(schemas.comment(&field))),
            );
            add(parameter("query", &name, schema));
        }
    }
    parameters
}

/// Query parameters that a part's texts name: `{query.page}`.
fn asked(config: &PartConfig) -> Vec<String> {
    let mut names = Vec::new();
    let texts = config.get.iter().chain(&config.post).chain(config.headers.values());
    texts.for_each(|text| named(text, &mut names));
    config.request.iter().flat_map(|request| request.values()).chain(&config.body).for_each(|value| {
        each_text(value, &mut |text| named(text, &mut names));
    });
    names
}

fn named(text: &str, names: &mut Vec<String>) {
    let found = text.split("{query.").skip(1).filter_map(|rest| rest.split_once('}'));
    names.extend(found.map(|(name, _)| name.to_owned()));
}

fn each_text(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, see)),
        Value::Object(members) => members.values().for_each(|value| each_text(value, see)),
        _ => {}
    }
}
