//! What a cart is, what may be added to it, and what an order takes out of it.

use service::Violations;
use time::OffsetDateTime;

/// The most of a product that one request adds.
const REQUEST_QUANTITY: i64 = 1_000;
const LINE_QUANTITY: i64 = 10_000;
const LINES: usize = 100;
const ID_BYTES: usize = 64;
const OWNER_BYTES: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// The subject of its owner, which is its id: `customers/0192…`.
    pub owner: String,
    /// In the order they were first added.
    pub lines: Vec<Line>,
    /// 0 before the first change.
    pub version: i64,
    /// None before the first change.
    pub updated_at: Option<OffsetDateTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub product: Product,
    pub quantity: i64,
}

/// What the copy of the catalogue knows of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: String,
    pub name: String,
    pub price: Money,
    /// False once the catalogue dropped it.
    pub available: bool,
    /// The catalogue's version of it; rises with every change.
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    pub minor_units: i64,
    /// ISO 4217.
    pub currency: String,
}

/// So much of a product: what a request adds or takes away, or what was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub product_id: String,
    pub quantity: i64,
}

impl Cart {
    pub fn empty(owner: &str) -> Self {
        Self { owner: owner.to_owned(), lines: Vec::new(), version: 0, updated_at: None }
    }

    /// Adds to what is there. `product` is what the catalogue has under the id; None if it has nothing.
    ///
    /// # Errors
    /// If there is no such product, its currency isn't the cart's, or the cart would get too full.
    pub fn add(&mut self, product: Option<Product>, quantity: i64) -> Result<(), Violations> {
        let Some(product) = product.filter(|product| product.available) else {
            return Err(Violations::of("product_id", "is not in the catalogue"));
        };
        let mut violations = Violations::default();
        let full = self.lines.len() >= LINES;
        let strange = self.currency().is_some_and(|currency| currency != product.price.currency);
        let line = self.lines.iter_mut().find(|line| line.product.id == product.id);
        let present = line.as_ref().map_or(0, |line| line.quantity);
        if line.is_none() && full {
            violations.add("product_id", "the cart has 100 products, which is the most");
        }
        if line.is_none() && strange {
            violations.add("product_id", "has another currency than what is in the cart");
        }
        if present + quantity > LINE_QUANTITY {
            violations.add("quantity", "the cart would have more than 10,000 of it");
        }
        violations.check()?;
        match line {
            Some(line) => line.quantity += quantity,
            None => self.lines.push(Line { product, quantity }),
        }
        Ok(())
    }

    /// Takes away so much of a product, or all of it where `quantity` is 0 or more than there is. False if the cart
    /// doesn't have it.
    pub fn remove(&mut self, item: &Item) -> bool {
        let Some(at) = self.lines.iter().position(|line| line.product.id == item.product_id) else { return false };
        if item.quantity == 0 || item.quantity >= self.lines[at].quantity {
            self.lines.remove(at);
        } else {
            self.lines[at].quantity -= item.quantity;
        }
        true
    }

    /// Takes out what was ordered, as far as it is still there.
    pub fn take(&mut self, ordered: &[Item]) {
        for item in ordered {
            self.remove(item);
        }
    }

    /// The sum of the lines; None for an empty cart. What is too large to say is said as the largest amount there is.
    ///
    /// A line whose product changed its currency while it lay in the cart isn't counted, see [`Cart::can_order`].
    pub fn total(&self) -> Option<Money> {
        let currency = self.currency()?;
        let sum = self
            .lines
            .iter()
            .filter(|line| line.product.price.currency == currency)
            .map(|line| i128::from(line.product.price.minor_units) * i128::from(line.quantity))
            .sum::<i128>();
        Some(Money { minor_units: i64::try_from(sum).unwrap_or(i64::MAX), currency: currency.to_owned() })
    }

    /// Whether a line of this cart can be ordered: the catalogue has it, in the cart's currency.
    pub fn can_order(&self, line: &Line) -> bool {
        line.product.available && self.currency() == Some(&line.product.price.currency)
    }

    /// The currency of what was added first.
    fn currency(&self) -> Option<&str> {
        self.lines.first().map(|line| line.product.price.currency.as_str())
    }
}

impl Item {
    /// What a request may add.
    ///
    /// # Errors
    /// Every field that is refused.
    pub fn to_add(product_id: String, quantity: i64) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        check_id("product_id", &product_id, &mut violations);
        if !(1..=REQUEST_QUANTITY).contains(&quantity) {
            violations.add("quantity", "must be 1 to 1,000");
        }
        violations.check()?;
        Ok(Self { product_id, quantity })
    }

    /// What a request may take away; 0 is all of it.
    ///
    /// # Errors
    /// Every field that is refused.
    pub fn to_remove(product_id: String, quantity: i64) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        check_id("product_id", &product_id, &mut violations);
        if quantity < 0 {
            violations.add("quantity", "must not be negative");
        }
        violations.check()?;
        Ok(Self { product_id, quantity })
    }
}

/// An order of a version of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub owner: String,
    pub id: String,
    pub version: i64,
    pub items: Vec<Item>,
}

impl Order {
    /// # Errors
    /// Every field that is refused.
    pub fn new(owner: String, id: String, version: i64, items: Vec<Item>) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        if !(1..=OWNER_BYTES).contains(&owner.len()) || owner.chars().any(char::is_control) {
            violations.add("owner", "must be the subject of a principal, of at most 256 bytes");
        }
        check_id("order_id", &id, &mut violations);
        if version < 1 {
            violations.add("version", "must be at least 1: an empty cart can't be ordered");
        }
        if !(1..=LINES).contains(&items.len()) {
            violations.add("items", "must be 1 to 100");
        }
        for (at, item) in items.iter().enumerate().take(LINES) {
            check_id(&format!("items[{at}].product_id"), &item.product_id, &mut violations);
            if item.quantity < 1 {
                violations.add(format!("items[{at}].quantity"), "must be at least 1");
            }
        }
        violations.check()?;
        Ok(Self { owner, id, version, items })
    }
}

