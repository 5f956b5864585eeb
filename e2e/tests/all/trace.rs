//! One trace holds the request, the calls and the deliveries; a real OTLP receiver sees it.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use e2e::{Options, System};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Keeps every span it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().await.extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, format!("http://{address}"))
    }

    /// The names of a trace's spans.
    async fn names(&self, trace: &str) -> BTreeSet<String> {
        let spans = self.0.lock().await;
        let of_trace = spans.iter().filter(|span| hex(&span.trace_id) == trace);
        of_trace.map(|span| span.name.clone()).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_the_invoice() {
    let (collector, endpoint) = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("up.yaml");
    fs::write(&settings, format!("telemetry: {{otlp_endpoint: {endpoint}, sample_ratio: 1}}\n")).unwrap();
    let arguments = vec!["--config".to_owned(), settings.to_str().unwrap().to_owned()];
    let system = System::start(Options { arguments, ..Options::default() }).await;
    let demo = system.demo();
    testkit::eventually("the cart knows the teapot", Duration::from_secs(20), || async {
        let added = demo.post("/cart/add", json!({"productId": "teapot", "quantity": 1})).await;
        (added.status == 200).then_some(())
    })
    .await;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = demo.with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    traced.with("prefer", "wait=5").post("/order/place", json!({})).await.expect(201);

    let expected = [
        "POST /order/place",
        "shop.order.v1.OrderService/PlaceOrder",
        "shop.cart.v1.CartService/GetCart",
        "ORDER_COMMANDS process",
        "shop.product.v1.ProductService/ReserveStock",
        "shop.invoice.v1.InvoiceService/RequestInvoice",
        "INVOICE_COMMANDS process",
        "DB process",
    ];
    for name in expected {
        // The exporter sends in batches, every few seconds.
        testkit::eventually(&format!("the trace holds {name}"), Duration::from_secs(30), || async {
            collector.names(trace).await.contains(name).then_some(())
        })
        .await;
    }
}
