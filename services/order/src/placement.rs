//! The group `placement`: sees each order through, from `placed` to `confirmed` with its invoice and a cleared cart, or to
//! `rejected` with its stock given back.
//!
//! Each stage of an order has one step: a call that may be repeated, then the event that says it was made. So a handler
//! that was killed anywhere, or runs twice at once, is continued or overtaken from what the events say. What can't be
//! taken back is decided by an event at its expected version before it is done: asking for the invoice by
//! `InvoiceRequested`, giving back the stock by `OrderRejected`; whoever appends the one has ruled out the other.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Delivery, Failure, Group, Handler, Mode};
use lifecycle::abort_point;

use crate::{
    clients::{CallError, Clients, Reservation},
    domain::{Event, Order, Stage},
    metrics,
    store::{self, Store},
};

/// More steps than any order takes, overtaken ones counted.
const MAX_STEPS: usize = 16;
/// The wait before the second attempt where a callee is away; it doubles with each, up to [`MAX_DELAY`]. Short, since a
/// customer waits; the eight waits span 40 s.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(15);

pub struct Placement {
    store: Store,
    clients: Clients,
}

/// Why an order can't be seen through now.
#[derive(Debug, thiserror::Error)]
pub enum Setback {
    #[error("there is no order {0}")]
    Unknown(String),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Product says that the order was released, but it wasn't rejected.
    #[error("the stock of order {0} was released, but not by this service")]
    Contradiction(String),
    #[error("order {0} was overtaken again and again")]
    Restless(String),
}

/// The group, as its members declare it.
///
/// # Errors
/// None but for a mistake in the filter's text.
pub fn group() -> anyhow::Result<Group> {
    let group = Group::new("placement", "ORDER_COMMANDS/*".parse()?, Mode::Keyed);
    // Short: a customer waits for what a killed process held. The lease is extended while the handler lives.
    Ok(Group { lease: Duration::from_secs(10), ..group })
}

#[async_trait]
impl Handler for Placement {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = &delivery.envelope;
        let Some(order_id) = envelope.json().and_then(|data| data["orderId"].as_str()) else {
            return Err(Failure::Dead { reason: "the command names no orderId".to_owned() });
        };
        self.finish(order_id, Some(&envelope.id)).await.map_err(|setback| setback.into_failure(delivery.attempt))
    }
}

impl Placement {
    pub fn new(store: Store, clients: Clients) -> Self {
        Self { store, clients }
    }

    /// Sees an order through from where it is. `cause` is the id of the command.
    ///
    /// # Errors
    /// The first setback; to be called again then.
    pub async fn finish(&self, order_id: &str, cause: Option<&str>) -> Result<(), Setback> {
        let mut order = self.load(order_id).await?;
        for _ in 0..MAX_STEPS {
            if order.stage.is_finished() {
                return Ok(());
            }
            order = match self.step(&order, cause).await {
                // Another placement, or the sweep, was faster: go on from where that came to.
                Err(Setback::Store(store::Error::Conflict)) => self.load(order_id).await?,
                stepped => stepped?,
            };
        }
        Err(Setback::Restless(order_id.to_owned()))
    }

    /// The one step that follows where the order is.
    ///
    /// # Errors
    /// [`store::Error::Conflict`] if the order is elsewhere by now.
    pub async fn step(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        match order.stage {
            Stage::Placed => self.reserve(order, cause).await,
            Stage::Reserved => self.decide(order, cause).await,
            Stage::Invoicing => self.invoice(order, cause).await,
            Stage::Confirmed => self.clear_cart(order, cause).await,
            Stage::Rejected => self.release(order, cause).await,
            Stage::Cleared | Stage::Released => Ok(order.clone()),
        }
    }

