//! Path templates as `google.api.http` writes them: `/products/{id}`, `/files/{name=docs/*}`, `/{rest=**}`,
//! `/jobs/{id}:cancel`.

use std::{borrow::Cow, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{
    context::Variables,
    error::{Error, ErrorKind},
};

/// What a template may write out and a path can't; beside all that isn't ASCII.
const UNWRITTEN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// A path template, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub text: String,
    pub segments: Vec<Segment>,
    /// What follows the last colon: `cancel`.
    pub verb: Option<String>,
    pub variables: Vec<Variable>,
}

/// One step of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// Exactly one segment, not empty.
    Any,
    /// All that remains, even nothing. Only as the last.
    Rest,
}

/// The part of the path that a variable takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// A field path: `id`, `product.id`.
    pub name: Arc<str>,
    pub start: usize,
    pub end: usize,
}

impl Template {
    /// # Errors
    /// A sentence on what doesn't parse.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_prefix('/').ok_or("a path template begins with a slash")?;
        let (body, verb) = split_verb(body);
        let mut template = Self { text: text.to_owned(), segments: Vec::new(), verb, variables: Vec::new() };
        if template.verb.as_deref() == Some("") {
            return Err("nothing follows the colon".to_owned());
        }
        let parts = split_outside_braces(body)?;
        for (at, part) in parts.iter().enumerate() {
            // A slash at the end is part of the path.
            if part.is_empty() && at > 0 && at + 1 == parts.len() {
                template.segments.push(Segment::Literal(String::new()));
                break;
            }
            template.push(part)?;
        }
        if let Some(at) = template.segments.iter().position(|segment| *segment == Segment::Rest)
            && at + 1 != template.segments.len()
        {
            return Err("`**` must be the last segment".to_owned());
        }
        for (at, variable) in template.variables.iter().enumerate() {
            if template.variables[..at].iter().any(|earlier| earlier.name == variable.name) {
                return Err(format!("the variable `{}` is there twice", variable.name));
            }
        }
        Ok(template)
    }

    fn push(&mut self, part: &str) -> Result<(), String> {
        let Some(inside) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            self.segments.push(Segment::parse(part)?);
            return Ok(());
        };
        let (name, segments) = inside.split_once('=').unwrap_or((inside, "*"));
        let named = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !name.split('.').all(named) {
            return Err(format!("`{name}` is not a field path"));
        }
        let start = self.segments.len();
        for segment in segments.split('/') {
            self.segments.push(Segment::parse(segment)?);
        }
        self.variables.push(Variable { name: name.into(), start, end: self.segments.len() });
        Ok(())
    }

    /// Decodes the variables of a path that matched.
    ///
    /// # Errors
    /// If a variable doesn't decode to UTF-8.
    pub fn variables(&self, path: &str) -> Result<Variables, Error> {
        if self.variables.is_empty() {
            return Ok(Variables::default());
        }
        let path = self.without_verb(path);
        self.variables
            .iter()
            .map(|variable| {
                let raw = span(path, variable.start, self.reach(variable));
                let value = if self.is_one_segment(variable) { decode(raw) } else { decode_segments(raw) };
                let value =
                    value.ok_or_else(|| Error::new(ErrorKind::BadRequest, "the path doesn't decode to UTF-8"))?;
                Ok((Arc::clone(&variable.name), value))
            })
            .collect()
    }

    fn without_verb<'a>(&self, path: &'a str) -> &'a str {
        match &self.verb {
            Some(verb) => &path[..path.len().saturating_sub(verb.len() + 1)],
            None => path,
        }
    }

    /// Names of the variables that may be several segments.
    pub fn rests(&self) -> Vec<&str> {
        let rests = self.variables.iter().filter(|variable| !self.is_one_segment(variable));
        rests.map(|variable| &*variable.name).collect()
    }

    fn is_one_segment(&self, variable: &Variable) -> bool {
        variable.end - variable.start == 1 && self.segments[variable.start] != Segment::Rest
    }

    /// The segment a variable ends before; `usize::MAX` for one that takes the rest.
    fn reach(&self, variable: &Variable) -> usize {
        if self.segments[variable.end - 1] == Segment::Rest { usize::MAX } else { variable.end }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            "**" => Ok(Self::Rest),
            "" => Err("a segment is empty".to_owned()),
            text if text.contains(['*', '{', '}', '?', '#']) => Err(format!("`{text}` is not a segment")),
            // What a path can't hold as it is stands in it escaped.
            text => match super::normalise(&format!("/{}", utf8_percent_encode(text, UNWRITTEN))) {
                Ok(normal) if normal.len() > 1 && !normal[1..].contains('/') => {
                    Ok(Self::Literal(normal[1..].to_owned()))
                }
                _ => Err(format!("`{text}` is not a segment")),
            },
        }
    }
}

