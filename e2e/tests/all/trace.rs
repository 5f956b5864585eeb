//! One trace holds the request, the calls, the transactions and the deliveries, each below what caused it.

use std::{collections::BTreeSet, fs, io::Read as _, sync::Arc, time::Duration};

use bytes::Bytes;
use e2e::{FleetOptions, Options, Rotel, System};
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The client's own span, from which the request comes.
const CLIENT: &str = "00f067aa0ba902b7";
const STATE: &str = "rojo=00f067aa0ba902b7";
/// What lets its holder settle.
const TOKEN: &str = "00c0ffee00c0ffee";

#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_the_last_delivery() {
    let (receiver, endpoint) = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("up.yaml");
    let text = format!("telemetry: {{otlp_endpoint: {endpoint}, sample_ratio: 1}}\nnotifications: {NOTIFICATIONS}\n");
    fs::write(&settings, text).unwrap();
    let arguments = vec!["--config".to_owned(), settings.to_str().unwrap().to_owned()];
    let mut system = System::start(Options { arguments, ..Options::default() }).await;
    place_an_order(&system).await;
    for path in [format!("/webhooks/ack/{TOKEN}"), format!("/deliveries/billing:0.0.2a.{TOKEN}/ack")] {
        system.demo().post(&path, json!({})).await;
    }
    // Its end sends what is still buffered.
    assert!(system.terminate(Duration::from_secs(20)).await);
    let trace = receiver.whole().await;
    trace.assert_descent();
    trace.assert_conventions();
    receiver.assert_that_no_token_is_told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_collector_gets_the_same_trace_of_separate_processes() {
    let (receiver, endpoint) = Receiver::start_http().await;
    let (redis, postgres, collector) = tokio::join!(testkit::redis(), testkit::postgres(), Rotel::start(&endpoint));
    let mut options = FleetOptions::new(&redis.url(), &postgres.url());
    options.notifications = Some(NOTIFICATIONS.to_owned());
    for (name, value) in [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()), ("OTEL_TRACES_SAMPLER_ARG", "1")] {
        options.environment.push((name.to_owned(), value.to_owned()));
    }
    let mut system = System::start_fleet(&options).await;
    place_an_order(&system).await;
    for name in system.fleet().names() {
        system.fleet().stop(&name).await;
    }
    receiver.whole().await.assert_descent();
}

/// Ann is told of each order.
const NOTIFICATIONS: &str = "{people: [{name: ann}], rules: [{name: order-placed, on: DB/CREATE, where: {event.source: \
                             /services/order}, template: {text: \"{event.subject}\"}, recipients: {console: [ann]}}]}";

/// Orders a teapot within the trace, and waits until everybody has heard of it.
async fn place_an_order(system: &System) {
    let demo = system.demo();
    testkit::eventually("the cart knows the teapot", Duration::from_secs(20), || async {
        let added = demo.post("/cart/add", json!({"productId": "teapot", "quantity": 1})).await;
        (added.status == 200).then_some(())
    })
    .await;
    let traced = demo.with("traceparent", &format!("00-{TRACE}-{CLIENT}-01")).with("tracestate", STATE);
    traced.with("prefer", "wait=5").post("/order/place", json!({})).await.expect(201);
    for (role, handled) in [
        ("logger", "turnpike_bus_delivery_total{group=\"logger.INVOICES\""),
        ("notifier", "turnpike_notifier_messages_total{channel=\"console\""),
    ] {
        testkit::eventually(&format!("the {role} has heard of it"), Duration::from_secs(30), || async {
            let metrics = system.ops_of(role).get("/metrics").await.expect(200).body;
            String::from_utf8_lossy(&metrics).lines().any(|line| line.starts_with(handled)).then_some(())
        })
        .await;
    }
}

