//! The RPCs of shop.order.v1: from messages to the domain and back, and which status an error becomes.

use std::time::{Duration, Instant};

use lifecycle::abort_point;
use proto::shop::{
    money::v1 as money,
    order::v1::{
        self as pb,
        order_service_server::{OrderService, OrderServiceServer},
    },
};
use serde_json::Value;
use service::{Forward, PageToken, Violations, status, timestamp};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    changes,
    clients::Clients,
    domain::{Order, Recorded},
    draft::{Draft, Money, Unorderable},
    metadata, metrics,
    store::{Error, Placed, Store},
};

const SHOP: &str = "shop";
const LIST: &str = "orders";
const ID_BYTES: usize = 64;
/// What is left of the caller's time for the answer, when waiting for an order ends.
const ANSWER: Duration = Duration::from_millis(250);

pub struct Orders {
    store: Store,
    clients: Clients,
    pages: PageToken,
}

pub fn server(store: Store, clients: Clients, pages: PageToken) -> OrderServiceServer<Orders> {
    OrderServiceServer::new(Orders { store, clients, pages })
}

/// What an event says of an order.
pub fn record(order: &Order) -> Value {
    service::record(&message(order.clone()))
}

#[tonic::async_trait]
impl OrderService for Orders {
    async fn place_order(&self, request: Request<pb::PlaceOrderRequest>) -> Result<Response<pb::Order>, Status> {
        let customer = service::require_scope(&request, SHOP)?.subject;
        let key = metadata::idempotency_key(request.metadata())?;
        let mut order = self.place(&customer, key.as_deref(), &Forward::from(&request)).await?;
        if let Some(wait) = metadata::wait(request.metadata()) {
            let until = Instant::now() + wait;
            let latest = service::deadline(&request).and_then(|deadline| deadline.checked_sub(ANSWER));
            let until = latest.map_or(until, |latest| until.min(latest));
            order = changes::settled(&self.store, order, until.into()).await.map_err(status::from_database)?;
        }
        Ok(Response::new(message(order)))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let customer = service::require_scope(&request, SHOP)?.subject;
        let pb::ListOrdersRequest { page_size, page_token } = request.into_inner();
        let list = format!("{LIST}?customer={customer}");
        let mut violations = Violations::default();
        let size = violations.take(PageToken::size(page_size)).unwrap_or_default();
        let before = violations.take(self.pages.decode(&list, &page_token)).flatten();
        violations.check()?;
        let page = self.store.list(&customer, before.as_deref(), size).await.map_err(status::from_database)?;
        Ok(Response::new(pb::ListOrdersResponse {
            orders: page.items.into_iter().map(message).collect(),
            next_page_token: page.next.map(|id| self.pages.encode(&list, &id)).unwrap_or_default(),
        }))
    }

    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::Order>, Status> {
        let customer = service::require_scope(&request, SHOP)?.subject;
        let order = self.own(&customer, &request.into_inner().id).await?;
        Ok(Response::new(message(order)))
    }

    async fn get_order_history(
        &self,
        request: Request<pb::GetOrderHistoryRequest>,
    ) -> Result<Response<pb::OrderHistory>, Status> {
        let customer = service::require_scope(&request, SHOP)?.subject;
        let order = self.own(&customer, &request.into_inner().id).await?;
        let history = self.store.history(&order.id).await.map_err(status::from_database)?;
        Ok(Response::new(pb::OrderHistory { events: history.iter().map(event).collect() }))
    }
}

