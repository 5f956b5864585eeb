//! The task that keeps a group's state of one partition. What is asked while a commit is in flight is the next batch, and
//! a batch is one commit: nothing lingers. Where another node was first, the state is taken as it is now, and the batch
//! is done again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    desk::{Desk, Tried},
    job::{Answer, Ask, Job},
};
use crate::{Error, redis::shared::Shared};

/// Jobs that wait for a keeper, and in a batch.
const WAITING: usize = 1024;
const BATCH: usize = 256;
/// How often a batch is begun again because other nodes were first; after so many its node gets a turn.
const TRIES: u32 = 100;
const LATE: u32 = 3;
/// The longest pause while it is another node's turn.
const PAUSE: Duration = Duration::from_millis(4);
/// The longest sleep while there are leases to be given back.
const SOON: Duration = Duration::from_millis(200);
/// The longest sleep without a look at the clock.
const NAP: Duration = Duration::from_secs(1);

/// How a keeper is asked.
#[derive(Clone)]
pub(super) struct Keeper(mpsc::Sender<Job>);

impl Keeper {
    /// Starts the task, which ends when the last sender is gone.
    pub(super) fn start(shared: &Arc<Shared>, desk: Desk) -> Self {
        let (sender, jobs) = mpsc::channel(WAITING);
        tokio::spawn(keep(Arc::downgrade(shared), desk, jobs));
        Self(sender)
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, Error> {
        let (reply, answered) = oneshot::channel();
        let closed = || Error::Unavailable("the bus is closed".to_owned());
        self.0.send(Job { ask, reply }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn keep(shared: Weak<Shared>, mut desk: Desk, mut jobs: mpsc::Receiver<Job>) {
    loop {
        let mut batch = Vec::new();
        let Some(open) = shared.upgrade() else { return };
        // What is due may wait for somebody who waits for it.
        let due = desk.until_due(&open).filter(|_| desk.is_watched(&open));
        let longest = if desk.has_orphans() { SOON } else { NAP };
        let nap = due.map_or(longest, |due| due.min(longest));
        drop(open);
        let received = tokio::time::timeout(nap, jobs.recv_many(&mut batch, BATCH)).await;
        let Some(shared) = shared.upgrade() else { return };
        match received {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) if desk.has_orphans() => {}
            Err(_) if desk.is_due(&shared) && desk.is_watched(&shared) => {}
            Err(_) => continue,
        }
        loop {
            let together = batch.iter().position(Job::is_apart).map_or(batch.len(), |apart| apart.max(1));
            let rest = batch.split_off(together.min(batch.len()));
            work(&shared, &mut desk, std::mem::replace(&mut batch, rest)).await;
            if batch.is_empty() {
                break;
            }
        }
    }
}

/// Does jobs in one commit, and answers them.
async fn work(shared: &Arc<Shared>, desk: &mut Desk, jobs: Vec<Job>) {
    let asks: Vec<&Ask> = jobs.iter().map(|job| &job.ask).collect();
    let result = settle_on(shared, desk, &asks).await;
    match result {
        Ok(answers) => {
            for (job, answer) in jobs.into_iter().zip(answers) {
                // Whoever asked may have gone meanwhile.
                let _ = job.reply.send(answer);
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.reply.send(Err(error.clone()));
            }
        }
    }
}

async fn settle_on(shared: &Arc<Shared>, desk: &mut Desk, asks: &[&Ask]) -> Result<Vec<Result<Answer, Error>>, Error> {
    for attempt in 0..TRIES {
        desk.late = attempt >= LATE;
        match desk.attempt(shared, asks).await {
            Ok(Tried::Done(answers)) => return Ok(answers),
            // At once: the state that came back is the newest there is.
            Ok(Tried::Stale) => {}
            Ok(Tried::Busy) => tokio::time::sleep(PAUSE.mul_f64(rand::random())).await,
            Err(error) => {
                // Whether it was done nobody knows.
                desk.forget();
                return Err(error);
            }
        }
    }
    Err(Error::Unavailable("too many others work on the group at once".to_owned()))
}
