//! Lists that come in pages, as protobuf's conventions have them.

use crate::{problem::Problem, query::refuse};

/// Items of a page: the most, and those unless the request says.
const SIZE: (usize, usize) = (1000, 100);

/// Which part of a list is asked for.
pub(super) struct Page {
    size: usize,
    after: String,
}

impl Page {
    pub fn asked(size: u32, after: String) -> Result<Self, Problem> {
        Self::of_at_most(SIZE, size, after)
    }

    pub fn of_at_most((most, default): (usize, usize), size: u32, after: String) -> Result<Self, Problem> {
        let size = match usize::try_from(size) {
            Ok(0) => default,
            Ok(size) if size <= most => size,
            _ => return Err(refuse("page_size", format!("must be 1 to {most}"))),
        };
        Ok(Self { size, after })
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn after(&self) -> &str {
        &self.after
    }

    /// The part of these items, which are in the order of their keys, and the token of the next one.
    pub fn of<T>(&self, items: Vec<T>, key: impl Fn(&T) -> &str) -> (Vec<T>, String) {
        let mut rest = items.into_iter().skip_while(|item| key(item) <= self.after.as_str());
        let items: Vec<T> = rest.by_ref().take(self.size).collect();
        let next = items.last().filter(|_| rest.next().is_some()).map(|item| key(item).to_owned());
        (items, next.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let page =
            |size, after: &str| Page::asked(size, after.to_owned()).unwrap().of(vec!["a", "b", "c"], |item| *item);
        assert_eq!(page(2, ""), (vec!["a", "b"], "b".to_owned()));
        assert_eq!(page(2, "b"), (vec!["c"], String::new()));
        assert_eq!(page(0, "c"), (vec![], String::new()));
        assert!(Page::asked(1001, String::new()).is_err());
    }
}
