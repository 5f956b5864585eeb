//! Which instances of a service there are: each announces itself in Redis by heartbeats, and who calls the service follows.
//!
//! | what happens | when those who follow know |
//! |---|---|
//! | an instance starts, or leaves in order | at once, by a message; should that be lost, within a second |
//! | an instance is killed | when it has been silent for [`LIFETIME`] |
//! | all instances are silent at once | not for [`DISBELIEF`], since it is likelier that they can't reach Redis; [`Standing`] says so |
//! | Redis is away, frozen, or has lost its memory | never: what was known stays, and for [`GRACE`] after Redis is back every instance has time to announce itself again |
//!
//! So a set that was known never becomes empty because of Redis. How old a heartbeat is is told by the clock of Redis alone.
//! Not here: whether an instance is well. That is found out by asking it.

mod announce;
mod follow;
mod instance;
mod keys;
mod known;
mod server;

pub use announce::{Announcement, Announcing};
pub use follow::{Follower, Standing};
pub use instance::{Instance, Refused, is_service};
pub use server::Registry;

use std::time::Duration;

/// How often an instance says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// An instance that was silent for so long is taken for dead.
pub const LIFETIME: Duration = Duration::from_secs(5);
/// How long instances have to announce themselves again once Redis is back.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long instances that are all silent at once are taken to be there yet.
pub const DISBELIEF: Duration = Duration::from_secs(300);
/// The most instances of one service; one more is refused, and tries again.
pub const INSTANCES: usize = 1024;
