//! The products, in SQL. A write is one transaction with its events, appended while the row's lock is held.

mod stock;

use database::{Database, Row, Transaction, from_micros, micros, params};
use outbox::Event;
use serde_json::Value;
use service::Page;
use time::OffsetDateTime;

use crate::domain::{Details, Money, Patch, Position, Product, subject};

const SOURCE: &str = "/services/product";

/// What stands between the product a client means and the change it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no product {0}")]
    NotFound(String),
    /// The product has changed since the client read it.
    #[error("the product {0} has another etag")]
    Stale(String),
    /// Lines of a reservation that the stock doesn't cover.
    #[error("the stock is short of {} products", .0.len())]
    Short(Vec<Shortage>),
    #[error("the order {0} has been released")]
    Released(String),
    #[error(transparent)]
    Database(#[from] database::Error),
}

#[derive(Debug)]
pub struct Shortage {
    pub product_id: String,
    pub wanted: i64,
    /// None: there is no such product.
    pub available: Option<i64>,
}

/// A product to insert.
pub struct NewProduct {
    pub id: String,
    pub details: Details,
    pub stock: i64,
}

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Product) -> Value,
}

impl Store {
    /// `record` is what an event says of a product.
    pub fn new(database: Database, record: fn(&Product) -> Value) -> Self {
        Self { database, record }
    }

    /// The products after a position, by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(
        &self,
        category: Option<&str>,
        after: &Position,
        size: usize,
    ) -> Result<Page<Product>, database::Error> {
        // One more than the page shows, to know whether there is another page.
        let limit = i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1);
        // Two texts, so that each uses its index.
        let rows = match category {
            Some(category) => {
                let sql = "SELECT * FROM products WHERE category = $1 AND (name, id) > ($2, $3)
                           ORDER BY name, id LIMIT $4";
                self.database.query(sql, params![category, &after.name, &after.id, limit]).await?
            }
            None => {
                let sql = "SELECT * FROM products WHERE (name, id) > ($1, $2) ORDER BY name, id LIMIT $3";
                self.database.query(sql, params![&after.name, &after.id, limit]).await?
            }
        };
        let mut items = rows.iter().map(product).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more);
        let next = next.map(|last| Position { name: last.details.name.clone(), id: last.id.clone() }.to_string());
        Ok(Page { items, next })
    }

    /// # Errors
    /// [`Error::NotFound`], or if the database fails.
    pub async fn get(&self, id: &str) -> Result<Product, Error> {
        let rows = self.database.query("SELECT * FROM products WHERE id = $1", params![id]).await?;
        rows.first().map(product).transpose()?.ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// # Errors
    /// If the database fails.
    pub async fn create(&self, new: NewProduct) -> Result<Product, Error> {
        let mut tx = self.database.begin().await?;
        let created = self.insert(&mut tx, new).await?;
        let created = created.ok_or_else(|| database::Error::Unique { constraint: "products.id".to_owned() })?;
        tx.commit().await?;
        Ok(created)
    }

    /// Puts products into an empty table; does nothing to one that has any. Several instances may do so at once.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn seed(&self, products: &[NewProduct]) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        if !tx.query("SELECT id FROM products LIMIT 1", &[]).await?.is_empty() {
            return Ok(());
        }
        // Another instance may be at the same: then each insert waits for its commit and finds the row there.
        for NewProduct { id, details, stock } in products {
            let new = NewProduct { id: id.clone(), details: details.clone(), stock: *stock };
            self.insert(&mut tx, new).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Stale`] if `etag` is another, or if the database fails.
    pub async fn update(&self, id: &str, etag: Option<&str>, patch: Patch) -> Result<Product, Error> {
        let mut tx = self.database.begin().await?;
        let mut product = locked(&mut tx, id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        check_etag(&product, etag)?;
        product.details = patch.apply(product.details);
        let updated = self.save(&mut tx, product).await?;
        tx.commit().await?;
        Ok(updated)
    }

    /// Orders that have reserved it keep their reservations; giving those back changes nothing any more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stale`] if `etag` is another, or if the database fails.
    pub async fn delete(&self, id: &str, etag: Option<&str>) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        let product = locked(&mut tx, id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        check_etag(&product, etag)?;
        tx.execute("DELETE FROM products WHERE id = $1", params![id]).await?;
        self.append(&mut tx, "DB/DELETE", &product).await?;
        tx.commit().await?;
        Ok(())
    }

    /// None if the id is taken.
    async fn insert(&self, tx: &mut Transaction, new: NewProduct) -> Result<Option<Product>, Error> {
        let now = now();
        let NewProduct { id, details, stock } = new;
        let product = Product { id, details, stock, version: 1, created_at: now, updated_at: now };
        let Details { name, description, category, price } = &product.details;
        let inserted = tx
            .execute(
                "INSERT INTO products (id, name, description, category, price_minor_units, price_currency, stock,
                                       version, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) ON CONFLICT (id) DO NOTHING",
                params![
                    &product.id,
                    name,
                    description,
                    category,
                    price.minor_units,
                    &price.currency,
                    stock,
                    product.version,
                    now
                ],
            )
            .await?;
        if inserted == 0 {
            return Ok(None);
        }
        self.append(tx, "DB/CREATE", &product).await?;
        Ok(Some(product))
    }

    /// Writes a locked product back, as its next version.
    async fn save(&self, tx: &mut Transaction, mut product: Product) -> Result<Product, Error> {
        product.version += 1;
        product.updated_at = now();
        let Details { name, description, category, price } = &product.details;
        tx.execute(
            "UPDATE products SET name = $2, description = $3, category = $4, price_minor_units = $5,
                                 price_currency = $6, stock = $7, version = $8, updated_at = $9
             WHERE id = $1",
            params![
                &product.id,
                name,
                description,
                category,
                price.minor_units,
                &price.currency,
                product.stock,
                product.version,
                product.updated_at
            ],
        )
        .await?;
        self.append(tx, "DB/UPDATE", &product).await?;
        Ok(product)
    }

    async fn append(&self, tx: &mut Transaction, address: &'static str, product: &Product) -> Result<(), Error> {
        let event = Event::new(address, subject(&product.id), (self.record)(product));
        Ok(outbox::append(tx, SOURCE, event).await?)
    }
}

/// The product, which nobody else can change until the transaction ends.
async fn locked(tx: &mut Transaction, id: &str) -> Result<Option<Product>, database::Error> {
    let rows = tx.query("SELECT * FROM products WHERE id = $1 FOR UPDATE", params![id]).await?;
    rows.first().map(product).transpose()
}

fn check_etag(product: &Product, etag: Option<&str>) -> Result<(), Error> {
    match etag {
        Some(etag) if etag != product.etag() => Err(Error::Stale(product.id.clone())),
        _ => Ok(()),
    }
}

/// To the microsecond, so that what is answered now is what is read later.
fn now() -> OffsetDateTime {
    from_micros(micros(OffsetDateTime::now_utc()))
}

fn product(row: &Row) -> Result<Product, database::Error> {
    Ok(Product {
        id: row.get("id")?,
        details: Details {
            name: row.get("name")?,
            description: row.get("description")?,
            category: row.get("category")?,
            price: Money { minor_units: row.get("price_minor_units")?, currency: row.get("price_currency")? },
        },
        stock: row.get("stock")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
