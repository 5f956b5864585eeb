//! Orders and what happened to them, in SQL. A write is one transaction: the event at its expected version, the
//! projection, and what goes to the bus.

mod unfinished;

use database::{Database, Row, Transaction, from_micros, micros, params};
use outbox::Event as Announcement;
use serde::{Deserialize as _, de::IntoDeserializer as _};
use serde_json::{Value, json};
use service::Page;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    changes::Changes,
    domain::{Event, Misplaced, Order, Recorded, Stage},
    draft::{Draft, Line, Money},
};

const SOURCE: &str = "/services/order";

/// The projection's columns, for [`order`] to read.
macro_rules! select_orders {
    ($rest:literal) => {
        concat!(
            "SELECT id, customer, cart_version, lines, total, currency, stage, reason, version, created_at, updated_at
             FROM orders ",
            $rest
        )
    };
}

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Order) -> Value,
    changes: Changes,
}

/// What became of a wish to place an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    Now(Order),
    /// A request with the same idempotency key placed this one.
    Before(Order),
    /// This version of the cart was ordered by the order of this id.
    CartOrdered(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else happened to the order since it was read.
    #[error("the order is no longer at the expected version")]
    Conflict,
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl Store {
    /// `record` is what an event says of an order.
    pub fn new(database: Database, record: fn(&Order) -> Value) -> Self {
        Self { database, record, changes: Changes::default() }
    }

    /// Where changes made by this process are heard of.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Places an order, with the command to see it through; once a cart version, and once an idempotency key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn place(&self, draft: &Draft, idempotency_key: Option<&str>) -> Result<Placed, Error> {
        let event = Event::OrderPlaced {
            customer: draft.customer.clone(),
            cart_version: draft.cart_version,
            lines: draft.lines.clone(),
            total: draft.total.clone(),
        };
        let recorded = Recorded { version: 1, time: now(), event };
        let order = Order::begin(&Uuid::now_v7().to_string(), recorded.clone())?;
        let mut tx = self.database.begin().await?;
        match insert(&mut tx, &order, idempotency_key).await {
            Ok(()) => {}
            Err(database::Error::Unique { .. }) => {
                tx.rollback().await?;
                return self.placed_before(draft, idempotency_key).await;
            }
            Err(error) => return Err(error.into()),
        }
        record_event(&mut tx, &order.id, &recorded).await?;
        let created = self.announcement("DB/CREATE", &order);
        outbox::append(&mut tx, SOURCE, of_request(created, &order, idempotency_key)).await?;
        outbox::append(&mut tx, SOURCE, of_request(command(&order.id), &order, idempotency_key)).await?;
        tx.commit().await?;
        Ok(Placed::Now(order))
    }

    /// Appends an event to an order as it was read. `cause` is the id of the bus event that led to it.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the order has moved on meanwhile; [`Error::Misplaced`] if the event can't follow.
    pub async fn append(&self, order: &Order, event: Event, cause: Option<&str>) -> Result<Order, Error> {
        let recorded = Recorded { version: order.version + 1, time: now(), event };
        let next = order.clone().apply(recorded.clone())?;
        let mut tx = self.database.begin().await?;
        let updated = tx
            .execute(
                "UPDATE orders SET stage = $1, reason = $2, version = $3, updated_at = $4
                 WHERE id = $5 AND version = $6",
                params![
                    next.stage.to_string(),
                    next.reason.as_str(),
                    next.version,
                    next.updated_at,
                    next.id.as_str(),
                    order.version,
                ],
            )
            .await?;
        if updated == 0 {
            tx.rollback().await?;
            return Err(Error::Conflict);
        }
        record_event(&mut tx, &next.id, &recorded).await?;
        let updated = self.announcement("DB/UPDATE", &next);
        let cause = cause.map(str::to_owned);
        outbox::append(&mut tx, SOURCE, Announcement { causation_id: cause, ..updated }).await?;
        tx.commit().await?;
        self.changes.announce(&next.id);
        Ok(next)
    }

    /// Everything that happened to an order, oldest first.
    pub async fn history(&self, id: &str) -> Result<Vec<Recorded>, database::Error> {
        let rows = self
            .database
            .query(
                "SELECT version, type, time, detail FROM order_events WHERE order_id = $1 ORDER BY version",
                params![id],
            )
            .await?;
        rows.iter().map(recorded).collect()
    }

    /// An order as its events add up.
    ///
    /// # Errors
    /// [`Error::Misplaced`] if they can't have happened in this order.
    pub async fn load(&self, id: &str) -> Result<Option<Order>, Error> {
        Ok(Order::fold(id, self.history(id).await?)?)
    }

    /// An order as the projection shows it.
    pub async fn find(&self, id: &str) -> Result<Option<Order>, database::Error> {
        let rows = self.database.query(select_orders!("WHERE id = $1"), params![id]).await?;
        rows.first().map(order).transpose()
    }

    pub async fn by_idempotency_key(&self, customer: &str, key: &str) -> Result<Option<Order>, database::Error> {
        let rows = self
            .database
            .query(select_orders!("WHERE customer = $1 AND idempotency_key = $2"), params![customer, key])
            .await?;
        rows.first().map(order).transpose()
    }

    /// A customer's orders, newest first, of those older than the order `before`.
    pub async fn list(
        &self,
        customer: &str,
        before: Option<&str>,
        size: usize,
    ) -> Result<Page<Order>, database::Error> {
        // Ids rise with time. No id is above `g`: they are hexadecimal.
        let before = before.unwrap_or("g");
        // One more than the page shows, to know whether there is another page.
        let limit = i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self
            .database
            .query(
                select_orders!("WHERE customer = $1 AND id < $2 ORDER BY id DESC LIMIT $3"),
                params![customer, before, limit],
            )
            .await?;
        let mut items = rows.iter().map(order).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    async fn placed_before(&self, draft: &Draft, idempotency_key: Option<&str>) -> Result<Placed, Error> {
        if let Some(key) = idempotency_key
            && let Some(order) = self.by_idempotency_key(&draft.customer, key).await?
        {
            return Ok(Placed::Before(order));
        }
        let rows = self
            .database
            .query(
                "SELECT id FROM orders WHERE customer = $1 AND cart_version = $2",
                params![draft.customer.as_str(), draft.cart_version],
            )
            .await?;
        let row = rows.first().ok_or_else(|| unreadable("orders", "a row that was there is gone"))?;
        Ok(Placed::CartOrdered(row.get("id")?))
    }

    fn announcement(&self, address: &'static str, order: &Order) -> Announcement {
        let event = Announcement::new(address, subject(&order.id), (self.record)(order));
        Announcement { owner: Some(order.customer.clone()), ..event }
    }
}

/// What placing an order appends: under an idempotency key its ids derive from it, so that edge, database and bus agree on
/// what is the same.
fn of_request(event: Announcement, order: &Order, idempotency_key: Option<&str>) -> Announcement {
    match idempotency_key {
        Some(key) => event.of_request(&order.customer, key),
        None => Announcement { owner: Some(order.customer.clone()), ..event },
    }
}

async fn insert(tx: &mut Transaction, order: &Order, idempotency_key: Option<&str>) -> Result<(), database::Error> {
    tx.execute(
        "INSERT INTO orders (id, customer, idempotency_key, cart_version, lines, total, currency, stage, reason,
             version, created_at, updated_at, commanded_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11)",
        params![
            order.id.as_str(),
            order.customer.as_str(),
            idempotency_key,
            order.cart_version,
            serde_json::to_string(&order.lines).map_err(|error| unreadable("lines", error))?,
            order.total.minor_units,
            order.total.currency.as_str(),
            order.stage.to_string(),
            order.reason.as_str(),
            order.version,
            order.created_at,
        ],
    )
    .await?;
    Ok(())
}

