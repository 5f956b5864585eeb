//! Reaching a Redis: one server, the one that Sentinels name, or a Cluster; by TLS, as a user; and again after a failure.
//!
//! An [`Address`] says where it is and who asks, and never shows a password. A [`Redis`] is a handle that many use at once:
//! commands of all of them share a connection (on a Cluster: one for each node that has slots). What was sent when a
//! connection broke is answered with the error and never sent again by itself, since it may have been done; what could
//! not be sent yet waits for another connection, for as long as [`Patience`] says. A server that answers as a replica, or
//! not at all, is left, and the Sentinels or the Cluster are asked anew. On a Cluster, a command is sent to the node of its
//! key, follows the key where it moves, and waits while it is on its way; commands of one pipeline whose keys lie in
//! different slots are sent at the same time and answered in their order.
//!
//! Not here: what is asked. Not reads from replicas.

mod address;
mod cluster;
mod dial;
mod link;
mod redis;
mod sentinel;
mod settings;

pub use address::{Address, Refused};
pub use redis::{Node, Patience, Redis};
pub use settings::Settings;
