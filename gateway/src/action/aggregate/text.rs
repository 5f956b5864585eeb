//! Texts with variables: `{id}`, `{query.page}`, `{parts.product.price.amount}`, `{item.product_id}`.

use std::{borrow::Cow, collections::BTreeSet};

use prost_reflect::{Kind, MessageDescriptor};

use super::{
    super::{
        template::{Escape, Template},
        variable,
    },
    json,
};
use crate::{config::did_you_mean, context::RequestContext};

/// What a template calls a query parameter, a value of another part, a value of the element.
const QUERY: &str = "query.";
const PART: &str = "parts.";
const ITEM: &str = "item";

/// A compiled text.
pub struct Text {
    template: Template,
    /// Each once.
    variables: Vec<(String, Variable)>,
    /// That of the variable that is all of it.
    shape: Shape,
}

pub enum Variable {
    Route(String),
    /// Of several segments.
    Rest(String),
    Query(String),
    Part(Place),
    /// Names as JSON has them.
    Item(Vec<String>),
}

/// A value in the answer of another part.
pub struct Place {
    pub part: usize,
    /// As JSON has them.
    pub names: Vec<String>,
}

/// What an answer looks like, as far as that is known when the configuration loads.
#[derive(Clone)]
pub enum Shape {
    Message(MessageDescriptor),
    /// A single value, or a map, or a message that is written as text.
    Value,
    Unknown,
}

/// Where names lead to.
pub struct Way {
    /// As JSON has them.
    pub names: Vec<String>,
    /// Of a list: that of its elements.
    pub shape: Shape,
    /// None: that isn't known.
    pub is_list: Option<bool>,
    /// Through a list before.
    pub passes_list: bool,
}

/// What texts may name.
pub struct Scope<'a> {
    /// Of the route's path.
    pub variables: &'a [&'a str],
    /// Those of them that may be several segments.
    pub rests: &'a [&'a str],
    /// Names of parts and the shapes of their answers, in the order of the configuration; None: its answer can't be named.
    pub parts: &'a [(&'a str, Option<Shape>)],
    /// That of the elements, where there are any.
    pub item: Option<Shape>,
}

/// What variables stand for, for one request.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    pub context: &'a RequestContext,
    pub parameters: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The JSON of each part that is read by others and has answered; empty for the others.
    pub answers: &'a [&'a [u8]],
    /// The JSON of the element.
    pub item: &'a [u8],
}

impl Text {
    /// # Errors
    /// A sentence: braces that enclose nothing, or a variable that there isn't.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let is_sole = template.sole_variable().is_some();
        let mut variables = Vec::new();
        let mut shape = Shape::Value;
        for name in template.variables().collect::<BTreeSet<_>>() {
            let variable;
            (variable, shape) = Variable::parse(name, scope)?;
            if let (Shape::Message(message), false) = (&shape, is_sole) {
                return Err(format!("`{{{name}}}` is a {}, which can't stand within a text", message.full_name()));
            }
            variables.push((name.to_owned(), variable));
        }
        Ok(Self { template, variables, shape })
    }

    /// The shape of the variable that is all of it.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.variables.iter().map(|(_, variable)| variable)
    }

    /// Whether it can be expanded before any part has answered.
    pub fn is_of_request(&self) -> bool {
        self.variables().all(|variable| matches!(variable, Variable::Route(_) | Variable::Rest(_) | Variable::Query(_)))
    }

    pub fn names_item(&self) -> bool {
        self.variables().any(|variable| matches!(variable, Variable::Item(_)))
    }

    /// The variable that is all of it.
    pub fn sole(&self) -> Option<&Variable> {
        self.template.sole_variable()?;
        self.variables().next()
    }

    /// What a client knows it by: the name of the route's variable or query parameter that is all of it.
    pub fn shown(&self) -> Option<&str> {
        match self.sole()? {
            Variable::Route(name) | Variable::Rest(name) | Variable::Query(name) => Some(name),
            Variable::Part(_) | Variable::Item(_) => None,
        }
    }

    /// The first part that it names and that lacks what is named.
    pub fn lacks(&self, values: &Values<'_>) -> Option<usize> {
        self.variables().find_map(|variable| match variable {
            Variable::Part(place) => variable.json(values).is_none_or(|json| json == b"\"\"").then_some(place.part),
            _ => None,
        })
    }

    /// None if one of its values isn't there.
    pub fn expand<'a>(&self, escape: Escape, values: &Values<'a>) -> Option<Cow<'a, str>> {
        if escape == Escape::None
            && let Some(variable) = self.sole()
        {
            return variable.text(values);
        }
        let value = |name: &str| self.variables.iter().find(|(known, _)| known == name)?.1.text(values);
        self.template.expand(escape, value).map(Cow::Owned)
    }
}

