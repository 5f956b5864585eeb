//! What a handler is given: its input, the results before it, and a line to the job.

use std::{collections::BTreeMap, sync::Arc};

use bus::Inbox;
use database::Transaction;
use events::Envelope;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Failure, Kind, event};

/// The most bytes of what is said of progress.
const NOTE_BYTES: usize = 256;

/// One attempt at a task, as its handler sees it.
#[derive(Debug)]
pub struct Job<I> {
    pub id: Uuid,
    pub name: String,
    /// The task's own name within the job.
    pub task: String,
    /// 1 for the first.
    pub attempt: u32,
    /// The principal whose job it is.
    pub owner: Option<String>,
    pub input: I,
    pub(crate) line: Arc<Line>,
}

/// What connects a handler with its worker.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// What it said of its progress and nobody has stored yet.
    progress: Mutex<Option<Progress>>,
    /// It should end.
    pub ending: CancellationToken,
    /// It was cancelled: what it says doesn't count any more.
    pub cancelled: CancellationToken,
    /// The results of the tasks it comes after, as JSON.
    pub results: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    /// Millionths.
    pub part: i64,
    pub note: String,
}

impl<I> Job<I> {
    /// The result of a task that this one comes after.
    ///
    /// # Errors
    /// Fatal ones: where it doesn't come after that, or the result is of another kind.
    pub fn result<A, O: DeserializeOwned>(&self, kind: &Kind<A, O>, task: &str) -> Result<O, Failure> {
        let result = self.line.results.get(task);
        let result = result.ok_or_else(|| Failure::fatal(format!("{:?} doesn't come after {task:?}", self.task)))?;
        kind.output(result).map_err(Failure::fatal)
    }

    /// Says how much is done, 0 to 1, and what (cut at 256 bytes). Stored twice a second at most; the last one wins.
    pub fn progress(&self, part: f64, note: &str) {
        *self.line.progress.lock() = Some(Progress::new(part, note));
    }

    /// Cancelled when the handler should end: the job was stopped or cancelled, or its worker has lost the task. Where it was
    /// stopped the handler may finish all the same, or answer [`Failure::GivenBack`] and begin anew when the job is resumed.
    /// Where it was cancelled it is cut off after five seconds.
    pub fn ending(&self) -> &CancellationToken {
        &self.line.ending
    }

    /// An id for what the handler does beside, the same in each attempt at this task: an idempotency key for a provider, the
    /// id of an event.
    pub fn step_id(&self, step: &str) -> Uuid {
        event::step_id(self.id, &self.task, step)
    }

    /// Whether the step is done for the first time, remembered in the handler's own transaction (its database has
    /// [`bus::Inbox::migration`]): false in a later attempt, once the transaction has committed.
    ///
    /// # Errors
    /// As the transaction's.
    pub async fn first(&self, tx: &mut Transaction, step: &str) -> Result<bool, database::Error> {
        let (queue, name) = (event::queue(crate::Priority::Normal), event::name("step"));
        let envelope = Envelope::new(event::SOURCE, queue, name).id(self.step_id(step).to_string());
        Inbox::new("jobs").first(tx, &envelope).await
    }
}

impl Progress {
    pub fn new(part: f64, note: &str) -> Self {
        let part = if part.is_finite() { (part.clamp(0.0, 1.0) * 1e6) as i64 } else { 0 };
        // PostgreSQL takes no NUL.
        Self { part, note: note[..note.floor_char_boundary(NOTE_BYTES)].replace('\0', "") }
    }
}

impl Line {
    pub fn new(results: BTreeMap<String, String>) -> Self {
        Self { results, ..Self::default() }
    }

    /// Takes what was said of the progress since the last time.
    pub fn take_progress(&self) -> Option<Progress> {
        self.progress.lock().take()
    }
}
