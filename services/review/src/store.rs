//! The reviews, in SQL. A write is one transaction with its event.

use database::{Database, Row, from_micros, micros, params};
use outbox::Event;
use serde_json::Value;
use service::Page;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Draft, Position, Review};

const SOURCE: &str = "/services/review";

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Review) -> Value,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{author} has reviewed {product_id} before")]
    AlreadyReviewed { author: String, product_id: String },
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl Store {
    /// `record` is what an event says of a review.
    pub fn new(database: Database, record: fn(&Review) -> Value) -> Self {
        Self { database, record }
    }

    /// # Errors
    /// [`Error::AlreadyReviewed`] for a second review of a product by its author.
    pub async fn create(&self, draft: Draft) -> Result<Review, Error> {
        // What is answered now is what is read later: to the microsecond.
        let created_at = from_micros(micros(OffsetDateTime::now_utc()));
        let review = Review { id: Uuid::now_v7().to_string(), draft, version: 1, created_at };
        let Draft { product_id, author, rating, text } = &review.draft;
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO reviews (id, product_id, author, rating, text, version, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            params![&review.id, product_id, author, *rating, text, review.version, created_at],
        )
        .await
        .map_err(|error| match error {
            database::Error::Unique { .. } => {
                Error::AlreadyReviewed { author: author.clone(), product_id: product_id.clone() }
            }
            error => error.into(),
        })?;
        let event = Event::new("DB/CREATE", format!("reviews/{}", review.id), (self.record)(&review));
        outbox::append(&mut tx, SOURCE, Event { owner: Some(author.clone()), ..event }).await?;
        tx.commit().await?;
        Ok(review)
    }

    /// The newest reviews of a product that are older than `after`.
    pub async fn list(&self, product_id: &str, after: &Position, size: usize) -> Result<Page<Review>, database::Error> {
        // One more than the page shows, to know whether there is another page.
        let limit = i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self
            .database
            .query(
                "SELECT id, product_id, author, rating, text, version, created_at FROM reviews
                 WHERE product_id = $1 AND (created_at, id) < ($2, $3)
                 ORDER BY created_at DESC, id DESC LIMIT $4",
                params![product_id, after.created_at, &after.id, limit],
            )
            .await?;
        let mut items = rows.iter().map(review).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > size;
        items.truncate(size);
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| Position { created_at: micros(last.created_at), id: last.id.clone() }.to_string());
        Ok(Page { items, next })
    }
}

fn review(row: &Row) -> Result<Review, database::Error> {
    let rating = row.get::<i64>("rating")?;
    Ok(Review {
        id: row.get("id")?,
        draft: Draft {
            product_id: row.get("product_id")?,
            author: row.get("author")?,
            rating: i32::try_from(rating).map_err(|_| database::Error::Query(format!("rating {rating}")))?,
            text: row.get("text")?,
        },
        version: row.get("version")?,
        created_at: row.get("created_at")?,
    })
}
