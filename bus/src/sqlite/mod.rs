//! The bus in one process, on a SQLite file.
//!
//! One thread owns the write connection. It takes every request that waits, does them in one transaction and answers
//! after its commit: a batch in flight is the group commit, and nothing lingers. Confirmations are `stored` (WAL,
//! synchronous NORMAL) or `fsynced` (FULL, for the whole batch). Leases and positions live in memory and in the file;
//! reads of the log go past the writer. A second opener is refused. Every opening begins a new lineage and ends the
//! leases of the last one: their holders were this file's process.

mod attendance;
mod bookmark;
mod claim;
mod dead;
mod declare;
mod dedupe;
mod floor;
mod handle;
mod housekeep;
mod latest;
mod lead;
mod load;
mod lock;
mod log;
mod owned;
mod producer;
mod publish;
mod schedule;
mod schema;
mod seek;
mod settle;
mod shared;
mod source;
mod standing;
mod status;
mod store;
mod sys;
mod writer;

use std::{path::Path, sync::Arc};

pub use handle::Sqlite;
pub(crate) use source::Source;

use crate::{Bus, Clock, SystemClock};

/// How to open a file.
#[derive(Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    /// Of tokens, lineages and jitter; None: the system's randomness.
    pub seed: Option<u64>,
    /// Events that a partition's dedupe window holds at most, about 64 bytes each.
    pub dedupe_events: usize,
    /// Events of a partition that wait for their time at most.
    pub scheduled_events: usize,
}

impl Default for Options {
    /// The system's clock and randomness, 262,144 events, 100,000 that wait.
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), seed: None, dedupe_events: 1 << 18, scheduled_events: 100_000 }
    }
}

/// Opens the file, alone (a second opener is refused).
///
/// # Errors
/// If another process has it open, it can't be read, or it is of another version.
pub async fn open(path: &Path) -> anyhow::Result<Bus> {
    Ok(Bus::new(Sqlite::open(path, Options::default()).await?))
}
