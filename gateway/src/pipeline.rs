//! The order of everything that happens to a request, outermost first.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicUsize},
};

use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder};

use crate::{
    access_log::{self, AccessLog},
    analytics,
    auth::Authority,
    cache::Store,
    coding::Slots,
    idempotency::Records,
    layers::{
        Request, Response, action, addresses, authenticate, authorise, cache, compress, concurrency, cors, deadline,
        decompress, farewell, https_only, idempotency, limits, load_shed, observe, panic_guard, rate_limit, request_id,
        rescue, route_match, security_headers, unreadable,
    },
    metrics::RouteMetrics,
    overload,
    route::Local,
    snapshot::Snapshot,
    worker::Worker,
};

/// What a pipeline needs beside the snapshot: what outlives it.
pub struct Surroundings {
    pub authority: Arc<Authority>,
    pub records: Arc<Records>,
    /// What is kept of answers.
    pub cache: Arc<Store>,
    pub access_log: access_log::Writer,
    /// This core's share of them.
    pub analytics: Arc<analytics::Core>,
    /// This core's share of the requests in flight.
    pub in_flight: Arc<AtomicUsize>,
    /// Whether this core has too much to do.
    pub overload: Arc<overload::Core>,
    /// Its places for bodies on their way out, and on their way in.
    pub compressing: Slots,
    pub decompressing: Slots,
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
    let access_log = edge.access_log.as_ref().map(|section| AccessLog::new(around.access_log.clone(), section.clone()));
    let analytics = edge.analytics.then(|| Arc::clone(&around.analytics));
    let unmatched = Arc::new(RouteMetrics::new(observe::UNMATCHED));
    let bound = edge.limits.in_flight.div_ceil(around.cores);
    let table = Arc::new(snapshot.table.map(&|route| Arc::new(Local(Arc::clone(route)))));
    let compression = edge.compression.clone().map(|config| Arc::new((config, around.compressing.clone())));
    let policies = || snapshot.routes.iter().map(|listed| &listed.route.policy);
    let cors_differs = policies().any(|policy| !matches!(policy.cors, cors::OfRoute::Inherited));
    let https = snapshot.tls.iter().any(Option::is_some) || !edge.proxies.networks.is_empty();
    let https_only = snapshot.listeners.iter().any(|listener| listener.redirect_https.is_some());
    let keeps = policies().any(|policy| policy.cache.is_some());
    let headers_differ = policies().any(|policy| policy.security_headers.is_some());
    let cache = Some(Arc::clone(&around.cache));
    let worker = Arc::new(Worker { cache, ..Worker::clone(worker) });
    ServiceBuilder::new()
        // Everything after it, errors and log lines included, names the request by its id.
        .layer(request_id::Layer(Arc::clone(&edge.proxies)))
        // Sees every answer there is, also those that the layers below make.
        .layer(observe::Layer { access_log, analytics, unmatched })
        // A stream of events would last as long as the drain may; its client finds another gateway by itself.
        .layer(farewell::Layer(Arc::clone(&around.draining)))
        // A page of another origin must be able to read errors too; and a preflight carries no credentials to check.
        .layer(cors::Layer { everywhere: edge.cors.clone(), routes: cors_differs.then(|| Arc::clone(&table)) })
        // On every answer, errors included.
        .layer(security_headers::Layer {
            everywhere: edge.security_headers.own(),
            routes_differ: headers_differ,
            https,
        })
        // Below here is failure, above only answers.
        .layer(rescue::Layer)
        // Around all that could panic and still be told to the client.
        .layer(panic_guard::Layer)
        // What is no request has been named, counted and logged by now; nothing below could make anything of it.
        .layer(unreadable::Layer)
        // Nothing is served, nor refused by any rule, that would have to be asked for again.
        .layer(https_only::Layer(https_only))
        // Who may not call from where they are is refused first.
        .layer(addresses::Layer::Given(edge.addresses.clone()))
        // Who sends too much is refused before anything is spent on it.
        .layer(rate_limit::Layer::Given(edge.client_limits.clone()))
        // Before any work, so that refusing stays cheap when there is too much of it.
        .layer(load_shed::Layer {
            bound,
            in_flight: Arc::clone(&around.in_flight),
            overload: Arc::clone(&around.overload),
        })
        // What follows depends on the route.
        .layer(route_match::Layer(table))
        // The route may be for some networks only.
        .layer(addresses::Layer::OfRoute)
        // Outside of all that keeps answers, for clients that take them in other forms; inside of what leaves out
        // HEAD's body.
        .layer(compress::Layer(compression))
        // The route says how large a body may be; nothing has been read of it yet.
        .layer(limits::Layer(Arc::clone(&edge.limits)))
        // From here on something may wait.
        .layer(deadline::Layer(Arc::clone(&around.overload)))
        // Before whatever asks who calls.
        .layer(authenticate::Layer {
            authority: Arc::clone(&around.authority),
            tokens: Arc::clone(&snapshot.tokens),
            certificates: snapshot.certificates.clone(),
            cors: edge.cors.clone(),
        })
        // Who may not do it must not use up a quota for it.
        .layer(authorise::Layer)
        // What can't be taken now must not use up a quota either.
        .layer(concurrency::Layer)
        // After all that refuses by other rules, so that only requests that would have been served count.
        .layer(rate_limit::Layer::OfRoute)
        // Where the body counts, it is what was meant that counts; and nobody is given room for it who has no right to
        // it.
        .layer(decompress::Layer(around.decompressing.clone()))
        // Whoever is answered from a record may do what the record says, and has been counted.
        .layer(idempotency::Layer(Arc::clone(&around.records)))
        // Whoever gets what is kept has passed all that could have refused it.
        .layer(cache::Layer(keeps.then(|| Arc::clone(&around.cache))))
        .service(action::Service { worker })
}
