//! Answers a repeated request with what the first one was answered, by its `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header-07): 400 without a key where one is required, 409 while the first is being
//! answered, 422 where the key belongs to another request.
//!
//! Safe methods need no key, and gRPC calls have none; both pass. The request's body is read whole, as it is part of what
//! makes requests the same. Once it is on its way it is seen through to its deadline, whether or not its client stays.

use std::{
    panic::resume_unwind,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{Bytes, BytesMut};
use futures_util::{
    future::{BoxFuture, Either},
    stream,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::timeout_at;
use tracing::Instrument as _;
use upstream::{Body, BoxError};

use super::{Request, Response, concurrency::Permits};
use crate::{
    action,
    config::Idempotency as Config,
    context::RequestContext,
    error::{Error, ErrorKind},
    idempotency::{ANSWER, Answer, Begun, Id, Pending, Records, digest_of},
    metrics::METRICS,
    route,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const KEY_LENGTH: usize = 255;
/// How long after its deadline a request still counts as in flight: the service may be at it yet.
const MARGIN: Duration = Duration::from_secs(5);
/// The largest header of an answer that is kept, in bytes of names and values.
const FIELDS: usize = 16 * 1024;
/// What of an answer's header is not given again: it is of one connection, one moment, one request or one reader.
const PASSING: [HeaderName; 14] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-request-id"),
];

#[derive(Clone)]
pub struct Layer(pub Arc<Records>);

#[derive(Clone)]
pub struct Idempotency<S> {
    inner: S,
    records: Arc<Records>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Idempotency<S>;
    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency { inner, records: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for Idempotency<S>
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match config(&request) {
            None => Either::Left(self.inner.call(request)),
            Some(config) => {
                let once = once(self.inner.clone(), Arc::clone(&self.records), config, request);
                Either::Right(Box::pin(once))
            }
        }
    }
}

/// The route's policy, if it has one that concerns the request.
fn config(request: &Request) -> Option<Config> {
    let config = request.extensions().get::<RequestContext>()?.route.as_ref()?.policy.idempotency?;
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let concerns = !request.method().is_safe() && !is_grpc && (config.required || request.headers().contains_key(KEY));
    concerns.then_some(config)
}

async fn once<S>(mut inner: S, records: Arc<Records>, config: Config, request: Request) -> Result<Response, Error>
where
    S: tower::Service<Request, Response = Response, Error = Error, Future: Send> + Send + 'static,
{
    let key = key(request.headers())?;
    let context = RequestContext::of(&request)?.clone();
    let (mut head, body) = request.into_parts();
    // The service makes it unique, too: it must see one key where there is one, with quotes or without.
    head.headers.insert(KEY, HeaderValue::from_bytes(&key).unwrap_or(HeaderValue::from_static("")));
    let body = action::collect(body, &context).await?;
    let (id, fingerprint) = identify(&key, &head, &body, &context)?;
    let in_flight = context.deadline.saturating_duration_since(Instant::now()) + MARGIN;
    let pending = match records.begin(id, fingerprint, in_flight).await? {
        Begun::First(pending) => pending,
        Begun::Answered(answer) => {
            METRICS.idempotent("replayed");
            return Ok(replay(answer));
        }
        Begun::InFlight => {
            METRICS.idempotent("in_flight");
            let detail = "the first request with this Idempotency-Key is still being answered";
            return Err(
                Error::new(ErrorKind::Conflict, detail).header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            );
        }
        Begun::Mismatch => {
            METRICS.idempotent("mismatch");
            let detail = "another request with this Idempotency-Key came before: each request needs a key of its own";
            return Err(Error::new(ErrorKind::KeyReused, detail));
        }
    };
    METRICS.idempotent("first");
    let request = Request::from_parts(head, Body::from(body));
    let deadline = context.deadline;
    let permits = request.extensions().get::<Permits>().cloned();
    // A task of its own: that the client leaves is when it will ask again, and then the answer should be there.
    let work = tokio::spawn(
        async move {
            let _permits = permits;
            let late = || Error::new(ErrorKind::Timeout, "the answer took too long");
            let outcome = timeout_at(deadline.into(), async { read(inner.call(request).await?).await }).await;
            settle(pending, outcome.unwrap_or_else(|_| Err(late())), config.keep).await
        }
        .in_current_span(),
    );
    work.await.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "the gateway is stopping")),
    })
}

/// The key: a string as of Structured Fields (`"8e03978e"`, RFC 9651), as the draft has it, or the same without quotes, as
/// many clients send it. Both are one key.
///
/// # Errors
/// 400 if there is none, or one that is none.
fn key(headers: &HeaderMap) -> Result<Bytes, Error> {
    let mut keys = headers.get_all(KEY).iter();
    let refuse = |detail| Err(Error::new(ErrorKind::BadRequest, detail));
    let key = match (keys.next(), keys.next()) {
        (None, _) => return refuse("this needs an Idempotency-Key"),
        (Some(_), Some(_)) => return refuse("there is more than one Idempotency-Key"),
        (Some(key), None) => key.as_bytes(),
    };
    let Some(key) = unquoted(key) else { return refuse("the Idempotency-Key is not a string: a quote is wrong") };
    let visible = key.iter().all(|byte| matches!(byte, b' '..=b'~')) && key.trim_ascii() == key;
    if key.is_empty() || key.len() > KEY_LENGTH || !visible {
        return refuse("an Idempotency-Key has 1 to 255 characters, all of them visible ASCII");
    }
    Ok(key)
}

