//! Receipts: an event that says where (`replyto`) is followed by one that says what became of it.
//!
//! Once no group is at it any more, `COMPLETED` (every group that takes it acknowledged it), `FAILED` (one has given up on
//! it, or lost it) or `EXPIRED` (its time came before) is published there, with the outcome a group. One receipt each, at
//! least once: its id derives from the event, so whoever publishes it again publishes the same one. It is the last word
//! although a dead letter may be redriven afterwards, or another group come into being.
//!
//! An event that nobody takes is held until somebody comes, at most until its expiry time or as long as its queue keeps
//! events (`max_age`); then it is `EXPIRED`.
//!
//! Receipts of a key's events come in the order of these: one that isn't settled yet holds back those behind it.
//!
//! The work is a group a queue (`receipts.ORDERS`), which comes into being with the queue's first event that wants a
//! receipt and costs nothing elsewhere. Any number of processes run it ([`Receipts::run`]), as members that compete. At most
//! 10,000 events a queue and partition wait for their outcome at once; receipts of later ones come after them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use events::{Address, Envelope, Name, ReplyTo};
use parking_lot::Mutex;
use serde_json::json;
use time::OffsetDateTime;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Bus, Clock, Consumer, Delivery, Error, Failure, Group, Handler, Mode, Standing, SystemClock, metrics, sys,
};

/// Who publishes receipts.
const SOURCE: &str = "/turnpike/receipts";
/// What the groups' names begin with; these groups get events also when they are over.
const GROUPS: &str = "receipts.";
/// How often other processes' queues are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at an event: a quarter of its age.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long a queue's settings are believed.
const SETTINGS: Duration = Duration::from_secs(60);

/// Whether a group is one of those that give receipts: nobody waits for them.
pub(crate) fn is_receipts(group: &str) -> bool {
    group.starts_with(GROUPS)
}

fn wants(event: &Envelope) -> bool {
    event.replyto.as_deref().is_some_and(|to| to.parse::<ReplyTo>().is_ok())
}

/// The queues of this process whose events want receipts.
#[derive(Default)]
pub(crate) struct Wanted {
    queues: Mutex<HashSet<Name>>,
    more: Notify,
}

impl Wanted {
    /// Those of these events' queues that aren't known yet.
    pub(crate) fn unknown(&self, events: &[Envelope]) -> Vec<Name> {
        let wanting: HashSet<&Name> = events.iter().filter(|event| wants(event)).map(|event| &event.queue).collect();
        if wanting.is_empty() {
            return Vec::new();
        }
        let known = self.queues.lock();
        wanting.into_iter().filter(|queue| !known.contains(*queue)).cloned().collect()
    }

    pub(crate) fn add(&self, queue: Name) {
        if self.queues.lock().insert(queue) {
            self.more.notify_waiters();
        }
    }
}

/// The group that gives the receipts of a queue's events.
///
/// # Errors
/// [`Error::Invalid`] for a queue whose name is too long for a group's.
pub(crate) fn group(queue: &Name) -> Result<Group, Error> {
    let too_long = || Error::Invalid(format!("replyto: the name of the queue {queue} is too long for receipts"));
    let filter = format!("{queue}/*[replyto exists]").parse().map_err(|_| too_long())?;
    let group = Group::new(&format!("{GROUPS}{queue}"), filter, Mode::Keyed);
    group.validate().map_err(|_| too_long())?;
    Ok(group)
}

/// Gives the receipts of all queues. A process that opens the bus to publishers runs one.
pub struct Receipts {
    bus: Bus,
    clock: Arc<dyn Clock>,
}

impl Receipts {
    pub fn new(bus: Bus) -> Self {
        Self { bus, clock: Arc::new(SystemClock) }
    }

    /// What receipts are called: the events `COMPLETED`, `FAILED` and `EXPIRED`.
    pub fn outcomes() -> impl Iterator<Item = Name> {
        [Outcome::Completed, Outcome::Failed, Outcome::Expired].into_iter().map(Outcome::name)
    }

