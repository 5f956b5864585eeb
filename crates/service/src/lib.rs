//! The shell of a gRPC service: listener, health, reflection, deadlines, traces, metrics, principal, database, outbox
//! relay, consumers, tasks and drain. A service brings its domain, its SQL and its RPCs; nothing else.

mod caller;
mod page;
mod record;
mod server;
mod status;
mod violation;

pub use caller::{caller, caller_or_anonymous, require_scope, require_service};
pub use page::{Page, PageToken};
pub use record::record;
pub use server::{Builder, Config, Service};
pub use status::StatusExt;
pub use violation::Violations;
