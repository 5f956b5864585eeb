//! Where in the text of a configuration something stands: an error that says `routes[3].match.path` means a line.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::Properties;

/// The text, as far as its shape goes.
pub struct Places(Option<Node>);

/// Where it begins: line and column, from 1.
struct Node {
    line: u64,
    column: u64,
    inside: Inside,
}

enum Inside {
    Nothing,
    Map(Vec<Member>),
    List(Vec<Node>),
}

struct Member {
    name: String,
    /// Where the name stands.
    at: (u64, u64),
    node: Node,
}

impl Places {
    /// Knows nothing of a text that isn't YAML.
    pub fn of(text: &str, properties: &Properties) -> Self {
        let options = serde_saphyr::options! {}.with_properties(properties.clone());
        Self(serde_saphyr::from_str_with_options(text, options).ok())
    }

    /// The line of a path, or of as much of it as is there.
    pub fn line(&self, path: &str) -> Option<u64> {
        let mut node = self.0.as_ref()?;
        let mut rest = path;
        let mut line = None;
        while let Some((found, after)) = node.step(rest) {
            (node, rest) = (found, after);
            line = Some(node.line);
        }
        line
    }

    /// The path of what begins at a place; of a name that stands there, the path of the mapping that it is in.
    pub fn path(&self, line: u64, column: u64) -> Option<String> {
        let mut best = None;
        self.0.as_ref()?.visit(String::new(), &mut |path, node| {
            let names_it = |members: &[Member]| members.iter().any(|member| member.at == (line, column));
            let is_around = matches!(&node.inside, Inside::Map(members) if names_it(members));
            if is_around || (node.line, node.column) == (line, column) {
                best = Some(path.to_owned());
            }
        });
        best.filter(|path| !path.is_empty())
    }
}

impl Node {
    /// What the beginning of a path leads to, with what follows.
    fn step<'n, 'p>(&'n self, path: &'p str) -> Option<(&'n Self, &'p str)> {
        match &self.inside {
            Inside::Nothing => None,
            Inside::List(items) => {
                let (number, after) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(number.parse::<usize>().ok()?)?, after))
            }
            Inside::Map(members) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                // Names may hold dots: the longest that fits.
                let fitting = members.iter().filter_map(|Member { name, node, .. }| {
                    let after = path.strip_prefix(name.as_str())?;
                    (after.is_empty() || after.starts_with(['.', '[', ' '])).then_some((name.len(), node, after))
                });
                fitting.max_by_key(|(length, ..)| *length).map(|(_, node, after)| (node, after))
            }
        }
    }

    /// In the order of the text.
    fn visit(&self, path: String, see: &mut impl FnMut(&str, &Self)) {
        see(&path, self);
        match &self.inside {
            Inside::Nothing => {}
            Inside::Map(members) => {
                for Member { name, node, .. } in members {
                    node.visit(if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, see);
                }
            }
            Inside::List(items) => {
                items.iter().enumerate().for_each(|(at, node)| node.visit(format!("{path}[{at}]"), see));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: inside, referenced, .. } = Spanned::<Inside>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), column: referenced.column(), inside })
    }
}

impl<'de> Deserialize<'de> for Inside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Inside;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inside, A::Error> {
                let mut members = Vec::new();
                while let Some((key, node)) = map.next_entry::<Spanned<String>, _>()? {
                    let at = (key.referenced.line(), key.referenced.column());
                    members.push(Member { name: key.value, at, node });
                }
                Ok(Inside::Map(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inside, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Inside::List(items))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inside, D::Error> {
                IgnoredAny::deserialize(deserializer).map(|_| Inside::Nothing)
            }
            fn visit_str<E>(self, _: &str) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
            fn visit_unit<E>(self) -> Result<Inside, E> {
                Ok(Inside::Nothing)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
listeners: [{ address: '127.0.0.1:0' }]
upstreams:
  a.b:
    endpoints:
      - x:1
routes:
  - match:
      path: /a
      method: [GET, PUT]
    respond: { status: 99 }
  - { match: { path: /b }, proxy: a.b }
";

    #[test]
    fn a_path_has_a_line() {
        let places = Places::of(TEXT, &Properties::new());
        for (path, line) in [
            ("listeners", Some(1)),
            ("upstreams.a.b.endpoints[0]", Some(5)),
            ("routes[0].match.method[1]", Some(9)),
            ("routes[0].respond.status", Some(10)),
            // As far as it goes.
            ("routes[1].match.headers.x", Some(11)),
            ("routes[1].proxy.weights[0]", Some(11)),
            ("timeout", None),
        ] {
            assert_eq!(places.line(path), line, "{path}");
        }
        assert_eq!(Places::of("a: [", &Properties::new()).line("a"), None);
    }

    #[test]
    fn a_place_has_a_path() {
        let places = Places::of(TEXT, &Properties::new());
        assert_eq!(places.path(8, 13).as_deref(), Some("routes[0].match.path"));
        // A name belongs to the mapping that it stands in, whichever way that is written.
        assert_eq!(places.path(10, 5).as_deref(), Some("routes[0]"));
        assert_eq!(places.path(10, 16).as_deref(), Some("routes[0].respond"));
        assert_eq!(places.path(11, 14).as_deref(), Some("routes[1].match"));
    }
}
