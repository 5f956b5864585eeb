//! Who subscribes and who stops, told in the queue `SYS`: `SUBSCRIBED` and `UNSUBSCRIBED`. A process tells of its own clients and
//! members, if it is asked to; of a node that was killed the others tell.
//!
//! `SYS` holds other things, which ten thousand clients that come again must not push out. So a node tells of the first 128
//! comings and goings at once and of one every 30 s from then on, of clients and of members apart; how many it has passed over
//! it says once a minute.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use events::Envelope;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Bus, Connection, Error, Subscription, Transport, sys};

/// Comings and goings of a kind that are told at once, and how often one more is.
const BURST: u32 = 128;
const ONE_MORE: Duration = Duration::from_secs(30);
/// How often it is told how many were passed over.
const SUMMARY: Duration = Duration::from_secs(60);
/// What waits to be told at most, while the bus is away.
const WAITING: usize = 512;
/// What is told at once: filters may be long.
const BATCH: usize = 64;
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(100);
/// How long the bus is left alone that didn't take it.
const REST: Duration = Duration::from_secs(1);
/// How often it is looked for nodes that were killed.
const LOOK: Duration = Duration::from_secs(15);
/// Longer than a node takes to tell anew that it lives.
const LOOK_AGAIN: Duration = Duration::from_secs(6);
/// How long the last words may take.
const LAST: Duration = Duration::from_secs(2);
/// What a killed node's event has its id from, whoever tells.
const NAMES: Uuid = Uuid::from_u128(0x8a1d_33c0_57b9_4d0e_a2f4_6c19_e0d7_5b42);

/// What has happened to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Came,
    Went,
}

impl What {
    const ALL: [Self; 2] = [Self::Came, Self::Went];

    fn event(self) -> &'static str {
        match self {
            Self::Came => "SUBSCRIBED",
            Self::Went => "UNSUBSCRIBED",
        }
    }
}

/// What a node has to tell.
#[derive(Debug)]
pub(crate) struct Comings {
    node: String,
    clients: Purse,
    members: Purse,
    waiting: VecDeque<Envelope>,
    /// How many came, and how many went, of whom nothing was told.
    passed_over: [u64; 2],
    summary: Instant,
}

impl Comings {
    pub(crate) fn new(node: &str) -> Self {
        let now = Instant::now();
        Self {
            node: node.to_owned(),
            clients: Purse::new(now),
            members: Purse::new(now),
            waiting: VecDeque::new(),
            passed_over: [0; 2],
            summary: now + SUMMARY,
        }
    }

    pub(crate) fn note(&mut self, what: What, connection: &Connection, subscription: &Subscription) {
        let purse = match connection.transport {
            // Each poll is a connection of its own, and none of them a subscription.
            Transport::LongPoll => return,
            Transport::Member => &mut self.members,
            _ => &mut self.clients,
        };
        if self.waiting.len() >= WAITING || !purse.spend(Instant::now()) {
            self.passed_over[what as usize] += 1;
            return;
        }
        let mut data = json!({
            "connection": connection.id,
            "node": connection.node,
            "transport": connection.transport,
            "name": subscription.name,
            "filter": subscription.filter,
        });
        let known = [("user", &connection.subject), ("group", &subscription.group)];
        for (field, value) in known.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            data[field] = Value::from(value.as_str());
        }
        self.waiting.push_back(told(what, &Uuid::now_v7().to_string(), data));
    }

    /// What is to be told now; with `all`, also what could wait.
    fn take(&mut self, all: bool) -> Vec<Envelope> {
        let mut told_now: Vec<Envelope> = self.waiting.drain(..).collect();
        let now = Instant::now();
        if all || now >= self.summary {
            self.summary = now + SUMMARY;
            for (what, count) in What::ALL.into_iter().zip(std::mem::take(&mut self.passed_over)) {
                if count > 0 {
                    let data = json!({ "node": self.node, "passed_over": count });
                    told_now.push(told(what, &Uuid::now_v7().to_string(), data));
                }
            }
        }
        told_now
    }
}

fn told(what: What, id: &str, data: Value) -> Envelope {
    sys::envelope(&sys::name(what.event()), id, OffsetDateTime::now_utc(), data)
}

/// How many may be told of.
#[derive(Debug)]
struct Purse {
    left: u32,
    /// Since when the next one is being saved for.
    since: Instant,
}

impl Purse {
    fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    fn spend(&mut self, now: Instant) -> bool {
        let saved = u32::try_from(now.duration_since(self.since).as_secs() / ONE_MORE.as_secs()).unwrap_or(u32::MAX);
        self.since += ONE_MORE.saturating_mul(saved);
        self.left = self.left.saturating_add(saved).min(BURST);
        let can = self.left > 0;
        self.left = self.left.saturating_sub(1);
        can
    }
}

