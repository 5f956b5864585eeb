//! `openapi:` what the document says of all, and `describe:` what a route says of itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::node::Node;

/// `openapi: { title: Library, version: "3", public: true }`: serves an OpenAPI 3.1 document of all routes, and a page to
/// read it and try it out. By default neither is there: not everybody needs to know what there is.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "OpenApi")]
pub struct Section {
    /// What the API is called; default `API`.
    pub title: String,
    /// Which version of it this is; default `1`.
    pub version: String,
    /// What it is, in Markdown.
    pub description: Option<String>,
    /// Where the document is; default `/openapi.json`.
    pub path: String,
    /// Where the page is; default `/docs`; empty: there is none.
    pub docs: String,
    /// Whether anybody may read them, or only who is known; default false.
    pub public: bool,
    /// URLs that the API is at; default `/`: where the document is.
    pub servers: Vec<String>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            title: "API".to_owned(),
            version: "1".to_owned(),
            description: None,
            path: "/openapi.json".to_owned(),
            docs: "/docs".to_owned(),
            public: false,
            servers: Vec::new(),
        }
    }
}

/// `describe: { summary: Lists books, tags: [Books], examples: { request: {…} } }`: goes before what descriptors say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Describe {
    /// A line.
    pub summary: Option<String>,
    /// In Markdown.
    pub description: Option<String>,
    /// What it stands under; default: the service.
    pub tags: Vec<String>,
    pub examples: Examples,
    /// Left out of the document; default false.
    pub hidden: bool,
}

/// Instead of those that are made from schemas.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Examples {
    /// By the parameter's name.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub parameters: BTreeMap<String, Node>,
    /// The body, where it is JSON.
    #[schemars(with = "Option<serde_json::Value>")]
    pub request: Option<Node>,
    /// The answer where all goes well, if it is JSON.
    #[schemars(with = "Option<serde_json::Value>")]
    pub response: Option<Node>,
}

impl Describe {
    /// A method's word goes before its route's.
    #[must_use]
    pub fn or(&self, route: &Self) -> Self {
        Self {
            summary: self.summary.clone().or_else(|| route.summary.clone()),
            description: self.description.clone().or_else(|| route.description.clone()),
            tags: if self.tags.is_empty() { route.tags.clone() } else { self.tags.clone() },
            examples: if self.examples == Examples::default() { route.examples.clone() } else { self.examples.clone() },
            hidden: self.hidden || route.hidden,
        }
    }
}
