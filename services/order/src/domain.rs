//! What an order is: the events that can happen to it, in which order they can, and what they add up to.
//!
//! ```text
//! placed → reserved → invoicing → confirmed → cleared
//!      ↘       ↓
//!       rejected → released
//! ```
//! The step to `invoicing` is the point of no return: before it an order can be rejected, after it nothing can.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::draft::{Line, Money};

/// An order, as its events add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: String,
    /// The principal that placed it: `customers/0192…`.
    pub customer: String,
    /// The version of the customer's cart that was ordered.
    pub cart_version: i64,
    pub lines: Vec<Line>,
    pub total: Money,
    pub stage: Stage,
    /// Why it was rejected; else empty.
    pub reason: String,
    /// How many events happened to it.
    pub version: i64,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Placed,
    Reserved,
    Invoicing,
    Confirmed,
    Cleared,
    Rejected,
    Released,
}

/// What the customer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Confirmed,
    Rejected,
}

/// What can happen to an order. The names are stored and shown in its history: a new one may be added, none be renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "detail")]
pub enum Event {
    OrderPlaced { customer: String, cart_version: i64, lines: Vec<Line>, total: Money },
    StockReserved {},
    InvoiceRequested {},
    OrderConfirmed {},
    OrderRejected { reason: String },
    StockReleased {},
    CartCleared {},
}

/// An event that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The order's version after it: 1, 2, 3, …
    pub version: i64,
    pub time: OffsetDateTime,
    pub event: Event,
}

/// An event that can't happen to an order where it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} can't follow at {place}")]
pub struct Misplaced {
    pub event: String,
    pub place: String,
}

impl Order {
    /// An order's first event makes it.
    ///
    /// # Errors
    /// If it isn't the first of an order.
    pub fn begin(id: &str, first: Recorded) -> Result<Self, Misplaced> {
        match first.event {
            Event::OrderPlaced { customer, cart_version, lines, total } if first.version == 1 => Ok(Self {
                id: id.to_owned(),
                customer,
                cart_version,
                lines,
                total,
                stage: Stage::Placed,
                reason: String::new(),
                version: first.version,
                created_at: first.time,
                updated_at: first.time,
            }),
            event => Err(Misplaced { event: event.name(), place: format!("the beginning of order {id}") }),
        }
    }

    /// The order after one more event.
    ///
    /// # Errors
    /// If that can't happen to it now, or isn't the next version.
    pub fn apply(mut self, recorded: Recorded) -> Result<Self, Misplaced> {
        let Some(stage) = self.stage.after(&recorded.event).filter(|_| recorded.version == self.version + 1) else {
            let place = format!("version {} ({}) of order {}", self.version, self.stage, self.id);
            return Err(Misplaced { event: recorded.event.name(), place });
        };
        self.stage = stage;
        self.version = recorded.version;
        self.updated_at = recorded.time;
        if let Event::OrderRejected { reason } = recorded.event {
            self.reason = reason;
        }
        Ok(self)
    }

    /// The order that its events add up to; None of none.
    ///
    /// # Errors
    /// If they can't have happened in this order.
    pub fn fold(id: &str, events: impl IntoIterator<Item = Recorded>) -> Result<Option<Self>, Misplaced> {
        let mut events = events.into_iter();
        let Some(first) = events.next() else {
            return Ok(None);
        };
        events.try_fold(Self::begin(id, first)?, Self::apply).map(Some)
    }

    pub fn status(&self) -> Status {
        self.stage.status()
    }
}

impl Stage {
    fn after(self, event: &Event) -> Option<Self> {
        match (self, event) {
            (Self::Placed, Event::StockReserved {}) => Some(Self::Reserved),
            (Self::Reserved, Event::InvoiceRequested {}) => Some(Self::Invoicing),
            (Self::Invoicing, Event::OrderConfirmed {}) => Some(Self::Confirmed),
            (Self::Confirmed, Event::CartCleared {}) => Some(Self::Cleared),
            (Self::Placed | Self::Reserved, Event::OrderRejected { .. }) => Some(Self::Rejected),
            (Self::Rejected, Event::StockReleased {}) => Some(Self::Released),
            _ => None,
        }
    }

    pub fn status(self) -> Status {
        match self {
            Self::Placed | Self::Reserved | Self::Invoicing => Status::Pending,
            Self::Confirmed | Self::Cleared => Status::Confirmed,
            Self::Rejected | Self::Released => Status::Rejected,
        }
    }

    /// Whether the order can still be rejected.
    pub fn can_be_rejected(self) -> bool {
        matches!(self, Self::Placed | Self::Reserved)
    }

    /// Whether nothing is left to do.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Cleared | Self::Released)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
        }
    }
}