fn check_id(field: &str, id: &str, violations: &mut Violations) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=ID_BYTES).contains(&id.len()) || !id.bytes().all(allowed) {
        violations.add(field, "must be 1 to 64 of letters, digits, _ and -");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(id: &str, minor_units: i64, currency: &str) -> Product {
        let price = Money { minor_units, currency: currency.to_owned() };
        Product { id: id.to_owned(), name: id.to_owned(), price, available: true, version: 1 }
    }

    fn cart(lines: &[(&str, i64)]) -> Cart {
        let mut cart = Cart::empty("customers/ada");
        for (id, quantity) in lines {
            cart.add(Some(product(id, 250, "EUR")), *quantity).unwrap();
        }
        cart
    }

    fn item(id: &str, quantity: i64) -> Item {
        Item { product_id: id.to_owned(), quantity }
    }

    fn quantities(cart: &Cart) -> Vec<(&str, i64)> {
        cart.lines.iter().map(|line| (line.product.id.as_str(), line.quantity)).collect()
    }

    fn fields<T>(result: Result<T, Violations>) -> Vec<String> {
        result.err().map(|violations| violations.0.into_iter().map(|(field, _)| field).collect()).unwrap_or_default()
    }

    #[test]
    fn adding_again_raises_the_line() {
        let cart = cart(&[("teapot", 2), ("cup", 1), ("teapot", 3)]);
        assert_eq!(quantities(&cart), [("teapot", 5), ("cup", 1)]);
        assert_eq!(cart.total(), Some(Money { minor_units: 1_500, currency: "EUR".to_owned() }));
    }

    #[test]
    fn an_empty_cart_has_no_total() {
        assert_eq!(Cart::empty("customers/ada").total(), None);
    }

    #[test]
    fn what_the_catalogue_has_not_can_t_be_added() {
        let gone = Product { available: false, ..product("teapot", 250, "EUR") };
        assert_eq!(fields(cart(&[]).add(None, 1)), ["product_id"]);
        assert_eq!(fields(cart(&[]).add(Some(gone), 1)), ["product_id"]);
    }

    #[test]
    fn a_cart_has_one_currency() {
        assert_eq!(fields(cart(&[("teapot", 1)]).add(Some(product("cup", 300, "USD")), 1)), ["product_id"]);
    }

    #[test]
    fn a_line_that_changed_its_currency_is_neither_counted_nor_ordered() {
        let mut cart = cart(&[("teapot", 1), ("cup", 2)]);
        cart.lines[1].product.price.currency = "USD".to_owned();
        assert_eq!(cart.total(), Some(Money { minor_units: 250, currency: "EUR".to_owned() }));
        assert!(cart.can_order(&cart.lines[0]));
        assert!(!cart.can_order(&cart.lines[1]));
    }

    #[test]
    fn a_cart_has_an_end() {
        let mut full = Cart::empty("customers/ada");
        for n in 0..LINES {
            full.add(Some(product(&n.to_string(), 1, "EUR")), 1).unwrap();
        }
        assert_eq!(fields(full.add(Some(product("teapot", 1, "EUR")), 1)), ["product_id"]);
        full.add(Some(product("0", 1, "EUR")), LINE_QUANTITY - 1).unwrap();
        assert_eq!(fields(full.add(Some(product("0", 1, "EUR")), 1)), ["quantity"]);
    }

    #[test]
    fn an_unspeakable_total_doesn_t_wrap() {
        let mut cart = Cart::empty("customers/ada");
        cart.add(Some(product("moon", i64::MAX, "EUR")), 10_000).unwrap();
        assert_eq!(cart.total().unwrap().minor_units, i64::MAX);
    }

    #[test]
    fn removing_takes_some_or_all() {
        let mut cart = cart(&[("teapot", 5), ("cup", 2), ("bowl", 1)]);
        assert!(cart.remove(&item("teapot", 2)));
        assert!(cart.remove(&item("cup", 0)));
        assert!(cart.remove(&item("bowl", 7)));
        assert!(!cart.remove(&item("bowl", 1)));
        assert_eq!(quantities(&cart), [("teapot", 3)]);
    }

    #[test]
    fn an_order_takes_what_is_still_there() {
        let mut cart = cart(&[("teapot", 5), ("cup", 1)]);
        cart.take(&[item("teapot", 3), item("cup", 2), item("bowl", 1)]);
        assert_eq!(quantities(&cart), [("teapot", 2)]);
    }

    #[test]
    fn every_bad_field_of_an_order_is_named_at_once() {
        let items = vec![item("teapot", 1), item("tea pot", 0)];
        let refused = fields(Order::new(String::new(), "o/1".to_owned(), 0, items));
        assert_eq!(refused, ["owner", "order_id", "version", "items[1].product_id", "items[1].quantity"]);
        let refused = fields(Order::new("customers/ada".to_owned(), "o-1".to_owned(), 1, Vec::new()));
        assert_eq!(refused, ["items"]);
    }

    #[test]
    fn every_bad_field_of_an_item_is_named_at_once() {
        assert_eq!(fields(Item::to_add("tea pot".to_owned(), 1_001)), ["product_id", "quantity"]);
        assert_eq!(fields(Item::to_add("teapot".to_owned(), 0)), ["quantity"]);
        assert_eq!(fields(Item::to_remove(String::new(), -1)), ["product_id", "quantity"]);
        assert!(Item::to_remove("teapot".to_owned(), 0).is_ok());
    }
}
