//! Lists that come in pages: `{"queues": […], "next": "…"}`, where `next` is the `after` of the next page.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// Part of a list.
pub(crate) struct Page<T> {
    /// What the list is called.
    name: &'static str,
    items: Vec<T>,
    /// None: this is the end.
    next: Option<String>,
}

impl<T> Page<T> {
    /// What comes after the item with this key, of items in the order of their keys.
    pub fn of(
        name: &'static str,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> &str,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let rest = items.skip_while(|item| after.is_some_and(|after| key(item) <= after));
        Self::cut(name, rest.take(limit + 1).collect(), |item| key(item).to_owned(), limit)
    }

    /// The first `limit` of the items; there are more if one more was given.
    pub fn cut(name: &'static str, mut items: Vec<T>, key: impl Fn(&T) -> String, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { name, items, next }
    }
}

impl<T> Page<T> {
    /// These items, and where the next page begins; None: nothing comes after them.
    pub fn ending(name: &'static str, items: Vec<T>, next: Option<String>) -> Self {
        Self { name, items, next }
    }
}

impl<T: Serialize> Serialize for Page<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, &self.items)?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn page(after: Option<&str>, limit: usize) -> serde_json::Value {
        json!(Page::of("letters", ["a", "b", "c"].into_iter(), |letter| *letter, after, limit))
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        assert_eq!(page(None, 2), json!({"letters": ["a", "b"], "next": "b"}));
        assert_eq!(page(Some("b"), 2), json!({"letters": ["c"]}));
        assert_eq!(page(Some("c"), 2), json!({"letters": []}));
        assert_eq!(page(None, 3), json!({"letters": ["a", "b", "c"]}));
    }
}
