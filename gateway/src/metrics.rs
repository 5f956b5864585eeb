//! Every metric of the gateway, by name. Labels are ids of routes, never paths.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, OnceLock},
    time::{Duration, SystemTime},
};

use http::Method;
use opentelemetry::{
    KeyValue,
    metrics::{
        BoundCounter, BoundGauge, BoundHistogram, Counter, Gauge, Histogram, Meter, ObservableUpDownCounter,
        UpDownCounter,
    },
};
use parking_lot::{Mutex, RwLock};
use time::OffsetDateTime;

use crate::{in_flight, overload::Level};

pub struct Metrics {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    request_bytes: Counter<u64>,
    response_bytes: Counter<u64>,
    streams: UpDownCounter<i64>,
    _in_flight: ObservableUpDownCounter<i64>,
    rate_limited: Counter<u64>,
    rate_limit_near: Counter<u64>,
    shed: Counter<u64>,
    overload_level: BoundGauge<u64>,
    overload_memory: BoundGauge<f64>,
    overload_delay: Gauge<f64>,
    concurrency_limited: Counter<u64>,
    address_refused: BoundCounter<u64>,
    panics: BoundCounter<u64>,
    connections: UpDownCounter<i64>,
    protocols: UpDownCounter<i64>,
    connections_refused: Counter<u64>,
    handshakes: Counter<u64>,
    certificates: Expiries,
    http2_ended: Counter<u64>,
    log_lines_dropped: BoundCounter<u64>,
    reloads: Counter<u64>,
    generation: BoundGauge<u64>,
    config_good: BoundGauge<u64>,
    shared_reachable: BoundGauge<u64>,
    limits_together: BoundGauge<u64>,
    limited_by_share: BoundCounter<u64>,
    mirrored: Counter<u64>,
    parts: Counter<u64>,
    idempotent: Counter<u64>,
    answers_evicted: BoundCounter<u64>,
    tokens: Counter<u64>,
    jwks_fetches: Counter<u64>,
    jwks_fetched: Gauge<u64>,
    revocations: BoundGauge<u64>,
    revocations_followed: BoundGauge<u64>,
    revocations_evicted: BoundCounter<u64>,
    cache_requests: [BoundCounter<u64>; CACHED.len()],
    cache_purged: Counter<u64>,
    cache_evicted: BoundCounter<u64>,
    cache_bytes: BoundGauge<u64>,
    cache_followed: BoundGauge<u64>,
}

pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("gateway");
    Metrics {
        requests: meter.u64_counter("turnpike_gateway_requests").with_description("Requests answered").build(),
        seconds: meter
            .f64_histogram("turnpike_gateway_request_seconds")
            .with_description("Time until the answer began")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        request_bytes: meter
            .u64_counter("turnpike_gateway_request_bytes")
            .with_description("Bytes of request bodies, counted when the exchange is over")
            .build(),
        response_bytes: meter
            .u64_counter("turnpike_gateway_response_bytes")
            .with_description("Bytes of response bodies, counted when the exchange is over")
            .build(),
        streams: meter
            .i64_up_down_counter("turnpike_gateway_streams")
            .with_description("Open streams: WebSockets, and answers of server-sent events")
            .build(),
        _in_flight: meter
            .i64_observable_up_down_counter("turnpike_gateway_in_flight")
            .with_description("Requests being answered")
            .with_callback(|observer| observer.observe(in_flight::all(), &[]))
            .build(),
        rate_limited: meter
            .u64_counter("turnpike_gateway_rate_limited")
            .with_description("Requests beyond a rate limit, refused or (mode shadow) only counted")
            .build(),
        rate_limit_near: meter
            .u64_counter("turnpike_gateway_rate_limit_near")
            .with_description("Requests with which a key went past four fifths of a rate limit")
            .build(),
        shed: meter
            .u64_counter("turnpike_gateway_shed")
            .with_description("Requests refused because there is too much already, by reason")
            .build(),
        overload_level: meter
            .u64_gauge("turnpike_gateway_overload_level")
            .with_description("What is done about memory that runs out: 0 nothing, to 4 no connections are taken")
            .build()
            .bind(&[]),
        overload_memory: meter
            .f64_gauge("turnpike_gateway_memory_used_ratio")
            .with_description("Memory used of what the process may use; 0 where that is not known")
            .build()
            .bind(&[]),
        overload_delay: meter
            .f64_gauge("turnpike_gateway_core_delay_seconds")
            .with_description("How late a core comes to what it has to do, in nine of ten cases")
            .build(),
        concurrency_limited: meter
            .u64_counter("turnpike_gateway_concurrency_limited")
            .with_description("Requests refused because too many of their caller were under way")
            .build(),
        address_refused: meter
            .u64_counter("turnpike_gateway_address_refused")
            .with_description("Requests refused for the address they came from")
            .build()
            .bind(&[]),
        panics: meter
            .u64_counter("turnpike_gateway_panics")
            .with_description("Requests that made the gateway panic")
            .build()
            .bind(&[]),
        connections: meter
            .i64_up_down_counter("turnpike_gateway_connections")
            .with_description("Open client connections")
            .build(),
        protocols: meter
            .i64_up_down_counter("turnpike_gateway_connections_by_protocol")
            .with_description("Open client connections that have made a request")
            .build(),
        connections_refused: meter
            .u64_counter("turnpike_gateway_connections_refused")
            .with_description("Connections closed at once, by reason")
            .build(),
        handshakes: meter
            .u64_counter("turnpike_gateway_tls_handshakes")
            .with_description("TLS handshakes, by how they ended")
            .build(),
        certificates: expiries(&meter),
        http2_ended: meter
            .u64_counter("turnpike_gateway_http2_ended")
            .with_description("HTTP/2 connections ended for what the client did with them, by reason")
            .build(),
        log_lines_dropped: meter
            .u64_counter("turnpike_gateway_access_log_dropped")
            .with_description("Access log lines dropped because stdout was too slow")
            .build()
            .bind(&[]),
        reloads: meter
            .u64_counter("turnpike_gateway_config_reload")
            .with_description("Configurations read again, by result")
            .build(),
        generation: meter
            .u64_gauge("turnpike_gateway_config_generation")
            .with_description("Which configuration is in force: 1 for the first, one more for each that was taken over")
            .build()
            .bind(&[]),
        config_good: meter
            .u64_gauge("turnpike_gateway_config_good")
            .with_description("1: what was last read is in force; 0: it was not good, and the one before stayed")
            .build()
            .bind(&[]),
        shared_reachable: meter
            .u64_gauge("turnpike_gateway_shared_reachable")
            .with_description("1: the Redis that gateways share answers; 0: sessions and idempotency keys are refused")
            .build()
            .bind(&[]),
        limits_together: meter
            .u64_gauge("turnpike_gateway_limits_together")
            .with_description("1: rate limits are counted with the other gateways; 0: each gateway enforces its share")
            .build()
            .bind(&[]),
        limited_by_share: meter
            .u64_counter("turnpike_gateway_limited_by_share")
            .with_description("Requests whose rate limits were judged by this gateway's share alone")
            .build()
            .bind(&[]),
        mirrored: meter
            .u64_counter("turnpike_gateway_mirrored")
            .with_description("Requests that were to be mirrored, by what became of the copy")
            .build(),
        parts: meter
            .u64_counter("turnpike_gateway_parts")
            .with_description("Parts of aggregates, by what became of them")
            .build(),
        idempotent: meter
            .u64_counter("turnpike_gateway_idempotency")
            .with_description("Requests with an Idempotency-Key, by what became of them")
            .build(),
        answers_evicted: meter
            .u64_counter("turnpike_gateway_idempotency_evicted")
            .with_description("Answers forgotten before their time for want of room: a repeat would be done again")
            .build()
            .bind(&[]),
        tokens: meter
            .u64_counter("turnpike_gateway_tokens")
            .with_description("Tokens that were not at hand, by what became of them")
            .build(),
        jwks_fetches: meter
            .u64_counter("turnpike_gateway_jwks_fetches")
            .with_description("Key sets asked for, by issuer and result")
            .build(),
        jwks_fetched: meter
            .u64_gauge("turnpike_gateway_jwks_fetched_timestamp_seconds")
            .with_description("When an issuer's keys were last fetched")
            .build(),
        revocations: meter
            .u64_gauge("turnpike_gateway_revocations")
            .with_description("Revocations that are kept")
            .build()
            .bind(&[]),
        revocations_followed: meter
            .u64_gauge("turnpike_gateway_revocations_followed")
            .with_description("1: what is revoked by the bus is known here; 0: the bus is away")
            .build()
            .bind(&[]),
        revocations_evicted: meter
            .u64_counter("turnpike_gateway_revocations_evicted")
            .with_description("Revocations forgotten before their time for want of room")
            .build()
            .bind(&[]),
        cache_requests: {
            let requests = meter
                .u64_counter("turnpike_gateway_cache_requests")
                .with_description("Requests of routes that keep answers, by what became of them")
                .build();
            CACHED.map(|outcome| requests.bind(&[KeyValue::new("outcome", outcome)]))
        },
        cache_purged: meter
            .u64_counter("turnpike_gateway_cache_purged")
            .with_description("Purges: of a tag, by key, or of all")
            .build(),
        cache_bytes: meter
            .u64_gauge("turnpike_gateway_cache_bytes")
            .with_description("Bytes that kept answers take up, with their keys and headers")
            .build()
            .bind(&[]),
        cache_followed: meter
            .u64_gauge("turnpike_gateway_cache_followed")
            .with_description("1: events that purge are heard; 0: the bus is away")
            .build()
            .bind(&[]),
        cache_evicted: meter
            .u64_counter("turnpike_gateway_cache_evicted")
            .with_description("Targets whose answers were dropped for want of room")
            .build()
            .bind(&[]),
    }
});

