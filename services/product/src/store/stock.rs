//! Stock: what restocking adds, an order's reservation takes, and its release gives back.
//!
//! An order has one reservation, ever: taking it again answers what the first time did, and once it was released (or was
//! to be, before it came) it can't be taken. Products are locked in the order of their ids, so that two orders never wait
//! for each other.

use database::{Row, Transaction, params};

use super::{Error, Shortage, Store, locked, now};
use crate::domain::{Line, Product};

impl Store {
    /// # Errors
    /// [`Error::NotFound`], or if the database fails.
    pub async fn restock(&self, id: &str, quantity: i64) -> Result<Product, Error> {
        let mut tx = self.database.begin().await?;
        let mut product = locked(&mut tx, id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        product.stock = product.stock.saturating_add(quantity);
        let product = self.save(&mut tx, product).await?;
        tx.commit().await?;
        Ok(product)
    }

    /// Takes all lines, which are sorted by product, or none. The lines that the order has then.
    ///
    /// # Errors
    /// [`Error::Short`] with every line that isn't covered, [`Error::Released`], or if the database fails.
    pub async fn reserve(&self, order_id: &str, lines: Vec<Line>) -> Result<Vec<Line>, Error> {
        let mut tx = self.database.begin().await?;
        if !claim(&mut tx, order_id, false).await? {
            return reserved(&mut tx, order_id).await;
        }
        let mut products = Vec::with_capacity(lines.len());
        let mut short = Vec::new();
        for Line { product_id, quantity } in &lines {
            match locked(&mut tx, product_id).await? {
                Some(product) if product.stock >= *quantity => products.push((product, *quantity)),
                other => short.push(Shortage {
                    product_id: product_id.clone(),
                    wanted: *quantity,
                    available: other.map(|product| product.stock),
                }),
            }
        }
        if !short.is_empty() {
            // Dropped, the transaction takes the claim back too: the order may come again.
            return Err(Error::Short(short));
        }
        for (mut product, quantity) in products {
            product.stock -= quantity;
            let sql = "INSERT INTO reservation_lines (order_id, product_id, quantity) VALUES ($1, $2, $3)";
            tx.execute(sql, params![order_id, &product.id, quantity]).await?;
            self.save(&mut tx, product).await?;
        }
        tx.commit().await?;
        Ok(lines)
    }

    /// Gives back what the order has reserved, once; an order without a reservation can't take one any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn release(&self, order_id: &str) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        if !claim(&mut tx, order_id, true).await? {
            let sql = "UPDATE reservations SET released = 1 WHERE order_id = $1 AND released = 0";
            if tx.execute(sql, params![order_id]).await? == 0 {
                return Ok(());
            }
            for Line { product_id, quantity } in lines(&mut tx, order_id).await? {
                // A product that was deleted since has no stock to give back to.
                if let Some(mut product) = locked(&mut tx, &product_id).await? {
                    product.stock = product.stock.saturating_add(quantity);
                    self.save(&mut tx, product).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Makes the order's reservation, if it has none. Of two at once the second waits for the first's end.
async fn claim(tx: &mut Transaction, order_id: &str, released: bool) -> Result<bool, Error> {
    let sql = "INSERT INTO reservations (order_id, released, created_at) VALUES ($1, $2, $3)
               ON CONFLICT (order_id) DO NOTHING";
    Ok(tx.execute(sql, params![order_id, released, now()]).await? == 1)
}

/// What the order has reserved before.
async fn reserved(tx: &mut Transaction, order_id: &str) -> Result<Vec<Line>, Error> {
    let rows = tx.query("SELECT released FROM reservations WHERE order_id = $1", params![order_id]).await?;
    match rows.first() {
        Some(row) if row.get("released")? => Err(Error::Released(order_id.to_owned())),
        _ => Ok(lines(tx, order_id).await?),
    }
}

/// Sorted as those of a reservation are: not by the database, whose collation may be another order.
async fn lines(tx: &mut Transaction, order_id: &str) -> Result<Vec<Line>, database::Error> {
    let sql = "SELECT product_id, quantity FROM reservation_lines WHERE order_id = $1";
    let rows = tx.query(sql, params![order_id]).await?;
    let line = |row: &Row| Ok(Line { product_id: row.get("product_id")?, quantity: row.get("quantity")? });
    let mut lines = rows.iter().map(line).collect::<Result<Vec<Line>, database::Error>>()?;
    lines.sort_by(|a, b| a.product_id.cmp(&b.product_id));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use database::{Database, Url};
    use serde_json::Value;
    use testkit::eventually;

    use super::*;
    use crate::{
        MIGRATIONS,
        domain::{Details, Money},
        store::NewProduct,
    };

    async fn until_waiting(database: &Database, transactions: i64) {
        eventually("they wait", Duration::from_secs(5), async || {
            let rows = database.query("SELECT count(*) AS waiting FROM pg_locks WHERE NOT granted", &[]).await.unwrap();
            (rows[0].get::<i64>("waiting").unwrap() == transactions).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_reservation_and_a_release_don_t_wait_for_each_other_whatever_the_collation() {
        let server = testkit::postgres().await;
        let admin = Database::open(&Url(server.url()), "admin", &[]).await.unwrap();
        // There `a` comes before `B`.
        let create = "CREATE DATABASE shop TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'";
        admin.query(create, &[]).await.unwrap();
        let (place, _) = server.url().rsplit_once('/').map(|(place, name)| (place.to_owned(), name.len())).unwrap();
        let url = Url(format!("{place}/shop"));
        let database = Database::open(&url, "product", &[MIGRATIONS[0], outbox::migration(9001)]).await.unwrap();
        let store = Store::new(database.clone(), |_| Value::Null);
        for id in ["B", "a"] {
            let price = Money { minor_units: 100, currency: "EUR".to_owned() };
            let (name, description, category) = (id.to_owned(), String::new(), String::new());
            let details = Details { name, description, category, price };
            store.create(NewProduct { id: id.to_owned(), details, stock: 10 }).await.unwrap();
        }
        let lines = || ["B", "a"].map(|id| Line { product_id: id.to_owned(), quantity: 1 }).to_vec();
        store.reserve("one", lines()).await.unwrap();

        let mut busy = database.begin().await.unwrap();
        locked(&mut busy, "a").await.unwrap();
        let release = tokio::spawn({
            let store = store.clone();
            async move { store.release("one").await }
        });
        until_waiting(&database, 1).await;
        let reserve = tokio::spawn(async move { store.reserve("two", lines()).await });
        until_waiting(&database, 2).await;
        busy.rollback().await.unwrap();
        release.await.unwrap().unwrap();
        reserve.await.unwrap().unwrap();
    }
}
