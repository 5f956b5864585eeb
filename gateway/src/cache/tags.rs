//! What answers and events are tagged with: text with variables, filled in from the path, from the fields of JSON, or from
//! an event. Where a field is a list, there is a tag for each.

use std::borrow::Cow;

use events::Envelope;
use serde_json::Value;

use crate::action::template::{Escape, Template};

/// The most tags of one answer. One that has more could not be purged by all of them, and is not kept.
const MOST: usize = 1_000;

/// Templates of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Template>);

/// An answer has more tags than may be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Tags {
    /// # Errors
    /// What is wrong, with its place in the list.
    pub fn new(written: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let (mut tags, mut faults) = (Vec::new(), Vec::new());
        for (at, text) in written.iter().enumerate() {
            match Template::parse(text) {
                Ok(_) if text.is_empty() => faults.push((at, "is empty".to_owned())),
                Ok(template) => tags.push(template),
                Err(message) => faults.push((at, message)),
            }
        }
        if faults.is_empty() { Ok(Self(tags)) } else { Err(faults) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that the path alone makes.
    #[must_use]
    pub fn of_path(&self, variables: &[(std::sync::Arc<str>, String)]) -> Self {
        let known = |name: &str| variables.iter().any(|(known, _)| **known == *name);
        Self(self.0.iter().filter(|template| template.variables().all(known)).cloned().collect())
    }

    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(Template::variables)
    }

    /// The tags that these values make. A tag one of whose variables has no value is none.
    ///
    /// # Errors
    /// If there are too many.
    pub fn make<'a>(&self, value: impl Fn(&str) -> Vec<Cow<'a, str>>) -> Result<Vec<String>, TooMany> {
        let mut made = Vec::new();
        for template in &self.0 {
            let mut names: Vec<&str> = template.variables().collect();
            names.sort_unstable();
            names.dedup();
            let variables: Vec<(&str, Vec<Cow<'_, str>>)> = names.into_iter().map(|name| (name, value(name))).collect();
            let count = variables.iter().try_fold(1_usize, |count, (_, values)| count.checked_mul(values.len()));
            let count = count.filter(|count| made.len() + count <= MOST).ok_or(TooMany)?;
            for number in 0..count {
                made.extend(template.expand(Escape::None, |name| {
                    // Which of each variable's values: the digits of a number with a base for each.
                    let at = variables.iter().position(|(known, _)| *known == name)?;
                    let base = variables[..at].iter().fold(1, |base, (_, values)| base * values.len());
                    let (_, values) = &variables[at];
                    Some(values[number / base % values.len()].clone())
                }));
            }
        }
        Ok(made)
    }

    /// The tags that an event names.
    ///
    /// # Errors
    /// If there are too many.
    pub fn of_event(&self, event: &Envelope) -> Result<Vec<String>, TooMany> {
        let subject = event.subject.as_deref().unwrap_or_default();
        let (collection, id) = subject.split_once('/').unwrap_or((subject, ""));
        let value = |name: &str| -> Vec<Cow<'_, str>> {
            let text = match name {
                "subject" => subject,
                "collection" => collection,
                "id" => id,
                "queue" => event.queue.as_str(),
                "event" => event.event.as_str(),
                name => {
                    let path = name.strip_prefix("data.");
                    return path.zip(event.json()).map(|(path, data)| texts(data, path)).unwrap_or_default();
                }
            };
            if text.is_empty() { Vec::new() } else { vec![Cow::Owned(text.to_owned())] }
        };
        self.make(value)
    }
}

/// Whether an event can tell it.
pub fn is_of_event(name: &str) -> bool {
    matches!(name, "subject" | "collection" | "id" | "queue" | "event") || name.starts_with("data.")
}

/// What stands at a path in JSON, in every element of the lists on its way. Names are read as they are written, and as
/// protobuf writes them: `thing_id` finds `thingId`.
pub fn texts(value: &Value, path: &str) -> Vec<Cow<'static, str>> {
    let mut found = vec![value];
    for name in path.split('.') {
        let inner = found.into_iter().flat_map(flat).filter_map(|value| {
            let fields = value.as_object()?;
            fields.get(name).or_else(|| fields.get(&camel(name)))
        });
        found = inner.collect();
    }
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(Cow::Owned(text.clone())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Owned(value.to_string())),
        _ => None,
    };
    found.into_iter().flat_map(flat).filter_map(text).collect()
}

/// A list's elements, or the value itself.
fn flat(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        text.push_str(letters.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use events::Name;
    use serde_json::json;

    use super::*;

    fn tags(written: &[&str]) -> Tags {
        Tags::new(&written.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_list_has_a_tag_for_each_of_its_elements() {
        let answer = json!({"things": [{"id": 1, "ownerId": "a"}, {"id": "2"}, {}], "next": "", "thing": {"id": true}});
        let made = |text: &str| tags(&[text]).make(|name| texts(&answer, name)).unwrap();
        assert_eq!(made("thing:{things.id}"), ["thing:1", "thing:2"]);
        assert_eq!(made("owner:{things.owner_id}"), ["owner:a"]);
        assert_eq!(made("{thing.id}"), ["true"]);
        assert_eq!(made("things"), ["things"]);
        assert_eq!(made("{things.id}/{thing.id}/{things.id}"), ["1/true/1", "2/true/2"]);
        for none in ["{next}", "{things}", "{other}", "{thing}"] {
            assert!(made(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn an_answer_with_too_many_is_told() {
        let answer = json!({"things": (0..1001).collect::<Vec<_>>()});
        assert_eq!(tags(&["{things}"]).make(|name| texts(&answer, name)), Err(TooMany));
        assert_eq!(tags(&["a"]).make(|_| Vec::new()), Ok(vec!["a".to_owned()]));
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let (queue, event) = (Name::new("DB").unwrap(), Name::new("UPDATE").unwrap());
        let event = Envelope::new("/x", queue, event).subject("things/4/2").data(json!({"boxId": "b"}));
        let made = |text: &str| tags(&[text]).of_event(&event).unwrap();
        assert_eq!(made("{collection}:{id}"), ["things:4/2"]);
        assert_eq!(made("{queue}.{event}.{subject}"), ["DB.UPDATE.things/4/2"]);
        assert_eq!(made("box:{data.box_id}"), ["box:b"]);
        assert!(made("{data.other}").is_empty());
    }

    #[test]
    fn what_is_no_template_is_told_with_its_place() {
        let faults = Tags::new(&["a".to_owned(), "{".to_owned(), String::new()]).unwrap_err();
        assert_eq!(faults.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2]);
    }
}