/// Takes spans in by OTLP, and keeps them.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner()).await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self::default();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (receiver, format!("http://{address}"))
    }

    /// The same by OTLP over HTTP, for a collector that compresses what it sends on.
    async fn start_http() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self::default();
        let keeper = receiver.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let keeper = keeper.clone();
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let keeper = keeper.clone();
                    async move {
                        let packed = request.into_body().collect().await?.to_bytes();
                        let mut spans = Vec::new();
                        GzDecoder::new(&*packed).read_to_end(&mut spans).unwrap();
                        keeper.keep(ExportTraceServiceRequest::decode(&*spans).unwrap()).await;
                        Ok::<_, hyper::Error>(hyper::Response::new(Full::<Bytes>::default()))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
        (receiver, format!("http://{address}"))
    }

    async fn keep(&self, request: ExportTraceServiceRequest) {
        let mut kept = self.0.lock().await;
        for resource in request.resource_spans {
            let of = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = text(&of, "service.name").unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (service.clone(), span)));
        }
    }

    /// By whatever attribute of whatever span; the paths are there.
    async fn assert_that_no_token_is_told(&self) {
        let spans = self.0.lock().await;
        for (role, told) in [
            ("turnpike-gateway", "/webhooks/ack/***"),
            ("turnpike-gateway", "/deliveries/***/ack"),
            ("turnpike-broker", "/webhooks/ack/***"),
        ] {
            let tells = |(service, span): &(String, Span)| service == role && format!("{span:?}").contains(told);
            assert!(spans.iter().any(tells), "{role}: {told}");
        }
        let telling = spans.iter().find(|(_, span)| format!("{span:?}").contains(TOKEN));
        assert!(telling.is_none(), "{telling:?}");
    }

    /// The order's trace, once the request's own span and the last delivery are in it.
    async fn whole(&self) -> Trace {
        testkit::eventually("the trace is whole", Duration::from_secs(60), || async {
            let spans = self.0.lock().await;
            let trace = Trace(spans.iter().filter(|(_, span)| hex(&span.trace_id) == TRACE).cloned().collect());
            let root = trace.0.iter().any(|(_, span)| hex(&span.parent_span_id) == CLIENT);
            let last = trace.handled("logger.INVOICES", "CREATED", "").is_some();
            let complete = trace.0.iter().all(|(_, span)| {
                let parent = hex(&span.parent_span_id);
                parent == CLIENT || trace.find(&parent).is_some()
            });
            let told = trace.handled("notifier", "CREATE", "orders/").is_some();
            (root && last && told && complete).then_some(trace)
        })
        .await
    }
}

/// The spans of the order's trace, each with the service that it is of.
#[derive(Clone)]
struct Trace(Vec<(String, Span)>);

impl Trace {
    fn find(&self, id: &str) -> Option<&(String, Span)> {
        self.0.iter().find(|(_, span)| hex(&span.span_id) == id)
    }

    /// A group's handling of an event of this name, about one of these.
    fn handled(&self, group: &str, event: &str, subjects: &str) -> Option<&(String, Span)> {
        self.0.iter().find(|(_, span)| {
            attribute(span, "messaging.consumer.group.name").as_deref() == Some(group)
                && attribute(span, "turnpike.event").as_deref() == Some(event)
                && attribute(span, "turnpike.subject").is_some_and(|subject| subject.starts_with(subjects))
        })
    }

    /// The way up from a group's handling of an event to the client's request: `service: span`, innermost first.
    fn way(&self, group: &str, event: &str, subjects: &str) -> Vec<String> {
        let (service, span) = self.handled(group, event, subjects).unwrap_or_else(|| {
            panic!("{group} handled no {event} in {:#?}", self.0.iter().map(line).collect::<Vec<_>>())
        });
        self.way_of(service, span)
    }

    fn way_of(&self, service: &str, span: &Span) -> Vec<String> {
        let mut way = vec![format!("{service}: {}", span.name)];
        let mut parent = hex(&span.parent_span_id);
        while parent != CLIENT {
            let above = self.find(&parent).unwrap_or_else(|| panic!("nobody has sent the span above {way:#?}"));
            way.push(line(above));
            parent = hex(&above.1.parent_span_id);
            assert!(way.len() < 64, "the trace runs in a circle: {way:#?}");
        }
        way
    }

    fn assert_descent(&self) {
        let placed = [
            "turnpike-order: TRANSACTION order",
            "turnpike-order: shop.order.v1.OrderService/PlaceOrder",
            "turnpike-gateway: shop.order.v1.OrderService/PlaceOrder",
            "turnpike-gateway: POST /order/place",
        ];
        let below = |inner: &[&str], outer: &[String]| -> Vec<String> {
            inner.iter().map(|line| (*line).to_owned()).chain(outer.iter().cloned()).collect()
        };
        let placed = below(&placed, &[]);
        // placement takes the order up…
        let commanded =
            below(&["turnpike-order: process ORDER_COMMANDS", "turnpike-order: create ORDER_COMMANDS"], &placed);
        assert_eq!(self.way("placement", "PLACE", ""), commanded);
        // …asks the invoice service, which does it later, and says so…
        let asked = below(
            &[
                "turnpike-invoice: process INVOICE_COMMANDS",
                "turnpike-invoice: create INVOICE_COMMANDS",
                "turnpike-invoice: TRANSACTION invoice",
                "turnpike-invoice: shop.invoice.v1.InvoiceService/RequestInvoice",
                "turnpike-order: shop.invoice.v1.InvoiceService/RequestInvoice",
            ],
            &commanded,
        );
        assert_eq!(self.way("invoice-worker", "CREATE", ""), asked);
        // …and the logger hears of it all.
        let announced = below(
            &[
                "turnpike-logger: process INVOICES",
                "turnpike-invoice: create INVOICES",
                "turnpike-invoice: TRANSACTION invoice",
            ],
            &asked,
        );
        assert_eq!(self.way("logger.INVOICES", "CREATED", ""), announced);
        let logged = below(&["turnpike-logger: process DB", "turnpike-order: create DB"], &placed);
        assert_eq!(self.way("logger", "CREATE", "orders/"), logged);

        let told = below(&["turnpike-notifier: process DB", "turnpike-order: create DB"], &placed);
        assert_eq!(self.way("notifier", "CREATE", "orders/"), told);

        // The stock is reserved at the product service, and the cart asked, within the same trace.
        for (callee, method, above) in [
            ("turnpike-product", "shop.product.v1.ProductService/ReserveStock", &commanded),
            ("turnpike-cart", "shop.cart.v1.CartService/GetCart", &placed[1..].to_vec()),
        ] {
            let served = self.0.iter().find(|(service, span)| service == callee && span.name == method);
            let (service, span) = served.unwrap_or_else(|| panic!("no {method} of {callee}"));
            let way = self.way_of(service, span);
            let expected = [format!("{callee}: {method}"), format!("turnpike-order: {method}")];
            assert_eq!(way[..2], expected, "{way:#?}");
            assert_eq!(way[2..], above[..], "{way:#?}");
        }
        // Every event that was created was sent by its service's relay, beside its deliveries.
        let created: BTreeSet<String> =
            self.0.iter().filter(|(_, span)| is(span, "create")).map(|(_, s)| hex(&s.span_id)).collect();
        let sent: BTreeSet<String> =
            self.0.iter().filter(|(_, span)| is(span, "send")).map(|(_, s)| hex(&s.parent_span_id)).collect();
        assert!(!created.is_empty());
        assert_eq!(created, sent);
    }

