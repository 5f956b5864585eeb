//! From a cart to what is ordered: the snapshot of its lines and prices, refused where it can't be ordered.

use serde::{Deserialize, Serialize};

/// A cart, as the cart service answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    pub version: i64,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub line: Line,
    /// False once the catalogue dropped the product.
    pub available: bool,
}

/// So many of one product, at the price of when it was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub product_id: String,
    pub name: String,
    pub quantity: i64,
    pub unit_price: Money,
}

/// An amount in the smallest unit of its currency (ISO 4217).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    pub minor_units: i64,
    pub currency: String,
}

/// An order before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub customer: String,
    pub cart_version: i64,
    pub lines: Vec<Line>,
    pub total: Money,
}

/// Why a cart can't be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unorderable {
    #[error("the cart is empty")]
    Empty,
    #[error("the catalogue has {} no more", .0.join(", "))]
    Unavailable(Vec<String>),
    #[error("the cart costs more than can be counted")]
    TooMuch,
    /// Nothing the customer did: the cart service answered what no cart can be.
    #[error("the cart makes no sense: {0}")]
    Senseless(&'static str),
}

impl Draft {
    /// What ordering this cart means.
    ///
    /// # Errors
    /// If it is empty, has a line that can't be ordered, or can't be added up.
    pub fn new(customer: &str, cart: Cart) -> Result<Self, Unorderable> {
        let gone: Vec<String> =
            cart.items.iter().filter(|item| !item.available).map(|item| item.line.product_id.clone()).collect();
        if !gone.is_empty() {
            return Err(Unorderable::Unavailable(gone));
        }
        let lines: Vec<Line> = cart.items.into_iter().map(|item| item.line).collect();
        let total = total(&lines)?;
        Ok(Self { customer: customer.to_owned(), cart_version: cart.version, lines, total })
    }
}

impl Line {
    /// The line's amount in minor units; None beyond what can be counted.
    pub fn amount(&self) -> Option<i64> {
        self.unit_price.minor_units.checked_mul(self.quantity)
    }
}

fn total(lines: &[Line]) -> Result<Money, Unorderable> {
    let currency = &lines.first().ok_or(Unorderable::Empty)?.unit_price.currency;
    let mut sum = 0_i64;
    for line in lines {
        if line.quantity < 1 || line.unit_price.minor_units < 0 {
            return Err(Unorderable::Senseless("a quantity below 1 or a price below 0"));
        }
        if line.unit_price.currency != *currency {
            return Err(Unorderable::Senseless("more than one currency"));
        }
        sum = line.amount().and_then(|amount| sum.checked_add(amount)).ok_or(Unorderable::TooMuch)?;
    }
    Ok(Money { minor_units: sum, currency: currency.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(product_id: &str, quantity: i64, minor_units: i64) -> Item {
        let unit_price = Money { minor_units, currency: "EUR".to_owned() };
        let line = Line { product_id: product_id.to_owned(), name: product_id.to_owned(), quantity, unit_price };
        Item { line, available: true }
    }

    fn draft(items: Vec<Item>) -> Result<Draft, Unorderable> {
        Draft::new("customers/ada", Cart { version: 3, items })
    }

    #[test]
    fn a_cart_is_ordered_at_the_prices_it_shows() {
        let draft = draft(vec![item("tea", 2, 350), item("cup", 1, 1_200)]).unwrap();
        assert_eq!(draft.total, Money { minor_units: 1_900, currency: "EUR".to_owned() });
        assert_eq!((draft.cart_version, draft.lines.len()), (3, 2));
    }

    #[test]
    fn an_empty_cart_is_refused() {
        assert_eq!(draft(Vec::new()).unwrap_err(), Unorderable::Empty);
    }

    #[test]
    fn every_line_that_is_gone_is_named() {
        let gone = |id| Item { available: false, ..item(id, 1, 1) };
        assert_eq!(
            draft(vec![gone("tea"), item("cup", 1, 1), gone("pot")]).unwrap_err(),
            Unorderable::Unavailable(vec!["tea".to_owned(), "pot".to_owned()])
        );
    }

    #[test]
    fn amounts_beyond_what_can_be_counted_are_refused() {
        for items in [vec![item("tea", 2, i64::MAX)], vec![item("tea", 1, i64::MAX), item("cup", 1, 1)]] {
            assert_eq!(draft(items).unwrap_err(), Unorderable::TooMuch);
        }
    }

    #[test]
    fn a_cart_that_no_cart_can_be_is_refused() {
        let dollars = |mut item: Item| {
            item.line.unit_price.currency = "USD".to_owned();
            item
        };
        for items in
            [vec![item("tea", 0, 1)], vec![item("tea", 1, -1)], vec![item("tea", 1, 1), dollars(item("cup", 1, 1))]]
        {
            assert!(matches!(draft(items), Err(Unorderable::Senseless(_))));
        }
    }
}
