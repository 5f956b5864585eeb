//! Examples, made from schemas: the same for the same schema, and valid by it.

use super::{
    node::Node,
    schema::{Direction, exclusions},
};

/// How deep an example goes.
const DEPTH: usize = 8;

/// Puts an example to every JSON body and answer that has a schema and none yet.
pub fn complete(document: &mut Node) {
    let components = document.get("components").cloned().unwrap_or_default();
    let maker = Maker { components: &components };
    let Some(Node::Object(paths)) = document.get_mut("paths") else { return };
    for operation in paths.iter_mut().flat_map(|(_, item)| operations(item)) {
        if let Some(content) = operation.get_mut("requestBody").and_then(|body| body.get_mut("content")) {
            maker.content(content, Direction::Request);
        }
        let Some(Node::Object(responses)) = operation.get_mut("responses") else { continue };
        for content in responses.iter_mut().filter_map(|(_, response)| response.get_mut("content")) {
            maker.content(content, Direction::Response);
        }
    }
}

fn operations(item: &mut Node) -> Vec<&mut Node> {
    let Node::Object(members) = item else { return Vec::new() };
    members
        .iter_mut()
        .map(|(_, operation)| operation)
        .filter(|operation| operation.get("responses").is_some())
        .collect()
}

struct Maker<'a> {
    components: &'a Node,
}

impl Maker<'_> {
    fn content(&self, content: &mut Node, direction: Direction) {
        let Node::Object(media) = content else { return };
        for (name, media) in media {
            let is_json = name == "application/json" || name.ends_with("+json");
            if !is_json || media.get("example").is_some() || media.get("examples").is_some() {
                continue;
            }
            let Some(schema) = media.get("schema") else { continue };
            if let Some(example) = self.make(schema, "", direction, &mut Vec::new()) {
                media.set("example", example);
            }
        }
    }

    /// None: there is none that ends, or nothing is known.
    fn make(&self, schema: &Node, name: &str, direction: Direction, within: &mut Vec<String>) -> Option<Node> {
        if let Some(given) =
            schema.get("example").or_else(|| schema.get("examples").and_then(|list| list.items().first()))
        {
            return Some(given.clone());
        }
        for chosen in ["default", "const"] {
            if let Some(value) = schema.get(chosen) {
                return Some(value.clone());
            }
        }
        if let Some(values) = schema.get("enum") {
            // The first of a protobuf enum says that nothing is said.
            let said =
                values.items().iter().find(|value| !value.text().is_some_and(|text| text.ends_with("_UNSPECIFIED")));
            return said.or(values.items().first()).cloned();
        }
        if let Some(place) = schema.get("$ref").and_then(Node::text) {
            if within.len() >= DEPTH || within.iter().any(|outer| outer == place) {
                return None;
            }
            let target = self.at(place)?;
            within.push(place.to_owned());
            let made = self.make(target, name, direction, within);
            within.pop();
            return made;
        }
        if let Some(parts) = schema.get("allOf") {
            let mut made = parts.items().iter().filter_map(|part| self.make(part, name, direction, within));
            let mut whole = made.next()?;
            for part in made.collect::<Vec<_>>() {
                part.members().iter().for_each(|(name, value)| whole.set(name, value.clone()));
            }
            return Some(whole);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(choice) {
                return choices.items().iter().find_map(|schema| self.make(schema, name, direction, within));
            }
        }
        let kind = schema.get("type");
        let kind = kind.and_then(Node::text).or_else(|| kind?.items().first()?.text());
        Some(match kind {
            Some("object") => self.object(schema, direction, within),
            Some("array") => {
                let item = schema.get("items").and_then(|items| self.make(items, name, direction, within));
                Node::List(item.into_iter().collect())
            }
            Some("string") => text(schema, name),
            Some("integer") => {
                schema.get("minimum").cloned().filter(|least| *least != Node::from(0_u64)).unwrap_or(1_u64.into())
            }
            Some("number") => schema.get("minimum").cloned().unwrap_or(1_u64.into()),
            Some("boolean") => true.into(),
            Some("null") => Node::Null,
            _ => return None,
        })
    }

    fn object(&self, schema: &Node, direction: Direction, within: &mut Vec<String>) -> Node {
        let exclusions = exclusions(schema);
        let unwanted = match direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        };
        let mut object = Node::object();
        for (name, property) in schema.get("properties").map(Node::members).unwrap_or_default() {
            let is_set = |flag: &str| property.get(flag) == Some(&Node::Bool(true));
            let is_required =
                schema.get("required").is_some_and(|names| names.items().iter().any(|one| one.text() == Some(name)));
            let excluded = exclusions
                .get(name.as_str())
                .is_some_and(|others| others.iter().any(|other| object.get(other).is_some()));
            if excluded || !is_required && (is_set(unwanted) || is_set("deprecated")) {
                continue;
            }
            match self.make(property, name, direction, within) {
                Some(value) => object.set(name, value),
                // Nothing is known of it, and it must be there.
                None if is_required => object.set(name, Node::object()),
                None => {}
            }
        }
        if let Some(values @ Node::Object(_)) = schema.get("additionalProperties")
            && object.is_empty()
            && let Some(value) = self.make(values, "value", direction, within)
        {
            let pattern = schema.get("propertyNames").and_then(|names| names.get("pattern")).and_then(Node::text);
            let key = match pattern {
                None => "key",
                Some(pattern) if pattern.contains("true") => "true",
                Some(_) => "1",
            };
            object.set(key, value);
        }
        object
    }

    fn at(&self, place: &str) -> Option<&Node> {
        place.strip_prefix("#/components/")?.split('/').try_fold(self.components, |node, name| node.get(name))
    }
}

