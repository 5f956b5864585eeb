//! What a refusal looks like: one problem document for all (RFC 9457), an answer for each kind that an operation can give.

use std::collections::BTreeMap;

use super::{
    components::Components,
    node::Node,
    offer::{answer, with_header},
};
use crate::{
    error::ErrorKind,
    problem::{self, Status},
};

const PROBLEM: &str = "turnpike.Problem";

/// Answers of these kinds, by status. Kinds of one status are one answer.
pub fn answers(kinds: &[ErrorKind], components: &mut Components) -> Vec<(String, Node)> {
    let mut by_status: BTreeMap<u16, ErrorKind> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(problem::status(*kind).http.as_u16()).or_insert(*kind);
    }
    let answers = by_status.into_iter().map(|(status, kind)| (status.to_string(), of(kind, components)));
    answers.collect()
}

/// Anything else that can go wrong.
pub fn anything(components: &mut Components) -> Node {
    schemas(components);
    components.response("Problem", || {
        let media = Node::object().with("schema", Components::reference(PROBLEM));
        answer("Anything else that went wrong.", Some(Node::object().with(problem::CONTENT_TYPE, media)))
    })
}

fn of(kind: ErrorKind, components: &mut Components) -> Node {
    schemas(components);
    let status = problem::status(kind);
    let name = pascal(status.kind);
    components.response(&name, || {
        let mut media = Node::object().with("schema", Components::reference(PROBLEM));
        media.set("example", example(kind, &status));
        let mut made = answer(format!("{}.", status.title), Some(Node::object().with(problem::CONTENT_TYPE, media)));
        for (name, description) in headers(kind) {
            made = with_header(made, name, description);
        }
        made
    })
}

fn headers(kind: ErrorKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        ErrorKind::Unauthenticated => &[("WWW-Authenticate", "What credentials are taken.")],
        ErrorKind::RateLimited => &[
            ("Retry-After", "Seconds until it may be tried again."),
            ("RateLimit", "What is left of each limit (draft-ietf-httpapi-ratelimit-headers-10)."),
            ("RateLimit-Policy", "The limits (draft-ietf-httpapi-ratelimit-headers-10)."),
        ],
        ErrorKind::Unavailable | ErrorKind::Overloaded => &[("Retry-After", "Seconds until it may be tried again.")],
        _ => &[],
    }
}

fn schemas(components: &mut Components) {
    let text = |description: &str, example: &str| {
        Node::object().with("type", "string").with("description", description).with("examples", Node::list([example]))
    };
    let violation = Node::object()
        .with("type", "object")
        .with("description", "A field that is wrong.")
        .with(
            "properties",
            Node::object()
                .with("field", text("Its path in the request.", "quantity"))
                .with("reason", text("What is wrong with it.", "must be at least 1")),
        )
        .with("required", Node::list(["field", "reason"]));
    let violations = components.schema("turnpike.Violation", "Violation", violation);
    let status = Node::object()
        .with("type", "integer")
        .with("description", "The HTTP status.")
        .with("minimum", 400_u64)
        .with("maximum", 599_u64);
    let properties = Node::object()
        .with(
            "type",
            text(
                "What kind of problem it is: programs go by it. It never changes its meaning.",
                &problem::type_of("invalid"),
            )
            .with("format", "uri"),
        )
        .with("title", text("The kind, for people.", "The request is not valid"))
        .with("status", status)
        .with("detail", text("What happened, for people.", "the request is not valid"))
        .with("instance", text("The path that was asked for.", "/"))
        .with(
            "request_id",
            text("As in `X-Request-Id`: what to name when asking for help.", "0a3f5c1e9b7d4826a1c0f2e4d6b8907f"),
        )
        .with("trace_id", text("Finds the trace.", "4bf92f3577b34da6a3ce929d0e0e4736"))
        .with(
            "errors",
            Node::object()
                .with("type", "array")
                .with("items", violations)
                .with("description", "The fields that are wrong, if that is it."),
        );
    let problem = Node::object()
        .with("type", "object")
        .with("description", "A refusal or a failure (RFC 9457).")
        .with("properties", properties)
        .with("required", Node::list(["type", "title", "status", "detail"]));
    components.schema(PROBLEM, "Problem", problem);
}

fn example(kind: ErrorKind, status: &Status) -> Node {
    let example = Node::object()
        .with("type", problem::type_of(status.kind))
        .with("title", status.title)
        .with("status", u64::from(status.http.as_u16()))
        .with("detail", status.title.to_lowercase())
        .with("instance", "/")
        .with("request_id", "0a3f5c1e9b7d4826a1c0f2e4d6b8907f")
        .with("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736");
    if kind != ErrorKind::Invalid {
        return example;
    }
    let violation = Node::object().with("field", "quantity").with("reason", "must be at least 1");
    example.with("errors", Node::List(vec![violation]))
}

/// `RateLimited` of `rate-limited`.
fn pascal(kind: &str) -> String {
    let camel = super::path::camel(kind);
    let mut characters = camel.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
