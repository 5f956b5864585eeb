//! A route's path template as OpenAPI writes paths: a parameter for each segment that is not fixed.

use std::fmt::Write as _;

use crate::route::{Segment, Template};

/// A path and its parameters, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub text: String,
    /// The same without names: two paths of one shape are one.
    pub shape: String,
    pub parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// The variable it is the value of, or a part of.
    pub variable: Option<String>,
    /// The variable's pattern, where the parameter is only a part of it: `shelves/*/books/*`.
    pub part_of: Option<String>,
    /// It takes all that remains, slashes included.
    pub is_rest: bool,
}

impl Path {
    pub fn of(template: &Template) -> Self {
        let mut path = Self { text: String::new(), shape: String::new(), parameters: Vec::new() };
        for (at, segment) in template.segments.iter().enumerate() {
            path.text.push('/');
            path.shape.push('/');
            match segment {
                Segment::Literal(literal) => {
                    path.text.push_str(literal);
                    path.shape.push_str(literal);
                }
                Segment::Any | Segment::Rest => {
                    let parameter = path.parameter(template, at);
                    // Writing to a string can't fail.
                    _ = write!(path.text, "{{{}}}", parameter.name);
                    path.shape.push_str(if parameter.is_rest { "{**}" } else { "{}" });
                    path.parameters.push(parameter);
                }
            }
        }
        if template.segments.is_empty() {
            path.text.push('/');
            path.shape.push('/');
        }
        if let Some(verb) = &template.verb {
            _ = write!(path.text, ":{verb}");
            _ = write!(path.shape, ":{verb}");
        }
        path
    }

    fn parameter(&self, template: &Template, at: usize) -> Parameter {
        let variable = template.variables.iter().find(|variable| (variable.start..variable.end).contains(&at));
        let segments = variable.map_or(&[][..], |variable| &template.segments[variable.start..variable.end]);
        let is_all = segments.len() == 1;
        let name = variable.map_or("segment", |variable| &*variable.name);
        // `product.id` is `id`, unless there is another.
        let last = camel(name.rsplit('.').next().unwrap_or(name));
        let names = std::iter::once(last).chain(std::iter::once(camel(&name.replace('.', "_"))));
        let names = names.chain((2..).map(|number| format!("{}{number}", camel(&name.replace('.', "_")))));
        let is_free = |name: &String| !self.parameters.iter().any(|known| known.name == *name);
        Parameter {
            name: names.into_iter().find(is_free).unwrap_or_default(),
            variable: variable.map(|variable| variable.name.to_string()),
            part_of: (!is_all && variable.is_some()).then(|| pattern(segments)),
            is_rest: template.segments[at] == Segment::Rest,
        }
    }
}

fn pattern(segments: &[Segment]) -> String {
    let texts = segments.iter().map(|segment| match segment {
        Segment::Literal(literal) => literal,
        Segment::Any => "*",
        Segment::Rest => "**",
    });
    texts.collect::<Vec<_>>().join("/")
}

/// `productId` of `product_id`.
pub fn camel(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut is_first = false;
    for character in name.chars() {
        match character {
            '_' | '-' | '.' => is_first = !text.is_empty(),
            _ if is_first => {
                text.extend(character.to_uppercase());
                is_first = false;
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(template: &str) -> (String, String) {
        let path = Path::of(&Template::parse(template).unwrap());
        (path.text, path.shape)
    }

    #[test]
    fn every_open_segment_is_a_parameter() {
        for (template, text, shape) in [
            ("/", "/", "/"),
            ("/products/{product.id}", "/products/{id}", "/products/{}"),
            ("/products/{product_id}/reviews", "/products/{productId}/reviews", "/products/{}/reviews"),
            ("/{a.id}/{b.id}", "/{id}/{bId}", "/{}/{}"),
            (
                "/v1/{name=shelves/*/books/*}:move",
                "/v1/shelves/{name}/books/{name2}:move",
                "/v1/shelves/{}/books/{}:move",
            ),
            ("/files/{rest=**}", "/files/{rest}", "/files/{**}"),
            ("/a/*/b/*", "/a/{segment}/b/{segment2}", "/a/{}/b/{}"),
            ("/lists/{id}/", "/lists/{id}/", "/lists/{}/"),
        ] {
            assert_eq!(shown(template), (text.to_owned(), shape.to_owned()), "{template}");
        }
    }

    #[test]
    fn a_part_of_a_variable_says_of_what() {
        let path = Path::of(&Template::parse("/v1/{name=shelves/*/books/*}").unwrap());
        assert_eq!(path.parameters[1].part_of.as_deref(), Some("shelves/*/books/*"));
        assert_eq!(path.parameters[1].variable.as_deref(), Some("name"));
        let path = Path::of(&Template::parse("/{id}").unwrap());
        assert_eq!(path.parameters[0].part_of, None);
    }
}
