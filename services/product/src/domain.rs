//! What a product is, which ones are accepted, and what an order may reserve.

use service::Violations;
use time::OffsetDateTime;

const NAME_CHARACTERS: usize = 200;
const DESCRIPTION_CHARACTERS: usize = 4_000;
const CATEGORY_BYTES: usize = 64;
const ID_BYTES: usize = 64;
const MAX_PRICE: i64 = 1_000_000_000_000;
const MAX_QUANTITY: i64 = 1_000_000;
const MAX_LINES: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: String,
    pub details: Details,
    /// Units that can be sold.
    pub stock: i64,
    /// Counts the changes, from 1; its text is the etag.
    pub version: i64,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// What its seller says of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    pub name: String,
    pub description: String,
    pub category: String,
    pub price: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    pub minor_units: i64,
    /// ISO 4217, upper case.
    pub currency: String,
}

/// Changes to details: what is None stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    pub name: Option<String>,
    pub description: Option<String>,
    pub category: Option<String>,
    pub minor_units: Option<i64>,
    pub currency: Option<String>,
}

/// What an order wants of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub product_id: String,
    pub quantity: i64,
}

impl Product {
    pub fn etag(&self) -> String {
        self.version.to_string()
    }
}

/// The resource name of a product.
pub fn subject(id: &str) -> String {
    format!("products/{id}")
}

impl Details {
    /// Whether they make a product; otherwise every field that doesn't is added to `violations`.
    pub fn check(&self, violations: &mut Violations) {
        let Self { name, description, category, price } = self.clone();
        let all = Patch {
            name: Some(name),
            description: Some(description),
            category: Some(category),
            minor_units: Some(price.minor_units),
            currency: Some(price.currency),
        };
        all.check(violations);
    }
}

impl Patch {
    /// As [`Details::check`], of the fields that change.
    pub fn check(&self, violations: &mut Violations) {
        if let Some(name) = &self.name {
            if !(1..=NAME_CHARACTERS).contains(&name.chars().count()) || name.trim() != name {
                violations.add("product.name", "must have 1 to 200 characters, without space around them");
            }
            if name.chars().any(char::is_control) {
                violations.add("product.name", "must not have control characters");
            }
        }
        if let Some(description) = &self.description {
            if description.chars().count() > DESCRIPTION_CHARACTERS {
                violations.add("product.description", "must have at most 4,000 characters");
            }
            if description.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                violations.add("product.description", "must not have control characters but line breaks and tabs");
            }
        }
        if let Some(category) = &self.category {
            check_category("product.category", category, violations);
        }
        if let Some(minor_units) = self.minor_units
            && !(0..=MAX_PRICE).contains(&minor_units)
        {
            violations.add("product.price.minor_units", "must be 0 to 1,000,000,000,000");
        }
        if let Some(currency) = &self.currency
            && (currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            violations.add("product.price.currency", "must be three upper-case letters (ISO 4217)");
        }
    }

    /// The details with the changes made.
    pub fn apply(self, details: Details) -> Details {
        Details {
            name: self.name.unwrap_or(details.name),
            description: self.description.unwrap_or(details.description),
            category: self.category.unwrap_or(details.category),
            price: Money {
                minor_units: self.minor_units.unwrap_or(details.price.minor_units),
                currency: self.currency.unwrap_or(details.price.currency),
            },
        }
    }
}

pub fn check_category(field: &str, category: &str, violations: &mut Violations) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=CATEGORY_BYTES).contains(&category.len()) || !category.bytes().all(allowed) {
        violations.add(field, "must be 1 to 64 of a-z, 0-9 and -");
    }
}

pub fn check_quantity(field: &str, quantity: i64, violations: &mut Violations) {
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        violations.add(field, "must be 1 to 1,000,000");
    }
}

pub fn check_stock(stock: i64, violations: &mut Violations) {
    if !(0..=MAX_QUANTITY).contains(&stock) {
        violations.add("product.stock", "must be 0 to 1,000,000");
    }
}