type Expiries = Arc<Mutex<Vec<(String, i64)>>>;

/// Says at each scrape how long each certificate is still good.
fn expiries(meter: &Meter) -> Expiries {
    let expiries = Expiries::default();
    let known = Arc::clone(&expiries);
    _ = meter
        .i64_observable_gauge("turnpike_gateway_tls_certificate_left_seconds")
        .with_description("How long a certificate is still good; below 0: it has expired")
        .with_callback(move |observer| {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            for (name, not_after) in &*known.lock() {
                observer.observe(not_after - now, &[KeyValue::new("certificate", name.clone())]);
            }
        })
        .build();
    expiries
}

impl Metrics {
    pub fn rate_limited(&self, route: &str, policy: &str) {
        let labels =
            [KeyValue::new("route", ROUTES.label(route).text), KeyValue::new("policy", POLICIES.label(policy).text)];
        self.rate_limited.add(1, &labels);
    }
    pub fn mirrored(&self, route: &str, outcome: &'static str) {
        self.mirrored.add(1, &[KeyValue::new("route", ROUTES.label(route).text), KeyValue::new("outcome", outcome)]);
    }
    pub fn rate_limit_near(&self, policy: &str) {
        self.rate_limit_near.add(1, &[KeyValue::new("policy", POLICIES.label(policy).text)]);
    }
    pub fn shed(&self, reason: &'static str) {
        self.shed.add(1, &[KeyValue::new("reason", reason)]);
    }
    pub fn overload(&self, level: Level, memory: f64) {
        self.overload_level.record(level as u64);
        self.overload_memory.record(memory);
    }
    pub fn overload_delay(&self, core: usize, delay: Duration) {
        let core = i64::try_from(core).unwrap_or(i64::MAX);
        self.overload_delay.record(delay.as_secs_f64(), &[KeyValue::new("core", core)]);
    }
    pub fn concurrency_limited(&self, route: &str) {
        self.concurrency_limited.add(1, &[KeyValue::new("route", ROUTES.label(route).text)]);
    }
    pub fn address_refused(&self) {
        self.address_refused.add(1);
    }
    pub fn stream_opened(&self, kind: &'static str) {
        self.streams.add(1, &[KeyValue::new("kind", kind)]);
    }
    pub fn stream_closed(&self, kind: &'static str) {
        self.streams.add(-1, &[KeyValue::new("kind", kind)]);
    }
    pub fn panicked(&self) {
        self.panics.add(1);
    }
    pub fn connection_opened(&self) {
        self.connections.add(1, &[]);
    }
    pub fn protocol_begun(&self, protocol: &'static str) {
        self.protocols.add(1, &[KeyValue::new("protocol", protocol)]);
    }
    pub fn protocol_ended(&self, protocol: &'static str) {
        self.protocols.add(-1, &[KeyValue::new("protocol", protocol)]);
    }
    pub fn connection_closed(&self) {
        self.connections.add(-1, &[]);
    }
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.add(1, &[KeyValue::new("reason", reason)]);
    }
    pub fn handshake(&self, result: &'static str, version: &'static str) {
        self.handshakes.add(1, &[KeyValue::new("result", result), KeyValue::new("version", version)]);
    }
    pub fn http2_ended(&self, reason: &'static str) {
        self.http2_ended.add(1, &[KeyValue::new("reason", reason)]);
    }
    /// Which certificates are in use from now on: their names, and when they end as a Unix time.
    pub fn certificates(&self, expiries: Vec<(String, i64)>) {
        *self.certificates.lock() = expiries;
    }
    pub fn log_line_dropped(&self) {
        self.log_lines_dropped.add(1);
    }
    pub fn shared_reachable(&self, reachable: bool) {
        self.shared_reachable.record(reachable.into());
    }
    pub fn limits_together(&self, together: bool) {
        self.limits_together.record(together.into());
    }
    pub fn limited_by_share(&self) {
        self.limited_by_share.add(1);
    }
    pub fn idempotent(&self, outcome: &'static str) {
        self.idempotent.add(1, &[KeyValue::new("outcome", outcome)]);
    }
    pub fn token(&self, outcome: &'static str) {
        self.tokens.add(1, &[KeyValue::new("outcome", outcome)]);
    }
    pub fn jwks_fetched(&self, issuer: &str, ok: bool, now: SystemTime) {
        let issuer = KeyValue::new("issuer", ISSUERS.label(issuer).text);
        if ok {
            let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.jwks_fetched.record(now.as_secs(), std::slice::from_ref(&issuer));
        }
        self.jwks_fetches.add(1, &[issuer, KeyValue::new("result", if ok { "ok" } else { "error" })]);
    }
    pub fn revocations(&self, kept: usize) {
        self.revocations.record(kept as u64);
    }
    pub fn revocations_followed(&self, followed: bool) {
        self.revocations_followed.record(followed.into());
    }
    pub fn revocation_evicted(&self) {
        self.revocations_evicted.add(1);
    }
    pub fn cache(&self, outcome: &'static str) {
        if let Some(at) = CACHED.iter().position(|known| *known == outcome) {
            self.cache_requests[at].add(1);
        }
    }
    pub fn cache_purged(&self, what: &'static str) {
        self.cache_purged.add(1, &[KeyValue::new("what", what)]);
    }
    pub fn cache_bytes(&self, bytes: u64) {
        self.cache_bytes.record(bytes);
    }
    pub fn cache_followed(&self, followed: bool) {
        self.cache_followed.record(followed.into());
    }
    pub fn cache_evicted(&self) {
        self.cache_evicted.add(1);
    }
    pub fn answer_evicted(&self) {
        self.answers_evicted.add(1);
    }
    pub fn generation(&self, generation: u64) {
        self.generation.record(generation);
    }
    pub fn reloaded(&self, ok: bool) {
        self.reloads.add(1, &[KeyValue::new("result", if ok { "ok" } else { "error" })]);
        self.config_good.record(ok.into());
    }
}

