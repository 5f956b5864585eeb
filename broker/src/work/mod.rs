//! Working for a group over HTTP: `PUT /groups/{group}` declares it, `POST /groups/{group}/claim` leases what it is to get,
//! `POST /groups/{group}/settle` and `POST /deliveries/{token}/{ack,nack,release,defer,extend,dead}` settle. Call by call what
//! `turnpike.bus.v1` has as Claim and Settle, by the same rules.

mod claim;
mod declaration;
mod deliveries;
mod lease;
mod settlement;
mod token;

use axum::{
    Router,
    routing::{post, put},
};

pub(crate) use claim::wait;
pub(crate) use lease::{BYTES, EVENTS, IDLE, bounded, lease, member, of_jobs, released};

use crate::shared::Shared;

/// The longest that an event may be put off.
pub(crate) const LONGEST_DELAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// The most settlements at once.
pub(crate) const MOST_SETTLEMENTS: usize = 1000;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/groups/{group}", put(declaration::declare))
        .route("/groups/{group}/claim", post(claim::claim))
        .route("/groups/{group}/settle", post(settlement::settle))
        .route("/deliveries/{token}/{verb}", post(deliveries::settle))
}
