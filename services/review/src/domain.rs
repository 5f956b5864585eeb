//! What a review is and which ones are accepted.

use service::Violations;
use time::OffsetDateTime;

const TEXT_CHARACTERS: usize = 4_000;
const PRODUCT_ID_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    pub id: String,
    pub draft: Draft,
    pub version: i64,
    pub created_at: OffsetDateTime,
}

/// What its author says: a review before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub product_id: String,
    /// The principal: `customers/0192…`.
    pub author: String,
    pub rating: i32,
    pub text: String,
}

impl Draft {
    /// Checks what came from outside; space around the text is dropped.
    ///
    /// # Errors
    /// Every field that is refused.
    pub fn new(product_id: String, author: String, rating: i32, text: &str) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        check_product_id(&product_id, &mut violations);
        if !(1..=5).contains(&rating) {
            violations.add("rating", "must be 1 to 5");
        }
        let text = text.trim();
        if !(1..=TEXT_CHARACTERS).contains(&text.chars().count()) {
            violations.add("text", "must have 1 to 4,000 characters");
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            violations.add("text", "must not have control characters but line breaks and tabs");
        }
        violations.check()?;
        Ok(Self { product_id, author, rating, text: text.to_owned() })
    }
}

/// A product's id as far as this service can tell: it is well formed.
pub fn check_product_id(id: &str, violations: &mut Violations) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=PRODUCT_ID_BYTES).contains(&id.len()) || !id.bytes().all(allowed) {
        violations.add("product_id", "must be 1 to 64 of letters, digits, _ and -");
    }
}

/// Where a page of reviews ended: the last one it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Microseconds since 1970.
    pub created_at: i64,
    pub id: String,
}

impl Position {
    /// Before every review: newer than any.
    pub fn start() -> Self {
        Self { created_at: i64::MAX, id: String::new() }
    }

    /// None for what [`Position::to_string`] didn't write.
    pub fn parse(text: &str) -> Option<Self> {
        let (created_at, id) = text.split_once('/')?;
        Some(Self { created_at: created_at.parse().ok()?, id: id.to_owned() })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.created_at, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(product_id: &str, rating: i32, text: &str) -> Result<Draft, Vec<String>> {
        Draft::new(product_id.to_owned(), "customers/ada".to_owned(), rating, text)
            .map_err(|violations| violations.0.into_iter().map(|(field, _)| field).collect())
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        assert_eq!(draft("tea pot", 6, " \n").unwrap_err(), ["product_id", "rating", "text"]);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let text = "ü".repeat(TEXT_CHARACTERS);
        assert_eq!(draft(&"a".repeat(64), 1, &format!(" {text}\n")).unwrap().text, text);
        assert!(draft("a", 5, "x").is_ok());
    }

    #[test]
    fn beyond_the_limits_is_refused() {
        assert_eq!(draft(&"a".repeat(65), 0, "x").unwrap_err(), ["product_id", "rating"]);
        assert_eq!(draft("", 5, &"x".repeat(4_001)).unwrap_err(), ["product_id", "text"]);
        assert_eq!(draft("a", 5, "a\0b").unwrap_err(), ["text"]);
    }

    #[test]
    fn a_position_survives_the_page_token() {
        let position = Position { created_at: 1_700_000_000_000_000, id: "0192-a".to_owned() };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        assert_eq!(Position::parse("soon"), None);
    }
}