impl Bus {
    /// Tells in `SYS` who subscribes and who stops in this process, from now on until `over`, and which nodes were killed:
    /// `SUBSCRIBED` and `UNSUBSCRIBED`. At most 128 at once and two a minute, of clients and of members apart; how many
    /// more there were is told once a minute. One such call a process.
    pub async fn tell_subscriptions(&self, over: CancellationToken) {
        let mut changed = self.roster().tell_comings();
        let mut news = Vec::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut suspects = BTreeSet::new();
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                _ = changed.changed() => { over.run_until_cancelled(sleep(GATHER)).await; }
                _ = look.tick() => {
                    let is_suspicious = over.run_until_cancelled(self.tell_killed(&mut suspects)).await;
                    look.reset_after(if is_suspicious == Some(true) { LOOK_AGAIN } else { LOOK });
                }
            }
            changed.borrow_and_update();
            news = self.roster().comings(|comings| comings.take(false));
            if over.run_until_cancelled(self.tell_in_batches(&news)).await.is_some() {
                news.clear();
            }
        }
        // What was being told is told again: it counts once.
        news.extend(self.roster().comings(|comings| comings.take(true)));
        if timeout(LAST, self.tell_in_batches(&news)).await.is_err() {
            tracing::warn!("the last ones who left were not told of");
        }
    }

    /// However long the bus is away.
    async fn tell_in_batches(&self, news: &[Envelope]) {
        for some in news.chunks(BATCH) {
            loop {
                match self.tell_all(some.to_vec()).await {
                    Ok(()) => break,
                    Err(Error::Invalid(reason)) => {
                        tracing::warn!(reason, "who has subscribed can't be told");
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "who has subscribed can't be told now"),
                }
                sleep(REST).await;
            }
        }
    }

    /// Of several nodes that tell the first one counts. A node is told of that was silent when it was looked before, too:
    /// where the bus itself was away, all are silent until they have told again. Whether there are some that weren't.
    async fn tell_killed(&self, suspects: &mut BTreeSet<String>) -> bool {
        let telling = async {
            let silent: BTreeSet<String> = self.backend().silent().await?.into_iter().collect();
            let before = std::mem::replace(suspects, silent.clone());
            let killed = silent.intersection(&before).take(BATCH).map(|node| {
                let id = Uuid::new_v5(&NAMES, node.as_bytes()).to_string();
                told(What::Went, &id, json!({ "node": node, "killed": true }))
            });
            self.tell_all(killed.collect()).await?;
            Ok::<bool, Error>(!silent.is_subset(&before))
        };
        telling.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "it isn't known which nodes were killed");
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(transport: Transport) -> Connection {
        Connection {
            id: "c_1".into(),
            node: "n_1".into(),
            transport,
            subject: Some("customers/1".into()),
            address: Some("192.0.2.1".into()),
            since: OffsetDateTime::UNIX_EPOCH,
            subscriptions: Vec::new(),
        }
    }

    fn subscription(group: Option<&str>) -> Subscription {
        Subscription { name: "s1".into(), filter: "DB/*".into(), group: group.map(str::to_owned) }
    }

    fn summaries(told: &[Envelope]) -> Vec<(String, u64)> {
        let count = |one: &Envelope| Some((one.event.to_string(), one.json()?["passed_over"].as_u64()?));
        told.iter().filter_map(count).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_that_come_again_are_told_of_in_a_few_events() {
        let mut comings = Comings::new("n_1");
        for _ in 0..10_000 {
            comings.note(What::Went, &connection(Transport::WebSocket), &subscription(None));
            comings.note(What::Came, &connection(Transport::WebSocket), &subscription(None));
        }
        // They don't use up what members have.
        comings.note(What::Came, &connection(Transport::Member), &subscription(Some("g")));
        let first = comings.take(false);
        assert_eq!((first.len(), summaries(&first).len()), (BURST as usize + 1, 0));
        assert_eq!(first.last().unwrap().subject.as_deref(), Some("groups/g"));
        tokio::time::advance(SUMMARY).await;
        let passed_over = 10_000 - u64::from(BURST) / 2;
        let both = [("SUBSCRIBED".to_owned(), passed_over), ("UNSUBSCRIBED".to_owned(), passed_over)];
        assert_eq!(summaries(&comings.take(false)), both);
        assert_eq!(comings.take(true), []);
        // A day of that, and SYS holds what it held.
        let mut day = 0;
        for _ in 0..24 * 60 {
            tokio::time::advance(Duration::from_secs(60)).await;
            for _ in 0..10 {
                comings.note(What::Came, &connection(Transport::Sse), &subscription(None));
            }
            day += comings.take(false).len();
        }
        assert!(day < 100_000 / 7 / 2, "{day} events");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_names_who_and_what_and_nothing_secret() {
        let mut comings = Comings::new("n_1");
        comings.note(What::Came, &connection(Transport::Sse), &subscription(None));
        comings.note(What::Came, &connection(Transport::LongPoll), &subscription(None));
        let told = comings.take(true);
        assert_eq!(told.len(), 1, "a poll is no subscription");
        assert_eq!(told[0].subject.as_deref(), Some("connections/c_1"));
        let data = json!({
            "connection": "c_1", "node": "n_1", "transport": "sse", "user": "customers/1", "name": "s1", "filter": "DB/*",
        });
        assert_eq!(told[0].json(), Some(&data));
    }
}