    async fn reserve(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        let reservation = self.clients.reserve(order).await?;
        abort_point("placement.reserve.sent");
        match reservation {
            Reservation::Taken => {
                let order = self.store.append(order, Event::StockReserved {}, cause).await?;
                abort_point("placement.reserved");
                Ok(order)
            }
            Reservation::Short(reason) => {
                let order = self.store.append(order, Event::OrderRejected { reason }, cause).await?;
                metrics::settled(&order);
                abort_point("placement.rejected");
                Ok(order)
            }
            // Only a rejected order is released, so this one must have moved on since it was read.
            Reservation::Released => match self.load(&order.id).await? {
                moved if moved.version > order.version => Ok(moved),
                same => Err(Setback::Contradiction(same.id)),
            },
        }
    }

    /// The point of no return: once this event is there, nothing rejects the order.
    async fn decide(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        let order = self.store.append(order, Event::InvoiceRequested {}, cause).await?;
        abort_point("placement.invoice_requested");
        Ok(order)
    }

    async fn invoice(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        self.clients.request_invoice(order).await?;
        abort_point("placement.invoice.sent");
        let order = self.store.append(order, Event::OrderConfirmed {}, cause).await?;
        metrics::settled(&order);
        abort_point("placement.confirmed");
        Ok(order)
    }

    async fn clear_cart(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        self.clients.clear_cart(order).await?;
        abort_point("placement.clear.sent");
        let order = self.store.append(order, Event::CartCleared {}, cause).await?;
        abort_point("placement.cleared");
        Ok(order)
    }

    /// Also where nothing was reserved: a reservation that is still on its way must not land later.
    async fn release(&self, order: &Order, cause: Option<&str>) -> Result<Order, Setback> {
        self.clients.release(order).await?;
        abort_point("placement.release.sent");
        let order = self.store.append(order, Event::StockReleased {}, cause).await?;
        abort_point("placement.released");
        Ok(order)
    }

    async fn load(&self, order_id: &str) -> Result<Order, Setback> {
        self.store.load(order_id).await?.ok_or_else(|| Setback::Unknown(order_id.to_owned()))
    }
}

impl Setback {
    /// Whether it passes by itself, so that trying again soon makes sense.
    fn is_passing(&self) -> bool {
        match self {
            Self::Call(error) => error.is_passing(),
            Self::Store(store::Error::Conflict | store::Error::Database(database::Error::Unavailable(_))) => true,
            Self::Restless(_) => true,
            Self::Store(_) | Self::Unknown(_) | Self::Contradiction(_) => false,
        }
    }

    fn into_failure(self, attempt: u32) -> Failure {
        let reason = self.to_string();
        if let Self::Unknown(_) = self {
            return Failure::Dead { reason };
        }
        let delay = self.is_passing().then(|| {
            let doubled = FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(16));
            doubled.min(MAX_DELAY)
        });
        if delay.is_none() {
            tracing::error!(reason, attempt, "an order can't be seen through");
        }
        Failure::Retry { reason, delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    fn delay(status: Status, attempt: u32) -> Option<u128> {
        let setback = Setback::Call(CallError { callee: "product", status: Box::new(status) });
        match setback.into_failure(attempt) {
            Failure::Retry { delay, .. } => delay.map(|delay| delay.as_millis()),
            Failure::Defer { .. } => panic!("it was an attempt"),
            Failure::Dead { reason } => panic!("{reason}"),
        }
    }

    #[test]
    fn a_callee_that_is_away_is_tried_again_soon_and_less_and_less_often() {
        let delays: Vec<_> = (1..=8).map(|attempt| delay(Status::unavailable(""), attempt).unwrap()).collect();
        assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000]);
        assert_eq!(delay(Status::deadline_exceeded(""), u32::MAX), Some(15_000));
    }

    #[test]
    fn a_refusal_that_nobody_expected_waits_for_the_schedule() {
        assert_eq!(delay(Status::invalid_argument(""), 1), None);
        assert_eq!(delay(Status::failed_precondition(""), 1), None);
    }

    #[test]
    fn a_command_for_no_order_is_dead() {
        assert!(matches!(Setback::Unknown("1".to_owned()).into_failure(1), Failure::Dead { .. }));
    }
}
