//! Where in a JSON text something stands: `lines[2].labels["a"]`.

use std::{borrow::Cow, fmt};

/// How much of a client's own words is repeated to it, in characters.
const ECHO: usize = 64;

/// Made on the way down at no cost; rendered only for a violation.
pub enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
    Key(&'a Path<'a>, &'a str),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => formatter.write_str(&echo(name)),
            Self::Field(parent, name) => write!(formatter, "{parent}.{}", echo(name)),
            Self::Index(parent, index) => write!(formatter, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(formatter, "{parent}[\"{}\"]", echo(key)),
        }
    }
}

fn echo(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}
