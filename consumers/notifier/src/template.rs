//! Texts with placeholders, `{data.email}`; `{{` and `}}` are braces. A placeholder is replaced once: what an event says is
//! never read as a template, and can't add a line or an invisible character to a message.

use std::str::FromStr;

/// What stands where an event says nothing.
const BLANK: &str = "[?]";

/// The most characters of one value.
const MAX_VALUE: usize = 300;

/// The most characters of a template as it is written.
const MAX_TEMPLATE: usize = 4_000;

/// Literal text and placeholders of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template<P>(Vec<Part<P>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<P> {
    Literal(String),
    Placeholder(P),
}

impl<P: FromStr<Err = String>> Template<P> {
    /// Reads a text; only line breaks are allowed of the control characters.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("must not be empty".to_owned());
        }
        if text.chars().count() > MAX_TEMPLATE {
            return Err(format!("must be at most {MAX_TEMPLATE} characters"));
        }
        if text.chars().any(|c| c != '\n' && is_invisible(c)) {
            return Err("must not hold control characters".to_owned());
        }
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(escaped) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = escaped;
                continue;
            }
            let (true, Some((name, after))) = (brace == "{", after.split_once('}')) else {
                return Err("has a brace without its other; write {{ or }} for a brace".to_owned());
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Placeholder(name.parse()?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// As [`Template::parse`], in one line.
    pub fn line(text: &str) -> Result<Self, String> {
        if text.contains('\n') {
            return Err("must be one line".to_owned());
        }
        Self::parse(text)
    }
}

impl<P> Template<P> {
    /// The text with each placeholder's value, at most `max` characters.
    pub fn render(&self, max: usize, value: impl Fn(&P) -> Option<String>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Placeholder(placeholder) => match value(placeholder) {
                    Some(value) => text.push_str(&shorten(&clean(&value), MAX_VALUE)),
                    None => text.push_str(BLANK),
                },
            }
        }
        shorten(&text, max)
    }
}

/// One line of visible characters.
pub(crate) fn clean(text: &str) -> String {
    let breaks_become_spaces =
        |c: char| if matches!(c, '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}') { ' ' } else { c };
    text.chars().map(breaks_become_spaces).filter(|c| !is_invisible(*c)).collect()
}

/// At most `max` characters; where some are left out, the last three are dots.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(3)).chain("...".chars()).take(max).collect()
}

/// Control characters, and those that turn the direction of text or take no place.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    struct Named(String);
    impl FromStr for Named {
        type Err = String;
        fn from_str(name: &str) -> Result<Self, String> {
            if name.starts_with('x') { Err(format!("`{name}` is unknown")) } else { Ok(Self(name.to_owned())) }
        }
    }

    fn render(template: &str, value: Option<&str>) -> String {
        Template::<Named>::parse(template).unwrap().render(480, |_| value.map(str::to_owned))
    }

    #[test]
    fn placeholders_are_replaced_and_doubled_braces_are_braces() {
        assert_eq!(render("Hi {name}, {{{name}}}", Some("Ann")), "Hi Ann, {Ann}");
        assert_eq!(render("Hi {name}", None), "Hi [?]");
        assert_eq!(render("a\nb", None), "a\nb");
    }

    #[test]
    fn what_an_event_says_is_no_template_and_no_line() {
        assert_eq!(render("Hi {name}", Some("{other}\r\nBcc: all\u{202e}\u{0}")), "Hi {other}  Bcc: all");
    }

    #[test]
    fn a_template_that_can_not_work_is_refused() {
        for wrong in ["", "  ", "{xyz}", "{name", "name}", "a { b", "bell \u{7}"] {
            assert!(Template::<Named>::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Template::<Named>::line("a\nb").is_err());
    }

    proptest! {
        #[test]
        fn any_value_stays_within_its_line_and_bound(value in any::<String>(), max in 1_usize..600) {
            let template = Template::<Named>::parse("New: {a} {b}").unwrap();
            let text = template.render(max, |_| Some(value.clone()));
            prop_assert!(text.chars().count() <= max);
            prop_assert!(!text.chars().any(is_invisible));
        }

        #[test]
        fn no_text_breaks_the_reader(text in any::<String>()) {
            let _ = Template::<Named>::parse(&text);
        }
    }
}
