//! The services an order needs: the caller's cart, product's stock, invoice's invoices, by their generated clients.
//!
//! Each call answers in the domain's words. What a callee can only answer if one of us is wrong is alarmed here, once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use principal::Signer;
use proto::shop::{
    cart::v1::{ClearOrderedRequest, GetCartRequest, OrderedItem, cart_service_client::CartServiceClient},
    invoice::v1::{InvoiceLine, RequestInvoiceRequest, invoice_service_client::InvoiceServiceClient},
    money::v1 as pb,
    product::v1::{ReleaseStockRequest, ReserveStockRequest, StockLine, product_service_client::ProductServiceClient},
};
use service::Forward;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use upstream::{
    Discovery, Protocol, Upstream,
    grpc::{Channel, Idempotent},
};

use crate::{
    domain::Order,
    draft::{Cart, Item, Line, Money},
    metrics,
};

/// How long a call of placement may take: well below its lease.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Clients {
    cart: CartServiceClient<Channel>,
    product: ProductServiceClient<Channel>,
    invoice: InvoiceServiceClient<Channel>,
    /// Signs what no caller waits for.
    signer: Signer,
    /// Names of endpoints are followed as long as a clone of this lives.
    _following: Arc<DropGuard>,
}

/// What became of a reservation.
#[derive(Debug, PartialEq, Eq)]
pub enum Reservation {
    /// All lines are reserved for the order.
    Taken,
    /// None is; why, for the customer.
    Short(String),
    /// The order was rejected meanwhile: it can't reserve any more.
    Released,
}

/// A call without the answer it was made for.
#[derive(Debug, thiserror::Error)]
#[error("{callee} answered {:?}: {}", .status.code(), .status.message())]
pub struct CallError {
    pub callee: &'static str,
    pub status: Box<Status>,
}

impl CallError {
    fn new(callee: &'static str, status: Status) -> Self {
        let error = Self { callee, status: Box::new(status) };
        if !error.is_passing() {
            metrics::callee_fault(callee);
            tracing::error!(callee, code = ?error.status.code(), reason = error.status.message(), "a call is at fault");
        }
        error
    }

    /// Whether trying again may help: the callee is away, busy or too slow.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Cancelled
        )
    }
}

impl Clients {
    /// Each of the endpoints is `host:port`, or what is found and followed: `dns://name:port`, `srv://name`, and in the
    /// registry `registry://service`. Must be called on the runtime, which follows them from then on.
    ///
    /// # Errors
    /// If a service has no endpoints, or one of them is none.
    pub fn new(
        cart: Vec<String>,
        product: Vec<String>,
        invoice: Vec<String>,
        signer: Signer,
        discovery: &Discovery,
    ) -> Result<Self, upstream::ConfigError> {
        let stop = CancellationToken::new();
        let channel = |name, endpoints| channel(name, endpoints, discovery, &stop);
        Ok(Self {
            cart: CartServiceClient::new(channel("cart", cart)?),
            product: ProductServiceClient::new(channel("product", product)?),
            invoice: InvoiceServiceClient::new(channel("invoice", invoice)?),
            signer,
            _following: Arc::new(stop.drop_guard()),
        })
    }

    /// The cart of the caller that `forward` speaks for.
    pub async fn cart(&self, forward: &Forward) -> Result<Cart, CallError> {
        let answer = self.cart.clone().get_cart(repeatable(forward, GetCartRequest {})).await;
        let cart = answer.map_err(|status| CallError::new("cart", status))?.into_inner();
        let items = cart.items.into_iter().map(|item| Item {
            line: Line {
                product_id: item.product_id,
                name: item.name,
                quantity: item.quantity,
                unit_price: money(item.unit_price.unwrap_or_default()),
            },
            available: item.available,
        });
        Ok(Cart { version: cart.version, items: items.collect() })
    }

