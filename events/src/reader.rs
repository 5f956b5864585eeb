//! Reading the text of a filter from its beginning to its end, without ever going back: what the grammar's words and
//! quoted texts are.

use std::fmt::{self, Write as _};

use serde::Deserialize as _;

use crate::Name;

/// What is still unread of a text, and what is wrong with it if nothing more can be read.
pub(crate) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether this comes next; then it is read.
    pub fn takes(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.takes(token) { Ok(()) } else { Err(format!("{token:?} is missing before {}", self.ahead())) }
    }

    pub fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// As many characters as are of this kind; maybe none.
    pub fn run(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// A name, or None for `*`.
    pub fn name_or_any(&mut self) -> Result<Option<Name>, String> {
        if self.takes("*") { Ok(None) } else { self.name().map(Some) }
    }

    pub fn name(&mut self) -> Result<Name, String> {
        let text = self.run(|c| !matches!(c, '/' | '{' | '}' | '[' | ']' | ','));
        Name::new(text).map_err(|error| error.to_string())
    }

    /// A text in quotes, if one comes next: written as JSON writes it.
    pub fn quoted(&mut self) -> Option<Result<String, String>> {
        if !self.rest.starts_with('"') {
            return None;
        }
        let mut json = serde_json::Deserializer::from_str(self.rest).into_iter::<serde::de::IgnoredAny>();
        let end = match json.next() {
            Some(Ok(_)) => json.byte_offset(),
            _ => return Some(Err("a quoted text doesn't end, or is not as JSON writes it".to_owned())),
        };
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = String::deserialize(&mut serde_json::Deserializer::from_str(text));
        Some(text.map_err(|error| error.to_string()))
    }

    /// What comes next, for whoever reads why it was refused.
    pub fn ahead(&self) -> String {
        match self.rest {
            "" => "the end".to_owned(),
            rest => format!("{:?}", rest.chars().take(20).collect::<String>()),
        }
    }
}

/// Whether a word with this character needs no quotes.
pub(crate) fn is_plain(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '[' | ']' | '{' | '}' | '"' | '\\' | '|' | ',')
}

/// Writes a text as JSON writes it, in quotes.
pub(crate) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// Writes them with something between.
pub(crate) fn write_joined<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    between: char,
) -> fmt::Result {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            f.write_char(between)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
