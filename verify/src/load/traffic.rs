//! Everybody at once: what is published, who consumes, who reads; then rest, and the audit.

use std::{sync::Arc, time::Duration};

use bus::{Bus, Consumer, Error, Group, PublishOptions, TailFrom};
use events::Filter;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Effects, Habit, Handling, Member, Publisher, Wares, Witness, audit, audit::insist, follow, rng};
use crate::history::{Action, What};

/// How long everybody may take to settle what is left.
const REST: Duration = Duration::from_secs(60);

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub wares: Wares,
    pub publishers: usize,
    /// Of each publisher.
    pub events: usize,
    pub batch: usize,
    /// Between two publishes of a publisher.
    pub pause: Duration,
    pub options: PublishOptions,
    pub teams: Vec<Team>,
    /// Readers from the beginning.
    pub readers: usize,
}

/// A group and its members.
#[derive(Clone, Debug)]
pub struct Team {
    pub group: Group,
    /// By hand.
    pub members: usize,
    pub habit: Habit,
    /// Whether they all have one name.
    pub namesakes: bool,
    /// By [`Consumer`]; a group has either.
    pub consumers: usize,
    /// How long their handlers take.
    pub slow: Duration,
}

impl Team {
    pub fn by_hand(group: Group, members: usize, habit: Habit) -> Self {
        Self { group, members, habit, namesakes: false, consumers: 0, slow: Duration::ZERO }
    }

    pub fn of_consumers(group: Group, consumers: usize, slow: Duration) -> Self {
        Self { group, members: 0, habit: Habit::default(), namesakes: false, consumers, slow }
    }
}