    /// Kinds, states and the attributes that OpenTelemetry's conventions ask for.
    fn assert_conventions(&self) {
        let request = &self.0.iter().find(|(_, span)| hex(&span.parent_span_id) == CLIENT).unwrap().1;
        assert_eq!(request.trace_state, STATE);
        for (key, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/order/place"),
            ("url.path", "/order/place"),
            ("url.scheme", "http"),
            ("http.response.status_code", "201"),
        ] {
            assert_eq!(attribute(request, key).as_deref(), Some(value), "{key}");
        }
        for (service, span) in &self.0 {
            let line = format!("{service}: {} {:#?}", span.name, span.attributes);
            let has = |key: &str| assert!(attribute(span, key).is_some(), "no {key} in {line}");
            let role = service.strip_prefix("turnpike-").unwrap_or_else(|| panic!("no role: {line}"));
            assert_eq!(attribute(span, "turnpike.role").as_deref(), Some(role), "{line}");
            assert_eq!(span.trace_state, STATE, "{line}");
            let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
            assert_eq!(failed, attribute(span, "error.type").is_some(), "{line}");
            match attribute(span, "messaging.operation.type") {
                Some(operation) => {
                    has("messaging.system");
                    has("messaging.destination.name");
                    has("messaging.message.id");
                    let (kind, more): (_, &[&str]) = match operation.as_str() {
                        "create" => (SpanKind::Producer, &[]),
                        "send" => (SpanKind::Client, &["messaging.destination.partition.id"]),
                        "process" => (
                            SpanKind::Consumer,
                            &[
                                "messaging.consumer.group.name",
                                "turnpike.attempt",
                                "turnpike.age_seconds",
                                "turnpike.lease_seconds",
                            ],
                        ),
                        other => panic!("{other}: {line}"),
                    };
                    assert_eq!(span.kind(), kind, "{line}");
                    more.iter().for_each(|key| has(key));
                }
                None if attribute(span, "db.system.name").is_some() => {
                    assert_eq!(span.kind(), SpanKind::Client, "{line}");
                    has("db.namespace");
                }
                None if attribute(span, "rpc.system.name").is_some() => {
                    has("rpc.method");
                    match span.kind() {
                        SpanKind::Server => has("rpc.response.status_code"),
                        SpanKind::Client => has("server.address"),
                        other => panic!("{other:?}: {line}"),
                    }
                }
                // A message to somebody.
                None if attribute(span, "turnpike.channel").is_some() => assert_eq!(span.kind(), SpanKind::Client),
                None => assert_eq!(span.span_id, request.span_id, "what is this? {line}"),
            }
        }
    }
}

fn line((service, span): &(String, Span)) -> String {
    format!("{service}: {}", span.name)
}

fn is(span: &Span, operation: &str) -> bool {
    attribute(span, "messaging.operation.type").as_deref() == Some(operation)
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    text(&span.attributes, key)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref();
    match value? {
        AnyValue { value: Some(Value::StringValue(text)) } => Some(text.clone()),
        AnyValue { value: Some(Value::IntValue(number)) } => Some(number.to_string()),
        AnyValue { value: Some(Value::DoubleValue(number)) } => Some(number.to_string()),
        AnyValue { value: Some(Value::BoolValue(yes)) } => Some(yes.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
