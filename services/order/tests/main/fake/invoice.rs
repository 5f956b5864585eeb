use std::{collections::BTreeMap, sync::Mutex};

use principal::Verifier;
use proto::shop::invoice::v1::{
    self as pb, GetInvoiceRequest, RequestInvoiceRequest, RequestInvoiceResponse,
    invoice_service_server::InvoiceService,
};
use tonic::{Request, Response, Status};

use super::{Rpc, only_order};

pub struct Invoice {
    pub request: Rpc,
    requests: Mutex<BTreeMap<String, RequestInvoiceRequest>>,
}

impl Invoice {
    pub fn new(verifier: &Verifier) -> Self {
        Self { request: Rpc::new(verifier), requests: Mutex::default() }
    }

    /// What was asked for an order.
    pub fn requested(&self, order_id: &str) -> Option<RequestInvoiceRequest> {
        self.requests.lock().unwrap().get(order_id).cloned()
    }

    /// How many orders an invoice was asked for.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

#[tonic::async_trait]
impl InvoiceService for Invoice {
    async fn request_invoice(
        &self,
        request: Request<RequestInvoiceRequest>,
    ) -> Result<Response<RequestInvoiceResponse>, Status> {
        let accept = |caller: String, request: RequestInvoiceRequest| {
            only_order(&caller)?;
            let order_id = request.order_id.clone();
            self.requests.lock().unwrap().entry(order_id.clone()).or_insert(request);
            Ok(RequestInvoiceResponse { order_id })
        };
        self.request.serve(request, accept).await
    }

    async fn get_invoice(&self, _: Request<GetInvoiceRequest>) -> Result<Response<pb::Invoice>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }
}