/// A load that runs.
pub struct Traffic {
    witness: Witness,
    groups: Vec<String>,
    publishing: JoinSet<anyhow::Result<()>>,
    working: JoinSet<()>,
    reading: JoinSet<()>,
    calm: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Traffic {
    /// Starts everybody; each on another of the nodes, in turn.
    ///
    /// # Errors
    /// If the groups can't be declared.
    pub async fn start(witness: &Witness, nodes: &[Bus], plan: &Plan, seed: u64) -> anyhow::Result<Self> {
        let mut turn = nodes.iter().cycle();
        let mut next = || witness.on(turn.next().unwrap_or(&witness.bus).clone());
        let (calm, stop) = (watch::Sender::new(false), CancellationToken::new());
        let mut traffic = Self {
            witness: witness.clone(),
            groups: Vec::new(),
            publishing: JoinSet::new(),
            working: JoinSet::new(),
            reading: JoinSet::new(),
            calm,
            stop,
        };
        for team in &plan.teams {
            insist(|| witness.declare(&team.group, team.consumers > 0)).await?;
            traffic.groups.push(team.group.name.clone());
            for number in 0..team.members {
                traffic.member(next(), team, number, seed);
            }
            let effects = Effects::default();
            for number in 0..team.consumers {
                traffic.consumer(next(), team, &effects, number, seed);
            }
        }
        for number in 0..plan.readers {
            let filter: Filter = format!("{}/*", plan.wares.queue).parse()?;
            let name = format!("{}-reader-{number}", plan.wares.queue);
            let stop = traffic.stop.clone();
            traffic.reading.spawn(follow(next(), name, filter, TailFrom::Earliest, stop));
        }
        for number in 0..plan.publishers {
            let name = format!("{}-{number}", plan.wares.publisher);
            let rng = rng(seed, &name);
            let (wares, options) = (plan.wares.clone(), plan.options.clone());
            let publisher = Publisher { witness: next(), name, wares, rng, options };
            traffic.publishing.spawn(publisher.run(plan.events, plan.batch, plan.pause));
        }
        Ok(traffic)
    }

    fn member(&mut self, witness: Witness, team: &Team, number: usize, seed: u64) {
        let seeded = format!("{}-m{number}", team.group.name);
        let name = if team.namesakes { format!("{}-m", team.group.name) } else { seeded.clone() };
        let member = Member {
            witness,
            group: team.group.name.clone(),
            mode: team.group.mode,
            lease: team.group.lease,
            rng: rng(seed, &seeded),
            name,
            habit: team.habit,
            calm: self.calm.subscribe(),
            stop: self.stop.clone(),
        };
        self.working.spawn(member.run());
    }

    fn consumer(&mut self, witness: Witness, team: &Team, effects: &Effects, number: usize, seed: u64) {
        let member = format!("{}-c{number}", team.group.name);
        let handling = Handling {
            history: witness.history.clone(),
            group: team.group.name.clone(),
            rng: Mutex::new(rng(seed, &member)),
            member,
            effects: effects.clone(),
            slow: team.slow,
            fails: 5,
            panics: 0,
        };
        let consumer = Consumer::new(witness.bus, team.group.clone(), Arc::new(handling));
        let (drain, drop) = (self.stop.clone(), CancellationToken::new());
        self.working.spawn(async move {
            // Settings that were refused show as events that nobody settles.
            _ = consumer.run(drain, drop).await;
        });
    }

    /// Whether there is still something to publish.
    ///
    /// # Errors
    /// If a publisher gave up.
    pub fn is_publishing(&mut self) -> anyhow::Result<bool> {
        while let Some(published) = self.publishing.try_join_next() {
            published??;
        }
        Ok(!self.publishing.is_empty())
    }

    /// Waits until everything is published.
    ///
    /// # Errors
    /// If a publisher gave up.
    pub async fn published(&mut self) -> anyhow::Result<()> {
        while let Some(published) = self.publishing.join_next().await {
            published??;
        }
        Ok(())
    }

    /// Everybody stops publishing and failing, and settles what is left; dead letters come back once. Then what is there
    /// is written down.
    ///
    /// # Errors
    /// If a publisher gave up, or the bus stays away. What can't be settled is no error: the audit shows it.
    pub async fn rest(mut self) -> anyhow::Result<()> {
        self.published().await?;
        self.calm.send_replace(true);
        self.settled().await;
        for group in self.groups.clone() {
            let dead = insist(|| self.witness.bus.groups()).await?.into_iter().find(|status| status.name == group);
            if dead.is_some_and(|status| status.dead > 0) {
                insist(|| self.witness.redrive(&group, bus::Which::All)).await?;
            }
        }
        self.settled().await;
        self.witness.history.write(What::Rest);
        self.caught_up().await;
        self.stop.cancel();
        while self.working.join_next().await.is_some() {}
        while self.reading.join_next().await.is_some() {}
        audit(&self.witness).await
    }

    /// Everything is published, and everybody ends where they are; what is left stays.
    ///
    /// # Errors
    /// If a publisher gave up.
    pub async fn stopped(mut self) -> anyhow::Result<()> {
        self.published().await?;
        self.stop.cancel();
        while self.working.join_next().await.is_some() {}
        while self.reading.join_next().await.is_some() {}
        Ok(())
    }

    /// Waits until no group has anything left; no longer than it may take.
    async fn settled(&self) {
        let end = Instant::now() + REST;
        while !self.is_settled().await.unwrap_or(false) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_settled(&self) -> Result<bool, Error> {
        let groups = self.witness.bus.groups().await?;
        let mut ours = groups.iter().filter(|status| self.groups.contains(&status.name));
        Ok(ours.all(|status| status.lag + status.in_flight + status.retrying + status.parked == 0))
    }

    /// Waits until readers have had the time to get what is there: each frame comes within a second.
    async fn caught_up(&self) {
        let frames = || self.witness.history.count(|what| matches!(what, What::Frame { .. }));
        let mut before = None;
        let end = Instant::now() + REST;
        while before != Some(frames()) && Instant::now() < end && !self.reading.is_empty() {
            before = Some(frames());
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    }

    /// Trimming is made possible from here on.
    pub fn trims(&self) {
        self.witness.operated("", Action::Trim);
    }
}
