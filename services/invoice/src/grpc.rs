//! The RPCs of shop.invoice.v1: from messages to the domain and back, and which status an error becomes.

use proto::shop::{
    invoice::v1::{
        self as pb,
        invoice_service_server::{InvoiceService, InvoiceServiceServer},
    },
    money::v1::Money,
};
use serde_json::Value;
use service::{Violations, status, timestamp};
use tonic::{Request, Response, Status};

use crate::{
    domain::{Bill, Invoice, Line, check_id},
    store::Store,
};

/// Who may ask for invoices.
const ORDER: &str = "/services/order";

pub struct Invoices {
    store: Store,
}

pub fn server(store: Store) -> InvoiceServiceServer<Invoices> {
    InvoiceServiceServer::new(Invoices { store })
}

/// What an event says of an invoice.
pub fn record(invoice: &Invoice) -> Value {
    service::record(&message(invoice.clone()))
}

#[tonic::async_trait]
impl InvoiceService for Invoices {
    async fn get_invoice(&self, request: Request<pb::GetInvoiceRequest>) -> Result<Response<pb::Invoice>, Status> {
        let caller = service::require_scope(&request, "shop")?;
        let order_id = request.into_inner().order_id;
        let mut violations = Violations::default();
        check_id("order_id", &order_id, &mut violations);
        violations.check()?;
        let invoice = self.store.of_order(&order_id).await.map_err(status::from_database)?;
        // To others it isn't there: an order's id must not tell whether it was paid.
        let invoice = invoice
            .filter(|invoice| invoice.bill.customer == caller.subject)
            .ok_or_else(|| status::not_found(&format!("orders/{order_id}/invoice")))?;
        Ok(Response::new(message(invoice)))
    }

    async fn request_invoice(
        &self,
        request: Request<pb::RequestInvoiceRequest>,
    ) -> Result<Response<pb::RequestInvoiceResponse>, Status> {
        service::require_service(&request, ORDER)?;
        let bill = bill(request.into_inner())?;
        self.store.accept(&bill).await.map_err(status::from_database)?;
        lifecycle::abort_point("invoice.accepted");
        Ok(Response::new(pb::RequestInvoiceResponse { order_id: bill.order_id }))
    }
}

fn bill(request: pb::RequestInvoiceRequest) -> Result<Bill, Violations> {
    let pb::RequestInvoiceRequest { order_id, customer, lines, total } = request;
    let total = total.unwrap_or_default();
    let mut violations = Violations::default();
    for (index, line) in lines.iter().enumerate() {
        for (field, money) in [("unit_price", &line.unit_price), ("amount", &line.amount)] {
            if money.as_ref().is_none_or(|money| money.currency != total.currency) {
                violations.add(format!("lines[{index}].{field}.currency"), "must be the total's");
            }
        }
    }
    let lines = lines.into_iter().map(|line| Line {
        product_id: line.product_id,
        name: line.name,
        quantity: line.quantity,
        unit_price: line.unit_price.map_or(0, |money| money.minor_units),
        amount: line.amount.map_or(0, |money| money.minor_units),
    });
    let bill = Bill { order_id, customer, lines: lines.collect(), total: total.minor_units, currency: total.currency };
    violations.take(bill.check());
    violations.check().map(|()| bill)
}

fn message(invoice: Invoice) -> pb::Invoice {
    let Invoice { id, number, bill, issued_at } = invoice;
    let money = |minor_units| Some(Money { minor_units, currency: bill.currency.clone() });
    let lines = bill.lines.iter().map(|line| pb::InvoiceLine {
        product_id: line.product_id.clone(),
        name: line.name.clone(),
        quantity: line.quantity,
        unit_price: money(line.unit_price),
        amount: money(line.amount),
    });
    pb::Invoice {
        id,
        number: number.to_string(),
        lines: lines.collect(),
        total: money(bill.total),
        order_id: bill.order_id,
        customer: bill.customer,
        // It never changes, so there is only one version.
        etag: "1".to_owned(),
        issued_at: Some(timestamp(issued_at)),
    }
}
