//! Stock: what restocking adds, an order's reservation takes, and its release gives back.
//!
//! An order has one reservation, ever: taking it again answers what the first time did, and once it was released (or was
//! to be, before it came) it can't be taken. Products are locked in the order of their ids, so that two orders never wait
//! for each other.

use database::{Transaction, params};

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

async fn lines(tx: &mut Transaction, order_id: &str) -> Result<Vec<Line>, database::Error> {
    let sql = "SELECT product_id, quantity FROM reservation_lines WHERE order_id = $1 ORDER BY product_id";
    let rows = tx.query(sql, params![order_id]).await?;
    rows.iter().map(|row| Ok(Line { product_id: row.get("product_id")?, quantity: row.get("quantity")? })).collect()
}
