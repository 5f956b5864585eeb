//! Answers GET and HEAD from what is kept (RFC 9111), where the route says so. Who asks for what is being fetched waits for
//! it, but never for longer than the service would have had; whoever fetches does it for all, and goes on where its own
//! client leaves while others wait. A write purges what it makes old.

use std::{
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::future::{BoxFuture, Either};
use http::{HeaderMap, Method};
use tokio::sync::{Semaphore, oneshot};
use tracing::Instrument as _;
use upstream::Body;

use super::{Checked, Request, Response, refuse};
use crate::{
    cache::{
        Landed, Lead, Moment, Seen, Sought, Store, Stored, Turn, Use,
        answering::{Told, answer},
        fetching::{self, Obtained, obtain},
        landed, part, sought,
    },
    context::RequestContext,
    error::{Error, ErrorKind},
    metrics::METRICS,
};

/// How often a request waits for another one before it goes for itself.
const ROUNDS: usize = 3;
/// The most that is fetched anew at once while what is stale is given.
const MEANWHILE: usize = 256;
static FETCHING_MEANWHILE: Semaphore = Semaphore::const_new(MEANWHILE);

/// None: no route keeps anything.
#[derive(Clone)]
pub struct Layer(pub Option<Arc<Store>>);

#[derive(Clone)]
pub struct Cached<S> {
    inner: S,
    store: Option<Arc<Store>>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Cached<S>;
    fn layer(&self, inner: S) -> Cached<S> {
        Cached { inner, store: self.0.clone() }
    }
}

impl<S> tower::Service<Request> for Cached<S>
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Error;
    type Future = Either<Checked<S::Future>, BoxFuture<'static, Result<Response, Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(store) = &self.store else { return Either::Left(Checked::Right(self.inner.call(request))) };
        let Some(context) = request.extensions().get::<RequestContext>() else {
            return Either::Left(Checked::Right(self.inner.call(request)));
        };
        if !request.method().is_safe() {
            let (store, host, context) = (Arc::clone(store), sought::host(&request).into_owned(), context.clone());
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
            let write = Write { store, host, target, context, is_known: false };
            return Either::Right(Box::pin(written(self.inner.call(request), write)));
        }
        let Some(sought) = Sought::new(&request, context) else {
            return Either::Left(Checked::Right(self.inner.call(request)));
        };
        // Parts are for GET alone (RFC 9110, section 14.2).
        if request.method() == Method::HEAD {
            request.headers_mut().remove(http::header::RANGE);
        }
        let now = Moment::now();
        let seen = sought.look(store, request.headers(), now);
        if let Some((_, stored, may)) = &seen.found
            && let Use::Fresh(left) | Use::Meanwhile(left) = *may
        {
            let given = answer(stored, request.headers(), &Told::hit(left), now);
            if matches!(may, Use::Meanwhile(_)) {
                METRICS.cache("stale");
                let fetch = Fetch::new(self.inner.clone(), Arc::clone(store), sought);
                fetch.meanwhile(&request, &seen);
            } else {
                METRICS.cache("hit");
            }
            return Either::Left(match given {
                Ok(response) => Checked::Left(ready(Ok(response))),
                Err(error) => refuse(error),
            });
        }
        if sought.asked.only_if_cached {
            METRICS.cache("refused");
            let detail = "the answer is not kept here, and nobody else was to be asked";
            return Either::Left(refuse(Error::new(ErrorKind::NotCached, detail)));
        }
        let fetch = Fetch::new(self.inner.clone(), Arc::clone(store), sought);
        Either::Right(Box::pin(fetch.run(request, seen)))
    }
}

/// Asks the service for what is not there.
struct Fetch<S> {
    inner: S,
    store: Arc<Store>,
    sought: Arc<Sought>,
}