fn text(schema: &Node, name: &str) -> Node {
    let format = schema.get("format").and_then(Node::text).unwrap_or_default();
    let text = match format {
        "date-time" => "2026-01-31T12:00:00Z",
        "date" => "2026-01-31",
        "time" => "12:00:00Z",
        "duration" => "PT5M",
        "email" => "someone@example.com",
        "uri" | "url" | "uri-reference" => "https://example.com/",
        "uuid" => "0193e8b0-7c1a-7000-8000-000000000001",
        "byte" => "aGVsbG8=",
        "password" => "correct horse battery",
        _ => match name {
            "email" => "someone@example.com",
            "" => "text",
            name => name,
        },
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(schema: &str) -> String {
        let components = r##"{"schemas":{"Tree":{"type":"object","properties":{"name":{"type":"string"},
            "children":{"type":"array","items":{"$ref":"#/components/schemas/Tree"}},
            "parent":{"$ref":"#/components/schemas/Tree"}}}}}"##;
        let components: Node = serde_json::from_str(components).unwrap();
        let schema: Node = serde_json::from_str(schema).unwrap();
        let made = Maker { components: &components }.make(&schema, "", Direction::Response, &mut Vec::new());
        serde_json::to_string(&made.unwrap_or_default()).unwrap()
    }

    #[test]
    fn an_example_ends_where_a_schema_holds_itself() {
        assert_eq!(made(r##"{"$ref":"#/components/schemas/Tree"}"##), r#"{"name":"name","children":[]}"#);
    }

    #[test]
    fn what_is_made_of_parts_has_them_all() {
        let schema = r##"{"allOf":[{"type":"object","properties":{"a":{"type":"integer"}}},
            {"type":"object","required":["b"],"properties":{"b":{"type":"boolean"}}}]}"##;
        assert_eq!(made(schema), r#"{"a":1,"b":true}"#);
    }

    #[test]
    fn of_what_excludes_each_other_one_is_there() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"boolean"},
            "secret":{"type":"string","writeOnly":true}},
            "dependentSchemas":{"a":{"not":{"anyOf":[{"required":["b"]}]}},"b":{"not":{"anyOf":[{"required":["a"]}]}}}}"#;
        assert_eq!(made(schema), r#"{"a":1}"#);
    }

    #[test]
    fn what_a_schema_shows_itself_goes_first() {
        assert_eq!(made(r#"{"type":"string","pattern":"^-?[0-9]+$","examples":["7"]}"#), r#""7""#);
        assert_eq!(made(r#"{"type":"string","enum":["SIZE_UNSPECIFIED","SMALL"]}"#), r#""SMALL""#);
        assert_eq!(made(r#"{"type":["string","null"],"format":"date-time"}"#), r#""2026-01-31T12:00:00Z""#);
    }
}
