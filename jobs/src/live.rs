//! The attempts a worker has under way: what they have said of their progress, and what they are to be told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::{Error, Jobs, event::Run, job::Line, machine::Told};

/// How soon a handler is told, and its progress stored.
const LOOK: Duration = Duration::from_millis(500);

/// By job, task and start.
type Key = (Uuid, usize, u32);

#[derive(Default)]
pub(crate) struct Live(Mutex<HashMap<Key, (Run, Arc<Line>)>>);

/// An attempt's place; dropped, it is gone.
pub(crate) struct Alive<'a> {
    live: &'a Live,
    key: Key,
}

impl Live {
    pub fn enter(&self, run: Run, start: u32, line: Arc<Line>) -> Alive<'_> {
        let key = (run.job, run.task, start);
        self.0.lock().insert(key, (run, line));
        Alive { live: self, key }
    }

    /// Tells handlers and stores their progress, for ever.
    pub async fn watch(&self, jobs: &Jobs, worker: &str) {
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if let Err(error) = self.look(jobs, worker).await {
                tracing::debug!(%error, "handlers can't be told at the moment");
            }
        }
    }

    async fn look(&self, jobs: &Jobs, worker: &str) -> Result<(), Error> {
        if self.0.lock().is_empty() {
            return Ok(());
        }
        for (key, told) in jobs.store().told(worker).await? {
            if let Some((_, line)) = self.0.lock().get(&key) {
                line.ending.cancel();
                if told == Told::Cancel {
                    line.cancelled.cancel();
                }
            }
        }
        let said: Vec<_> = {
            let lines = self.0.lock();
            lines.iter().filter_map(|(key, (run, line))| Some((*run, key.2, line.take_progress()?))).collect()
        };
        if !said.is_empty() {
            jobs.store().progress(&said).await?;
        }
        Ok(())
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.live.0.lock().remove(&self.key);
    }
}