impl<S> Fetch<S>
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    fn new(inner: S, store: Arc<Store>, sought: Sought) -> Self {
        Self { inner, store, sought: Arc::new(sought) }
    }

    async fn run(self, request: Request, mut seen: Seen) -> Result<Response, Error> {
        let asked = &self.sought.asked;
        // What is to be like this for one client alone is nothing that others could wait for.
        let alone = request.method() == Method::HEAD
            || request.headers().contains_key(http::header::RANGE)
            || asked.no_store
            || asked.no_cache
            || asked.max_age.is_some_and(|most| most.is_zero());
        for _ in 0..ROUNDS {
            if alone || seen.passes {
                break;
            }
            let now = Moment::now();
            match self.store.flights.join(&self.sought.flight(&seen, request.headers())) {
                Turn::Lead(lead) => {
                    // It may have landed since we looked.
                    seen = self.sought.look(&self.store, request.headers(), now);
                    if let Some((_, stored, Use::Fresh(left))) = &seen.found {
                        METRICS.cache("hit");
                        return answer(stored, request.headers(), &Told::hit(*left), now);
                    }
                    return self.lead(request, &seen, lead).await;
                }
                Turn::Follow(flight) => match landed(flight).await {
                    Some(Landed::Kept(stored) | Landed::StandsIn(stored)) if self.may_have(&stored, &request) => {
                        METRICS.cache("collapsed");
                        let told = Told { collapsed: true, ..Told::forwarded(why(&seen)) };
                        return answer(&stored, request.headers(), &told, Moment::now());
                    }
                    Some(Landed::Passed) => break,
                    Some(Landed::Failed(make)) => return Err(make()),
                    Some(Landed::Kept(_) | Landed::StandsIn(_)) | None => {}
                },
            }
            let now = Moment::now();
            seen = self.sought.look(&self.store, request.headers(), now);
            if let Some((_, stored, Use::Fresh(left))) = &seen.found {
                METRICS.cache("hit");
                return answer(stored, request.headers(), &Told::hit(*left), now);
            }
        }
        self.alone(request, seen).await
    }

    /// Whether what another one was given is for this request, too.
    fn may_have(&self, stored: &Stored, request: &Request) -> bool {
        let stands = self.store.stands(stored, Moment::now()) && self.store.is_untouched(stored);
        stands && stored.selected.fits(request.headers())
    }

    /// In a task of its own, for all who ask for the same.
    async fn lead(self, request: Request, seen: &Seen, lead: Lead<Landed>) -> Result<Response, Error> {
        let (reply, replied) = oneshot::channel();
        let (found, why) = (found(seen), why(seen));
        tokio::spawn(self.led(request, found, why, lead, Some(reply)).in_current_span());
        replied.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "the gateway made a mistake").cause("who fetched it panicked"))
        })
    }

    async fn led(
        mut self,
        request: Request,
        found: Option<Arc<Stored>>,
        why: &'static str,
        lead: Lead<Landed>,
        mut reply: Option<oneshot::Sender<Result<Response, Error>>>,
    ) {
        let client = request.headers().clone();
        let obtained = {
            let obtaining = obtain(&mut self.inner, &self.store, &self.sought, found, why, request);
            tokio::pin!(obtaining);
            let mut has_left = reply.is_none();
            loop {
                tokio::select! {
                    biased;
                    obtained = &mut obtaining => break obtained,
                    () = left(&mut reply), if !has_left => {
                        if !lead.is_awaited() {
                            return;
                        }
                        has_left = true;
                    }
                }
            }
        };
        let (landed, response) = match obtained {
            Obtained::Kept(stored, told) => {
                let response = self.given(&stored, told, &client);
                let landed = if stored.freshness.is_ever_good() { Landed::Kept(stored) } else { Landed::Passed };
                (landed, response)
            }
            Obtained::StandsIn(stored) => (Landed::StandsIn(Arc::clone(&stored)), stale(&stored, &client)),
            Obtained::Passed(response) if response.status().is_server_error() => {
                METRICS.cache("passed");
                (failed(ErrorKind::Unavailable), Ok(response))
            }
            Obtained::Passed(response) => {
                METRICS.cache("passed");
                if lead.is_awaited() {
                    self.store.pass(self.sought.own(), Moment::now());
                }
                (Landed::Passed, Ok(response))
            }
            Obtained::Failed(error) => {
                METRICS.cache("failed");
                let landed = if fetching::is_failure(error.kind) { failed(error.kind) } else { Landed::Passed };
                (landed, Err(error))
            }
            Obtained::Comes(parts, body, keep, room) => {
                METRICS.cache("miss");
                let (body, rest) = part(body, room, Some(lead), |body| keep.keep(body).ok());
                send(&mut reply, Ok(Response::from_parts(*parts, body)));
                return rest.await;
            }
        };
        lead.tell(landed);
        send(&mut reply, response);
    }

    /// For one client.
    async fn alone(mut self, request: Request, seen: Seen) -> Result<Response, Error> {
        let client = request.headers().clone();
        let obtained = obtain(&mut self.inner, &self.store, &self.sought, found(&seen), why(&seen), request).await;
        match obtained {
            Obtained::Kept(stored, told) => self.given(&stored, told, &client),
            Obtained::StandsIn(stored) => stale(&stored, &client),
            Obtained::Passed(response) => {
                METRICS.cache("passed");
                Ok(response)
            }
            Obtained::Failed(error) => {
                METRICS.cache("failed");
                Err(error)
            }
            Obtained::Comes(parts, body, keep, room) => {
                METRICS.cache("miss");
                let (body, rest) = part(body, room, None, |body| keep.keep(body).ok());
                tokio::spawn(rest.in_current_span());
                Ok(Response::from_parts(*parts, body))
            }
        }
    }

    fn given(&self, stored: &Stored, told: Told, client: &HeaderMap) -> Result<Response, Error> {
        METRICS.cache(if told.status.is_some() { "revalidated" } else { "miss" });
        answer(stored, client, &told, Moment::now())
    }

    /// Fetches it anew, unless somebody is at it already or too much of the kind is going on.
    fn meanwhile(self, request: &Request, seen: &Seen) {
        let Ok(permit) = FETCHING_MEANWHILE.try_acquire() else { return };
        let Turn::Lead(lead) = self.store.flights.join(&self.sought.flight(seen, request.headers())) else { return };
        let mut anew = Request::new(Body::empty());
        *anew.uri_mut() = request.uri().clone();
        *anew.version_mut() = request.version();
        *anew.headers_mut() = request.headers().clone();
        anew.headers_mut().remove(http::header::RANGE);
        *anew.extensions_mut() = request.extensions().clone();
        if let Some(context) = anew.extensions_mut().get_mut::<RequestContext>() {
            context.arrived = Instant::now();
            context.deadline = context.arrived + self.sought.route.policy.timeout;
            // Nothing of it is the client's any more.
            context.outcome = Arc::default();
        }
        let (found, why) = (found(seen), "stale");
        let fetching = self.led(anew, found, why, lead, None);
        tokio::spawn(
            async move {
                let _permit = permit;
                fetching.await;
            }
            .in_current_span(),
        );
    }
}

