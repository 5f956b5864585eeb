//! What an invoice is, and which wishes for one are accepted.

use serde::{Deserialize, Serialize};
use service::Violations;
use time::OffsetDateTime;

const LINES: usize = 1_000;
const ID_BYTES: usize = 128;
const NAME_CHARACTERS: usize = 1_000;

/// An invoice, once made; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    pub id: String,
    pub number: Number,
    pub bill: Bill,
    pub issued_at: OffsetDateTime,
}

/// What is to be paid, for which order, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    pub order_id: String,
    /// The principal that ordered: `customers/0192…`.
    pub customer: String,
    pub lines: Vec<Line>,
    /// In minor units of `currency`, as every amount of the bill.
    pub total: i64,
    /// ISO 4217.
    pub currency: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub product_id: String,
    pub name: String,
    pub quantity: i64,
    pub unit_price: i64,
    pub amount: i64,
}

/// An invoice's place in the sequence, from 1; written `INV-000001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub i64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "INV-{:06}", self.0)
    }
}

impl Bill {
    /// Checks what came from outside: every amount must be the product of its line, and the total their sum.
    ///
    /// # Errors
    /// Every field that is refused.
    pub fn check(&self) -> Result<(), Violations> {
        let mut violations = Violations::default();
        check_id("order_id", &self.order_id, &mut violations);
        check_id("customer", &self.customer, &mut violations);
        if !(1..=LINES).contains(&self.lines.len()) {
            violations.add("lines", "must be 1 to 1,000");
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            violations.add("total.currency", "must be an ISO 4217 code in upper case");
        }
        for (index, line) in self.lines.iter().enumerate() {
            line.check(&format!("lines[{index}]"), &mut violations);
        }
        let sum = self.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.amount));
        if sum != Some(self.total) {
            violations.add("total.minor_units", "must be the sum of the lines' amounts");
        }
        violations.check()
    }
}

impl Line {
    fn check(&self, path: &str, violations: &mut Violations) {
        check_id(&format!("{path}.product_id"), &self.product_id, violations);
        if self.name.chars().count() > NAME_CHARACTERS {
            violations.add(format!("{path}.name"), "must have at most 1,000 characters");
        }
        if self.quantity < 1 {
            violations.add(format!("{path}.quantity"), "must be at least 1");
        }
        if self.unit_price < 0 {
            violations.add(format!("{path}.unit_price.minor_units"), "must be at least 0");
        }
        if self.unit_price.checked_mul(self.quantity) != Some(self.amount) {
            violations.add(format!("{path}.amount.minor_units"), "must be the quantity times the unit price");
        }
    }
}

/// Whether an id can be one of an order, a customer or a product.
pub fn check_id(field: &str, id: &str, violations: &mut Violations) {
    if !(1..=ID_BYTES).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        violations.add(field, "must be 1 to 128 visible ASCII characters");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: i64, unit_price: i64, amount: i64) -> Line {
        Line { product_id: "tea".to_owned(), name: "Tea".to_owned(), quantity, unit_price, amount }
    }

    fn refused(lines: Vec<Line>, total: i64) -> Vec<String> {
        let bill = Bill {
            order_id: "1".to_owned(),
            customer: "customers/ada".to_owned(),
            lines,
            total,
            currency: "EUR".to_owned(),
        };
        bill.check().map_or_else(|bad| bad.0.into_iter().map(|(field, _)| field).collect(), |()| Vec::new())
    }

    #[test]
    fn a_bill_that_adds_up_is_accepted() {
        assert_eq!(refused(vec![line(2, 350, 700), line(1, 0, 0)], 700), Vec::<String>::new());
    }

    #[test]
    fn a_bill_that_does_not_add_up_is_refused() {
        assert_eq!(refused(vec![line(2, 350, 600)], 600), ["lines[0].amount.minor_units"]);
        assert_eq!(refused(vec![line(2, 350, 700)], 600), ["total.minor_units"]);
    }

    #[test]
    fn amounts_beyond_what_can_be_counted_are_refused() {
        assert_eq!(refused(vec![line(2, i64::MAX, -2)], -2), ["lines[0].amount.minor_units"]);
        let huge = line(1, i64::MAX, i64::MAX);
        assert_eq!(refused(vec![huge.clone(), huge], -2), ["total.minor_units"]);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bill = Bill {
            order_id: String::new(),
            customer: "a b".to_owned(),
            lines: Vec::new(),
            total: 0,
            currency: "eur".to_owned(),
        };
        let fields: Vec<String> = bill.check().unwrap_err().0.into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["order_id", "customer", "lines", "total.currency"]);
    }

    #[test]
    fn numbers_are_padded_and_go_on() {
        assert_eq!(Number(1).to_string(), "INV-000001");
        assert_eq!(Number(1_234_567).to_string(), "INV-1234567");
    }
}
