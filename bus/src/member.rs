//! The loop of a group's member. Claims and settlements are one call in flight each: what comes up meanwhile is the next
//! batch. Nothing is claimed beyond what may run.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Bus, Claim, Claimed, Delivery, Error, Group, Handler, LeaseLost, Leased, Mode, Settlement, Subscription, Token,
    Transport, Verb, handling,
};

/// Bytes of a claim.
const CLAIM_BYTES: usize = 4 << 20;
/// Claims again after this long without a wake-up: a bus that was reset tells nobody.
const IDLE: Duration = Duration::from_secs(5);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a member that must stop waits for its last settlements.
const FAREWELL: Duration = Duration::from_secs(1);

type Settled = Result<Vec<Result<(), LeaseLost>>, Error>;

pub(crate) struct Member {
    bus: Bus,
    group: Group,
    handler: Arc<dyn Handler>,
    name: String,
    /// Handlers that run, by their token, with what cancels them.
    running: HashMap<Token, CancellationToken>,
    tasks: JoinSet<(Token, Verb)>,
    /// Leased and not started: an exclusive group handles one after another.
    waiting: VecDeque<Leased>,
    claiming: Option<BoxFuture<'static, Result<Claimed, Error>>>,
    /// When to claim; the past: now.
    claim_at: Instant,
    /// To be settled next.
    unsettled: Vec<Settlement>,
    /// Being settled.
    settling: Option<(Vec<Settlement>, BoxFuture<'static, Settled>)>,
    settle_at: Instant,
    /// Failed calls in a row.
    failures: u32,
    declared: bool,
}

impl Member {
    pub(crate) fn new(bus: Bus, group: Group, handler: Arc<dyn Handler>) -> Self {
        let now = Instant::now();
        Self {
            bus,
            group,
            handler,
            name: uuid::Uuid::new_v4().to_string(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            waiting: VecDeque::new(),
            claiming: None,
            claim_at: now,
            unsettled: Vec::new(),
            settling: None,
            settle_at: now,
            failures: 0,
            declared: false,
        }
    }

    pub(crate) async fn run(mut self, drain: CancellationToken, drop: CancellationToken) -> anyhow::Result<()> {
        let follows = Subscription {
            name: self.group.name.clone(),
            filter: self.group.filter.to_string(),
            group: Some(self.group.name.clone()),
        };
        let _joined = self.bus.roster().join(Transport::Member, None, None, vec![follows]);
        let mut claimable = self.bus.claimable(&self.group.name);
        let mut extension = tokio::time::interval(self.group.lease / 3);
        extension.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        while !(draining && self.is_done()) {
            if !draining {
                self.start_waiting();
                if self.room() > 0 && self.claiming.is_none() && self.claim_at <= Instant::now() {
                    claimable.borrow_and_update();
                    self.claim();
                }
            }
            if self.settling.is_none() && !self.unsettled.is_empty() && self.settle_at <= Instant::now() {
                self.settle();
            }
            let may_claim = !draining && self.claiming.is_none() && self.room() > 0;
            let may_settle = self.settling.is_none() && !self.unsettled.is_empty();
            tokio::select! {
                () = drop.cancelled() => {
                    self.give_up().await;
                    break;
                }
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.release_waiting();
                }
                Some(done) = self.tasks.join_next() => self.finished(done),
                claimed = poll(&mut self.claiming) => self.claimed(claimed, draining)?,
                settled = poll_settled(&mut self.settling) => self.settled(settled),
                _ = extension.tick() => self.extend(),
                woken = claimable.changed(), if may_claim && self.failures == 0 => match woken {
                    Ok(()) => self.claim_at = Instant::now(),
                    Err(_) => self.claim_at = Instant::now() + IDLE,
                },
                () = tokio::time::sleep_until(self.claim_at), if may_claim => {}
                () = tokio::time::sleep_until(self.settle_at), if may_settle => {}
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.claiming.is_none() && self.settling.is_none() && self.unsettled.is_empty()
    }

    /// How many more events it may hold. What can't be settled counts, so that a bus that only takes claims fills nothing.
    fn room(&self) -> usize {
        let held = self.running.len() + self.waiting.len() + self.unsettled.len();
        match self.group.mode {
            // Nobody gets more of a partition before that is settled, and of another one it would only have to wait.
            Mode::Exclusive if held > 0 => 0,
            _ => self.group.concurrency.saturating_sub(held),
        }
    }

    fn claim(&mut self) {
        let claim =
            Claim { group: self.group.name.clone(), member: self.name.clone(), max: self.room(), bytes: CLAIM_BYTES };
        let (bus, declare) = (self.bus.clone(), (!self.declared).then(|| self.group.clone()));
        let claiming = async move {
            if let Some(group) = declare {
                bus.declare_group(group).await?;
            }
            bus.claim(claim).await
        };
        self.claiming = Some(claiming.boxed());
    }

    fn claimed(&mut self, claimed: Result<Claimed, Error>, draining: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        match claimed {
            Ok(Claimed { leased, more }) => {
                self.failures = 0;
                self.declared = true;
                self.claim_at = if more { now } else { now + IDLE };
                self.waiting.extend(leased);
                if draining {
                    self.release_waiting();
                }
                Ok(())
            }
            // It contradicts what stands, and will the next time.
            Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => Err(error.into()),
            Err(error) => {
                tracing::warn!(group = self.group.name, %error, "can't claim");
                self.declared = false;
                self.claim_at = now + self.backoff();
                Ok(())
            }
        }
    }

    fn start_waiting(&mut self) {
        while self.group.mode != Mode::Exclusive || self.running.is_empty() {
            let Some(leased) = self.waiting.pop_front() else { break };
            let cancelled = CancellationToken::new();
            self.running.insert(leased.token, cancelled.clone());
            let delivery = Delivery {
                group: self.group.name.as_str().into(),
                envelope: leased.envelope,
                partition: leased.partition,
                position: leased.position,
                attempt: leased.attempt,
                generation: leased.token.generation,
                cancelled,
            };
            let (handler, patience, token) = (self.handler.clone(), self.group.max_processing, leased.token);
            self.tasks.spawn(async move { (token, handling::handle(handler, delivery, patience).await) });
        }
    }

    fn finished(&mut self, done: Result<(Token, Verb), tokio::task::JoinError>) {
        // A task ends with an error only where it was aborted, and then nobody waits for it.
        let Ok((token, verb)) = done else { return };
        self.running.remove(&token);
        let failed = verb != Verb::Ack;
        self.unsettled.push(Settlement { token, verb });
        if failed && self.group.mode == Mode::Exclusive {
            // What was leased behind it must come again after it, or after another member's claim.
            self.release_waiting();
        }
    }

    fn release_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.unsettled
            .extend(waiting.into_iter().map(|leased| Settlement { token: leased.token, verb: Verb::Release }));
    }

    fn extend(&mut self) {
        let held = self.running.keys().copied().chain(self.waiting.iter().map(|leased| leased.token));
        self.unsettled.extend(held.map(|token| Settlement { token, verb: Verb::Extend }));
    }

    fn settle(&mut self) {
        let settlements = std::mem::take(&mut self.unsettled);
        let (bus, group, batch) = (self.bus.clone(), self.group.name.clone(), settlements.clone());
        self.settling = Some((settlements, async move { bus.settle(&group, batch).await }.boxed()));
    }

    fn settled(&mut self, (settlements, outcomes): (Vec<Settlement>, Settled)) {
        match outcomes {
            Ok(outcomes) => {
                self.failures = 0;
                for (settlement, outcome) in settlements.into_iter().zip(outcomes) {
                    if outcome.is_err() {
                        self.lost(settlement.token);
                    }
                }
            }
            Err(Error::NoGroup(_) | Error::NoQueue(_)) => {
                // The bus was reset: there is nothing left to settle, and the group must be declared again.
                self.declared = false;
                settlements.into_iter().for_each(|settlement| self.lost(settlement.token));
            }
            Err(error) => {
                tracing::warn!(group = self.group.name, %error, "can't settle");
                // An extension is made anew at its time.
                let kept = settlements.into_iter().filter(|settlement| settlement.verb != Verb::Extend);
                self.unsettled.splice(0..0, kept);
                self.settle_at = Instant::now() + self.backoff();
            }
        }
    }

    /// The delivery is somebody else's now.
    fn lost(&mut self, token: Token) {
        self.waiting.retain(|leased| leased.token != token);
        if let Some(cancelled) = self.running.get(&token) {
            cancelled.cancel();
        }
    }

    /// Ends the handlers that still run, and gives back what they had.
    async fn give_up(&mut self) {
        self.running.values().for_each(CancellationToken::cancel);
        self.tasks.abort_all();
        while let Some(done) = self.tasks.join_next().await {
            self.finished(done);
        }
        let running = std::mem::take(&mut self.running);
        self.unsettled.extend(running.into_keys().map(|token| Settlement { token, verb: Verb::Release }));
        self.release_waiting();
        let farewell = async {
            if let Some(claiming) = self.claiming.take()
                && let Ok(claimed) = claiming.await
            {
                self.waiting.extend(claimed.leased);
                self.release_waiting();
            }
            if let Some((_, settling)) = self.settling.take() {
                settling.await?;
            }
            self.bus.settle(&self.group.name, std::mem::take(&mut self.unsettled)).await
        };
        // What can't be given back in time comes again when its lease ends.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    /// Longer after each failure in a row, with jitter.
    fn backoff(&mut self) -> Duration {
        let doubled = BACKOFF.0.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        doubled.min(BACKOFF.1).mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}

/// Waits for the call, if there is one; else for ever.
async fn poll<T>(call: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = call else { return std::future::pending().await };
    let value = future.await;
    *call = None;
    value
}

async fn poll_settled(call: &mut Option<(Vec<Settlement>, BoxFuture<'static, Settled>)>) -> (Vec<Settlement>, Settled) {
    let Some((_, future)) = call else { return std::future::pending().await };
    let outcomes = future.await;
    let settlements = call.take().map(|(settlements, _)| settlements).unwrap_or_default();
    (settlements, outcomes)
}
