//! The event bus: one partitioned log a queue; groups lease, settle and retry its events; tail readers follow it.

mod backend;
mod consumer;
mod inbox;
mod model;
pub mod sqlite;

pub use backend::Backend;
pub use consumer::{Consumer, Failure, Handler};
pub use inbox::Inbox;
pub use model::*;

use std::sync::Arc;

/// A handle on a bus, whatever its backend. Clones share it.
#[derive(Clone)]
pub struct Bus(Arc<dyn Backend>);
