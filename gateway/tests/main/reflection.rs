//! Descriptors that the service itself tells of (`descriptors: reflection`), by a real reflection server, also while it
//! changes and while it is away.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use gateway::Body;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::ServiceExt as _;

use crate::{
    library::framed,
    running::{Connection, Running},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the service offers before and after it changes.
const OLD: &str = include_str!("../proto/catalogue.proto");

fn new() -> String {
    let more = "string name = 2;\n  string colour = 3;";
    let other = "rpc DeleteItem(GetItemRequest) returns (Item) {\n    option (google.api.http) = { delete: \"/items/{id}\" };\n  }\n  rpc CreateItem";
    OLD.replace("string name = 2;", more).replace("rpc CreateItem", other)
}

/// An encoded set of one file, with what it imports or without.
fn compiled(text: &str, with_imports: bool) -> Bytes {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("catalogue.proto"), text).unwrap();
    let imports = format!("{}/../proto/proto", env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([folder.path(), Path::new(&imports)]).unwrap();
    compiler.include_imports(with_imports);
    compiler.open_file("catalogue.proto").unwrap();
    compiler.encode_file_descriptor_set().into()
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    V1,
    V1Alpha,
}

/// What the service is at the moment.
struct Service {
    set: Mutex<Bytes>,
    version: Version,
    /// It doesn't know the method that it is asked for.
    is_other: AtomicBool,
    asked: AtomicUsize,
}

struct Catalogue {
    address: SocketAddr,
    service: Arc<Service>,
    serving: JoinHandle<()>,
}

impl Catalogue {
    async fn start(address: SocketAddr, version: Version, set: Bytes) -> Self {
        // One that was there before may still be on its way out.
        let listener =
            eventually("the address is free", PATIENCE, || async { TcpListener::bind(address).await.ok() }).await;
        let address = listener.local_addr().unwrap();
        let (is_other, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        let service = Arc::new(Service { set: Mutex::new(set), version, is_other, asked });
        let served = Arc::clone(&service);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                let serve = service_fn(move |request| answer(Arc::clone(&served), request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move { _ = server.serve_connection(TokioIo::new(stream), serve).await });
            }
        });
        Self { address, service, serving }
    }

    async fn anywhere(text: &str) -> Self {
        Self::start(([127, 0, 0, 1], 0).into(), Version::V1, compiled(text, true)).await
    }

    fn becomes(&self, set: Bytes) {
        *self.service.set.lock() = set;
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Result<Response<Body>, &'static str> {
    let path = request.uri().path().to_owned();
    let set = service.set.lock().clone();
    let server = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(&set);
    if path.starts_with("/grpc.reflection.v1.") && service.version == Version::V1 {
        service.asked.fetch_add(1, Relaxed);
        let server = server().build_v1().map_err(|_| "no set")?;
        return Ok(server.oneshot(request).await.map_err(|_| "never")?.map(Body::new));
    }
    if path.starts_with("/grpc.reflection.v1alpha.") && service.version == Version::V1Alpha {
        let server = server().build_v1alpha().map_err(|_| "no set")?;
        return Ok(server.oneshot(request).await.map_err(|_| "never")?.map(Body::new));
    }
    let is_health = path.starts_with("/grpc.health.");
    let is_known = is_health || path.starts_with("/catalogue.v1.Catalogue/") && !service.is_other.load(Relaxed);
    // Who asks for what isn't there is told at once, whatever else they have to say.
    if is_known && request.into_body().collect().await.is_err() {
        return Err("the caller is gone");
    }
    let mut response = if is_known {
        // Serving; or id "1", name "x", colour "red".
        let message = framed(if is_health { b"\x08\x01" } else { b"\x0a\x011\x12\x01x\x1a\x03red" });
        let trailers = [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect();
        let frames = [Ok::<_, &str>(Frame::data(message)), Ok(Frame::trailers(trailers))];
        Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
    } else {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        response
    };
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn config(address: SocketAddr, more: &str) -> String {
    format!(
        "upstreams:\n  catalogue: {{ endpoints: ['{address}'], protocol: grpc, descriptors: reflection, health: {{ interval: 300ms, timeout: 300ms }}{more} }}\n\
         routes:\n  - {{ grpc: catalogue.v1.Catalogue, upstream: catalogue }}\n  \
         - {{ match: {{ path: /page, method: GET }}, aggregate: [{{ part: item, call: catalogue.v1.Catalogue/GetItem, request: {{ id: '1' }}, required: true }}] }}\n  \
         - {{ match: {{ path: /plain }}, respond: {{ status: 200, body: plain }} }}\n"
    )
}

/// Until the gateway answers so.
async fn answers(gateway: &Running, method: &str, path: &str, status: u16) {
    eventually(&format!("{method} {path} is {status}"), PATIENCE, || async {
        (gateway.send(method, path, &[], "").await.status == status).then_some(())
    })
    .await;
}

/// The gateway's word on the only upstream there is.
async fn view(gateway: &Running) -> Value {
    gateway.ops("/descriptors").await["upstreams"][0].clone()
}

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn routes_come_from_what_the_service_says() {
    for (version, with_imports) in [(Version::V1, true), (Version::V1Alpha, true), (Version::V1, false)] {
        let set = compiled(OLD, with_imports);
        let catalogue = Catalogue::start(([127, 0, 0, 1], 0).into(), version, set).await;
        let gateway = Running::start(&config(catalogue.address, "")).await;
        answers(&gateway, "GET", "/items/1", 200).await;
        assert_eq!(body(&gateway.get("/items/1").await.body), json!({"id": "1", "name": "x"}));
        assert_eq!(body(&gateway.get("/page").await.body)["item"]["name"], "x");
        let view = view(&gateway).await;
        assert_eq!((&view["known"], &view["fault"]), (&json!(true), &Value::Null));
        assert!(view["services"].as_array().unwrap().contains(&json!("catalogue.v1.Catalogue")), "{view}");
        eventually("it is ready", PATIENCE, || async { gateway.readiness.is_ready().then_some(()) }).await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_service_becomes_another() {
    let catalogue = Catalogue::anywhere(OLD).await;
    let gateway = Arc::new(Running::start(&config(catalogue.address, ", descriptors_refresh: 1s")).await);
    answers(&gateway, "GET", "/items/1", 200).await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop, count) = (gateway.address, Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                while !stop.load(Relaxed) {
                    let answer = connection.send("GET", "/items/1", &[], "").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    count.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for round in 0..3 {
        catalogue.becomes(compiled(&new(), true));
        eventually("the new field is there", PATIENCE, || async {
            (body(&gateway.get("/items/1").await.body)["colour"] == "red").then_some(())
        })
        .await;
        assert_eq!(gateway.send("DELETE", "/items/1", &[], "").await.status, 200, "round {round}");
        catalogue.becomes(compiled(OLD, true));
        eventually("the field is gone", PATIENCE, || async {
            body(&gateway.get("/items/1").await.body).get("colour").is_none().then_some(())
        })
        .await;
        assert_eq!(gateway.send("DELETE", "/items/1", &[], "").await.status, 405, "round {round}");
    }
    stop.store(true, Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    assert!(count.load(Relaxed) > 0);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn a_service_that_is_away_keeps_nothing_else_waiting() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Running::start(&config(address, "")).await;
    eventually("it says what it waits for", PATIENCE, || async {
        gateway.readiness.reasons().get("descriptors").filter(|reason| reason.contains("catalogue")).map(|_| ())
    })
    .await;
    assert_eq!(gateway.get("/plain").await.body, "plain");
    assert_eq!(gateway.get("/items/1").await.status, 404);
    let page = gateway.ops("/descriptors").await;
    assert_eq!(page["awaited"].as_array().unwrap().len(), 2, "{page}");
    let catalogue = Catalogue::start(address, Version::V1, compiled(OLD, true)).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    answers(&gateway, "GET", "/page", 200).await;
    eventually("it is ready", PATIENCE, || async { gateway.readiness.is_ready().then_some(()) }).await;
    // Away again, it keeps its routes.
    drop(catalogue);
    answers(&gateway, "GET", "/items/1", 503).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_does_not_count_and_is_told() {
    let catalogue = Catalogue::anywhere(OLD).await;
    let gateway = Running::start(&config(catalogue.address, ", descriptors_refresh: 1s")).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    for (text, said) in [
        (OLD.replace("/items/{id}", "/items/{isbn}"), "has no field `isbn`"),
        (OLD.replace("Catalogue", "Other"), "no service `catalogue.v1.Catalogue`"),
    ] {
        catalogue.becomes(compiled(&text, true));
        eventually("it is told why", PATIENCE, || async {
            view(&gateway).await["fault"].as_str().filter(|fault| fault.contains(said)).map(|_| ())
        })
        .await;
        assert_eq!(gateway.get("/items/1").await.status, 200);
    }
    let reload = &gateway.ops("/config").await["last_reload"];
    assert!(reload.to_string().contains("descriptors"), "{reload}");
    catalogue.becomes(compiled(&new(), true));
    answers(&gateway, "DELETE", "/items/1", 200).await;
    assert_eq!(view(&gateway).await["fault"], Value::Null);
    gateway.stop().await;
}

#[tokio::test]
async fn files_that_import_each_other_without_end_do_not_end_the_gateway() {
    let catalogue = Catalogue::anywhere(OLD).await;
    let gateway = Running::start(&config(catalogue.address, ", descriptors_refresh: 1s")).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    let mut set = FileDescriptorSet::decode(compiled(OLD, true)).unwrap();
    let file = set.file.iter_mut().find(|file| file.name() == "catalogue.proto").unwrap();
    file.public_dependency.push(file.dependency.len().try_into().unwrap());
    file.dependency.push("catalogue.proto".to_owned());
    catalogue.becomes(set.encode_to_vec().into());
    eventually("it is told why", PATIENCE, || async {
        view(&gateway).await["fault"].as_str().filter(|fault| fault.contains("publicly by itself")).map(|_| ())
    })
    .await;
    assert_eq!(gateway.get("/items/1").await.status, 200);
    catalogue.becomes(compiled(&new(), true));
    answers(&gateway, "DELETE", "/items/1", 200).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_service_is_asked_again_when_it_has_come_back_or_does_not_know_a_method() {
    let catalogue = Catalogue::anywhere(OLD).await;
    let address = catalogue.address;
    let gateway = Running::start(&config(address, ", descriptors_refresh: 1h")).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    catalogue.becomes(compiled(&new(), true));
    catalogue.service.is_other.store(true, Relaxed);
    assert_eq!(gateway.get("/items/1").await.status, 501);
    catalogue.service.is_other.store(false, Relaxed);
    answers(&gateway, "DELETE", "/items/1", 200).await;
    // It restarts as what it was.
    drop(catalogue);
    eventually("it is away", PATIENCE, || async {
        (gateway.ops("/upstreams").await["upstreams"]["catalogue"][0]["healthy"] == false).then_some(())
    })
    .await;
    let _catalogue = Catalogue::start(address, Version::V1, compiled(OLD, true)).await;
    answers(&gateway, "DELETE", "/items/1", 405).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_last_said_is_kept_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!(", descriptors_cache: '{}'", folder.path().join("catalogue.binpb").display());
    let catalogue = Catalogue::anywhere(OLD).await;
    let address = catalogue.address;
    let gateway = Running::start(&config(address, &more)).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    gateway.stop().await;
    drop(catalogue);
    let gateway = Running::start(&config(address, &more)).await;
    assert_eq!(gateway.get("/items/1").await.status, 503, "the route is there, though nobody answers");
    let catalogue = Catalogue::start(address, Version::V1, compiled(OLD, true)).await;
    answers(&gateway, "GET", "/items/1", 200).await;
    eventually("it is asked all the same", PATIENCE, || async {
        (catalogue.service.asked.load(Relaxed) > 0).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[test]
fn only_a_service_of_grpc_is_asked_and_only_then_how_often_matters() {
    let check = |upstream: &str| {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\nupstreams:\n  a: {{ endpoints: ['x:1'], {upstream} }}\n\
             routes:\n  - {{ match: {{ path: /b }}, proxy: a }}\n"
        );
        let checked = gateway::check(&text, &gateway::Properties::new(), None, &Default::default());
        checked.map_err(|errors| errors.iter().map(|error| error.path.clone()).collect::<Vec<_>>())
    };
    assert_eq!(check("descriptors: reflection").unwrap_err(), ["upstreams.a.descriptors"]);
    assert_eq!(
        check("protocol: grpc, descriptors_refresh: 5s, descriptors_cache: a").unwrap_err(),
        ["upstreams.a.descriptors_refresh", "upstreams.a.descriptors_cache"]
    );
    let often = "protocol: grpc, descriptors: reflection, descriptors_refresh: 10ms";
    assert_eq!(check(often).unwrap_err(), ["upstreams.a.descriptors_refresh"]);
    assert_eq!(check("protocol: grpc, descriptors: reflection").unwrap(), [""; 0]);
}
