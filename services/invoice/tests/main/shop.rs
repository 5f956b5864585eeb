//! An invoice service, and who calls it.

use proto::shop::{
    invoice::v1::{
        GetInvoiceRequest, Invoice, InvoiceLine, RequestInvoiceRequest, invoice_service_client::InvoiceServiceClient,
    },
    money::v1::Money,
};
use stage::{BOUND, Instance, Scene, Stage};
use testkit::eventually;
use tonic::{Response, Status};

pub struct Shop {
    pub stage: Stage,
    instance: Instance,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        Self { instance: start(&stage).await, stage }
    }
}

impl Shop {
    /// Starts another instance.
    pub async fn start(&self) -> Instance {
        start(&self.stage).await
    }

    pub fn order(&self) -> Caller {
        Caller(InvoiceServiceClient::new(self.instance.order_service()))
    }

    pub fn caller(&self, subject: &str, scopes: &[&str]) -> Caller {
        Caller(InvoiceServiceClient::new(self.instance.caller(subject, scopes)))
    }
}

async fn start(stage: &Stage) -> Instance {
    stage.start(invoice::build(stage.config()).await.unwrap())
}

#[derive(Clone)]
pub struct Caller(InvoiceServiceClient<stage::Caller>);

impl Caller {
    pub async fn request(&self, request: RequestInvoiceRequest) -> Result<String, Status> {
        let answer = self.0.clone().request_invoice(request).await;
        answer.map(|answer| answer.into_inner().order_id)
    }

    pub async fn get(&self, order_id: &str) -> Result<Invoice, Status> {
        let request = GetInvoiceRequest { order_id: order_id.to_owned() };
        self.0.clone().get_invoice(request).await.map(Response::into_inner)
    }

    /// Waits until the invoice of an order is made.
    pub async fn made(&self, order_id: &str) -> Invoice {
        eventually("the invoice is made", BOUND, async || self.get(order_id).await.ok()).await
    }
}

/// A wish for the invoice of an order: two of tea and a cup.
pub fn wish(order_id: &str) -> RequestInvoiceRequest {
    let money = |minor_units| Some(Money { minor_units, currency: "EUR".to_owned() });
    let line = |product_id: &str, quantity, price: i64| InvoiceLine {
        product_id: product_id.to_owned(),
        name: product_id.to_uppercase(),
        quantity,
        unit_price: money(price),
        amount: money(price * quantity),
    };
    RequestInvoiceRequest {
        order_id: order_id.to_owned(),
        customer: "customers/ada".to_owned(),
        lines: vec![line("tea", 2, 350), line("cup", 1, 1_200)],
        total: money(1_900),
    }
}