impl Text {
    /// As a path: each value in one segment, but what was several segments of the route's path stays that. None if a value
    /// isn't there.
    pub fn path(&self, values: &Values<'_>) -> Option<String> {
        let value = |name: &str| {
            let variable = &self.variables.iter().find(|(known, _)| known == name)?.1;
            let value = variable.text(values)?;
            Some(Cow::Owned(match variable {
                // In these an escaped slash has stayed escaped.
                Variable::Rest(_) => {
                    value.split("%2F").map(|piece| Escape::Path.apply(piece)).collect::<Vec<_>>().join("%2F")
                }
                _ => Escape::Segment.apply(&value),
            }))
        };
        self.template.expand(Escape::None, value)
    }
}

impl Variable {
    /// With the shape of what it stands for.
    fn parse(name: &str, scope: &Scope<'_>) -> Result<(Self, Shape), String> {
        if let Some(parameter) = name.strip_prefix(QUERY) {
            return Ok((Self::Query(parameter.to_owned()), Shape::Value));
        }
        if let Some(place) = name.strip_prefix(PART) {
            let (part, shape, path) = Place::split(place, scope)?;
            let (names, shape) = shape.one(path)?;
            return Ok((Self::Part(Place { part, names }), shape));
        }
        if scope.variables.contains(&name) {
            let route = if scope.rests.contains(&name) { Self::Rest } else { Self::Route };
            return Ok((route(name.to_owned()), Shape::Value));
        }
        match (name.strip_prefix(ITEM).filter(|path| path.is_empty() || path.starts_with('.')), &scope.item) {
            (Some(path), Some(shape)) => {
                let (names, shape) = shape.one(path.trim_start_matches('.'))?;
                Ok((Self::Item(names), shape))
            }
            (Some(_), None) => Err(format!("`{{{name}}}` belongs to `for_each`")),
            (None, _) => Err(format!("the route has no variable `{name}`")),
        }
    }

    /// The value as text; none where it isn't there or is no single one. What comes of a service and is empty isn't there:
    /// proto3 writes what nobody set as an empty text.
    pub fn text<'a>(&self, values: &Values<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Route(name) | Self::Rest(name) => variable(values.context, name).map(Cow::Borrowed),
            Self::Query(name) => values.parameter(name).map(Cow::Borrowed),
            Self::Part(_) | Self::Item(_) => json::text(self.json(values)?).filter(|text| !text.is_empty()),
        }
    }

    /// The value as it stands in another part or in the element; none where it isn't there or is null.
    pub fn json<'a>(&self, values: &Values<'a>) -> Option<&'a [u8]> {
        let (json, names) = match self {
            Self::Part(place) => (*values.answers.get(place.part)?, &place.names),
            Self::Item(names) => (values.item, names),
            Self::Route(_) | Self::Rest(_) | Self::Query(_) => return None,
        };
        json.get(json::find(json, 0..json.len(), names)?).filter(|value| *value != b"null")
    }
}

impl<'a> Values<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }
}