/// What may become of a request of a route that keeps answers.
const CACHED: [&str; 9] =
    ["hit", "stale", "miss", "revalidated", "collapsed", "passed", "refused", "failed", "stale_if_error"];

/// The methods that are told apart; the rest is `other`.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::CONNECT,
];

/// A method's name, if it is one of those that are told apart.
pub fn known(method: &Method) -> Option<&str> {
    METHODS.contains(method).then(|| method.as_str())
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What stands for all that came when there were as many labels as may be.
pub const OTHER: &str = "__other__";

/// The labels of routes that have series of their own, ever: series can't be taken back.
pub static ROUTES: LazyLock<Labels> = LazyLock::new(|| Labels::new(2_000));
static POLICIES: LazyLock<Labels> = LazyLock::new(|| Labels::new(500));
static PARTS: LazyLock<Labels> = LazyLock::new(|| Labels::new(500));
static ISSUERS: LazyLock<Labels> = LazyLock::new(|| Labels::new(100));

/// The labels of a kind, at most so many beside [`OTHER`].
pub struct Labels {
    most: usize,
    known: RwLock<HashMap<Arc<str>, usize>>,
}

/// A label, and its number among those of its kind: 0 for [`OTHER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub text: Arc<str>,
    pub number: usize,
}

impl Labels {
    fn new(most: usize) -> Self {
        Self { most, known: RwLock::new(HashMap::from([(Arc::from(OTHER), 0)])) }
    }

