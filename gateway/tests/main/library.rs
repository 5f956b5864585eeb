//! A gRPC service of any shape behind the gateway: it notes what it is asked and answers what the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use gateway::{
    Body,
    action::transcode,
    context::RequestContext,
    descriptors::{self, Binding, Descriptors, Directory},
    error::Error,
    worker::{UpstreamId, Worker},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub const SERVICE: &str = "library.v1.Library";

static ENCODED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut compiler =
        protox::Compiler::new([format!("{root}/tests/proto"), format!("{root}/../proto/proto")]).unwrap();
    compiler.include_imports(true);
    compiler.open_file("library.proto").unwrap();
    compiler.open_file("messaging.proto").unwrap();
    compiler.encode_file_descriptor_set()
});

/// The descriptors of `proto/library.proto`.
pub fn pool() -> Descriptors {
    static POOL: LazyLock<Descriptors> = LazyLock::new(|| descriptors::decode(&ENCODED).unwrap());
    POOL.clone()
}

/// The same as a file.
pub fn descriptors_file() -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&file, &*ENCODED).unwrap();
    file
}

/// A message of `library.v1` from JSON.
pub fn message(name: &str, json: Value) -> DynamicMessage {
    pool().get_message_by_name(&format!("library.v1.{name}")).unwrap().deserialize(json).unwrap()
}

/// What the service was asked.
#[derive(Clone)]
pub struct Call {
    pub path: String,
    pub metadata: HeaderMap,
    pub message: Bytes,
    /// Those that follow the first, where the call streams them.
    pub rest: Vec<Bytes>,
}

impl Call {
    /// The request as proto3 JSON, without defaults.
    pub fn json(&self) -> Value {
        self.shown(&self.message)
    }

    /// All messages of a call that streams them.
    pub fn all(&self) -> Vec<Value> {
        [&self.message].into_iter().chain(&self.rest).map(|message| self.shown(message)).collect()
    }

    fn shown(&self, message: &Bytes) -> Value {
        let (service, method) = self.path[1..].split_once('/').unwrap();
        let service = pool().get_service_by_name(service).unwrap();
        let method = service.methods().find(|candidate| candidate.name() == method).unwrap();
        serde_json::to_value(DynamicMessage::decode(method.input(), message.clone()).unwrap()).unwrap()
    }
}

/// What the service answers.
pub enum Answer {
    Message(DynamicMessage),
    /// These bytes as the message.
    Raw(Bytes),
    /// The messages as they are sent, then OK; or the status that is sent.
    Stream(mpsc::Receiver<Result<DynamicMessage, (i32, String)>>),
    /// A code, a message and encoded details.
    Status(i32, &'static str, Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// The stream breaks off.
    Abort,
}

type Handler = dyn Fn(&Call) -> Answer + Send + Sync;

/// The running service.
pub struct Library {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    under_way: Arc<AtomicUsize>,
}

/// Counts a call while it isn't answered, nor given up.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Library {
    pub async fn start(handler: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let under_way = Arc::<AtomicUsize>::default();
        let (noted, counted) = (Arc::clone(&calls), Arc::clone(&under_way));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, calls, count) = (Arc::clone(&handler), Arc::clone(&noted), Arc::clone(&counted));
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let under_way = UnderWay::begin(&count);
                        let answer = serve(request, Arc::clone(&handler), Arc::clone(&calls));
                        async move {
                            let answer = answer.await;
                            drop(under_way);
                            answer
                        }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, calls, under_way }
    }

    /// Answers every call with one message.
    pub async fn answering(name: &'static str, json: Value) -> Self {
        Self::start(move |_| Answer::Message(message(name, json.clone()))).await
    }

    /// Answers every call with what it was asked.
    pub async fn echoing() -> Self {
        Self::start(|call| Answer::Raw(call.message.clone())).await
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Calls that are neither answered nor given up.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// The only call there was.
    pub fn call(&self) -> Call {
        let calls = self.calls();
        assert_eq!(calls.len(), 1);
        calls[0].clone()
    }
}

