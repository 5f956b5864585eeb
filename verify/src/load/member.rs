//! A member that claims and settles by hand, with bad habits.

use std::time::Duration;

use bus::{Leased, Mode, Verb};
use rand::{Rng as _, rngs::StdRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Witness;
use crate::history::Settled;

const PAUSE: Duration = Duration::from_millis(20);
/// How often a settlement whose answer was lost is tried again.
const TRIES: usize = 3;

/// What it does with a delivery, of a hundred each; the rest is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    pub nacks: u32,
    pub releases: u32,
    pub refuses: u32,
    /// It forgets it: the lease ends by time.
    pub forgets: u32,
    /// It settles long after the lease's end, by a token that is stale then.
    pub late: u32,
    pub extends: u32,
    /// Claimed at once.
    pub at_once: usize,
    /// How long it takes for one.
    pub slow: Duration,
}

pub struct Member {
    pub witness: Witness,
    pub group: String,
    pub mode: Mode,
    pub lease: Duration,
    pub name: String,
    pub habit: Habit,
    pub rng: StdRng,
    /// True: it only acknowledges from now on.
    pub calm: watch::Receiver<bool>,
    pub stop: CancellationToken,
}

impl Member {
    /// Works until it is stopped; finishes what it has.
    pub async fn run(mut self) {
        let mut claimable = self.witness.bus.claimable(&self.group);
        let mut late = tokio::task::JoinSet::new();
        let (mut lost, mut name) = (0, self.name.clone());
        while !self.stop.is_cancelled() {
            let max = self.rng.random_range(1..=self.habit.at_once.max(1));
            let leased = self.witness.claim(&self.group, &name, max).await.map(|claimed| claimed.leased);
            let Ok(leased) = leased else {
                // What it leased without knowing stays with a name that nobody has any more.
                lost += 1;
                name = format!("{}-{lost}", self.name);
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if leased.is_empty() {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    _ = tokio::time::timeout(5 * PAUSE, claimable.changed()) => {}
                }
            }
            self.work(leased, &mut late).await;
            while late.try_join_next().is_some() {}
        }
        late.join_all().await;
    }

    async fn work(&mut self, leased: Vec<Leased>, late: &mut tokio::task::JoinSet<()>) {
        let mut leased = leased.into_iter();
        while let Some(Leased { token, .. }) = leased.next() {
            if !self.habit.slow.is_zero() && !*self.calm.borrow() {
                tokio::time::sleep(self.habit.slow).await;
            }
            match self.choose() {
                Choice::Settle(verb) => {
                    let over = matches!(verb, Verb::Ack | Verb::Dead { .. });
                    let settled = settle(&self.witness, &self.group, token, verb).await;
                    if self.mode == Mode::Exclusive && !(over && settled == Settled::Done) {
                        // What lies behind it was given back with it, or will be with the leases' end; what is another
                        // partition's must be.
                        if settled != Settled::Done {
                            tokio::time::sleep(self.lease + self.lease / 2).await;
                        }
                        for rest in leased {
                            settle(&self.witness, &self.group, rest.token, Verb::Release).await;
                        }
                        return;
                    }
                }
                Choice::Extend => {
                    settle(&self.witness, &self.group, token, Verb::Extend).await;
                    settle(&self.witness, &self.group, token, Verb::Ack).await;
                }
                Choice::Forget if self.mode == Mode::Exclusive => {
                    // As if it had died with all it has.
                    tokio::time::sleep(self.lease + self.lease / 2).await;
                    return;
                }
                Choice::Forget => {}
                Choice::Late => {
                    let (witness, group, lease) = (self.witness.clone(), self.group.clone(), self.lease);
                    let late_ack = async move {
                        tokio::time::sleep(lease + lease / 2).await;
                        settle(&witness, &group, token, Verb::Ack).await;
                    };
                    if self.mode == Mode::Exclusive {
                        // It stands still with all it has.
                        late_ack.await;
                        return;
                    }
                    late.spawn(late_ack);
                }
            }
        }
    }

    fn choose(&mut self) -> Choice {
        if *self.calm.borrow() {
            return Choice::Settle(Verb::Ack);
        }
        let habit = self.habit;
        let nack = |delay: u64| Verb::Nack {
            delay: Some(Duration::from_millis(delay)),
            reason: "a bad day".into(),
            retryable: true,
        };
        let chance = self.rng.random_range(0..100);
        let delay = self.rng.random_range(0..200);
        let mut below = 0;
        let mut is = |of: u32| {
            below += of;
            chance < below
        };
        if is(habit.nacks) {
            Choice::Settle(nack(delay))
        } else if is(habit.releases) {
            Choice::Settle(Verb::Release)
        } else if is(habit.refuses) {
            Choice::Settle(Verb::Dead { reason: "never".into() })
        } else if is(habit.forgets) {
            Choice::Forget
        } else if is(habit.late) {
            Choice::Late
        } else if is(habit.extends) {
            Choice::Extend
        } else {
            Choice::Settle(Verb::Ack)
        }
    }
}

enum Choice {
    Settle(Verb),
    Extend,
    Forget,
    Late,
}

/// Settles, again where the answer was lost.
async fn settle(witness: &Witness, group: &str, token: bus::Token, verb: Verb) -> Settled {
    for _ in 0..TRIES {
        if let Ok(settled) = witness.settle(group, token, verb.clone()).await {
            return settled;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Settled::Unknown
}
