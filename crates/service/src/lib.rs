//! The shell of a gRPC service: listener, health, reflection, deadlines, traces, metrics, principal, database, outbox
//! relay, consumers, tasks and drain. A service brings its domain, its SQL and its RPCs; nothing else.

mod announce;
mod builder;
mod caller;
mod descriptor;
mod forward;
mod health;
mod inbox;
mod listener;
mod metrics;
mod page;
mod periodic;
mod record;
mod run;
mod stack;
pub mod status;
mod timestamp;
mod violation;

pub use announce::Announce;
pub use builder::{Builder, Config};
pub use caller::{caller, caller_or_anonymous, deadline, require_scope, require_service};
pub use forward::Forward;
pub use page::{Page, PageToken};
pub use record::record;
pub use run::Service;
pub use timestamp::timestamp;
pub use violation::Violations;