impl Place {
    /// `NAME.a.b` as the part, its shape, and the names in it.
    fn split<'t>(text: &'t str, scope: &Scope<'_>) -> Result<(usize, Shape, &'t str), String> {
        // Names of parts may have dots: the longest one that fits is meant.
        let fits = |name: &str| text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let named = scope.parts.iter().enumerate().filter(|(_, (name, _))| fits(name));
        let Some((part, (name, shape))) = named.max_by_key(|(_, (name, _))| name.len()) else {
            let name = text.split('.').next().unwrap_or_default();
            let near = did_you_mean(name, scope.parts.iter().map(|(name, _)| *name));
            return Err(format!("there is no part `{name}`{near}"));
        };
        let shape = shape.clone().ok_or_else(|| format!("`{name}` is no single answer"))?;
        Ok((part, shape, text[name.len()..].trim_start_matches('.')))
    }

    /// Reads `"{parts.NAME.a.b}"`, which leads to a list; the shape is that of its elements.
    ///
    /// # Errors
    /// A sentence: there is no such part, or no such list in it.
    pub fn of_list(text: &str, scope: &Scope<'_>) -> Result<(Self, Shape), String> {
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let inside = inside.and_then(|text| text.strip_prefix(PART)).filter(|text| !text.contains(['{', '}']));
        let (part, shape, path) =
            Self::split(inside.ok_or("must be a list of another part: \"{parts.NAME.list}\"")?, scope)?;
        let (names, shape) = shape.list(path)?;
        Ok((Self { part, names }, shape))
    }
}

impl Shape {
    /// The shape of a field, or of the elements of a list.
    pub fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => {
                Self::Message(message.clone())
            }
            // Struct, Value, Any and the like may hold anything.
            Kind::Message(_) => Self::Unknown,
            _ => Self::Value,
        }
    }

    /// Where dotted names lead to, through lists, too.
    ///
    /// # Errors
    /// A sentence: there is no such field.
    pub fn walk(&self, path: &str) -> Result<Way, String> {
        let mut way = Way { names: Vec::new(), shape: self.clone(), is_list: None, passes_list: false };
        for name in path.split('.').filter(|_| !path.is_empty()) {
            way.passes_list |= way.is_list == Some(true);
            let message = match &way.shape {
                Self::Message(message) => message,
                Self::Unknown => {
                    way.names.push(name.to_owned());
                    way.is_list = None;
                    continue;
                }
                Self::Value => return Err(format!("`{path}`: there is no `{name}` in a single value")),
            };
            let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
            let field = field.ok_or_else(|| format!("{} has no field `{name}`", message.full_name()))?;
            way.names.push(field.json_name().to_owned());
            let shape = if field.is_map() { Self::Unknown } else { Self::of(&field.kind()) };
            // What a message of google.protobuf holds, and so whether it is a list, only its values say.
            let is_open = matches!(shape, Self::Unknown) && !field.is_map() && !field.is_list();
            way.is_list = (!is_open).then_some(field.is_list());
            way.shape = shape;
        }
        if way.names.is_empty() {
            way.is_list = if matches!(self, Self::Unknown) { None } else { Some(false) };
        }
        Ok(way)
    }

    /// Where dotted names lead to, which must be one value.
    ///
    /// # Errors
    /// A sentence: there is no such field, or it is a list, or in one.
    pub fn one(&self, path: &str) -> Result<(Vec<String>, Self), String> {
        let way = self.walk(path)?;
        if way.passes_list || way.is_list == Some(true) {
            return Err(format!("`{path}` is a list, or in one: `for_each` goes through it"));
        }
        Ok((way.names, way.shape))
    }

    /// Where dotted names lead to, which must be a list, perhaps through others; the shape is that of its elements.
    ///
    /// # Errors
    /// A sentence: there is no such field, or it is no list.
    pub fn list(&self, path: &str) -> Result<(Vec<String>, Self), String> {
        let way = self.walk(path)?;
        if way.is_list == Some(false) {
            return Err(format!("`{path}` is no list"));
        }
        Ok((way.names, way.shape))
    }
}
