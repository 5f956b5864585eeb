//! Looking into a JSON text without taking it apart: where a member stands, where elements begin and end.
//!
//! The text must be JSON, as a serializer or a validator left it. In any other nothing is found, and nothing panics.

use std::{borrow::Cow, ops::Range};

/// Where a value stands in its text.
pub type Span = Range<usize>;

/// The value that names lead to from a value; none where it isn't there, or an array stands on the way.
pub fn find(json: &[u8], from: Span, names: &[String]) -> Option<Span> {
    let mut span = from;
    for name in names {
        span = member(json, span, name)?;
    }
    Some(span)
}

/// Visits the elements of the arrays that names lead to from a value, in their order. Arrays on the way are gone through;
/// null and what is not there are arrays of nothing. Whether there was nothing else.
pub fn each(json: &[u8], from: Span, names: &[String], visit: &mut impl FnMut(Span)) -> bool {
    match (json.get(from.start), names.split_first()) {
        (Some(b'['), None) => {
            Elements::of(json, &from).for_each(visit);
            true
        }
        (Some(b'['), Some(_)) => {
            let mut elements = Elements::of(json, &from);
            elements.all(|element| each(json, element, names, visit))
        }
        (Some(b'{'), Some((name, rest))) => {
            member(json, from, name).is_none_or(|member| each(json, member, rest, visit))
        }
        (first, _) => first == Some(&b'n'),
    }
}

/// A single value as text: a string without its quotes, a number, `true` or `false`.
pub fn text(json: &[u8]) -> Option<Cow<'_, str>> {
    match json.first()? {
        b'"' => string(json),
        b'{' | b'[' | b'n' => None,
        _ => std::str::from_utf8(json).ok().map(Cow::Borrowed),
    }
}

fn string(json: &[u8]) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inside.contains(&b'\\') {
        return serde_json::from_slice::<String>(json).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inside).ok().map(Cow::Borrowed)
}

fn member(json: &[u8], object: Span, name: &str) -> Option<Span> {
    if json.get(object.start) != Some(&b'{') {
        return None;
    }
    let mut at = space(json, object.start + 1);
    while json.get(at) == Some(&b'"') {
        let key = at..end(json, at)?;
        let colon = space(json, key.end);
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let start = space(json, colon + 1);
        let value = start..end(json, start)?;
        if is_named(json.get(key)?, name) {
            return Some(value);
        }
        at = space(json, value.end);
        if json.get(at) != Some(&b',') {
            return None;
        }
        at = space(json, at + 1);
    }
    None
}

fn is_named(key: &[u8], name: &str) -> bool {
    if !key.contains(&b'\\') {
        return key.get(1..key.len().saturating_sub(1)) == Some(name.as_bytes());
    }
    string(key).is_some_and(|key| key == name)
}

struct Elements<'a> {
    json: &'a [u8],
    /// Where the next one begins, unless the array ends there.
    at: usize,
}

impl<'a> Elements<'a> {
    fn of(json: &'a [u8], array: &Span) -> Self {
        Self { json, at: space(json, array.start + 1) }
    }
}

impl Iterator for Elements<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let element = self.at..end(self.json, self.at)?;
        let after = space(self.json, element.end);
        // Whatever isn't a comma ends it: no value begins with a bracket that closes.
        self.at = if self.json.get(after) == Some(&b',') { space(self.json, after + 1) } else { self.json.len() };
        Some(element)
    }
}

fn space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// Where the value that begins at `start` ends; none where none begins.
fn end(json: &[u8], start: usize) -> Option<usize> {
    match json.get(start)? {
        b'"' => string_end(json, start),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, start);
            loop {
                match json.get(at)? {
                    b'"' => {
                        at = string_end(json, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        b'}' | b']' | b',' | b':' => None,
        _ => {
            let rest = json.get(start..)?;
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            Some(start + rest.iter().position(ends).unwrap_or(rest.len()))
        }
    }
}

fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn names(path: &str) -> Vec<String> {
        path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    fn found<'a>(json: &'a str, path: &str) -> Option<&'a str> {
        find(json.as_bytes(), 0..json.len(), &names(path)).map(|span| &json[span])
    }

    fn all<'a>(json: &'a str, path: &str) -> Option<Vec<&'a str>> {
        let mut found = Vec::new();
        each(json.as_bytes(), 0..json.len(), &names(path), &mut |span| found.push(&json[span])).then_some(found)
    }

    #[test]
    fn a_value_is_found_where_names_lead() {
        let json = r#" { "a" : {"b}": "x\"}", "\u0063": [1, {"d": 2}]}, "e": -1.5e3 ,"f":null}"#.trim();
        assert_eq!(found(json, "a.b}"), Some(r#""x\"}""#));
        assert_eq!(found(json, "a.c"), Some(r#"[1, {"d": 2}]"#));
        assert_eq!((found(json, "e"), found(json, "f"), found(json, "")), (Some("-1.5e3"), Some("null"), Some(json)));
        for nothing in ["a.x", "a.c.d", "e.x", "f.x", "x"] {
            assert_eq!(found(json, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn arrays_on_the_way_are_gone_through() {
        let json = r#"{"a":[{"b":[1, 2]},{"b":null},{},{"b":[]},{"b":["]"]}],"c":{"d":1}}"#;
        assert_eq!(all(json, "a.b").unwrap(), ["1", "2", "\"]\""]);
        assert_eq!(all(json, "a").unwrap().len(), 5);
        assert_eq!(all(json, "x").unwrap(), [""; 0]);
        for no_list in ["c", "c.d", "c.d.e", ""] {
            assert_eq!(all(json, no_list), None, "{no_list}");
        }
    }

    #[test]
    fn single_values_are_text() {
        assert_eq!(text(br#""a\u00e9\n""#).unwrap(), "aé\n");
        assert_eq!((text(b"12").unwrap(), text(b"true").unwrap()), ("12".into(), "true".into()));
        assert!([&b"null"[..], b"{}", b"[1]", b"", b"\"", b"\"\\"].iter().all(|none| text(none).is_none()));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a\\"{}\[\],: é]{0,6}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[ab"\\]{1,2}"#, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(value in value(), pretty: bool, name in r#"[ab"\\]{1,2}"#) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let names = [name.clone()];
            let parsed = find(json.as_bytes(), 0..json.len(), &names).map(|span| serde_json::from_str::<Value>(&json[span]).unwrap());
            prop_assert_eq!(parsed.as_ref(), value.as_object().and_then(|members| members.get(&name)));
            let mut elements = Vec::<Value>::new();
            let is_list = each(json.as_bytes(), 0..json.len(), &[], &mut |span| elements.push(serde_json::from_str(&json[span]).unwrap()));
            let of_it = is_list.then_some(elements);
            match &value {
                Value::Null => prop_assert_eq!(of_it, Some(Vec::new())),
                _ => prop_assert_eq!(of_it.as_ref(), value.as_array()),
            }
        }

        #[test]
        fn nothing_panics_on_what_is_no_json(bytes in prop::collection::vec(prop::sample::select(br#"{}[]",:\ n1a"#.to_vec()), 0..24)) {
            let names = ["a".to_owned()];
            let is_within = |span: Span| assert!(span.start < span.end && span.end <= bytes.len());
            find(&bytes, 0..bytes.len(), &names).into_iter().for_each(is_within);
            each(&bytes, 0..bytes.len(), &names, &mut |span| is_within(span));
            each(&bytes, 0..bytes.len(), &[], &mut |span| is_within(span));
            _ = text(&bytes);
        }
    }
}
