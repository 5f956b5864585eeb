//! Reading every queue from where its tally stands.

use std::{collections::BTreeSet, time::Duration};

use bus::{Bus, Error, TailFrom, Tailed};
use events::{Filter, Name};
use tokio::task::JoinSet;

use crate::{
    board::{Board, MOST_QUEUES},
    metrics, recents,
    tally::Reason,
    view::State,
};

const RETRY: Duration = Duration::from_secs(1);
/// The most partitions of a queue that are looked at for the last events of another life.
const RECALLED_PARTITIONS: u32 = 16;

/// The followers of all queues; dropped, they stop between two events.
pub(crate) struct Followers {
    bus: Bus,
    board: Board,
    queues: BTreeSet<Name>,
    tasks: JoinSet<()>,
}

impl Followers {
    pub fn new(bus: Bus, board: Board) -> Self {
        Self { bus, board, queues: BTreeSet::new(), tasks: JoinSet::new() }
    }

    /// Follows these as well.
    pub fn follow<'a>(&mut self, queues: impl Iterator<Item = &'a Name>) {
        let mut left_out = 0;
        for queue in queues {
            if self.queues.contains(queue) {
                continue;
            }
            if self.queues.len() == MOST_QUEUES {
                left_out += 1;
                continue;
            }
            self.queues.insert(queue.clone());
            self.board.follows(queue, State::CatchingUp);
            self.tasks.spawn(keep_following(self.bus.clone(), self.board.clone(), queue.clone()));
        }
        let trouble = (left_out > 0).then(|| format!("{left_out} more queues than the {MOST_QUEUES} that are counted"));
        self.board.trouble("queues", trouble);
    }

    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn keep_following(bus: Bus, board: Board, queue: Name) {
    let mut recalled = false;
    loop {
        let Err(error) = follow(&bus, &board, &queue, &mut recalled).await;
        tracing::warn!(%queue, %error, "the queue is not followed at the moment");
        board.follows(&queue, State::Away(error.to_string()));
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(
    bus: &Bus,
    board: &Board,
    queue: &Name,
    recalled: &mut bool,
) -> Result<std::convert::Infallible, Error> {
    let filter = Filter::all(queue.clone());
    let from = board.cursor(queue).map_or(TailFrom::Earliest, TailFrom::Cursor);
    let is_new = from == TailFrom::Earliest;
    let mut tail = bus.tail(filter, from).await?;
    if is_new {
        // What is shown from now on is of this life.
        *recalled = true;
        // Positions begin with 1: what lies before the tail's first was trimmed before anyone looked.
        let cursor = tail.cursor();
        let partitions = bus.partition(queue, "").await?.count;
        let gone: u64 = (0..partitions).filter_map(|partition| cursor.position(partition)).sum();
        if gone > 0 {
            metrics::missing(queue, Reason::Before);
        }
        board.begin(queue, cursor, gone);
    } else if !std::mem::replace(recalled, true) {
        recall(bus, board, queue).await?;
    }
    loop {
        match tail.next().await? {
            Tailed::Event { envelope, partition, position } => {
                board.count(&envelope, partition, position, tail.cursor());
                metrics::counted(queue);
            }
            Tailed::Gap(gap) => {
                tracing::warn!(%queue, ?gap, "events are missing");
                board.miss(queue, &gap, tail.cursor());
                metrics::missing(queue, gap.reason.into());
            }
            Tailed::CaughtUp => board.follows(queue, State::Live),
        }
    }
}

/// Shows the last events before the cursor again.
async fn recall(bus: &Bus, board: &Board, queue: &Name) -> Result<(), Error> {
    let Some(cursor) = board.cursor(queue) else { return Ok(()) };
    let partitions = bus.partition(queue, "").await?.count.clamp(1, RECALLED_PARTITIONS);
    let each = recents::MOST.div_ceil(partitions as usize);
    for partition in 0..partitions {
        let Some(seen) = cursor.position(partition) else { continue };
        let page = bus.read(queue, partition, (seen + 1).saturating_sub(each as u64), each).await?;
        for logged in page.events.iter().filter(|logged| logged.position <= seen) {
            board.recall(&logged.envelope, partition, logged.position);
        }
    }
    Ok(())
}
