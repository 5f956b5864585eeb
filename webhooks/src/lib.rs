//! Webhooks: events delivered to somebody else's server by HTTP, signed as Standard Webhooks says
//! (<https://www.standardwebhooks.com>).
//!
//! An endpoint is a group of the bus (`webhook.<id>`), so that what the bus promises its groups holds for it: each event at
//! least once, in order a key where it is `ordered`, retried by a schedule that outlasts a night, and none passed over in
//! silence. Any number of processes deliver for the same endpoints; what is known of these lies in the database they share.
//!
//! - [`Webhooks`] registers endpoints, changes and tells of them; [`Webhooks::run`] delivers.
//! - An endpoint that fails is spared ([`breaker`]) and in the end disabled: its place in the log stays, as long as the log does.
//! - Nothing is sent into a private network unless that is allowed ([`guard`]), and no redirect is followed.
//!
//! It doesn't say who may register what: that is for the broker to decide, by scopes.

mod ack;
mod answer;
mod attempt;
mod attend;
mod breaker;
mod client;
mod deliver;
mod endpoint;
mod error;
mod guard;
mod handle;
mod metrics;
mod place;
mod request;
mod seal;
mod secret;
mod store;
mod tend;

pub use ack::{AckError, Late};
pub use answer::Class;
pub use attempt::{Attempt, Attempts};
pub use client::Names;
pub use endpoint::{Begin, Change, Disabled, Endpoint, NewEndpoint, Reason, State};
pub use error::Error;
pub use handle::{Options, Resumed, Webhooks};
pub use place::Standing;
pub use secret::Signature;
pub use store::migrations;
