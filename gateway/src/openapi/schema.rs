//! JSON Schemas of messages, as they are written in JSON (<https://protobuf.dev/programming-guides/json/>). A message that
//! is asked for becomes a component, and so does all that it holds: recursion is a reference.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{
    DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use super::{comments::Comments, components::Components, node::Node, well_known::well_known};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

/// The messages and enums that were asked for.
#[derive(Default)]
pub struct Schemas {
    pub comments: Comments,
    messages: BTreeMap<String, Used>,
    enums: BTreeMap<String, EnumDescriptor>,
}

struct Used {
    message: MessageDescriptor,
    in_requests: bool,
    in_responses: bool,
}

/// What `google.api.field_behavior` says of a field.
#[derive(Default)]
struct Behavior {
    required: bool,
    output_only: bool,
    input_only: bool,
    immutable: bool,
}

impl Schemas {
    /// The schema of a message: a reference, unless it is one of the well-known ones.
    pub fn message(&mut self, message: &MessageDescriptor, direction: Direction) -> Node {
        self.note(message, direction);
        of_message(message)
    }

    /// The schema of a field's value, and what its comment says.
    pub fn field(&mut self, field: &FieldDescriptor, direction: Direction) -> Node {
        self.note_field(field, direction);
        self.property(field)
    }

    /// An object of some of a message's fields.
    pub fn some_of(
        &mut self,
        message: &MessageDescriptor,
        direction: Direction,
        wanted: impl Fn(&FieldDescriptor) -> bool,
    ) -> Node {
        let fields: Vec<_> = message.fields().filter(|field| wanted(field)).collect();
        fields.iter().for_each(|field| self.note_field(field, direction));
        self.object(message, &fields, false)
    }

    /// What the comment of a field says.
    pub fn comment(&self, field: &FieldDescriptor) -> String {
        self.comments.of(&field.parent_file(), field.path())
    }

    /// Puts everything that was asked for among the components.
    pub fn finish(self, components: &mut Components) {
        for (name, used) in &self.messages {
            let fields: Vec<_> = used.message.fields().collect();
            // An answer has every member that is not unset; nobody has to send one.
            let schema = self.object(&used.message, &fields, used.in_responses && !used.in_requests);
            components.schema(name, within_package(name, used.message.package_name()), schema);
        }
        for (name, descriptor) in &self.enums {
            let schema = self.enumeration(descriptor);
            components.schema(name, within_package(name, descriptor.package_name()), schema);
        }
    }

    fn note(&mut self, message: &MessageDescriptor, direction: Direction) {
        if well_known(message.full_name()).is_some() {
            return;
        }
        let fresh = || Used { message: message.clone(), in_requests: false, in_responses: false };
        let used = self.messages.entry(message.full_name().to_owned()).or_insert_with(fresh);
        let known = match direction {
            Direction::Request => &mut used.in_requests,
            Direction::Response => &mut used.in_responses,
        };
        if !std::mem::replace(known, true) {
            message.fields().for_each(|field| self.note_field(&field, direction));
        }
    }

    fn note_field(&mut self, field: &FieldDescriptor, direction: Direction) {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => self.note_field(&entry.map_entry_value_field(), direction),
            Kind::Message(message) => self.note(&message, direction),
            Kind::Enum(descriptor) if !is_null(&descriptor) => {
                self.enums.insert(descriptor.full_name().to_owned(), descriptor);
            }
            _ => {}
        }
    }

    fn object(&self, message: &MessageDescriptor, fields: &[FieldDescriptor], is_answer: bool) -> Node {
        let (mut properties, mut required) = (Node::object(), Vec::new());
        for field in fields {
            properties.set(field.json_name(), self.property(field));
            let is_written = is_answer && (field.is_list() || field.is_map() || !field.supports_presence());
            if is_written && !is_secret(field) || behavior(field).required {
                required.push(field.json_name().to_owned());
            }
        }
        let mut description = self.comments.of(&message.parent_file(), message.path());
        let mut excluded = Node::object();
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let members: Vec<_> = oneof.fields().filter(|member| fields.contains(member)).collect();
            let names: Vec<_> = members.iter().map(|member| format!("`{}`", member.json_name())).collect();
            if names.len() < 2 {
                continue;
            }
            let sentence = format!("At most one of {} is there.", names.join(", "));
            description = [description, sentence].join("\n\n").trim().to_owned();
            for member in &members {
                let others = members.iter().filter(|other| *other != member);
                let others = others.map(|other| Node::object().with("required", Node::list([other.json_name()])));
                let none = Node::object().with("not", Node::object().with("anyOf", Node::List(others.collect())));
                excluded.set(member.json_name(), none);
            }
        }
        Node::object()
            .with("type", "object")
            .with_some("description", Some(description))
            .with_some("deprecated", is_deprecated(&message.options()).then_some(true))
            .with("properties", properties)
            .with_some("required", Some(Node::list(required)))
            .with_some("dependentSchemas", Some(excluded))
    }

    fn property(&self, field: &FieldDescriptor) -> Node {
        let behavior = behavior(field);
        let secret = is_secret(field);
        let mut schema = of_field(field)
            .with_some("description", Some(self.comment(field)))
            .with_some("readOnly", behavior.output_only.then_some(true))
            .with_some("writeOnly", (behavior.input_only || secret).then_some(true))
            .with_some("deprecated", is_deprecated(&field.options()).then_some(true))
            .with_some("x-immutable", behavior.immutable.then_some(true));
        if secret && schema.get("type").and_then(Node::text) == Some("string") && schema.get("format").is_none() {
            schema.set("format", "password");
        }
        schema
    }

    fn enumeration(&self, descriptor: &EnumDescriptor) -> Node {
        let file = descriptor.parent_file();
        let mut description = self.comments.of(&file, descriptor.path());
        let values = descriptor.values().map(|value| {
            let comment = self.comments.of(&file, value.path()).replace('\n', " ");
            (value.name().to_owned(), comment)
        });
        let values: Vec<_> = values.collect();
        if values.iter().any(|(_, comment)| !comment.is_empty()) {
            let lines = values.iter().map(|(name, comment)| match comment.as_str() {
                "" => format!("- `{name}`"),
                comment => format!("- `{name}`: {comment}"),
            });
            description = format!("{description}\n\n{}", lines.collect::<Vec<_>>().join("\n")).trim().to_owned();
        }
        Node::object()
            .with("type", "string")
            .with_some("description", Some(description))
            .with("enum", Node::list(values.into_iter().map(|(name, _)| name)))
    }
}

