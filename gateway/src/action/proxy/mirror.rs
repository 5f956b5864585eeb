//! A copy of requests for another upstream, whose answers nobody sees.
//!
//! The original never waits for it and never fails by it. Its body is copied as it passes, and the copy sent when it has
//! passed whole; a body above 64 KiB, and what would be too many copies at once, is not copied. Neither are upgrades.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upstream::{Body, BoxError, Client, Options};

use crate::{
    action::ConfigError,
    context::RequestContext,
    metrics::METRICS,
    worker::{UpstreamId, Worker},
};

/// Tells the upstream that nobody reads its answer.
const MIRRORED: HeaderName = HeaderName::from_static("turnpike-mirrored");
/// The largest body that is copied, and the most that is read of an answer so that its connection can be used again.
const LARGEST: usize = 64 * 1024;
/// The most copies of a route under way.
const AT_ONCE: usize = 100;

/// `mirror: { upstream: next, percent: 10 }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mirror")]
pub struct Config {
    /// Who gets the copies.
    pub upstream: String,
    /// The share of requests that is copied, above 0 to 100; default 100.
    #[serde(default = "all")]
    pub percent: f64,
}

fn all() -> f64 {
    100.0
}

pub struct Mirror {
    upstream: UpstreamId,
    percent: f64,
    places: Arc<Semaphore>,
}

impl Mirror {
    /// The caller resolves `config.upstream`.
    ///
    /// # Errors
    /// A percentage that is none.
    pub fn new(config: &Config, upstream: UpstreamId) -> Result<Self, ConfigError> {
        if !(config.percent > 0.0 && config.percent <= 100.0) {
            return Err(ConfigError::new("mirror.percent", "must be above 0 and at most 100"));
        }
        Ok(Self { upstream, percent: config.percent, places: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    pub fn upstream(&self) -> UpstreamId {
        self.upstream
    }

    pub fn percent(&self) -> f64 {
        self.percent
    }

    /// Copies a request, if it is its turn, as its own upstream gets it.
    pub fn copy(&self, worker: &Worker, request: Request<Body>, context: &RequestContext) -> Request<Body> {
        if self.percent < 100.0 && rand::rng().random_range(0.0..100.0) >= self.percent {
            return request;
        }
        let route: Arc<str> = context.route.as_ref().map_or_else(|| Arc::from(""), |route| Arc::clone(&route.id));
        let is_large = request.body().size_hint().lower() > LARGEST as u64;
        let (false, Ok(place)) = (is_large, Arc::clone(&self.places).try_acquire_owned()) else {
            METRICS.mirrored(&route, "skipped");
            return request;
        };
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        copy.headers_mut().insert(MIRRORED, HeaderValue::from_static("true"));
        let client = worker.client(self.upstream).clone();
        let copy = Copy { head: copy, client, deadline: context.deadline, route, place };
        match request.body().repeat() {
            Some(body) => {
                copy.send(body);
                request
            }
            None => request.map(|body| Body::new(Tee { body, copied: BytesMut::new(), copy: Some(copy) })),
        }
    }
}

/// A copy that waits for its body.
struct Copy {
    head: Request<()>,
    client: Client,
    deadline: Instant,
    route: Arc<str>,
    /// Given back when it is over.
    place: OwnedSemaphorePermit,
}

impl Copy {
    fn send(self, body: Body) {
        let Self { head, client, deadline, route, place } = self;
        tokio::spawn(async move {
            let options = Options { deadline: Some(deadline), idempotent: false, ..Options::default() };
            let answered = match client.send(head.map(|()| body), options).await {
                Ok(response) => {
                    _ = tokio::time::timeout_at(deadline.into(), discard(response.into_body())).await;
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, route = &*route, "a mirrored request had no answer");
                    false
                }
            };
            METRICS.mirrored(&route, if answered { "answered" } else { "failed" });
            drop(place);
        });
    }
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > LARGEST {
            return;
        }
    }
}

/// A body that is copied as it passes.
struct Tee {
    body: Body,
    copied: BytesMut,
    /// None once it is sent or given up.
    copy: Option<Copy>,
}

impl Tee {
    fn note(&mut self, data: &Bytes) {
        if self.copied.len() + data.len() <= LARGEST {
            self.copied.extend_from_slice(data);
        } else if let Some(copy) = self.copy.take() {
            METRICS.mirrored(&copy.route, "skipped");
        }
    }

    fn finish(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.send(std::mem::take(&mut self.copied).freeze().into());
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(_)) = (frame.data_ref(), &self.copy) {
                    self.note(data);
                }
                // Whoever knows that nothing follows doesn't ask again.
                if self.body.is_end_stream() {
                    self.finish();
                }
            }
            // Half a body is no copy.
            Some(Err(_)) => self.copy = None,
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