/// Whether an id can be that of a product or an order.
pub fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(allowed)
}

pub fn check_order_id(id: &str, violations: &mut Violations) {
    if !is_id(id) {
        violations.add("order_id", "must be 1 to 64 of letters, digits, _ and -");
    }
}

/// Checks the lines of a reservation and puts them into the order they are locked in: by product, each once.
pub fn check_lines(lines: Vec<Line>, violations: &mut Violations) -> Vec<Line> {
    if !(1..=MAX_LINES).contains(&lines.len()) {
        violations.add("lines", "must be 1 to 100");
    }
    for (n, line) in lines.iter().enumerate() {
        if !is_id(&line.product_id) {
            violations.add(format!("lines[{n}].product_id"), "must be 1 to 64 of letters, digits, _ and -");
        }
        check_quantity(&format!("lines[{n}].quantity"), line.quantity, violations);
    }
    let mut merged = std::collections::BTreeMap::<String, i64>::new();
    for Line { product_id, quantity } in lines {
        let sum = merged.entry(product_id).or_default();
        *sum = sum.saturating_add(quantity);
    }
    merged.into_iter().map(|(product_id, quantity)| Line { product_id, quantity }).collect()
}

/// Where a page of products ended: the last one it showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub name: String,
    pub id: String,
}

impl Position {
    /// None for what [`Position::to_string`] didn't write.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, name) = text.split_once('/')?;
        Some(Self { name: name.to_owned(), id: id.to_owned() })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The id first: it has no slash, a name may.
        write!(f, "{}/{}", self.id, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teapot() -> Details {
        Details {
            name: "Teapot".to_owned(),
            description: String::new(),
            category: "tea".to_owned(),
            price: Money { minor_units: 0, currency: "EUR".to_owned() },
        }
    }

    fn bad_fields(details: &Details) -> Vec<String> {
        let mut violations = Violations::default();
        details.check(&mut violations);
        violations.0.into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let price = Money { minor_units: MAX_PRICE, currency: "JPY".to_owned() };
        let details =
            Details { name: "ü".repeat(200), description: "ü\n".repeat(2_000), category: "a-0".repeat(21), price };
        assert!(bad_fields(&details).is_empty());
        assert!(bad_fields(&teapot()).is_empty());
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let price = Money { minor_units: -1, currency: "eur".to_owned() };
        let details =
            Details { name: " ".to_owned(), description: "x".repeat(4_001), category: "Tea & more".to_owned(), price };
        assert_eq!(
            bad_fields(&details),
            [
                "product.name",
                "product.description",
                "product.category",
                "product.price.minor_units",
                "product.price.currency"
            ]
        );
        assert_eq!(bad_fields(&Details { name: "a\0b".to_owned(), ..teapot() }), ["product.name"]);
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = Patch { currency: Some("CHF".to_owned()), ..Patch::default() };
        let details = patch.apply(teapot());
        assert_eq!(details.price, Money { minor_units: 0, currency: "CHF".to_owned() });
        assert_eq!(details.name, "Teapot");
    }

    #[test]
    fn lines_are_merged_and_sorted_by_product() {
        let line = |id: &str, quantity| Line { product_id: id.to_owned(), quantity };
        let mut violations = Violations::default();
        let lines = check_lines(vec![line("b", 1), line("a", 2), line("b", 3)], &mut violations);
        assert_eq!(lines, [line("a", 2), line("b", 4)]);
        assert!(violations.check().is_ok());

        let mut violations = Violations::default();
        check_lines(vec![line("", 0), line("a", 1), line("a b", 1)], &mut violations);
        let fields: Vec<_> = violations.0.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["lines[0].product_id", "lines[0].quantity", "lines[2].product_id"]);
    }

    #[test]
    fn a_position_survives_the_page_token() {
        let position = Position { name: "Cup / saucer".to_owned(), id: "cup".to_owned() };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        assert_eq!(Position::parse("soon"), None);
    }
}