fn unquoted(text: &[u8]) -> Option<Bytes> {
    let [b'"', inner @ ..] = text else { return Some(Bytes::copy_from_slice(text)) };
    let [inner @ .., b'"'] = inner else { return None };
    let (mut key, mut escaped) = (BytesMut::with_capacity(inner.len()), false);
    for byte in inner {
        match (escaped, byte) {
            (false, b'\\') => escaped = true,
            (false, b'"') => return None,
            (true, byte) if !matches!(byte, b'"' | b'\\') => return None,
            (_, byte) => {
                key.extend_from_slice(&[*byte]);
                escaped = false;
            }
        }
    }
    (!escaped).then(|| key.freeze())
}

/// What the key is looked up by, and what must be the same the next time.
fn identify(
    key: &[u8],
    head: &http::request::Parts,
    body: &[u8],
    context: &RequestContext,
) -> Result<(Id, String), Error> {
    let caller = context.principal.as_ref().map_or("", |caller| caller.principal.subject.as_str()).as_bytes();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
    // One route may be for many hosts, each of them somebody else's.
    let host = route::host(head);
    let host = host.as_deref().unwrap_or_default().as_bytes();
    let said = context.said.as_ref().and_then(|said| said.host.as_ref()).map_or(&b""[..], HeaderValue::as_bytes);
    let id = digest_of(&[caller, context.route()?.id.as_bytes(), key]);
    let fingerprint = digest_of(&[head.method.as_str().as_bytes(), host, said, target, body, caller]);
    Ok((id, STANDARD_NO_PAD.encode(fingerprint)))
}

/// An answer, as far as it was waited for.
enum Outcome {
    Kept(http::response::Parts, Bytes),
    /// Not one to keep.
    Passed(Response),
}

async fn read(response: Response) -> Result<Outcome, Error> {
    let (head, body) = response.into_parts();
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.status.as_u16() >= 400 || is_stream(&head.headers) || fields > FIELDS {
        return Ok(Outcome::Passed(Response::from_parts(head, body)));
    }
    Ok(match whole(body).await {
        Whole::Kept(body) => Outcome::Kept(head, body),
        Whole::TooLarge(body) => Outcome::Passed(Response::from_parts(head, body)),
    })
}

/// Keeps the answer, if it is one to keep. That it could not be kept is no reason not to give it.
async fn settle(pending: Pending, outcome: Result<Outcome, Error>, keep: Duration) -> Result<Response, Error> {
    let (settled, answer) = match outcome {
        Ok(Outcome::Kept(head, body)) => {
            let settled = pending.complete(record(&head, &body), keep).await;
            (settled, Ok(Response::from_parts(head, Body::from(body))))
        }
        // The service may be at it yet: the record ends by itself when nobody can be any more.
        Err(error) if matches!(error.kind, ErrorKind::Timeout | ErrorKind::ClientClosed) => return Err(error),
        Ok(Outcome::Passed(response)) => (pending.forget().await, Ok(response)),
        Err(error) => (pending.forget().await, Err(error)),
    };
    if let Err(error) = settled {
        METRICS.idempotent("unkept");
        tracing::warn!(cause = error.cause, "what became of a request with an Idempotency-Key was not kept");
    }
    answer
}

/// Events come as they happen: who waits for all of them waits for ever.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/x-ndjson")
}

enum Whole {
    Kept(Bytes),
    /// The whole of it nonetheless: what was read, and the rest. So is one that breaks off.
    TooLarge(Body),
}

async fn whole(mut body: Body) -> Whole {
    if body.size_hint().lower() > ANSWER as u64 {
        return Whole::TooLarge(body);
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = frame.is_err();
        if let Ok(frame) = &frame
            && let Some(data) = frame.data_ref()
            && read.len() + data.len() <= ANSWER
        {
            read.extend_from_slice(data);
        } else if broken || frame.as_ref().is_ok_and(Frame::is_data) {
            let begun: [Result<Frame<Bytes>, BoxError>; 2] = [Ok(Frame::data(read.freeze())), frame];
            let rest = stream::unfold(body, |mut body| async move { body.frame().await.map(|frame| (frame, body)) });
            let all = futures_util::StreamExt::chain(stream::iter(begun), rest);
            return Whole::TooLarge(Body::new(StreamBody::new(Box::pin(all))));
        }
    }
    Whole::Kept(read.freeze())
}

fn record(head: &http::response::Parts, body: &[u8]) -> Answer {
    let kept = head.headers.iter().filter(|(name, _)| !PASSING.contains(name));
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    Answer { status: head.status.as_u16(), headers: kept.filter_map(text).collect(), body: body.to_vec() }
}

fn replay(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