    /// Reserves the stock of an order, or learns that it is reserved.
    pub async fn reserve(&self, order: &Order) -> Result<Reservation, CallError> {
        let lines =
            order.lines.iter().map(|line| StockLine { product_id: line.product_id.clone(), quantity: line.quantity });
        let request = ReserveStockRequest { order_id: order.id.clone(), lines: lines.collect() };
        match self.product.clone().reserve_stock(self.own(request)).await {
            Ok(_) => Ok(Reservation::Taken),
            Err(status) => refusal(&status).ok_or_else(|| CallError::new("product", status)),
        }
    }

    /// Gives back what the order reserved; if that was nothing, it never will.
    pub async fn release(&self, order: &Order) -> Result<(), CallError> {
        let request = ReleaseStockRequest { order_id: order.id.clone() };
        let answer = self.product.clone().release_stock(self.own(request)).await;
        answer.map(drop).map_err(|status| CallError::new("product", status))
    }

    /// Asks for the order's invoice, which is made later.
    pub async fn request_invoice(&self, order: &Order) -> Result<(), CallError> {
        let lines = order.lines.iter().map(|line| InvoiceLine {
            product_id: line.product_id.clone(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: Some(amount(&line.unit_price)),
            // What can't be counted was never placed, see `Draft::new`.
            amount: Some(pb::Money {
                minor_units: line.amount().unwrap_or(i64::MAX),
                currency: line.unit_price.currency.clone(),
            }),
        });
        let request = RequestInvoiceRequest {
            order_id: order.id.clone(),
            customer: order.customer.clone(),
            lines: lines.collect(),
            total: Some(amount(&order.total)),
        };
        let answer = self.invoice.clone().request_invoice(self.own(request)).await;
        answer.map(drop).map_err(|status| CallError::new("invoice", status))
    }

    /// Takes what was ordered out of the customer's cart; what was added since stays.
    pub async fn clear_cart(&self, order: &Order) -> Result<(), CallError> {
        let items =
            order.lines.iter().map(|line| OrderedItem { product_id: line.product_id.clone(), quantity: line.quantity });
        let request = ClearOrderedRequest {
            owner: order.customer.clone(),
            order_id: order.id.clone(),
            version: order.cart_version,
            items: items.collect(),
        };
        let answer = self.cart.clone().clear_ordered(self.own(request)).await;
        answer.map(drop).map_err(|status| CallError::new("cart", status))
    }

    fn own<T>(&self, message: T) -> Request<T> {
        repeatable(&Forward::own(&self.signer).until(Instant::now() + TIMEOUT), message)
    }
}

fn channel(
    name: &str,
    endpoints: Vec<String>,
    discovery: &Discovery,
    stop: &CancellationToken,
) -> Result<Channel, upstream::ConfigError> {
    let upstream = Upstream::found_by(upstream::Config::new(name, endpoints, Protocol::Grpc), discovery)?;
    let (channel, stop) = (upstream.channel(), stop.clone());
    tokio::spawn(async move { upstream.watch(stop).await });
    Ok(channel)
}

/// A request that may be tried again after it was sent: so may all that are made here.
fn repeatable<T>(forward: &Forward, message: T) -> Request<T> {
    let mut request = forward.request(message);
    request.extensions_mut().insert(Idempotent);
    request
}

/// What product's FAILED_PRECONDITION says; None if it says nothing that was expected.
fn refusal(status: &Status) -> Option<Reservation> {
    if status.code() != Code::FailedPrecondition {
        return None;
    }
    let violations = status.get_details_precondition_failure()?.violations;
    if violations.iter().any(|violation| violation.r#type == "RELEASED") {
        return Some(Reservation::Released);
    }
    let short = violations.iter().filter(|violation| violation.r#type == "STOCK");
    let short: Vec<String> = short.map(|short| format!("{} {}", short.subject, short.description)).collect();
    (!short.is_empty()).then(|| Reservation::Short(short.join("; ")))
}

fn money(pb::Money { minor_units, currency }: pb::Money) -> Money {
    Money { minor_units, currency }
}

fn amount(Money { minor_units, currency }: &Money) -> pb::Money {
    pb::Money { minor_units: *minor_units, currency: currency.clone() }
}
