//! A transcoded route: everything is known of it, from descriptors.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    comments,
    components::Components,
    node::Node,
    offer::{Offer, Tag, answer, content, json_body, parameter, text, with_header},
    schema::{Direction, Schemas, is_deprecated, of_kind},
    well_known::is_text,
};
use crate::{
    action::transcode::ResponseConfig,
    descriptors::{Binding, BodyRule},
    error::ErrorKind,
    route::Template,
};

/// How deep the messages nest whose fields stand in a query by their paths.
const DEPTH: usize = 5;

/// What is known of a method's binding.
pub fn offer(
    binding: &Binding,
    response: Option<&ResponseConfig>,
    method: &Method,
    template: &Template,
    schemas: &mut Schemas,
    components: &mut Components,
) -> Offer {
    let (called, input) = (&binding.method, binding.method.input());
    let service = called.parent_service();
    let file = called.parent_file();
    let (summary, description) = comments::summary(&schemas.comments.of(&file, called.path()));
    let bound: Vec<FieldPath> =
        template.variables.iter().filter_map(|variable| resolve(&input, &variable.name)).collect();
    let variables = template.variables.iter().filter_map(|variable| {
        let path = resolve(&input, &variable.name)?;
        let schema = single(path.last()?).with_some("description", Some(schemas.comment(path.last()?)));
        Some((variable.name.to_string(), schema))
    });
    let variables: BTreeMap<_, _> = variables.collect();
    let is_safe = method.is_safe();
    let has_etag = |message: &MessageDescriptor| etag(message).is_some();
    let mut parameters = Vec::new();
    let asks_etag = !is_safe && has_etag(&input);
    let skip = |path: &[FieldDescriptor]| {
        bound.iter().any(|bound| bound == path)
            || matches!(&binding.body, BodyRule::Field(name) if path.first().is_some_and(|first| named(first, name)))
            // It is the header `If-Match`.
            || asks_etag && path.len() == 1 && path[0].name() == "etag"
    };
    if binding.body != BodyRule::All {
        query(schemas, &input, &skip, &mut Vec::new(), &mut parameters);
    }
    if asks_etag {
        let description =
            "The version that is to be changed, as `ETag` had it, or `*`: 412 where there is another now.";
        parameters.push(parameter("header", "If-Match", text(description)));
    }
    if is_safe && has_etag(&called.output()) {
        let description = "The version that is known, as `ETag` had it: 304 where it is still the one there is.";
        parameters.push(parameter("header", "If-None-Match", text(description)));
    }
    let mut failures = vec![ErrorKind::Invalid, ErrorKind::NotAcceptable];
    if !template.variables.is_empty() {
        failures.push(ErrorKind::NotFound);
    }
    if asks_etag {
        failures.push(ErrorKind::PreconditionFailed);
    }
    if !is_safe {
        failures.push(ErrorKind::Conflict);
    }
    Offer {
        id: format!("{}_{}", service.name(), called.name()),
        summary: if summary.is_empty() { words(called.name()) } else { summary },
        description,
        deprecated: is_deprecated(&called.options()) || is_deprecated(&service.options()),
        tag: Tag::of_service(service.name(), schemas.comments.of(&file, service.path())),
        variables,
        parameters,
        body: body(binding, &bound, schemas, components),
        responses: responses(binding, response, is_safe, schemas),
        failures,
        more: vec![("x-turnpike-grpc", format!("{}/{}", service.full_name(), called.name()).into())],
    }
}

fn body(binding: &Binding, bound: &[FieldPath], schemas: &mut Schemas, components: &mut Components) -> Option<Node> {
    let input = binding.method.input();
    let message = match &binding.body {
        BodyRule::None => return None,
        BodyRule::All => input,
        BodyRule::Field(name) => {
            let field = input.fields().find(|field| named(field, name))?;
            match field.kind() {
                Kind::Message(message) if !field.is_list() && !field.is_map() => message,
                _ => return Some(json_body(schemas.field(&field, Direction::Request), true)),
            }
        }
    };
    if message.full_name() == HTTP_BODY {
        return Some(Node::object().with("required", true).with("content", content("*/*", Node::object())));
    }
    let beyond = |field: &FieldDescriptor| !bound.iter().any(|path| path.as_slice() == [field.clone()]);
    if binding.body != BodyRule::All || message.fields().all(|field| beyond(&field)) {
        let says_something = message.fields().len() > 0;
        return Some(json_body(schemas.message(&message, Direction::Request), says_something));
    }
    // What stands in the path need not be said again.
    let rest = schemas.some_of(&message, Direction::Request, beyond);
    let says_something = rest.get("properties").is_some_and(|properties| !properties.is_empty());
    if !says_something {
        return None;
    }
    let method = &binding.method;
    let full = format!("{}.Body", method.full_name());
    Some(json_body(components.schema(&full, &format!("{}Body", method.name()), rest), true))
}

const HTTP_BODY: &str = "google.api.HttpBody";

