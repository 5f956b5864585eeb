//! What a service that is passed through says of itself: an OpenAPI document of its own, of which the paths come in that a
//! route of the gateway leads to.

use super::{components::Components, node::Node};
use crate::route::{Segment, Template};

/// A service's document, read.
#[derive(Clone, Debug)]
pub struct Fragment {
    document: Node,
}

/// One operation of it, with its path cut up.
pub struct Operation<'a> {
    pub path: &'a str,
    pub method: &'a str,
    operation: &'a Node,
    /// Parameters of all operations of the path.
    shared: &'a [Node],
}

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl Fragment {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// A sentence on what it is not.
    pub fn read(text: &str) -> Result<Self, String> {
        let document: Node = serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
        let version = document.get("openapi").and_then(Node::text).unwrap_or_default();
        if !version.starts_with("3.1") {
            return Err("must be a document of OpenAPI 3.1".to_owned());
        }
        let mut fragment = Self { document };
        if fragment.operations().next().is_none() {
            return Err("describes no operation".to_owned());
        }
        let mut foreign = None;
        fragment.document.each_text_of("$ref", &mut |place| {
            if !place.starts_with("#/components/schemas/") {
                foreign = Some(place.clone());
            }
        });
        match foreign {
            Some(place) => Err(format!("refers to `{place}`: references lead to #/components/schemas/ only")),
            None => Ok(fragment),
        }
    }

    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let paths = self.document.get("paths").map(Node::members).unwrap_or_default();
        paths.iter().flat_map(|(path, item)| {
            let shared = item.get("parameters").map(Node::items).unwrap_or_default();
            let operations = item.members().iter().filter(|(method, _)| METHODS.contains(&method.as_str()));
            operations.map(move |(method, operation)| Operation { path, method, operation, shared })
        })
    }

    /// The description of one of its tags.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let tags = self.document.get("tags").map(Node::items).unwrap_or_default();
        tags.iter().find(|tag| tag.get("name").and_then(Node::text) == Some(name))?.get("description")?.text()
    }

    /// Takes over the schemas that something refers to, under the service's name, and has it refer to them there.
    pub fn adopt(&self, service: &str, node: &mut Node, components: &mut Components) {
        let mut wanted = Vec::new();
        node.each_text_of("$ref", &mut |place| {
            if let Some(name) = place.strip_prefix("#/components/schemas/") {
                wanted.push(name.to_owned());
                *place = format!("#/components/schemas/{}", full(service, name));
            }
        });
        let schemas = self.document.get("components").and_then(|components| components.get("schemas"));
        for name in wanted {
            let known = components.has_schema(&full(service, &name));
            let Some(schema) = schemas.and_then(|schemas| schemas.get(&name)).filter(|_| !known) else { continue };
            let mut schema = schema.clone();
            // Known from here on: a schema may hold itself.
            components.schema(&full(service, &name), &name, Node::Null);
            self.adopt(service, &mut schema, components);
            components.set_schema(&full(service, &name), schema);
        }
    }
}

impl Operation<'_> {
    /// What it says, with the parameters of its path.
    pub fn whole(&self) -> Node {
        let mut operation = self.operation.clone();
        let mut parameters = self.shared.to_vec();
        parameters.extend(operation.get("parameters").map(Node::items).unwrap_or_default().iter().cloned());
        if !parameters.is_empty() {
            operation.set("parameters", Node::List(parameters));
        }
        operation
    }
}

/// Characters that a component's name can't have become underscores.
fn full(service: &str, name: &str) -> String {
    let service: String =
        service.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    format!("{service}.{name}")
}

/// Whether a path of OpenAPI lies within what a template takes.
pub fn is_within(path: &str, template: &Template) -> bool {
    if template.verb.is_some() {
        return false;
    }
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').filter(|_| path != "/");
    for wanted in &template.segments {
        let segment = segments.next();
        match (wanted, segment) {
            (Segment::Rest, _) => return true,
            (Segment::Any, Some(_)) => {}
            (Segment::Literal(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// A path of the service as the gateway's callers see it, where the beginning of the one becomes that of the other.
pub fn outside(path: &str, inside: &str, outside: &str) -> Option<String> {
    let rest = path.strip_prefix(inside.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| {
        let path = format!("{}{rest}", outside.trim_end_matches('/'));
        if path.is_empty() { "/".to_owned() } else { path }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_within_what_a_template_takes() {
        for (path, template, within) in [
            ("/events", "/events/{rest=**}", true),
            ("/events/{id}/status", "/events/{rest=**}", true),
            ("/eventsx", "/events/{rest=**}", false),
            ("/queues/{queue}", "/queues/{name}", true),
            ("/queues/{queue}", "/queues/main", false),
            ("/queues", "/queues/{name}", false),
            ("/queues/{queue}/x", "/queues/{name}", false),
            ("/", "/", true),
            ("/", "/{rest=**}", true),
        ] {
            assert_eq!(is_within(path, &Template::parse(template).unwrap()), within, "{path} {template}");
        }
    }

    #[test]
    fn a_prefix_is_another_outside() {
        assert_eq!(outside("/v1/a/{b}", "/v1", "/api").as_deref(), Some("/api/a/{b}"));
        assert_eq!(outside("/v1", "/v1/", "/").as_deref(), Some("/"));
        assert_eq!(outside("/v10/a", "/v1", "/api"), None);
        assert_eq!(outside("/a", "/", "/api").as_deref(), Some("/api/a"));
    }

    #[test]
    fn what_is_no_description_is_refused() {
        let refused = |text: &str| Fragment::read(text).unwrap_err();
        assert!(refused("openapi: 3.0.3\npaths: {}").contains("3.1"));
        assert!(refused("openapi: 3.1.0\npaths: {}").contains("no operation"));
        assert!(
            refused("openapi: 3.1.0\npaths: {/a: {get: {responses: {'200': {$ref: other.yaml}}}}}")
                .contains("other.yaml")
        );
        assert!(Fragment::read("openapi: 3.1.0\npaths: {/a: {get: {responses: {}}}}").is_ok());
    }
}