fn decode(raw: &str) -> Option<String> {
    percent_decode_str(raw).decode_utf8().ok().map(Cow::into_owned)
}

/// Of what may hold slashes, an escaped one stays escaped: it is none of those that part segments. As `google.api.http`
/// has it.
fn decode_segments(raw: &str) -> Option<String> {
    const SLASH: &str = "%2F";
    let pieces: Option<Vec<_>> = raw.split(SLASH).map(decode).collect();
    Some(pieces?.join(SLASH))
}

/// The colon that begins a verb stands in the last segment, outside braces.
fn split_verb(body: &str) -> (&str, Option<String>) {
    match body.rfind(':') {
        Some(colon) if !body[colon..].contains(['/', '}']) => (&body[..colon], Some(body[colon + 1..].to_owned())),
        _ => (body, None),
    }
}

fn split_outside_braces(body: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    if body.is_empty() {
        return Ok(parts);
    }
    for (at, character) in body.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1).ok_or("a brace is closed that was not opened")?,
            '/' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth > 1 {
            return Err("a variable stands in a variable".to_owned());
        }
    }
    if depth != 0 {
        return Err("a brace is not closed".to_owned());
    }
    parts.push(&body[start..]);
    Ok(parts)
}

/// Segments `start..end` of a path, slashes between them included.
fn span(path: &str, start: usize, end: usize) -> &str {
    let begin = path.match_indices('/').nth(start).map_or(path.len(), |(at, _)| at + 1);
    let finish = if end == usize::MAX { None } else { path.match_indices('/').nth(end).map(|(at, _)| at) };
    &path[begin..finish.unwrap_or(path.len()).max(begin)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(template: &str, path: &str) -> Vec<(String, String)> {
        let template = Template::parse(template).unwrap();
        template.variables(path).unwrap().iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn variables_take_their_segments_decoded() {
        assert_eq!(variables("/products/{id}", "/products/a%20b"), [pair("id", "a b")]);
        assert_eq!(variables("/{a.b}/x/{c}", "/1/x/2"), [pair("a.b", "1"), pair("c", "2")]);
        assert_eq!(
            variables("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2"),
            [pair("name", "shelves/1/books/2")]
        );
        assert_eq!(variables("/files/{rest=**}", "/files/a/b/"), [pair("rest", "a/b/")]);
        assert_eq!(variables("/files/{rest=**}", "/files"), [pair("rest", "")]);
        assert_eq!(variables("/things/{id}/", "/things/7/"), [pair("id", "7")]);
        assert_eq!(variables("/jobs/{id}:cancel", "/jobs/7:cancel"), [pair("id", "7")]);
    }

    #[test]
    fn an_escaped_slash_parts_no_segments() {
        assert_eq!(variables("/{id}", "/a%2Fb%3Ac"), [pair("id", "a/b:c")]);
        assert_eq!(variables("/{id=*}", "/a%2Fb"), [pair("id", "a/b")]);
        assert_eq!(variables("/{rest=**}", "/a%2Fb%3Ac/d"), [pair("rest", "a%2Fb:c/d")]);
        assert_eq!(variables("/{name=x/*}", "/x/a%2Fb%20c"), [pair("name", "x/a%2Fb c")]);
    }

    #[test]
    fn a_literal_is_compared_as_a_path_has_it() {
        let literal = |text: &str| Template::parse(text).unwrap().segments;
        for text in ["/caf\u{e9} x", "/caf%C3%A9%20x", "/caf%c3%a9%20x"] {
            assert_eq!(literal(text), [Segment::Literal("caf%C3%A9%20x".to_owned())], "{text}");
        }
    }

    #[test]
    fn a_variable_must_be_utf8() {
        let template = Template::parse("/{id}").unwrap();
        assert_eq!(template.variables("/%FF").map_err(|error| error.kind).err(), Some(ErrorKind::BadRequest));
    }

    #[test]
    fn a_template_that_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "a",
            "/a//b",
            "/{a",
            "/a}",
            "/{a}{b}",
            "/{rest=**}/b",
            "/{a}/{a}",
            "/{1}",
            "/{a=}",
            "/a:",
            "/{a={b}}",
            "/a?b",
            "/..",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Template::parse("/").unwrap().segments, []);
    }
}
