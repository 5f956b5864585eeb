//! The document's components. While it is made, each goes by a name that nothing else has; at the end by the shortest that
//! is still its own.

use std::collections::HashMap;

use super::node::Node;

const SCHEMAS: &str = "components/schemas/";

#[derive(Default)]
pub struct Components {
    schemas: Vec<Component>,
    responses: Node,
    headers: Node,
}

struct Component {
    full: String,
    short: String,
    schema: Node,
}

impl Components {
    /// Where a schema will be.
    pub fn reference(full: &str) -> Node {
        Node::reference(format_args!("{SCHEMAS}{full}"))
    }

    /// Keeps a schema. `full` is its own; it will be called `short`, unless others would be, too.
    pub fn schema(&mut self, full: &str, short: &str, schema: Node) -> Node {
        if !self.has_schema(full) {
            let (full, short) = (full.to_owned(), short.to_owned());
            self.schemas.push(Component { full, short, schema });
        }
        Self::reference(full)
    }

    pub fn has_schema(&self, full: &str) -> bool {
        self.schemas.iter().any(|known| known.full == full)
    }

    /// Another schema in the place of one that is kept.
    pub fn set_schema(&mut self, full: &str, schema: Node) {
        if let Some(known) = self.schemas.iter_mut().find(|known| known.full == full) {
            known.schema = schema;
        }
    }

    pub fn response(&mut self, name: &str, make: impl FnOnce() -> Node) -> Node {
        if self.responses.get(name).is_none() {
            self.responses.set(name, make());
        }
        Node::reference(format_args!("components/responses/{name}"))
    }

    pub fn header(&mut self, name: &str, make: impl FnOnce() -> Node) -> Node {
        if self.headers.get(name).is_none() {
            self.headers.set(name, make());
        }
        Node::reference(format_args!("components/headers/{name}"))
    }

    /// Puts all of them into the document, in the order of their names, and has references lead there.
    pub fn finish(mut self, security: Node, document: &mut Node) {
        self.schemas.sort_by(|a, b| (&a.short, &a.full).cmp(&(&b.short, &b.full)));
        let mut uses: HashMap<String, usize> = HashMap::new();
        for component in &self.schemas {
            *uses.entry(component.short.clone()).or_default() += 1;
        }
        let (mut schemas, mut names) = (Node::object(), HashMap::new());
        for Component { full, short, schema } in self.schemas {
            let name = if uses[&short] == 1 { short } else { full.clone() };
            schemas.set(&name, schema);
            names.insert(full, name);
        }
        let components = Node::object()
            .with_some("securitySchemes", Some(security))
            .with_some("schemas", Some(schemas))
            .with_some("responses", Some(self.responses))
            .with_some("headers", Some(self.headers));
        document.set("components", components);
        document.each_text_of("$ref", &mut |place| {
            let full = place.strip_prefix("#/").and_then(|place| place.strip_prefix(SCHEMAS));
            if let Some(name) = full.and_then(|full| names.get(full)) {
                *place = format!("#/{SCHEMAS}{name}");
            }
        });
    }
}
