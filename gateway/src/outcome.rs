//! What becomes of a request, from its arrival until the last byte of its answer is out: the one thing of it that lives so
//! long. Inner layers note what they find out, bodies what passes (without being wrapped or boxed for it), and when all is
//! over the access log line is written.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU16, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use http::Method;
use upstream::{Watch, Way};

use crate::{
    access_log::{Entry, Line},
    analytics::Core,
    context::Authenticated,
    in_flight,
    metrics::{METRICS, RouteMetrics},
    route::Local,
};

#[derive(Default)]
pub struct Outcome {
    pub route: OnceLock<Arc<Local>>,
    pub principal: OnceLock<Arc<Authenticated>>,
    /// Set by the layer `observe`, without which nothing is told.
    observed: OnceLock<Observed>,
    /// Of the answer; 0 while there is none.
    status: AtomicU16,
    /// From the arrival until the action was asked, and until its answer began, in microseconds.
    asked: AtomicU64,
    begun: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// A WebSocket goes on after its answer.
    tunnelled: AtomicBool,
    over: AtomicBool,
    /// What kind of stream the answer is, if it is one.
    stream: OnceLock<&'static str>,
}

/// What is known from the start.
pub struct Observed {
    pub arrived: Instant,
    pub method: Method,
    pub client: IpAddr,
    /// The metrics of requests that found no route.
    pub unmatched: Arc<RouteMetrics>,
    pub analytics: Option<Arc<Core>>,
    pub entry: Option<Box<Entry>>,
}

impl Outcome {
    pub fn observe(&self, observed: Observed) {
        in_flight::begin();
        _ = self.observed.set(observed);
    }

    /// The action is asked now. Only the access log wants to know.
    pub fn asked(&self) {
        if let Some(observed) = self.observed.get()
            && observed.entry.is_some()
        {
            self.asked.store(micros(observed.arrived.elapsed()), Relaxed);
        }
    }

    /// The answer begins.
    pub fn began(&self, status: u16) {
        let Some(observed) = self.observed.get() else { return };
        in_flight::end();
        let elapsed = observed.arrived.elapsed();
        self.status.store(status, Release);
        self.begun.store(micros(elapsed), Relaxed);
        let metrics = self.metrics(observed);
        metrics.answered(&observed.method, status, elapsed.as_secs_f64());
        if let Some(core) = &observed.analytics {
            let principal = self.principal.get().map(|caller| &**caller);
            core.record(&metrics.label, status, micros(elapsed), observed.client, principal);
        }
    }

    /// The answer is a stream, counted as open until it ends.
    pub fn streams(&self, kind: &'static str) {
        if self.stream.set(kind).is_ok() {
            METRICS.stream_opened(kind);
        }
    }

    /// Nobody waits any more, and no answer has begun.
    pub fn abandoned(&self, status: u16) {
        if self.status.load(Acquire) == 0 {
            self.began(status);
            self.end(false);
        }
    }

    /// The connection becomes a tunnel: the exchange is over when that is.
    pub fn tunnel(self: &Arc<Self>) -> Tunnel {
        self.tunnelled.store(true, Release);
        self.streams("websocket");
        Tunnel(Arc::clone(self))
    }

    fn metrics<'a>(&'a self, observed: &'a Observed) -> &'a RouteMetrics {
        self.route.get().map_or(&*observed.unmatched, |route| &route.metrics)
    }

    fn end(&self, whole: bool) {
        let Some(observed) = self.observed.get() else { return };
        if self.over.swap(true, AcqRel) {
            return;
        }
        if let Some(kind) = self.stream.get() {
            METRICS.stream_closed(kind);
        }
        let (received, sent) = (self.received.load(Relaxed), self.sent.load(Relaxed));
        self.metrics(observed).passed(received, sent);
        if let Some(entry) = &observed.entry {
            let route = self.route.get();
            let (asked, begun) = (self.asked.load(Relaxed), self.begun.load(Relaxed));
            entry.write(&Line {
                method: observed.method.as_str(),
                client: observed.client,
                status: self.status.load(Acquire),
                received,
                sent,
                begun: Duration::from_micros(begun),
                upstream: (asked > 0).then(|| Duration::from_micros(begun.saturating_sub(asked))),
                elapsed: observed.arrived.elapsed(),
                whole,
                route: &self.metrics(observed).label.text,
                called: route.and_then(|route| route.upstream.as_deref()),
                principal: self.principal.get().map(|caller| caller.principal.subject.as_str()),
            });
        }
    }
}

impl Watch for Outcome {
    fn passed(&self, way: Way, bytes: usize) {
        // Only one task reads a body.
        let count = match way {
            Way::Request => &self.received,
            Way::Response => &self.sent,
        };
        count.fetch_add(bytes as u64, Relaxed);
    }

    fn ended(&self, way: Way, whole: bool) {
        if way == Way::Response && !self.tunnelled.load(Acquire) {
            self.end(whole);
        }
    }
}

/// Two connections that are joined; over when it is dropped.
pub struct Tunnel(Arc<Outcome>);

impl Tunnel {
    pub fn passed(&self, way: Way, bytes: usize) {
        self.0.passed(way, bytes);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.end(true);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
