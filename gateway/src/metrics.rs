//! Every metric of the gateway, by name. Labels are ids of routes, never paths.

use std::sync::{LazyLock, OnceLock};

use http::{Method, StatusCode};
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter, Counter, Histogram, UpDownCounter},
};

pub struct Metrics {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    pub in_flight: BoundUpDownCounter<i64>,
    rate_limited: Counter<u64>,
    shed: BoundCounter<u64>,
    panics: BoundCounter<u64>,
    connections: UpDownCounter<i64>,
    connections_refused: Counter<u64>,
    log_lines_dropped: BoundCounter<u64>,
    reloads: Counter<u64>,
    generation: BoundGauge<u64>,
    config_good: BoundGauge<u64>,
    shared_reachable: BoundGauge<u64>,
    limits_together: BoundGauge<u64>,
    limited_by_share: BoundCounter<u64>,
    idempotent: Counter<u64>,
    answers_evicted: BoundCounter<u64>,
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
        in_flight: meter
            .i64_up_down_counter("turnpike_gateway_in_flight")
            .with_description("Requests being answered")
            .build()
            .bind(&[]),
        rate_limited: meter
            .u64_counter("turnpike_gateway_rate_limited")
            .with_description("Requests beyond a rate limit, refused or (mode shadow) only counted")
            .build(),
        shed: meter
            .u64_counter("turnpike_gateway_shed")
            .with_description("Requests refused because too many were in flight")
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
        connections_refused: meter
            .u64_counter("turnpike_gateway_connections_refused")
            .with_description("Connections closed at once because too many were open")
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
        idempotent: meter
            .u64_counter("turnpike_gateway_idempotency")
            .with_description("Requests with an Idempotency-Key, by what became of them")
            .build(),
        answers_evicted: meter
            .u64_counter("turnpike_gateway_idempotency_evicted")
            .with_description("Answers forgotten before their time for want of room: a repeat would be done again")
            .build()
            .bind(&[]),
    }
});

impl Metrics {
    pub fn rate_limited(&self, route: &str, policy: &str) {
        self.rate_limited
            .add(1, &[KeyValue::new("route", route.to_owned()), KeyValue::new("policy", policy.to_owned())]);
    }
    pub fn shed(&self) {
        self.shed.add(1);
    }
    pub fn panicked(&self) {
        self.panics.add(1);
    }
    pub fn connection_opened(&self) {
        self.connections.add(1, &[]);
    }
    pub fn connection_closed(&self) {
        self.connections.add(-1, &[]);
    }
    pub fn connection_refused(&self) {
        self.connections_refused.add(1, &[]);
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

/// A route's handles, bound to its labels when they are first needed: recording is an addition from then on.
pub struct RouteMetrics {
    id: String,
    requests: [[OnceLock<BoundCounter<u64>>; CLASSES.len()]; METHODS.len() + 1],
    seconds: OnceLock<BoundHistogram<f64>>,
}

impl RouteMetrics {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), requests: Default::default(), seconds: OnceLock::new() }
    }

    pub fn record(&self, method: &Method, status: StatusCode, seconds: f64) {
        let row = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let column = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[row][column]
            .get_or_init(|| {
                METRICS.requests.bind(&[
                    KeyValue::new("route", self.id.clone()),
                    KeyValue::new("method", METHODS.get(row).map_or("other", Method::as_str).to_owned()),
                    KeyValue::new("status_class", CLASSES[column]),
                ])
            })
            .add(1);
        self.seconds.get_or_init(|| METRICS.seconds.bind(&[KeyValue::new("route", self.id.clone())])).record(seconds);
    }
}
