//! What the gateway adds to the ops listener: a file a subject, and here the list of all of them. Every answer is JSON; no
//! answer holds a secret.

mod analytics;
mod api_keys;
mod cache;
mod certificates;
mod config;
mod connections;
mod descriptors;
mod explain;
mod issuers;
mod keys;
mod limits;
mod overload;
mod revocations;
mod routes;
mod sessions;
mod shared;
mod upstreams;

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    routing::{delete, get, post},
};

use lifecycle::OpsIndex;

use crate::reload::Reloader;

/// Everything there is, with a line for whoever looks around.
fn subjects() -> Subjects {
    Subjects::default()
        .get("/routes", "every route that can be taken, and what holds on it", routes::show)
        .get(
            "/explain",
            "what would become of a request, and why: ?method=&path=&host=&header=NAME:VALUE&client=",
            explain::show,
        )
        .get(
            "/upstreams",
            "every endpoint with its health and the reason, and what names were last found to be",
            upstreams::show,
        )
        .get(
            "/limits",
            "every rate limit, how many keys it counts and which press most; requests under way",
            limits::show,
        )
        .get(
            "/descriptors",
            "what services that are asked by reflection have said, when, and why it doesn't count; which routes wait for it",
            descriptors::show,
        )
        .get("/limits/key", "what is left to one key: ?limit=PLACE&key=VALUE", limits::key)
        .delete("/limits/key", "forgets what was counted for one key: ?limit=PLACE&key=VALUE", limits::reset)
        .get("/cache", "how much is kept, what came of purges, and whether events that purge are heard", cache::show)
        .post("/cache/purge", "purges here: ?tag=TAG, ?prefix=https://host/path or ?all=true", cache::purge)
        .get("/overload", "whether there is too much, why, and what is done about it", overload::show)
        .get(
            "/connections",
            "open connections by protocol, the oldest, and which addresses have most",
            connections::show,
        )
        .get("/shared", "how this gateway stands with those it shares limits and sessions with", shared::show)
        .get(
            "/api-keys",
            "every API key by its id: whose it is, until when, when it was last used here",
            api_keys::show,
        )
        .get(
            "/sessions",
            "the sessions there are, a hundred at a time: ?after= the page before's `next`",
            sessions::show,
        )
        .get(
            "/jwks",
            "whose tokens are believed, by which keys, how old they are and when they are fetched next",
            issuers::show,
        )
        .get(
            "/revocations",
            "where revocations come from, whether all are known, and how many are kept",
            revocations::show,
        )
        .get(
            "/certificates",
            "what TLS listeners show, until when it is good, and since when it is shown",
            certificates::show,
        )
        .get("/config", "which configuration is in force, what it holds, and how the last reload went", config::show)
        .post(
            "/reload",
            "reads the configuration again: 200 with the generation, 422 with what is wrong",
            config::reload,
        )
        .get(
            "/analytics/routes",
            "how requests went by route: counts, errors, p50, p90, p99; ?from=-1h&sort=p99",
            analytics::routes,
        )
        .get("/analytics/clients", "who asks most, or fails most; ?by=errors&route=", analytics::clients)
        .get("/analytics/statuses", "how requests went over time; ?step=1m&route=", analytics::statuses)
        .get("/.well-known/jwks.json", "the public keys of the tokens that upstreams get", keys::show)
}

pub fn router(reloader: &Arc<Reloader>) -> Router {
    subjects().router.with_state(Arc::clone(reloader))
}

pub fn index() -> OpsIndex {
    subjects().index
}

#[derive(Default)]
struct Subjects {
    router: Router<Arc<Reloader>>,
    index: OpsIndex,
}

impl Subjects {
    fn get<H: Handler<T, Arc<Reloader>>, T: 'static>(self, path: &str, about: &'static str, handler: H) -> Self {
        let Self { router, mut index } = self;
        index.push((format!("GET {path}"), about));
        Self { router: router.route(path, get(handler)), index }
    }

    fn post<H: Handler<T, Arc<Reloader>>, T: 'static>(self, path: &str, about: &'static str, handler: H) -> Self {
        let Self { router, mut index } = self;
        index.push((format!("POST {path}"), about));
        Self { router: router.route(path, post(handler)), index }
    }

    fn delete<H: Handler<T, Arc<Reloader>>, T: 'static>(self, path: &str, about: &'static str, handler: H) -> Self {
        let Self { router, mut index } = self;
        index.push((format!("DELETE {path}"), about));
        Self { router: router.route(path, delete(handler)), index }
    }
}