/// A place where a message's schema is, or the schema of a well-known one.
pub fn of_message(message: &MessageDescriptor) -> Node {
    well_known(message.full_name()).unwrap_or_else(|| Components::reference(message.full_name()))
}

fn of_field(field: &FieldDescriptor) -> Node {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => Node::object()
            .with("type", "object")
            .with_some("propertyNames", key(&entry.map_entry_key_field()))
            .with("additionalProperties", of_kind(&entry.map_entry_value_field().kind())),
        kind if field.is_list() => Node::object().with("type", "array").with("items", of_kind(&kind)),
        kind => of_kind(&kind),
    }
}

/// What the names of a map's members must be, where they are not just texts.
fn key(field: &FieldDescriptor) -> Option<Node> {
    let pattern = match field.kind() {
        Kind::String => return None,
        Kind::Bool => "^(true|false)$",
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => "^[0-9]+$",
        _ => "^-?[0-9]+$",
    };
    Some(Node::object().with("pattern", pattern))
}

/// The schema of a single value.
pub fn of_kind(kind: &Kind) -> Node {
    let plain = |name: &str| Node::object().with("type", name);
    let number = |format: &str| {
        let named = Node::list(["NaN", "Infinity", "-Infinity"]);
        let number = plain("number").with("format", format);
        Node::object().with("anyOf", Node::list([number, plain("string").with("enum", named)]))
    };
    match kind {
        Kind::Bool => plain("boolean"),
        Kind::String => plain("string"),
        Kind::Bytes => plain("string").with("format", "byte").with("contentEncoding", "base64"),
        Kind::Double => number("double"),
        Kind::Float => number("float"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => plain("integer").with("format", "int32"),
        Kind::Uint32 | Kind::Fixed32 => {
            plain("integer").with("minimum", 0_u64).with("maximum", u64::from(u32::MAX)).with("format", "int64")
        }
        // What a number of JSON can't hold without loss.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            plain("string").with("format", "int64").with("pattern", "^-?[0-9]+$").with("examples", Node::list(["1"]))
        }
        Kind::Uint64 | Kind::Fixed64 => {
            plain("string").with("format", "uint64").with("pattern", "^[0-9]+$").with("examples", Node::list(["1"]))
        }
        Kind::Message(message) => of_message(message),
        Kind::Enum(descriptor) if is_null(descriptor) => plain("null"),
        Kind::Enum(descriptor) => Components::reference(descriptor.full_name()),
    }
}

fn is_null(descriptor: &EnumDescriptor) -> bool {
    descriptor.full_name() == "google.protobuf.NullValue"
}

/// `Outer.Inner` of `package.Outer.Inner`.
fn within_package<'a>(name: &'a str, package: &str) -> &'a str {
    name.strip_prefix(package).map_or(name, |name| name.trim_start_matches('.'))
}

pub fn is_deprecated(options: &DynamicMessage) -> bool {
    option(options, "deprecated")
}

/// `debug_redact`: it may come in, and is not to be shown.
fn is_secret(field: &FieldDescriptor) -> bool {
    option(&field.options(), "debug_redact")
}

fn option(options: &DynamicMessage, name: &str) -> bool {
    options.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false)
}

fn behavior(field: &FieldDescriptor) -> Behavior {
    let mut behavior = Behavior::default();
    let extension = field.parent_file().parent_pool().get_extension_by_name("google.api.field_behavior");
    let Some(extension) = extension else { return behavior };
    for value in listed(&field.options(), &extension) {
        match value {
            2 => behavior.required = true,
            3 => behavior.output_only = true,
            4 => behavior.input_only = true,
            5 => behavior.immutable = true,
            _ => {}
        }
    }
    behavior
}

fn listed(options: &DynamicMessage, extension: &ExtensionDescriptor) -> Vec<i32> {
    let value = options.get_extension(extension);
    value.as_list().unwrap_or_default().iter().filter_map(Value::as_enum_number).collect()
}

/// The names that exclude each other, as `dependentSchemas` of an object has them.
pub fn exclusions(schema: &Node) -> HashMap<&str, Vec<&str>> {
    let Some(dependent) = schema.get("dependentSchemas") else { return HashMap::new() };
    let named = dependent.members().iter().map(|(name, others)| {
        let others = others.get("not").and_then(|not| not.get("anyOf")).map_or(&[][..], Node::items);
        let others = others.iter().filter_map(|other| other.get("required")?.items().first()?.text());
        (name.as_str(), others.collect())
    });
    named.collect()
}
