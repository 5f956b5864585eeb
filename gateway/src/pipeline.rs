//! The order of everything that happens to a request, outermost first.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicUsize},
};

use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder};

use crate::{
    access_log::AccessLog,
    auth::Authority,
    idempotency::Records,
    layers::{
        Request, Response, action, authenticate, authorise, cors, deadline, farewell, idempotency, limits, load_shed,
        observe, panic_guard, rate_limit, request_id, rescue, route_match, security_headers,
    },
    metrics::RouteMetrics,
    route::Local,
    snapshot::Snapshot,
    worker::Worker,
};

/// What a pipeline needs beside the snapshot: what outlives it.
pub struct Surroundings {
    pub authority: Arc<Authority>,
    pub records: Arc<Records>,
    pub access_log: AccessLog,
    /// This core's share of the requests in flight.
    pub in_flight: Arc<AtomicUsize>,
    pub cores: usize,
    /// Cancelled when the gateway drains.
    pub draining: Arc<CancellationToken>,
}

/// One core's pipeline for one snapshot.
pub fn pipeline(
    snapshot: &Snapshot,
    worker: &Arc<Worker>,
    around: &Surroundings,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Send + 'static + use<> {
    let edge = &snapshot.edge;
    let access_log = edge.access_log.then(|| around.access_log.clone());
    let unmatched = Arc::new(RouteMetrics::new(observe::UNMATCHED));
    let bound = edge.limits.in_flight.div_ceil(around.cores);
    let table = Arc::new(snapshot.table.map(&|route| Arc::new(Local(Arc::clone(route)))));
    ServiceBuilder::new()
        // Everything after it, errors and log lines included, names the request by its id.
        .layer(request_id::Layer)
        // Sees every answer there is, also those that the layers below make.
        .layer(observe::Layer { access_log, unmatched })
        // A stream of events would last as long as the drain may; its client finds another gateway by itself.
        .layer(farewell::Layer(Arc::clone(&around.draining)))
        // A page of another origin must be able to read errors too; and a preflight carries no credentials to check.
        .layer(cors::Layer(edge.cors.clone()))
        // On every answer, errors included.
        .layer(security_headers::Layer(edge.security_headers.own()))
        // Below here is failure, above only answers.
        .layer(rescue::Layer)
        // Around all that could panic and still be told to the client.
        .layer(panic_guard::Layer)
        // Who sends too much is refused before anything is spent on it.
        .layer(rate_limit::Layer::Given(edge.client_limits.clone()))
        // Before any work, so that refusing stays cheap when there is too much of it.
        .layer(load_shed::Layer { bound, in_flight: Arc::clone(&around.in_flight) })
        // What follows depends on the route.
        .layer(route_match::Layer(table))
        // The route says how large a body may be; nothing has been read of it yet.
        .layer(limits::Layer(Arc::clone(&edge.limits)))
        // From here on something may wait.
        .layer(deadline::Layer)
        // Before whatever asks who calls.
        .layer(authenticate::Layer { authority: Arc::clone(&around.authority), cors: edge.cors.clone() })
        // Who may not do it must not use up a quota for it.
        .layer(authorise::Layer)
        // After all that refuses by other rules, so that only requests that would have been served count.
        .layer(rate_limit::Layer::OfRoute)
        // Last: whoever is answered from a record may do what the record says, and has been counted.
        .layer(idempotency::Layer(Arc::clone(&around.records)))
        .service(action::Service { worker: Arc::clone(worker) })
}