    /// For tests: tells the time that the bus is told.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Works until `drain`, and finishes what it has until `drop`. Survives a bus that is away.
    pub async fn run(self, drain: CancellationToken, drop: CancellationToken) {
        let giver = Arc::new(Giver { bus: self.bus.clone(), clock: self.clock.clone(), settings: Mutex::default() });
        let mut served = HashSet::new();
        let mut members = JoinSet::new();
        loop {
            // Before looking, so that what comes during the look is not missed.
            let more = self.bus.receipts().more.notified();
            match self.queues().await {
                Ok(queues) => {
                    for (queue, group) in queues {
                        if served.insert(queue) {
                            let consumer = Consumer::new(self.bus.clone(), group, giver.clone()).role("receipts");
                            members.spawn(consumer.run(drain.clone(), drop.clone()));
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the queues that want receipts can't be found at the moment"),
            }
            tokio::select! {
                () = drain.cancelled() => break,
                () = more => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        while let Some(ended) = members.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(%error, "a group of receipts has ended");
            }
        }
    }

    /// The queues whose events want receipts: those that this process published into, and those that it finds.
    async fn queues(&self) -> Result<Vec<(Name, Group)>, Error> {
        let mut queues: HashSet<Name> = self.bus.receipts().queues.lock().clone();
        let groups = self.bus.groups().await?;
        queues.extend(groups.into_iter().filter(|group| is_receipts(&group.name)).map(|group| group.filter.queue));
        queues.into_iter().map(|queue| group(&queue).map(|group| (queue, group))).collect()
    }
}

/// Looks where an event stands, and publishes its receipt once that is settled.
struct Giver {
    bus: Bus,
    clock: Arc<dyn Clock>,
    settings: Mutex<Option<(Instant, BTreeMap<Name, Duration>)>>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Completed,
    Failed,
    Expired,
}

impl Outcome {
    #[expect(clippy::expect_used, reason = "a literal that is no name fails the first test")]
    fn name(self) -> Name {
        let name = match self {
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
        };
        Name::new(name).expect("a name")
    }
}

#[async_trait]
impl Handler for Giver {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = &*delivery.envelope;
        // Recorded before there were receipts: nobody could have read them.
        let Some(to) = envelope.replyto.as_deref().and_then(|to| to.parse::<ReplyTo>().ok()) else {
            return Ok(());
        };
        let mut standings = self.bus.standing(&envelope.queue, delivery.partition, delivery.position).await?;
        standings.retain(|group, standing| {
            !is_receipts(group) && !matches!(standing, Standing::Filtered | Standing::NotApplicable)
        });
        let now = self.clock.now();
        let recorded = envelope.recordedtime.unwrap_or(envelope.time);
        let outcome = match outcome(&standings, is_over(envelope, now)) {
            Some(outcome) => outcome,
            None if standings.is_empty() && self.is_forgotten(&envelope.queue, recorded, now).await? => {
                Outcome::Expired
            }
            None => return Err(Failure::Defer { delay: again(envelope, recorded, now) }),
        };
        let receipt = receipt(delivery, to, outcome, &standings);
        for recorded in self.bus.publish(vec![receipt]).await? {
            if !recorded?.duplicate {
                metrics::receipt(&outcome.name());
            }
        }
        Ok(())
    }
}

impl Giver {
    /// Whether its queue wouldn't keep it any longer.
    async fn is_forgotten(&self, queue: &Name, recorded: OffsetDateTime, now: OffsetDateTime) -> Result<bool, Error> {
        let known = |settings: &Option<(Instant, BTreeMap<Name, Duration>)>| {
            let (at, queues) = settings.as_ref()?;
            (at.elapsed() < SETTINGS).then(|| queues.get(queue).copied())?
        };
        let max_age = known(&self.settings.lock());
        let max_age = match max_age {
            Some(max_age) => Some(max_age),
            None => {
                let queues = self.bus.queues().await?;
                let queues = queues.into_iter().map(|queue| (queue.settings.name, queue.settings.max_age)).collect();
                let mut settings = self.settings.lock();
                *settings = Some((Instant::now(), queues));
                known(&settings)
            }
        };
        Ok(max_age.is_some_and(|max_age| now - recorded >= max_age))
    }
}

/// None while it isn't settled. `is_over`: its expiry time has come, so that who hasn't got it by now never will.
fn outcome(standings: &BTreeMap<String, Standing>, is_over: bool) -> Option<Outcome> {
    let any = |is: fn(&Standing) -> bool| standings.values().any(is);
    let waiting = |standing: &Standing| standing.is_open() && (!is_over || matches!(standing, Standing::Leased { .. }));
    if standings.values().any(waiting) {
        None
    } else if any(|standing| matches!(standing, Standing::Dead { .. } | Standing::Lost | Standing::Unknown)) {
        Some(Outcome::Failed)
    } else if any(|standing| standing.is_open() || matches!(standing, Standing::Expired)) {
        Some(Outcome::Expired)
    } else if any(|standing| matches!(standing, Standing::Acked)) {
        Some(Outcome::Completed)
    } else {
        is_over.then_some(Outcome::Expired)
    }
}

fn is_over(envelope: &Envelope, now: OffsetDateTime) -> bool {
    envelope.expirytime.is_some_and(|time| time <= now)
}

/// When to look again: the later the older it is, but not after its expiry time.
fn again(envelope: &Envelope, recorded: OffsetDateTime, now: OffsetDateTime) -> Duration {
    let age = Duration::try_from(now - recorded).unwrap_or_default();
    let later = (age / 4).clamp(AGAIN.0, AGAIN.1);
    match envelope.expirytime.and_then(|time| Duration::try_from(time - now).ok()) {
        Some(left) => later.min(left).max(AGAIN.0),
        None => later,
    }
}

fn receipt(delivery: &Delivery, to: ReplyTo, outcome: Outcome, standings: &BTreeMap<String, Standing>) -> Envelope {
    let cause = &*delivery.envelope;
    // A webhook's come to it by the bus's own queue, in which each webhook's group takes what names it.
    let (queue, webhook) = match to {
        ReplyTo::Queue(queue) => (queue, None),
        ReplyTo::Webhook(id) => (sys::name("RECEIPT"), Some(id)),
    };
    // The same id whatever became of it: the first receipt is the one.
    let mut receipt = delivery.follow_up("receipt", SOURCE, Address { queue, event: outcome.name() });
    receipt.subject.clone_from(&cause.subject);
    receipt.partitionkey = Some(cause.key().to_owned());
    receipt.owner.clone_from(&cause.owner);
    let groups: BTreeMap<&str, &str> = standings
        .iter()
        .map(|(group, standing)| (group.as_str(), if standing.is_open() { "expired" } else { standing.name() }))
        .collect();
    let mut data = json!({
        "id": cause.id,
        "source": cause.source,
        "queue": cause.queue.as_str(),
        "event": cause.event.as_str(),
        "partition": delivery.partition,
        "position": delivery.position,
        "groups": groups,
    });
    if let Some(webhook) = webhook {
        data["webhook"] = webhook.into();
    }
    receipt.data(data)
}
