//! Hands out tasks to handlers: 16 : 4 : 1 by priority, kinds in turn, no more than there is room for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bus::{Claim, Joined, Leased, Subscription, Transport};
use lifecycle::Shutdown;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    lane::{Lane, woken},
    metrics,
    share::Share,
    work::{Attempt, Desk},
    worker::Registered,
};

/// Asks again after this long without a wake-up.
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// Asks a bus that is away again after this long.
const BACKOFF: Duration = Duration::from_secs(1);

pub(crate) struct Counter {
    desk: Desk,
    concurrency: usize,
    lanes: Vec<Lane>,
    /// Where the next turn of each priority begins, so that its kinds take turns.
    turns: [usize; 3],
    share: Share,
    running: JoinSet<()>,
    /// Which kind each of them is.
    kinds: HashMap<Id, &'static str>,
    _joined: Joined,
}

impl Counter {
    pub fn new(desk: Desk, kinds: Vec<Registered>, concurrency: usize) -> Self {
        let (bus, kinds) = (desk.jobs.bus(), kinds.into_iter().map(Arc::new));
        let lanes: Vec<Lane> = kinds.flat_map(|kind| Lane::of(bus, &kind, desk.lease)).collect();
        let follows = lanes.iter().map(|lane| Subscription {
            name: lane.group.name.clone(),
            filter: lane.group.filter.to_string(),
            group: Some(lane.group.name.clone()),
        });
        let joined = bus.roster().join(Transport::Member, None, None, follows.collect());
        Self {
            desk,
            concurrency,
            lanes,
            turns: [0; 3],
            share: Share::default(),
            running: JoinSet::new(),
            kinds: HashMap::new(),
            _joined: joined,
        }
    }

    pub async fn serve(mut self, shutdown: &Shutdown) {
        while !shutdown.draining().is_cancelled() {
            while let Some(done) = self.running.try_join_next_with_id() {
                forget(&mut self.kinds, done);
            }
            let room = self.running.len() < self.concurrency;
            if room && let Some(at) = self.next() {
                self.claim(at).await;
                continue;
            }
            metrics::running(self.running.len());
            let busy = !self.running.is_empty();
            tokio::select! {
                () = shutdown.draining().cancelled() => break,
                () = woken(&mut self.lanes), if room => {}
                Some(done) = self.running.join_next_with_id(), if busy => forget(&mut self.kinds, done),
            }
        }
        while let Some(done) = self.running.join_next_with_id().await {
            forget(&mut self.kinds, done);
        }
        metrics::running(0);
    }

    /// The lane whose turn it is, of those that may have something and whose kind has room.
    fn next(&mut self) -> Option<usize> {
        let now = Instant::now();
        let mut running: HashMap<&str, usize> = HashMap::new();
        self.kinds.values().for_each(|kind| *running.entry(kind).or_default() += 1);
        let open = |lane: &Lane| {
            let running = running.get(lane.kind.name).copied().unwrap_or(0);
            lane.quiet_until <= now && running < lane.kind.concurrency
        };
        let open: Vec<usize> = (0..self.lanes.len()).filter(|at| open(&self.lanes[*at])).collect();
        let mut hungry = [false; 3];
        open.iter().for_each(|at| hungry[self.lanes[*at].priority] = true);
        let priority = self.share.next(hungry)?;
        let turn = self.turns[priority];
        let mut of_it = open.iter().copied().filter(|at| self.lanes[*at].priority == priority);
        let chosen = of_it.clone().find(|at| *at >= turn).or_else(|| of_it.next())?;
        self.turns[priority] = chosen + 1;
        Some(chosen)
    }

    /// Asks for one task: what is claimed begins at once.
    async fn claim(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.claimable.borrow_and_update();
        let bus = self.desk.jobs.bus();
        let claim = Claim { group: lane.group.name.clone(), member: self.desk.worker.clone(), max: 1, bytes: 1 << 20 };
        let claimed = async {
            if !lane.declared {
                bus.declare_group(lane.group.clone()).await?;
            }
            bus.claim(claim).await
        };
        match claimed.await {
            Ok(claimed) => {
                lane.declared = true;
                if claimed.leased.is_empty() {
                    if !claimed.more {
                        lane.quiet_until = Instant::now() + IDLE;
                    }
                    self.share.idle(lane.priority);
                }
                claimed.leased.into_iter().for_each(|leased| self.start(at, leased));
            }
            Err(error) => {
                tracing::warn!(group = lane.group.name, %error, "can't claim");
                lane.declared = false;
                lane.quiet_until = Instant::now() + BACKOFF;
            }
        }
    }

    fn start(&mut self, at: usize, leased: Leased) {
        let lane = &self.lanes[at];
        let attempt =
            Attempt { desk: self.desk.clone(), kind: lane.kind.clone(), group: lane.group.name.clone(), leased };
        let task = self.running.spawn(attempt.run());
        self.kinds.insert(task.id(), lane.kind.name);
    }
}

fn forget(kinds: &mut HashMap<Id, &'static str>, done: Result<(Id, ()), JoinError>) {
    let id = match done {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "an attempt broke off; its lease ends by itself");
            error.id()
        }
    };
    kinds.remove(&id);
}