fn found(seen: &Seen) -> Option<Arc<Stored>> {
    seen.found.as_ref().map(|(_, stored, _)| Arc::clone(stored))
}

/// Why what there is was not enough (RFC 9211, section 2.2).
fn why(seen: &Seen) -> &'static str {
    match (&seen.found, &seen.other) {
        (Some((_, stored, _)), _) if stored.freshness.age_at(Moment::now()) < stored.freshness.lifetime => "request",
        (Some(_), _) => "stale",
        (None, Some(_)) => "vary-miss",
        (None, None) => "uri-miss",
    }
}

fn failed(kind: ErrorKind) -> Landed {
    let detail = "the service failed for another who asked for the same at the same time";
    Landed::Failed(Arc::new(move || Error::new(kind, detail)))
}

/// What is stale, where the service fails.
fn stale(stored: &Stored, client: &HeaderMap) -> Result<Response, Error> {
    METRICS.cache("stale_if_error");
    let now = Moment::now();
    let overdue = stored.freshness.age_at(now).saturating_sub(stored.freshness.lifetime).as_secs();
    let ttl = i64::try_from(overdue).map_or(i64::MIN, |overdue| -overdue);
    let told = Told { ttl: Some(ttl), detail: Some("stale-if-error"), ..Told::forwarded("stale") };
    answer(stored, client, &told, now)
}

async fn left(reply: &mut Option<oneshot::Sender<Result<Response, Error>>>) {
    match reply {
        Some(reply) => reply.closed().await,
        None => std::future::pending().await,
    }
}

fn send(reply: &mut Option<oneshot::Sender<Result<Response, Error>>>, response: Result<Response, Error>) {
    if let Some(reply) = reply.take() {
        // Nobody waits any more where the receiver is gone.
        _ = reply.send(response);
    }
}

/// A write. Where nobody learns what became of it, because its client has left or the service didn't answer, it may have
/// changed what it was to change: then that is purged.
struct Write {
    store: Arc<Store>,
    host: Vec<u8>,
    target: String,
    context: RequestContext,
    is_known: bool,
}

impl Write {
    fn purge(&self, response: Option<&Response>) {
        let policy = self.context.route.as_ref().and_then(|route| route.policy.cache.as_ref());
        let tags = policy.map(|policy| (&policy.tags, &self.context.variables));
        fetching::invalidate(&self.store, &self.host, &self.target, response, tags);
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.is_known {
            self.purge(None);
        }
    }
}

/// Passes a write on, and purges what it made old before its client hears of it.
async fn written<F>(answering: F, mut write: Write) -> Result<Response, Error>
where
    F: Future<Output = Result<Response, Error>>,
{
    let answered = answering.await;
    match &answered {
        Ok(response) => {
            write.is_known = true;
            write.purge(Some(response));
        }
        Err(error) => write.is_known = !fetching::is_failure(error.kind),
    }
    answered
}