impl Orders {
    async fn place(&self, customer: &str, key: Option<&str>, forward: &Forward) -> Result<Order, Status> {
        if let Some(order) = self.placed_before(customer, key).await? {
            return Ok(order);
        }
        let cart = self.clients.cart(forward).await.map_err(|away| status::from_callee(away.callee, &away.status))?;
        let draft = match Draft::new(customer, cart) {
            Ok(draft) => draft,
            // Another request with this key may have ordered the cart, and placement cleared it, since the look above.
            Err(unorderable) => {
                let placed = self.placed_before(customer, key).await?;
                return placed.ok_or_else(|| refused(unorderable));
            }
        };
        match self.store.place(&draft, key).await.map_err(failed)? {
            Placed::Now(order) => {
                abort_point("order.placed");
                metrics::placed();
                Ok(order)
            }
            Placed::Before(order) => Ok(order),
            Placed::CartOrdered(id) => Err(cart_ordered(&id)),
        }
    }

    async fn placed_before(&self, customer: &str, key: Option<&str>) -> Result<Option<Order>, Status> {
        match key {
            Some(key) => self.store.by_idempotency_key(customer, key).await.map_err(status::from_database),
            None => Ok(None),
        }
    }

    /// An order of the customer's; those of others aren't there.
    async fn own(&self, customer: &str, id: &str) -> Result<Order, Status> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=ID_BYTES).contains(&id.len()) || !id.bytes().all(allowed) {
            return Err(Violations::of("id", "must be 1 to 64 of letters, digits, _ and -").into());
        }
        let order = self.store.find(id).await.map_err(status::from_database)?;
        order.filter(|order| order.customer == customer).ok_or_else(|| status::not_found(&format!("orders/{id}")))
    }
}

fn refused(unorderable: Unorderable) -> Status {
    match unorderable {
        Unorderable::Empty => status::precondition("CART", "cart", "is empty"),
        Unorderable::TooMuch => status::precondition("CART", "cart", "costs more than can be counted"),
        Unorderable::Unavailable(products) => status::preconditions(
            products
                .into_iter()
                .map(|product| ("CART", format!("products/{product}"), "is not available any more".to_owned())),
        ),
        Unorderable::Senseless(_) => status::internal(unorderable),
    }
}

fn cart_ordered(order_id: &str) -> Status {
    let name = format!("orders/{order_id}");
    let text = "this version of the cart was ordered before";
    let details = ErrorDetails::with_resource_info("orders", name.as_str(), "", text);
    Status::with_error_details(Code::AlreadyExists, format!("{text}: {name}"), details)
}

fn failed(error: Error) -> Status {
    match error {
        Error::Database(error) => status::from_database(error),
        Error::Conflict | Error::Misplaced(_) => status::internal(error),
    }
}

fn message(order: Order) -> pb::Order {
    let lines = order.lines.into_iter().map(|line| pb::OrderLine {
        product_id: line.product_id,
        name: line.name,
        quantity: line.quantity,
        unit_price: Some(amount(line.unit_price)),
    });
    pb::Order {
        id: order.id,
        customer: order.customer,
        status: order.stage.status().as_str().to_owned(),
        lines: lines.collect(),
        total: Some(amount(order.total)),
        reason: order.reason,
        cart_version: order.cart_version,
        etag: order.version.to_string(),
        created_at: Some(timestamp(order.created_at)),
        updated_at: Some(timestamp(order.updated_at)),
    }
}

fn event(recorded: &Recorded) -> pb::OrderEvent {
    let (name, detail) = recorded.event.to_parts();
    let fields = match detail {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, field(value))).collect(),
        _ => Default::default(),
    };
    pb::OrderEvent {
        version: recorded.version,
        r#type: name,
        time: Some(timestamp(recorded.time)),
        detail: Some(prost_types::Struct { fields }),
    }
}

fn field(value: Value) -> prost_types::Value {
    /// Beyond it, a double skips integers.
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => match number.as_i64() {
            // As 64-bit integers are written in proto3 JSON.
            Some(integer) if integer.unsigned_abs() > EXACT => Kind::StringValue(integer.to_string()),
            _ => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.into_iter().map(field).collect() })
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, field(value))).collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

fn amount(Money { minor_units, currency }: Money) -> money::Money {
    money::Money { minor_units, currency }
}
