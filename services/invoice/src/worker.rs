//! The group `invoice-worker`: makes of each `INVOICE_COMMANDS/CREATE` an invoice, once an order.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Delivery, Failure, Group, Handler, Mode};

use crate::store::{Made, Store};

pub struct Worker {
    store: Store,
}

/// The group, as its members declare it.
///
/// # Errors
/// None but for a mistake in the filter's text.
pub fn group() -> anyhow::Result<Group> {
    let group = Group::new("invoice-worker", "INVOICE_COMMANDS/CREATE".parse()?, Mode::Keyed);
    // Short: somebody waits for what a killed process held. The lease is extended while the handler lives.
    Ok(Group { lease: Duration::from_secs(10), ..group })
}

impl Worker {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Handler for Worker {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = &delivery.envelope;
        let Some(order_id) = envelope.json().and_then(|data| data["orderId"].as_str()) else {
            return Err(Failure::Dead { reason: "the command names no orderId".to_owned() });
        };
        match self.store.make(order_id, &envelope.id).await? {
            Made::Now(invoice) => {
                lifecycle::abort_point("invoice.created");
                tracing::info!(order.id = order_id, invoice.number = %invoice.number, "invoice made");
                Ok(())
            }
            Made::Before => Ok(()),
            // The command was appended with the wish, so this is not one of ours.
            Made::Unknown => Err(Failure::Dead { reason: format!("nobody asked for an invoice of order {order_id}") }),
        }
    }
}