async fn serve(
    request: Request<Incoming>,
    handler: Arc<Handler>,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    let message = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if head.uri.path().starts_with("/grpc.health.") {
        return Ok(trailers_only(12, "no health service here", &[]));
    }
    let mut messages = messages(message).into_iter();
    let (path, metadata, message) = (head.uri.path().to_owned(), head.headers, messages.next().unwrap_or_default());
    let call = Call { path, metadata, message, rest: messages.collect() };
    calls.lock().unwrap().push(call.clone());
    let (sender, receiver) = mpsc::channel(1);
    match handler(&call) {
        Answer::Message(message) => one(&sender, message.encode_to_vec().into()),
        Answer::Raw(message) => one(&sender, message),
        Answer::Silence => std::future::pending().await,
        Answer::Abort => return Err("aborted"),
        Answer::Status(code, message, details) => return Ok(trailers_only(code, message, &details)),
        Answer::Stream(mut messages) => {
            _ = tokio::spawn(async move {
                while let Some(message) = messages.recv().await {
                    let frame = match message {
                        Ok(message) => Frame::data(framed(&message.encode_to_vec())),
                        Err((code, message)) => {
                            let _ = sender.send(Ok(Frame::trailers(trailers(code, &message)))).await;
                            return;
                        }
                    };
                    if sender.send(Ok(frame)).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send(Ok(Frame::trailers(trailers(0, "")))).await;
            })
        }
    }
    let frames = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

type Frames = mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>;

fn one(sender: &Frames, message: Bytes) {
    let sender = sender.clone();
    tokio::spawn(async move {
        let _ = sender.send(Ok(Frame::data(framed(&message)))).await;
        let _ = sender.send(Ok(Frame::trailers(trailers(0, "")))).await;
    });
}

/// The messages in a body.
pub fn messages(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        messages.push(body.slice(5..5 + length));
        body = body.slice(5 + length..);
    }
    messages
}

pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

fn trailers(code: i32, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    trailers.insert("grpc-message", HeaderValue::from_str(message).unwrap());
    trailers
}

fn trailers_only(code: i32, message: &str, details: &[u8]) -> Response<Body> {
    use base64::Engine as _;

    let mut response = Response::new(Body::empty());
    *response.headers_mut() = trailers(code, message);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
    response.headers_mut().insert("grpc-status-details-bin", HeaderValue::try_from(details).unwrap());
    response
}

/// One core with one gRPC upstream for each address.
pub fn worker(addresses: &[SocketAddr]) -> Worker {
    let client = |address: &SocketAddr| {
        let config = upstream::Config::new("library", vec![address.to_string()], upstream::Protocol::Grpc);
        upstream::Upstream::new(config).unwrap().client()
    };
    Worker { clients: addresses.iter().map(client).collect(), ..Worker::default() }
}

/// A directory in which upstream `library` serves the library, and `reviews`, the second one, its reviews.
pub fn directory() -> Directory {
    let mut directory = Directory::default();
    directory.add_upstream("library", UpstreamId(0), Some(pool()));
    directory.add_upstream("reviews", UpstreamId(1), Some(pool()));
    directory.add_service(SERVICE, "library");
    directory.add_service("library.v1.Reviews", "reviews");
    directory
}

/// The binding of a template, as the annotations have it.
pub fn binding(method: http::Method, template: &str) -> Binding {
    let bindings = descriptors::bindings(&pool(), SERVICE).unwrap();
    let is_it = |binding: &Binding| binding.http_method.as_ref() == Some(&method) && binding.template == template;
    bindings.into_iter().find(is_it).unwrap()
}

/// A context as the pipeline makes it, with a deadline 5 s ahead.
pub fn context(variables: &[(&str, &str)]) -> RequestContext {
    let client = SocketAddr::from(([127, 0, 0, 1], 50_000));
    let mut context = RequestContext::new("request-1".into(), telemetry::TraceContext::unsampled(), client);
    context.deadline = Instant::now() + Duration::from_secs(5);
    context.variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect();
    context
}

/// A transcoding action of one template, in front of a library.
pub struct Route {
    pub action: transcode::Transcode,
    worker: Worker,
    method: http::Method,
}

impl Route {
    pub fn new(library: &Library, method: http::Method, template: &str) -> Self {
        Self::configured(library, method, template, json!({}))
    }

    pub fn configured(library: &Library, method: http::Method, template: &str, config: Value) -> Self {
        let config = serde_json::from_value(config).unwrap();
        let action = transcode::Transcode::new(&binding(method.clone(), template), UpstreamId(0), &config);
        let action = action.unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { action, worker: worker(&[library.address]), method }
    }

    /// A request with a body: text, or none where it is empty.
    pub async fn send(
        &self,
        uri: &str,
        variables: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        self.action.call(&self.worker, request.body(Body::from(body)).unwrap(), &context(variables)).await
    }

    /// Posts JSON without variables or headers.
    pub async fn post(&self, body: impl Into<Bytes>) -> Result<Response<Body>, Error> {
        self.send("/", &[], &[], body).await
    }
}

pub async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub async fn json(response: Response<Body>) -> Value {
    let text = text(response).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What is wrong with which field, as the problem document will list it.
pub fn violations(error: &Error) -> Vec<(&str, &str)> {
    error.violations.iter().map(|violation| (violation.field.as_str(), violation.reason.as_str())).collect()
}
