//! What a .proto says of its parts: the comments in a descriptor's source info.

use std::{cell::RefCell, collections::HashMap};

use prost_reflect::FileDescriptor;

/// Comments by file and by the path of what they stand at. A file is looked through once.
#[derive(Default)]
pub struct Comments(RefCell<HashMap<String, HashMap<Vec<i32>, String>>>);

impl Comments {
    /// The comment before what has this path, and the one behind it; empty where there is neither.
    pub fn of(&self, file: &FileDescriptor, path: &[i32]) -> String {
        let mut files = self.0.borrow_mut();
        let comments = files.entry(file.name().to_owned()).or_insert_with(|| read(file));
        comments.get(path).cloned().unwrap_or_default()
    }
}

fn read(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let comments = locations.filter_map(|location| {
        let both = [location.leading_comments(), location.trailing_comments()].map(unindented);
        let text = both.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
        (!text.is_empty()).then(|| (location.path.clone(), text))
    });
    comments.collect()
}

/// Without the space that follows `//`, and without lines `buf:lint:`, which speak to programs.
fn unindented(comment: &str) -> String {
    let lines = comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("buf:lint:")).collect();
    lines.join("\n").trim().to_owned()
}

/// The first sentence, without its full stop, and what follows it.
pub fn summary(comment: &str) -> (String, String) {
    let comment = comment.trim();
    let paragraph = comment.find("\n\n").unwrap_or(comment.len());
    let ends = |character: char| matches!(character, '.' | ':');
    let end = comment[..paragraph].char_indices().find(|(at, character)| {
        ends(*character) && comment[at + 1..paragraph].chars().next().is_none_or(char::is_whitespace)
    });
    let end = end.map_or(paragraph, |(at, _)| at);
    let rest = comment[end..].trim_start_matches(ends).trim();
    (comment[..end].replace('\n', " "), rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_is_the_summary() {
        assert_eq!(summary("Lists books."), ("Lists books".into(), String::new()));
        assert_eq!(summary("Lists books. By\nname."), ("Lists books".into(), "By\nname.".into()));
        assert_eq!(summary("Lists\nbooks v1.2.\n\nMore."), ("Lists books v1.2".into(), "More.".into()));
        assert_eq!(summary("Lists books\n\nMore."), ("Lists books".into(), "More.".into()));
        assert_eq!(summary(""), (String::new(), String::new()));
    }

    #[test]
    fn what_speaks_to_programs_is_left_out() {
        assert_eq!(unindented(" One\n   two\n buf:lint:ignore X\n"), "One\n  two");
    }
}