fn responses(
    binding: &Binding,
    config: Option<&ResponseConfig>,
    is_safe: bool,
    schemas: &mut Schemas,
) -> Vec<(String, Node)> {
    let (method, output) = (&binding.method, binding.method.output());
    let field = binding.response_body.as_ref().and_then(|name| output.fields().find(|field| named(field, name)));
    let whole = field.as_ref().map_or_else(|| Some(output.clone()), |field| field.kind().as_message().cloned());
    let is_empty = output.full_name() == "google.protobuf.Empty";
    let usual = if is_empty { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let status = config.and_then(|config| config.status).unwrap_or(usual.as_u16());
    let has_body = ![StatusCode::NO_CONTENT.as_u16(), StatusCode::RESET_CONTENT.as_u16()].contains(&status);
    let content = if !has_body {
        None
    } else if whole.is_some_and(|message| message.full_name() == HTTP_BODY) {
        Some(content("*/*", Node::object()))
    } else {
        let schema = match &field {
            Some(field) => schemas.field(field, Direction::Response),
            None => schemas.message(&output, Direction::Response),
        };
        Some(if method.is_server_streaming() { streamed(schema) } else { content("application/json", schema) })
    };
    let description = match status {
        201 => "Made.",
        202 => "Taken in, and not done yet.",
        204 => "Done.",
        _ if method.is_server_streaming() => "All messages, as `Accept` has them.",
        _ => "The answer.",
    };
    let mut answers = Vec::new();
    let mut response = answer(description, content);
    if config.is_some_and(|config| config.location.is_some()) {
        response = with_header(response, "Location", "Where it is from now on.");
    }
    if etag(&output).is_some() && !method.is_server_streaming() {
        response = with_header(response, "ETag", "The version of what is there.");
        if is_safe {
            let unchanged = answer("What `If-None-Match` names is still what is there.", None);
            answers.push((StatusCode::NOT_MODIFIED.as_u16().to_string(), unchanged));
        }
    }
    answers.insert(0, (status.to_string(), response));
    answers
}

/// The forms of a stream. What one message is stands beside: a schema of a whole body can't say it.
fn streamed(schema: Node) -> Node {
    let line = |description: &str| {
        let text = Node::object().with("type", "string").with("description", description);
        Node::object().with("schema", text).with("x-turnpike-item-schema", schema.clone())
    };
    let list = Node::object().with("type", "array").with("items", schema.clone());
    Node::object()
        .with("application/json", Node::object().with("schema", list))
        .with(
            "application/x-ndjson",
            line("A message a line, in JSON. A line `{\"error\": …}` ends a stream that failed."),
        )
        .with(
            "text/event-stream",
            line("A message an event, in JSON. An event `error` ends a stream that failed, with a problem document."),
        )
}

type FieldPath = Vec<FieldDescriptor>;

/// Parameters of the query: every field that nothing else says, by its path.
pub fn query(
    schemas: &Schemas,
    message: &MessageDescriptor,
    skip: &dyn Fn(&[FieldDescriptor]) -> bool,
    path: &mut FieldPath,
    parameters: &mut Vec<Node>,
) {
    for field in message.fields() {
        path.push(field.clone());
        if !skip(path) && !field.is_map() {
            match field.kind() {
                Kind::Message(nested) if !is_text(nested.full_name()) => {
                    let is_own = path[..path.len() - 1].iter().all(|outer| outer.parent_message() != &nested)
                        && nested != *message
                        && !nested.full_name().starts_with("google.protobuf.");
                    if is_own && !field.is_list() && path.len() < DEPTH {
                        query(schemas, &nested, skip, path, parameters);
                    }
                }
                _ => parameters.push(of_path(schemas, path)),
            }
        }
        path.pop();
    }
}

fn of_path(schemas: &Schemas, path: &[FieldDescriptor]) -> Node {
    let name = path.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".");
    let Some(field) = path.last() else { return Node::Null };
    let one = single(field);
    let schema = if field.is_list() { Node::object().with("type", "array").with("items", one) } else { one };
    let schema = schema
        .with_some("description", Some(schemas.comment(field)))
        .with_some("deprecated", is_deprecated(&field.options()).then_some(true));
    let made = parameter("query", &name, schema);
    if field.is_list() { made.with("style", "form").with("explode", true) } else { made }
}

/// The schema of a value in a path or a query: texts in any case, so that a 64-bit integer is one.
pub fn single(field: &FieldDescriptor) -> Node {
    let integer = |format: &str| Node::object().with("type", "integer").with("format", format);
    match field.kind() {
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer("int64"),
        Kind::Uint64 | Kind::Fixed64 => integer("uint64").with("minimum", 0_u64),
        Kind::Enum(descriptor) => {
            let names = descriptor.values().map(|value| value.name().to_owned());
            Node::object().with("type", "string").with("enum", Node::list(names))
        }
        kind => of_kind(&kind),
    }
}

/// `a.b`, by original names or by those of JSON.
pub fn resolve(message: &MessageDescriptor, name: &str) -> Option<FieldPath> {
    let mut path: FieldPath = Vec::new();
    let mut message = Some(message.clone());
    for part in name.split('.') {
        let field = message?.fields().find(|field| named(field, part))?;
        message = field.kind().as_message().cloned();
        path.push(field);
    }
    Some(path)
}

fn named(field: &FieldDescriptor, name: &str) -> bool {
    field.name() == name || field.json_name() == name
}

fn etag(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message.get_field_by_name("etag").filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// `List books` of `ListBooks`.
pub fn words(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !text.is_empty() {
            text.push(' ');
            text.extend(character.to_lowercase());
        } else {
            text.push(character);
        }
    }
    text
}
