//! One core's way to an upstream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::SmallRng};

use crate::{
    After, Body, Error,
    balance::Balancer,
    breaker::Tally,
    caps::Share,
    choice::Choice,
    endpoint, grpc,
    hedge::Latencies,
    lane::Lane,
    load::Load,
    retry::{self, Budget},
    stack, upstream,
};

/// One core's way to an upstream: balances over healthy endpoints, pools connections, retries where it is safe.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Shared>);

/// How one request is to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The moment after which nobody waits for the answer.
    pub deadline: Option<Instant>,
    /// Repeating the request can't do more than doing it once: it may be tried again after it was sent. Without it, only what provably never reached the service is tried again.
    pub idempotent: bool,
    /// Doing it twice at once does no more than doing it once: it may be hedged. Goes with `idempotent`.
    pub safe: bool,
    /// What a ring hash chooses by, already hashed; None: anything. Other balancers don't look at it.
    pub hash: Option<u64>,
}

impl Options {
    pub fn within(timeout: Duration) -> Self {
        Self { deadline: Some(Instant::now() + timeout), ..Self::default() }
    }

    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// What the clones of a client share.
pub(crate) struct Shared {
    pub upstream: Arc<upstream::Shared>,
    pub budget: Budget,
    /// What the breaker has yet to be told.
    pub tally: Tally,
    /// None where requests are health checks.
    share: Option<Arc<Share>>,
    /// How long answers take, where hedges go by that.
    pub latencies: Option<Latencies>,
    // Only this client's core ever takes the lock, and for no longer than a choice takes.
    choice: Mutex<Choice>,
}

impl Shared {
    /// The lane for a try, and whether there are others; None while no address is known. `avoid`: where it has just failed.
    pub fn choose(&self, avoid: Option<&Arc<Lane>>, key: Option<u64>, now: Instant) -> Option<(Arc<Lane>, bool)> {
        let mut choice = self.choice.lock();
        if !choice.is_current(self.upstream.roster.changes(), now) {
            self.look(&mut choice, now);
        }
        let avoid = avoid.and_then(|failed| choice.seats.iter().position(|seat| Arc::ptr_eq(&seat.lane, failed)));
        let chosen = choice.pick(avoid, key, now)?;
        Some((Arc::clone(&choice.seats[chosen].lane), choice.seats.len() > 1))
    }

    /// Looks at the upstream's endpoints again. Lanes of those that are no longer there get nothing new.
    fn look(&self, choice: &mut Choice, now: Instant) {
        // Before they are read: should they change in between, they are read again.
        let changes = self.upstream.roster.changes();
        let before: Vec<_> = choice.seats.iter().map(|seat| Arc::clone(&seat.lane)).collect();
        let lanes = self.upstream.lanes(&before, self.share.as_ref());
        for gone in before.iter().filter(|lane| !lanes.iter().any(|other| Arc::ptr_eq(other, lane))) {
            gone.retire();
            self.upstream.drain(gone);
        }
        choice.renew(Some(lanes), changes, now);
    }

    /// After how long another try may join the first, and how many may.
    pub fn hedge(&self, options: Options) -> Option<(Duration, u32)> {
        let hedge = self.upstream.config.hedge.as_ref().filter(|_| options.safe)?;
        let after = match hedge.after {
            After::Time(after) => after,
            After::P95 => self.latencies.as_ref()?.p95()?,
        };
        Some((after, hedge.max))
    }

    /// Takes over other endpoints now, also where no request would: those that are gone have connections.
    pub fn renew(&self) {
        self.look(&mut self.choice.lock(), Instant::now());
    }

    /// How long to wait before a retry.
    pub fn backoff(&self, retry: u32) -> Duration {
        retry::backoff(retry, &mut self.choice.lock().random)
    }

    /// The load of an endpoint, as this client finds it.
    pub fn load<R>(&self, endpoint: &Arc<endpoint::Shared>, read: impl FnOnce(&Load) -> R) -> Option<R> {
        let choice = self.choice.lock();
        let seat = choice.seats.iter().find(|seat| Arc::ptr_eq(&seat.lane.endpoint, endpoint))?;
        Some(read(&seat.lane.load))
    }
}

impl Client {
    pub(crate) fn new(upstream: Arc<upstream::Shared>) -> Self {
        let mut random = SmallRng::from_os_rng();
        let choice = Choice::new(Balancer::new(upstream.config.balance, &mut random), random);
        let share = upstream.metrics.is_some().then(|| upstream.limits.share());
        let hedges_by_p95 = upstream.config.hedge.as_ref().is_some_and(|hedge| hedge.after == After::P95);
        let latencies = hedges_by_p95.then(Latencies::default);
        let now = Instant::now();
        let (budget, tally) = (Budget::new(now), Tally::default());
        let shared = Shared { upstream, budget, tally, share, latencies, choice: Mutex::new(choice) };
        shared.renew();
        Self(Arc::new(shared))
    }

    /// Passes an HTTP request on (for gRPC with an encoded message: [`Client::unary`], [`Client::streaming`]), a gRPC
    /// call with its framing included.
    ///
    /// The target takes the form of the upstream's protocol; the Host stays the one the request came with unless the
    /// configuration sets another. What is meant for one hop is stripped both ways (RFC 9110, 7.6.1), but for an upgrade to
    /// an HTTP/1.1 upstream: its 101 carries `http1::upgrade::OnUpgrade` in the extensions, whose connection no longer
    /// counts against the upstream's limits.
    ///
    /// The deadline (for gRPC also the request's own `grpc-timeout`) bounds everything up to the response's head, not its
    /// body. The request's body is sent again only if all of it is there at once, or in memory, and at most 64 KiB.
    ///
    /// # Errors
    /// No answer came: see [`crate::ErrorKind`]. Any status is an answer.
    pub fn send(
        &self,
        request: Request<Body>,
        options: Options,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send {
        stack::send(&self.0, request, options)
    }

    /// A unary gRPC call with an encoded message. `grpc-timeout` is set from the deadline, which bounds the whole call.
    ///
    /// # Errors
    /// Any status but OK, the service's or, where none came, one made here (`local` says why).
    pub async fn unary(
        &self,
        path: &str,
        metadata: http::HeaderMap,
        message: bytes::Bytes,
        options: Options,
    ) -> Result<grpc::Reply, grpc::Status> {
        grpc::unary(&self.0, path, metadata, message, options).await
    }

    /// A server-streaming gRPC call: the messages as they come; ends with the status. The deadline bounds the whole call.
    ///
    /// # Errors
    /// As [`Client::unary`], where the call fails before its first message; [`grpc::Streaming::next`] tells the rest.
    pub async fn streaming(
        &self,
        path: &str,
        metadata: http::HeaderMap,
        message: bytes::Bytes,
        options: Options,
    ) -> Result<grpc::Streaming, grpc::Status> {
        grpc::streaming(&self.0, path, metadata, message, options).await
    }

    /// A gRPC call whose request is a stream: a body of messages, each framed by [`grpc::frame`], sent as they come. An error
    /// of the body cancels the call. The deadline bounds the whole call. Only a body that is in memory can be sent again.
    ///
    /// # Errors
    /// As [`Client::streaming`].
    pub async fn call(
        &self,
        path: &str,
        metadata: http::HeaderMap,
        messages: Body,
        options: Options,
    ) -> Result<grpc::Streaming, grpc::Status> {
        grpc::call(&self.0, path, metadata, messages, options).await
    }

    /// The same client as generated tonic clients want it.
    pub fn channel(&self) -> grpc::Channel {
        grpc::Channel::new(self.clone())
    }
}
