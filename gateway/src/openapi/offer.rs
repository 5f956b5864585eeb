//! What an action says of itself, before what its route asks for is added.

use std::collections::BTreeMap;

use super::node::Node;
use crate::error::ErrorKind;

/// One operation, as far as its action knows it.
#[derive(Default)]
pub struct Offer {
    /// What it would like to be called.
    pub id: String,
    pub summary: String,
    pub description: String,
    pub deprecated: bool,
    pub tag: Tag,
    /// Schemas of path variables, each with its description; texts where they say nothing.
    pub variables: BTreeMap<String, Node>,
    /// In the query and in the header.
    pub parameters: Vec<Node>,
    pub body: Option<Node>,
    /// By status, or `2XX`.
    pub responses: Vec<(String, Node)>,
    /// What goes wrong with it beyond what goes wrong anywhere.
    pub failures: Vec<ErrorKind>,
    /// What else is said of it, for programs.
    pub more: Vec<(&'static str, Node)>,
}

/// What operations stand together under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    pub description: String,
}

impl Tag {
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into() }
    }

    /// Of a gRPC service: its name, without the word every service's name ends with.
    pub fn of_service(name: &str, comment: String) -> Self {
        let short = name.strip_suffix("Service").filter(|short| !short.is_empty()).unwrap_or(name);
        Self::new(short, comment)
    }
}

/// A parameter of the query or of the header.
pub fn parameter(place: &str, name: &str, schema: Node) -> Node {
    let mut schema = schema;
    let description = schema.remove("description");
    let deprecated = schema.remove("deprecated");
    Node::object()
        .with("name", name)
        .with("in", place)
        .with_some("description", description)
        .with_some("deprecated", deprecated)
        .with("schema", schema)
}

/// A text of a header or a query.
pub fn text(description: &str) -> Node {
    Node::object().with("type", "string").with("description", description)
}

/// A body or an answer in one media type.
pub fn content(media_type: &str, schema: Node) -> Node {
    let media = Node::object().with_some("schema", Some(schema));
    Node::object().with(media_type, media)
}

/// A body in JSON.
pub fn json_body(schema: Node, required: bool) -> Node {
    Node::object().with_some("required", required.then_some(true)).with("content", content("application/json", schema))
}

/// An answer of this content.
pub fn answer(description: impl Into<String>, content: Option<Node>) -> Node {
    Node::object().with("description", description.into()).with_some("content", content)
}

/// An answer with one header field more.
pub fn with_header(mut answer: Node, name: &str, description: &str) -> Node {
    let header = Node::object().with("description", description).with("schema", Node::object().with("type", "string"));
    answer.entry("headers").set(name, header);
    answer
}