async fn record_event(tx: &mut Transaction, id: &str, recorded: &Recorded) -> Result<(), database::Error> {
    let (name, detail) = recorded.event.to_parts();
    tx.execute(
        "INSERT INTO order_events (order_id, version, type, time, detail) VALUES ($1, $2, $3, $4, $5)",
        params![id, recorded.version, name, recorded.time, detail.to_string()],
    )
    .await?;
    Ok(())
}

/// Asks the group `placement` to see an order through.
fn command(id: &str) -> Announcement {
    Announcement::new("ORDER_COMMANDS/PLACE", subject(id), json!({ "orderId": id }))
}

fn order(row: &Row) -> Result<Order, database::Error> {
    let lines: String = row.get("lines")?;
    let lines: Vec<Line> = serde_json::from_str(&lines).map_err(|error| unreadable("lines", error))?;
    let stage: String = row.get("stage")?;
    let stage: Result<Stage, serde::de::value::Error> = Stage::deserialize(stage.into_deserializer());
    Ok(Order {
        id: row.get("id")?,
        customer: row.get("customer")?,
        cart_version: row.get("cart_version")?,
        lines,
        total: Money { minor_units: row.get("total")?, currency: row.get("currency")? },
        stage: stage.map_err(|error| unreadable("stage", error))?,
        reason: row.get("reason")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn recorded(row: &Row) -> Result<Recorded, database::Error> {
    let name: String = row.get("type")?;
    let detail: String = row.get("detail")?;
    let event = serde_json::from_str(&detail)
        .and_then(|detail| Event::from_parts(&name, &detail))
        .map_err(|error| unreadable("detail", error))?;
    Ok(Recorded { version: row.get("version")?, time: row.get("time")?, event })
}

fn subject(id: &str) -> String {
    format!("orders/{id}")
}

/// Now, as exactly as it is stored.
fn now() -> OffsetDateTime {
    from_micros(micros(OffsetDateTime::now_utc()))
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> database::Error {
    database::Error::Query(format!("{what}: {why}"))
}
