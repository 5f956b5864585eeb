//! Text with variables: `/orders/{id}`. For paths that are written, not matched.

use std::{borrow::Cow, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Compiled once; expanding it only looks its variables up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

/// How a variable's value enters the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As one segment of a path.
    Segment,
    /// As several segments: a slash stays a slash.
    Path,
    /// As it is.
    None,
}

impl Template {
    /// # Errors
    /// A brace that isn't closed or opened, or a variable without a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            let name = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
            let (name, tail) = name
                .filter(|(name, _)| !name.is_empty() && !name.contains('{'))
                .ok_or_else(|| format!("`{text}`: braces must enclose a variable's name"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The variable that is all of the text.
    pub fn sole_variable(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Variable(name)] => Some(name),
            _ => None,
        }
    }

    /// The text with its variables filled in; none if `value` doesn't know one of them.
    pub fn expand<'a>(&self, escape: Escape, value: impl Fn(&str) -> Option<Cow<'a, str>>) -> Option<String> {
        let mut text = String::with_capacity(64);
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(name) => escape.push(&mut text, &value(name)?),
            }
        }
        Some(text)
    }
}

/// A template whose variables must all be the route's.
///
/// # Errors
/// A sentence that names the one that isn't, or what is wrong with the braces.
pub fn of_route(text: &str, variables: &[&str]) -> Result<Template, String> {
    let template = Template::parse(text)?;
    let unknown = template.variables().find(|name| !variables.contains(name));
    unknown.map_or(Ok(()), |unknown| Err(format!("the route has no variable `{unknown}`")))?;
    Ok(template)
}

impl Escape {
    pub fn apply(self, value: &str) -> String {
        let mut text = String::with_capacity(value.len());
        self.push(&mut text, value);
        text
    }

    fn push(self, text: &mut String, value: &str) {
        match self {
            Self::None => text.push_str(value),
            // Writing to a string can't fail.
            Self::Segment => _ = write!(text, "{}", utf8_percent_encode(value, SEGMENT)),
            Self::Path => {
                for (index, segment) in value.split('/').enumerate() {
                    if index > 0 {
                        text.push('/');
                    }
                    _ = write!(text, "{}", utf8_percent_encode(segment, SEGMENT));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_not_leave_its_segment() {
        let template = Template::parse("/orders/{id}/x").unwrap();
        let expand = |escape| template.expand(escape, |_| Some("../a b?c#%".into())).unwrap();
        assert_eq!(expand(Escape::Segment), "/orders/..%2Fa%20b%3Fc%23%25/x");
        assert_eq!(expand(Escape::Path), "/orders/../a%20b%3Fc%23%25/x");
        assert_eq!(expand(Escape::None), "/orders/../a b?c#%/x");
    }

    #[test]
    fn an_unknown_variable_makes_no_text() {
        let template = Template::parse("/{a}{b}").unwrap();
        assert_eq!(template.variables().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.expand(Escape::None, |name| (name == "a").then_some("1".into())), None);
    }

    #[test]
    fn braces_must_enclose_a_name() {
        for wrong in ["{", "}", "a{}b", "{a", "a}", "{a{b}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Template::parse("{id}").unwrap().sole_variable(), Some("id"));
        assert_eq!(Template::parse("x{id}").unwrap().sole_variable(), None);
    }
}
