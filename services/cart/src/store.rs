//! Carts and the copy of the catalogue, in SQL. A change of a cart is one transaction with its event; a change of the copy
//! is one with the inbox.

use std::mem;

use bus::Inbox;
use database::{Database, Row, Transaction, from_micros, micros, params};
use events::Envelope;
use outbox::Event;
use serde_json::Value;
use service::Violations;
use time::OffsetDateTime;

use crate::domain::{Cart, Item, Line, Money, Order, Product};

const SOURCE: &str = "/services/cart";

// One statement, so that the version is that of the lines. A line's product is in the copy, which forgets none.
const CART: &str = "
    SELECT c.version AS cart_version, c.updated_at, l.quantity,
           p.id, p.name, p.minor_units, p.currency, p.available, p.version
    FROM carts c
    LEFT JOIN lines l ON l.owner = c.owner
    LEFT JOIN products p ON p.id = l.product_id
    WHERE c.owner = $1
    ORDER BY l.added_at, l.product_id";

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Cart) -> Value,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(Violations),
    #[error("the cart has no {product_id}")]
    NotInCart { product_id: String },
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl Store {
    /// `record` is what an event says of a cart.
    pub fn new(database: Database, record: fn(&Cart) -> Value) -> Self {
        Self { database, record }
    }

    pub async fn get(&self, owner: &str) -> Result<Cart, database::Error> {
        cart(owner, &self.database.query(CART, params![owner]).await?)
    }

    /// # Errors
    /// [`Error::Refused`] by [`Cart::add`].
    pub async fn add(&self, owner: &str, item: Item) -> Result<Cart, Error> {
        let mut change = self.change(owner).await?;
        let product = product_in(&mut change.tx, &item.product_id).await?;
        change.cart.add(product, item.quantity).map_err(Error::Refused)?;
        Ok(change.commit(self.record).await?)
    }

    /// # Errors
    /// [`Error::NotInCart`].
    pub async fn remove(&self, owner: &str, item: &Item) -> Result<Cart, Error> {
        let mut change = self.change(owner).await?;
        if !change.cart.remove(item) {
            return Err(Error::NotInCart { product_id: item.product_id.clone() });
        }
        Ok(change.commit(self.record).await?)
    }

    /// Takes what was ordered out of the cart, once an order.
    pub async fn clear(&self, order: &Order) -> Result<Cart, database::Error> {
        let mut change = self.change(&order.owner).await?;
        let first = change
            .tx
            .execute(
                "INSERT INTO cleared (owner, order_id, version, cleared_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (owner, order_id) DO NOTHING",
                params![&order.owner, &order.id, order.version, OffsetDateTime::now_utc()],
            )
            .await?;
        if first == 1 {
            change.cart.take(&order.items);
        }
        change.commit(self.record).await
    }

    /// Puts a product into the copy unless the copy knows a newer one. An event taken in before changes nothing.
    pub async fn copy(&self, inbox: &Inbox, envelope: &Envelope, product: &Product) -> Result<(), database::Error> {
        let mut tx = self.database.begin().await?;
        if !inbox.first(&mut tx, envelope).await? {
            return Ok(());
        }
        // Dropping a product need not raise its version.
        tx.execute(
            "INSERT INTO products (id, name, minor_units, currency, available, version)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, minor_units = excluded.minor_units,
                 currency = excluded.currency, available = excluded.available, version = excluded.version
             WHERE excluded.version > products.version
                OR (excluded.version = products.version AND excluded.available < products.available)",
            params![
                &product.id,
                &product.name,
                product.price.minor_units,
                &product.price.currency,
                product.available,
                product.version
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Locks the owner's cart, made if missing, until the change is committed or dropped.
    async fn change(&self, owner: &str) -> Result<Change, database::Error> {
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO carts (owner, version, updated_at) VALUES ($1, 0, $2) ON CONFLICT (owner) DO NOTHING",
            params![owner, OffsetDateTime::now_utc()],
        )
        .await?;
        tx.query("SELECT version FROM carts WHERE owner = $1 FOR UPDATE", params![owner]).await?;
        let before = cart(owner, &tx.query(CART, params![owner]).await?)?;
        Ok(Change { tx, cart: before.clone(), before })
    }
}

/// A transaction that holds a cart.
struct Change {
    tx: Transaction,
    before: Cart,
    /// What it is to become.
    cart: Cart,
}

impl Change {
    /// Writes the lines that differ, a new version and the event; where none differ, the version stays.
    async fn commit(mut self, record: fn(&Cart) -> Value) -> Result<Cart, database::Error> {
        if self.cart.lines == self.before.lines {
            self.tx.commit().await?;
            return Ok(self.before);
        }
        // What is answered now is what is read later: to the microsecond.
        let now = from_micros(micros(OffsetDateTime::now_utc()));
        self.write_lines(now).await?;
        self.cart.version += 1;
        self.cart.updated_at = Some(now);
        self.tx
            .execute(
                "UPDATE carts SET version = $1, updated_at = $2 WHERE owner = $3",
                params![self.cart.version, now, &self.cart.owner],
            )
            .await?;
        let address = if self.cart.version == 1 { "DB/CREATE" } else { "DB/UPDATE" };
        let event = Event::new(address, subject(&self.cart.owner), record(&self.cart));
        outbox::append(&mut self.tx, SOURCE, Event { owner: Some(self.cart.owner.clone()), ..event }).await?;
        self.tx.commit().await?;
        Ok(self.cart)
    }

    async fn write_lines(&mut self, now: OffsetDateTime) -> Result<(), database::Error> {
        let owner = self.cart.owner.as_str();
        let before = mem::take(&mut self.before.lines);
        for line in &before {
            if !self.cart.lines.iter().any(|kept| kept.product.id == line.product.id) {
                self.tx
                    .execute("DELETE FROM lines WHERE owner = $1 AND product_id = $2", params![owner, &line.product.id])
                    .await?;
            }
        }
        for line in self.cart.lines.iter().filter(|line| !before.contains(line)) {
            self.tx
                .execute(
                    "INSERT INTO lines (owner, product_id, quantity, added_at) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (owner, product_id) DO UPDATE SET quantity = excluded.quantity",
                    params![owner, &line.product.id, line.quantity, now],
                )
                .await?;
        }
        Ok(())
    }
}

/// The subject of a cart's events: `carts/0192…` for `customers/0192…`. Other owners keep their whole name, in one segment.
fn subject(owner: &str) -> String {
    match owner.strip_prefix("customers/") {
        Some(id) if !id.contains('/') => format!("carts/{id}"),
        _ => format!("carts/{}", owner.replace('/', ":")),
    }
}

async fn product_in(tx: &mut Transaction, id: &str) -> Result<Option<Product>, database::Error> {
    let rows = tx
        .query("SELECT id, name, minor_units, currency, available, version FROM products WHERE id = $1", params![id])
        .await?;
    rows.first().map(product).transpose()
}

fn cart(owner: &str, rows: &[Row]) -> Result<Cart, database::Error> {
    let mut cart = Cart::empty(owner);
    for row in rows {
        cart.version = row.get("cart_version")?;
        cart.updated_at = (cart.version > 0).then_some(row.get("updated_at")?);
        if let Some(quantity) = row.get::<Option<i64>>("quantity")? {
            cart.lines.push(Line { product: product(row)?, quantity });
        }
    }
    Ok(cart)
}

fn product(row: &Row) -> Result<Product, database::Error> {
    Ok(Product {
        id: row.get("id")?,
        name: row.get("name")?,
        price: Money { minor_units: row.get("minor_units")?, currency: row.get("currency")? },
        available: row.get("available")?,
        version: row.get("version")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cart_s_subject_is_one_segment_below_carts() {
        assert_eq!(subject("customers/0192"), "carts/0192");
        assert_eq!(subject("keys/7"), "carts/keys:7");
        assert_eq!(subject("customers/a/b"), "carts/customers:a:b");
    }
}
