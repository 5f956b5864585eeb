//! A core's requests on their way into its pipeline.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::http1::server::{Phase, Refusal, RequestBody, Verdict};
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tower::Service;
use upstream::{Body, Client};

use super::{Shared, activity::Activity};
use crate::{
    layers::{Request, Response, request_id::Peer, unreadable},
    overload,
    snapshot::Snapshot,
    worker::Worker,
};

/// One core's pipeline, rebuilt when the configuration changes.
pub struct Handler<P, B> {
    shared: Arc<Shared>,
    overload: Arc<overload::Core>,
    build: B,
    // Only this core ever takes the lock: it stands in for `&mut`.
    live: Mutex<Live<P>>,
}

struct Live<P> {
    snapshot: Arc<Snapshot>,
    worker: Arc<Worker>,
    pipeline: P,
}

impl<P, B> Handler<P, B>
where
    P: Service<Request, Response = Response, Error = Infallible>,
    B: Fn(&Snapshot, &Arc<Worker>) -> P,
{
    pub fn new(shared: Arc<Shared>, overload: Arc<overload::Core>, build: B) -> Self {
        let snapshot = shared.snapshot();
        let worker =
            Arc::new(Worker { clients: clients::<P>(&snapshot, None), keys: Arc::clone(&snapshot.keys), cache: None });
        let pipeline = build(&snapshot, &worker);
        Self { shared, overload, build, live: Mutex::new(Live { snapshot, worker, pipeline }) }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.live.lock().snapshot)
    }

    fn call(&self, request: Request) -> P::Future {
        let mut live = self.live.lock();
        if live.snapshot.generation != self.shared.generation() {
            self.renew(&mut live);
        }
        live.pipeline.call(request)
    }

    /// Takes up each change also where no request comes: a core that is idle must not keep what was replaced.
    pub async fn follow(&self) {
        let mut changes = self.shared.changes();
        while changes.changed().await.is_ok() {
            let mut live = self.live.lock();
            if live.snapshot.generation != self.shared.generation() {
                self.renew(&mut live);
            }
        }
    }

    #[cold]
    fn renew(&self, live: &mut Live<P>) {
        let snapshot = self.shared.snapshot();
        let worker =
            Arc::new(Worker { clients: clients(&snapshot, Some(live)), keys: Arc::clone(&snapshot.keys), cache: None });
        live.pipeline = (self.build)(&snapshot, &worker);
        live.snapshot = snapshot;
        live.worker = worker;
    }
}

/// A client of each upstream. One that is unchanged keeps its client, and so its connections.
fn clients<P>(snapshot: &Snapshot, live: Option<&Live<P>>) -> Vec<Client> {
    let kept = |wanted| {
        let live = live?;
        let at = live.snapshot.upstreams.iter().position(|own| Arc::ptr_eq(own, wanted))?;
        live.worker.clients.get(at).cloned()
    };
    snapshot.upstreams.iter().map(|wanted| kept(wanted).unwrap_or_else(|| wanted.upstream.client())).collect()
}

/// The requests of one connection.
pub struct Requests<P, B> {
    pub handler: Arc<Handler<P, B>>,
    pub peer: Peer,
    pub activity: Arc<Activity>,
}

impl<P, B> Requests<P, B>
where
    P: Service<Request, Response = Response, Error = Infallible>,
    B: Fn(&Snapshot, &Arc<Worker>) -> P,
{
    fn answer(&self, mut request: Request) -> P::Future {
        if self.handler.overload.closes_connections() {
            self.activity.finish();
        }
        self.activity.speaks(&self.peer, request.version());
        request.extensions_mut().insert(self.peer.clone());
        self.handler.call(request)
    }
}

/// HTTP/2.
impl<P, B> hyper::service::Service<http::Request<Incoming>> for Requests<P, B>
where
    P: Service<Request, Response = Response, Error = Infallible>,
    B: Fn(&Snapshot, &Arc<Worker>) -> P,
{
    type Response = Response;
    type Error = Infallible;
    type Future = P::Future;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        self.answer(request.map(Body::from))
    }
}

/// HTTP/1.1.
impl<P, B> ::http1::server::Service for Requests<P, B>
where
    P: Service<Request, Response = Response, Error = Infallible>,
    B: Fn(&Snapshot, &Arc<Worker>) -> P,
{
    type Body = Body;
    type Future = Answering<P::Future>;

    fn call(&self, request: http::Request<RequestBody>) -> Self::Future {
        Answering { inner: self.answer(request.map(Body::from)), activity: Arc::clone(&self.activity) }
    }

    fn refuse(&self, refusal: Refusal) -> Self::Future {
        let request = unreadable::request(refusal);
        Answering { inner: self.answer(request), activity: Arc::clone(&self.activity) }
    }

    fn enter(&self, phase: Phase) {
        self.activity.enter(phase.into());
    }

    fn verdict(&self, context: &mut Context<'_>) -> Verdict {
        self.activity.verdict(context)
    }

    fn is_draining(&self) -> bool {
        self.activity.is_finishing()
    }
}

pin_project! {
    /// Notes what kind of answer it is.
    pub struct Answering<F> {
        #[pin]
        inner: F,
        activity: Arc<Activity>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answering<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(context));
        // What has a length is no stream.
        if http_body::Body::size_hint(response.body()).exact().is_none()
            && response
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
        {
            this.activity.streams();
        }
        Poll::Ready(response)
    }
}