    pub fn label(&self, text: &str) -> Label {
        if let Some((text, number)) = self.known.read().get_key_value(text) {
            return Label { text: Arc::clone(text), number: *number };
        }
        let mut known = self.known.write();
        let number = known.len();
        if number > self.most && !known.contains_key(text) {
            return Label { text: Arc::from(OTHER), number: 0 };
        }
        let text: Arc<str> = text.into();
        let number = *known.entry(Arc::clone(&text)).or_insert(number);
        Label { text, number }
    }
}

/// A route's handles, bound to its labels when they are first needed: recording is an addition from then on.
pub struct RouteMetrics {
    pub label: Label,
    requests: [[OnceLock<BoundCounter<u64>>; CLASSES.len()]; METHODS.len() + 1],
    seconds: OnceLock<BoundHistogram<f64>>,
    request_bytes: OnceLock<BoundCounter<u64>>,
    response_bytes: OnceLock<BoundCounter<u64>>,
}

impl RouteMetrics {
    pub fn new(id: &str) -> Self {
        Self {
            label: ROUTES.label(id),
            requests: Default::default(),
            seconds: OnceLock::new(),
            request_bytes: OnceLock::new(),
            response_bytes: OnceLock::new(),
        }
    }

    fn route(&self) -> KeyValue {
        KeyValue::new("route", Arc::clone(&self.label.text))
    }

    pub fn answered(&self, method: &Method, status: u16, seconds: f64) {
        let row = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let column = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[row][column]
            .get_or_init(|| {
                METRICS.requests.bind(&[
                    self.route(),
                    KeyValue::new("method", METHODS.get(row).map_or("other", Method::as_str).to_owned()),
                    KeyValue::new("status_class", CLASSES[column]),
                ])
            })
            .add(1);
        self.seconds.get_or_init(|| METRICS.seconds.bind(&[self.route()])).record(seconds);
    }

    /// Most requests have no body.
    pub fn passed(&self, received: u64, sent: u64) {
        if received > 0 {
            self.request_bytes.get_or_init(|| METRICS.request_bytes.bind(&[self.route()])).add(received);
        }
        if sent > 0 {
            self.response_bytes.get_or_init(|| METRICS.response_bytes.bind(&[self.route()])).add(sent);
        }
    }
}

/// What may become of a part of an aggregate.
const PART_ENDS: [&str; 5] = ["ok", "partial", "fallback", "failed", "skipped"];

/// A part's handles, bound when they are first needed.
pub struct PartMetrics {
    label: Label,
    ended: [OnceLock<BoundCounter<u64>>; PART_ENDS.len()],
}

impl PartMetrics {
    pub fn new(name: &str) -> Self {
        Self { label: PARTS.label(name), ended: Default::default() }
    }

    /// `outcome` is one of those above; the route is the same each time.
    pub fn ended(&self, route: &RouteMetrics, outcome: &'static str) {
        let Some(at) = PART_ENDS.iter().position(|known| *known == outcome) else { return };
        let part = || KeyValue::new("part", Arc::clone(&self.label.text));
        let bind = || METRICS.parts.bind(&[route.route(), part(), KeyValue::new("outcome", outcome)]);
        self.ended[at].get_or_init(bind).add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_bound_are_one() {
        let labels = Labels::new(2);
        assert_eq!((labels.label("a").number, labels.label("b").number), (1, 2));
        assert_eq!(labels.label("c"), Label { text: OTHER.into(), number: 0 });
        assert_eq!(labels.label("a"), Label { text: "a".into(), number: 1 });
    }
}
