//! Wishes and invoices, in SQL. A write is one transaction with its events.

use database::{Database, Row, Transaction, from_micros, micros, params};
use outbox::Event;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Bill, Invoice, Line, Number};

const SOURCE: &str = "/services/invoice";

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Invoice) -> Value,
}

/// What became of a command to make an invoice.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    Now(Box<Invoice>),
    Before,
    /// Nobody asked for it.
    Unknown,
}

impl Store {
    /// `record` is what an event says of an invoice.
    pub fn new(database: Database, record: fn(&Invoice) -> Value) -> Self {
        Self { database, record }
    }

    /// Accepts a wish, with the command to fulfil it. A repeated one changes nothing.
    pub async fn accept(&self, bill: &Bill) -> Result<(), database::Error> {
        let mut tx = self.database.begin().await?;
        let accepted = tx
            .execute(
                "INSERT INTO invoice_requests (order_id, customer, lines, total, currency, requested_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (order_id) DO NOTHING",
                params![
                    bill.order_id.as_str(),
                    bill.customer.as_str(),
                    written(&bill.lines)?,
                    bill.total,
                    bill.currency.as_str(),
                    OffsetDateTime::now_utc(),
                ],
            )
            .await?;
        if accepted == 0 {
            return tx.rollback().await;
        }
        let command = Event::new(
            "INVOICE_COMMANDS/CREATE",
            format!("orders/{}", bill.order_id),
            json!({ "orderId": bill.order_id }),
        );
        outbox::append(&mut tx, SOURCE, Event { owner: Some(bill.customer.clone()), ..command }).await?;
        tx.commit().await
    }

    /// Makes the invoice of an order that was asked for, once. `cause` is the id of the command.
    pub async fn make(&self, order_id: &str, cause: &str) -> Result<Made, database::Error> {
        let mut tx = self.database.begin().await?;
        // The lock has a second worker with the same command wait, and then see the invoice.
        let rows = tx
            .query(
                "SELECT order_id, customer, lines, total, currency FROM invoice_requests WHERE order_id = $1 FOR UPDATE",
                params![order_id],
            )
            .await?;
        let Some(row) = rows.first() else {
            return tx.rollback().await.map(|()| Made::Unknown);
        };
        let bill = bill(row)?;
        if !tx.query("SELECT id FROM invoices WHERE order_id = $1", params![order_id]).await?.is_empty() {
            return tx.rollback().await.map(|()| Made::Before);
        }
        let invoice = Invoice {
            id: Uuid::now_v7().to_string(),
            number: next_number(&mut tx).await?,
            bill,
            issued_at: from_micros(micros(OffsetDateTime::now_utc())),
        };
        insert(&mut tx, &invoice).await?;
        for event in self.announcements(&invoice) {
            let event =
                Event { owner: Some(invoice.bill.customer.clone()), causation_id: Some(cause.to_owned()), ..event };
            outbox::append(&mut tx, SOURCE, event).await?;
        }
        tx.commit().await?;
        Ok(Made::Now(Box::new(invoice)))
    }

    pub async fn of_order(&self, order_id: &str) -> Result<Option<Invoice>, database::Error> {
        let rows = self
            .database
            .query(
                "SELECT id, number, order_id, customer, lines, total, currency, issued_at
                 FROM invoices WHERE order_id = $1",
                params![order_id],
            )
            .await?;
        rows.first().map(invoice).transpose()
    }

    fn announcements(&self, invoice: &Invoice) -> [Event; 2] {
        let record = (self.record)(invoice);
        [
            Event::new("DB/CREATE", format!("invoices/{}", invoice.id), record.clone()),
            Event::new("INVOICES/CREATED", format!("orders/{}", invoice.bill.order_id), record),
        ]
    }
}

/// Takes the next number. The counter's row stays locked until the transaction ends, so that a number is either used or
/// given to the next.
async fn next_number(tx: &mut Transaction) -> Result<Number, database::Error> {
    let rows = tx.query("UPDATE invoice_counter SET last = last + 1 WHERE id = 1 RETURNING last", &[]).await?;
    let row = rows.first().ok_or_else(|| database::Error::Query("invoice_counter is empty".to_owned()))?;
    Ok(Number(row.get("last")?))
}

async fn insert(tx: &mut Transaction, invoice: &Invoice) -> Result<(), database::Error> {
    let Invoice { id, number, bill, issued_at } = invoice;
    tx.execute(
        "INSERT INTO invoices (id, number, order_id, customer, lines, total, currency, issued_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            id.as_str(),
            number.0,
            bill.order_id.as_str(),
            bill.customer.as_str(),
            written(&bill.lines)?,
            bill.total,
            bill.currency.as_str(),
            *issued_at,
        ],
    )
    .await?;
    Ok(())
}

fn invoice(row: &Row) -> Result<Invoice, database::Error> {
    Ok(Invoice {
        id: row.get("id")?,
        number: Number(row.get("number")?),
        bill: bill(row)?,
        issued_at: row.get("issued_at")?,
    })
}

fn bill(row: &Row) -> Result<Bill, database::Error> {
    let lines: String = row.get("lines")?;
    Ok(Bill {
        order_id: row.get("order_id")?,
        customer: row.get("customer")?,
        lines: serde_json::from_str(&lines).map_err(|error| database::Error::Query(format!("lines: {error}")))?,
        total: row.get("total")?,
        currency: row.get("currency")?,
    })
}

fn written(lines: &[Line]) -> Result<String, database::Error> {
    serde_json::to_string(lines).map_err(|error| database::Error::Query(format!("lines: {error}")))
}
