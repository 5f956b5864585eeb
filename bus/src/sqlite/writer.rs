//! The writer thread: what waits is a batch, a batch is a transaction.

use std::{collections::BTreeMap, collections::HashMap, fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use rand::{SeedableRng as _, rngs::StdRng};
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{
    Options, attendance,
    housekeep::Keeping,
    lead::Leads,
    lock,
    owned::{Job, Owned},
    schema,
    shared::Shared,
};
use crate::clock::Forward;

/// Jobs in a transaction.
const BATCH: usize = 256;

/// Opens the file and starts the thread, which ends when the last sender is gone.
pub(super) fn start(
    path: &Path,
    options: Options,
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
) -> anyhow::Result<()> {
    let lock = lock::acquire(path)?;
    let core = open(path, options, shared).with_context(|| format!("the bus can't open {}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("bus-writer".to_owned()).spawn(move || run(core, jobs, &runtime, lock))?;
    Ok(())
}

fn open(path: &Path, options: Options, shared: Arc<Shared>) -> anyhow::Result<Owned> {
    let conn = Connection::open(path)?;
    schema::prepare(&conn)?;
    let rng = options.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
    let mut core = Owned {
        conn,
        clock: Forward::new(options.clock),
        rng,
        queues: HashMap::new(),
        groups: BTreeMap::new(),
        shared,
        dedupe_capacity: options.dedupe_events.max(1),
        scheduled_capacity: options.scheduled_events,
        housekeeping_due: 0,
        keeping: Keeping::default(),
        attendance: attendance::Clock::default(),
        leads: Leads::default(),
        told: Vec::new(),
        stale: false,
    };
    core.begin_life()?;
    Ok(core)
}

fn run(mut core: Owned, mut jobs: mpsc::Receiver<Job>, runtime: &tokio::runtime::Runtime, lock: File) {
    loop {
        let mut batch = Vec::new();
        let wait = Duration::from_millis(core.until_due());
        let received = runtime.block_on(async { tokio::time::timeout(wait, jobs.recv_many(&mut batch, BATCH)).await });
        if received == Ok(0) {
            break;
        }
        if !batch.is_empty() || core.is_due() {
            core.run(batch);
        }
    }
    core.close();
    drop(lock);
}