impl Event {
    /// The event in its two stored parts: its name and its detail.
    pub fn to_parts(&self) -> (String, Value) {
        let mut written = serde_json::to_value(self).unwrap_or_default();
        let name = written["type"].as_str().unwrap_or_default().to_owned();
        (name, written["detail"].take())
    }

    /// Reads what [`Event::to_parts`] wrote.
    ///
    /// # Errors
    /// If there is no such event, or not with such a detail.
    pub fn from_parts(name: &str, detail: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(json!({ "type": name, "detail": detail }))
    }

    fn name(&self) -> String {
        self.to_parts().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed() -> Event {
        Event::OrderPlaced {
            customer: "customers/ada".to_owned(),
            cart_version: 7,
            lines: vec![Line {
                product_id: "tea".to_owned(),
                name: "Tea".to_owned(),
                quantity: 2,
                unit_price: Money { minor_units: 350, currency: "EUR".to_owned() },
            }],
            total: Money { minor_units: 700, currency: "EUR".to_owned() },
        }
    }

    fn rejected() -> Event {
        Event::OrderRejected { reason: "tea is short".to_owned() }
    }

    fn fold(events: &[Event]) -> Result<Option<Order>, Misplaced> {
        let recorded = events.iter().zip(1..).map(|(event, version)| Recorded {
            version,
            time: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(version),
            event: event.clone(),
        });
        Order::fold("1", recorded)
    }

    #[test]
    fn the_way_to_a_confirmed_order() {
        let events = [
            placed(),
            Event::StockReserved {},
            Event::InvoiceRequested {},
            Event::OrderConfirmed {},
            Event::CartCleared {},
        ];
        let order = fold(&events).unwrap().unwrap();
        assert_eq!((order.status(), order.stage, order.version), (Status::Confirmed, Stage::Cleared, 5));
        assert_eq!((order.updated_at - order.created_at).whole_seconds(), 4);
        assert!(order.stage.is_finished());
    }

    #[test]
    fn an_order_can_be_rejected_before_and_after_its_stock_was_reserved() {
        let order = fold(&[placed(), rejected()]).unwrap().unwrap();
        assert_eq!((order.status(), order.reason.as_str()), (Status::Rejected, "tea is short"));
        let order = fold(&[placed(), Event::StockReserved {}, rejected(), Event::StockReleased {}]).unwrap().unwrap();
        assert!(order.stage.is_finished());
    }

    #[test]
    fn nothing_rejects_an_order_beyond_the_point_of_no_return() {
        let mut events = vec![placed(), Event::StockReserved {}, Event::InvoiceRequested {}];
        for next in [Event::OrderConfirmed {}, Event::CartCleared {}] {
            assert!(!fold(&events).unwrap().unwrap().stage.can_be_rejected());
            events.push(rejected());
            fold(&events).unwrap_err();
            events.pop();
            events.push(next);
        }
    }

    #[test]
    fn a_rejected_order_stays_rejected() {
        for event in [Event::StockReserved {}, Event::InvoiceRequested {}, Event::OrderConfirmed {}, rejected()] {
            fold(&[placed(), rejected(), event]).unwrap_err();
        }
    }

    #[test]
    fn an_order_begins_by_being_placed_once() {
        assert_eq!(fold(&[]).unwrap(), None);
        fold(&[Event::StockReserved {}]).unwrap_err();
        fold(&[placed(), placed()]).unwrap_err();
    }

    #[test]
    fn a_gap_between_versions_is_noticed() {
        let order = fold(&[placed()]).unwrap().unwrap();
        let time = OffsetDateTime::UNIX_EPOCH;
        order.apply(Recorded { version: 3, time, event: Event::StockReserved {} }).unwrap_err();
    }

    #[test]
    fn events_are_stored_as_they_always_were() {
        let (name, detail) = placed().to_parts();
        assert_eq!(name, "OrderPlaced");
        assert_eq!(
            detail,
            json!({
                "customer": "customers/ada",
                "cart_version": 7,
                "lines": [{
                    "product_id": "tea",
                    "name": "Tea",
                    "quantity": 2,
                    "unit_price": { "minor_units": 350, "currency": "EUR" },
                }],
                "total": { "minor_units": 700, "currency": "EUR" },
            })
        );
        assert_eq!(rejected().to_parts(), ("OrderRejected".to_owned(), json!({ "reason": "tea is short" })));
        assert_eq!(Event::StockReserved {}.to_parts(), ("StockReserved".to_owned(), json!({})));
        for event in [placed(), rejected(), Event::CartCleared {}] {
            let (name, detail) = event.to_parts();
            assert_eq!(Event::from_parts(&name, &detail).unwrap(), event);
        }
        Event::from_parts("OrderForgotten", &json!({})).unwrap_err();
    }
}
