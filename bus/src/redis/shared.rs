//! What all parts of the backend share: the server, the partitions and what is known of them, who waits for what.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use events::Name;
use parking_lot::{Mutex, RwLock};
use rand::Rng as _;
use redis::{Cmd, Value};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    group::{self, Teams},
    keys::Keys,
    offer::Offer,
    place::{Place, Ran, View},
    registry::Registry,
    schedule::Schedule,
    script::{LOOK, Script},
    server::Server,
    sys::Reset,
    wait::Waits,
};
use crate::{Clock, Error, Group, Queue, Roster, SystemClock, clock::millis, metrics, wakes::Wakes};

/// Logs that began anew that wait to be told of; a server that loses more of them at once is told of with these.
const RESETS: usize = 1024;

pub(super) struct Shared {
    pub(super) server: Server,
    keys: Keys,
    clock: Option<Arc<dyn Clock>>,
    pub(super) dedupe_events: usize,
    pub(super) scheduled_events: usize,
    pub(super) offer: Offer,
    pub(super) waits: Waits,
    /// Why nothing may be published, where that is so.
    refuses: RwLock<Option<String>>,
    registry: Registry,
    places: RwLock<HashMap<(Name, u32), Arc<Place>>>,
    pub(super) wakes: Wakes,
    pub(super) teams: Teams,
    pub(super) schedule: Schedule,
    pub(super) roster: Roster,
    /// Logs that began anew, of which nobody else may know: told by this node, the oldest first.
    pub(super) resets: Mutex<VecDeque<Reset>>,
    /// The last handle is gone: whatever runs here ends.
    pub(super) closed: CancellationToken,
    /// How far the server's clock is ahead of this machine's, in milliseconds.
    skew: AtomicI64,
}

/// A call of a script on a partition.
pub(super) struct Call {
    pub(super) cmd: Cmd,
    /// The id of a lineage that begins by it.
    begins: u64,
    /// What was known of the partition before.
    asked: View,
}

impl Shared {
    pub(super) fn new(server: Server, options: Options, closed: CancellationToken) -> Self {
        Self {
            server,
            keys: Keys::new(&options.namespace),
            clock: options.clock,
            dedupe_events: options.dedupe_events.max(1),
            offer: Offer::default(),
            waits: Waits::default(),
            refuses: RwLock::default(),
            registry: Registry::default(),
            places: RwLock::default(),
            wakes: Wakes::default(),
            teams: Teams::default(),
            schedule: Schedule::default(),
            scheduled_events: options.scheduled_events,
            roster: Roster::new(),
            resets: Mutex::default(),
            closed,
            skew: AtomicI64::new(0),
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The server's time, as a partition's scripts see it, in milliseconds since 1970: about, and rather late than early.
    pub(super) fn now_in(&self, place: &Place) -> i64 {
        self.clock.as_ref().map_or_else(|| place.now(), |clock| millis(clock.now()))
    }

    /// Milliseconds since 1970, about as the server's clock has it. What is written down takes a script's own time.
    pub(super) fn now(&self) -> i64 {
        match &self.clock {
            Some(clock) => millis(clock.now()),
            None => millis(SystemClock.now()) + self.skew.load(Ordering::Relaxed),
        }
    }

    /// Runs a script on a partition, and takes in what its prelude tells. `keys` must be of the same partition. The queue
    /// should be there: the partition comes into being by this.
    pub(super) async fn run(
        &self,
        script: &Script,
        queue: &Name,
        partition: u32,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Ran, Error> {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        self.run_on(script, &self.place(queue, partition), keys, &args).await
    }

    /// [`Shared::run`], of a partition that is at hand.
    pub(super) async fn run_on(
        &self,
        script: &Script,
        place: &Place,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Ran, Error> {
        let mut call = self.begin(script, place, keys);
        for arg in args {
            call.cmd.arg(*arg);
        }
        let answer = self.server.call(script, &call.cmd).await?;
        self.took(place, call, answer)
    }

    /// What a script is told of the time, in milliseconds: nothing where the server's clock counts.
    pub(super) fn time_told(&self) -> String {
        self.clock.as_ref().map(|clock| millis(clock.now()).to_string()).unwrap_or_default()
    }

    /// The call of a script on a partition, without the arguments of its own.
    pub(super) fn begin(&self, script: &Script, place: &Place, keys: &[String]) -> Call {
        let of = &place.keys;
        let own = [
            &of.meta,
            &of.stream,
            &of.dedupe,
            &of.dedupe_order,
            &of.groups,
            &of.effects,
            &of.view,
            &of.waiting,
            &of.events,
        ];
        let all: Vec<&String> = own.into_iter().chain(keys).collect();
        let mut cmd = script.call(all.into_iter());
        let begins: u64 = rand::rng().random_range(1..=i64::MAX.cast_unsigned());
        let asked = place.view();
        cmd.arg(begins).arg(self.time_told()).arg(asked.lineage).arg(self.keys.hint());
        Call { cmd, begins, asked }
    }

    /// Takes in what such a call was answered.
    pub(super) fn took(&self, place: &Place, call: Call, answer: Value) -> Result<Ran, Error> {
        let (queue, partition) = (&place.queue, place.partition);
        let (ran, changed) = place.took(answer, &call.asked)?;
        if self.clock.is_none() {
            self.skew.store(ran.view.now - millis(SystemClock.now()), Ordering::Relaxed);
        }
        if ran.view.lineage == call.begins {
            let parent = ran.view.lineages.current().and_then(|lineage| lineage.parent);
            tracing::warn!(%queue, partition, parent, first = ran.view.next, "a lineage begins");
            metrics::lineage_changed(queue);
        }
        if changed {
            self.offer.forget();
            if call.asked.lineage != 0 && ran.view.lineages.cut(call.asked.lineage) == Some(0) {
                self.was_reset(place, &ran.view);
            }
            self.wake_queue(queue);
        }
        Ok(ran)
    }

    fn was_reset(&self, place: &Place, view: &View) {
        let Some(lineage) = view.lineages.0.iter().find(|lineage| lineage.parent.is_none()) else { return };
        let reset = Reset { queue: place.queue.clone(), partition: place.partition, lineage: lineage.id, at: view.now };
        let mut resets = self.resets.lock();
        if resets.len() < RESETS {
            resets.push_back(reset);
        }
    }

    /// [`Shared::run`] with a script that only looks.
    pub(super) async fn look(&self, queue: &Name, partition: u32) -> Result<Ran, Error> {
        self.run(&LOOK, queue, partition, &[], &[]).await
    }

    /// Lets nothing be published, or everything again.
    pub(super) fn refuse(&self, why: Option<String>) {
        *self.refuses.write() = why;
    }

    /// # Errors
    /// If nothing may be published, since what is confirmed could be lost silently.
    pub(super) fn takes_events(&self) -> Result<(), Error> {
        self.refuses.read().as_ref().map_or(Ok(()), |why| Err(Error::Unavailable(why.clone())))
    }

    pub(super) fn place(&self, queue: &Name, partition: u32) -> Arc<Place> {
        let known = self.places.read().get(&(queue.clone(), partition)).cloned();
        known.unwrap_or_else(|| {
            let mut places = self.places.write();
            let place = places.entry((queue.clone(), partition)).or_insert_with(|| {
                Arc::new(Place::new(queue.clone(), partition, self.keys.partition(queue, partition)))
            });
            place.clone()
        })
    }

    /// Every queue that this node has heard of, by name.
    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        self.registry.queues()
    }

    /// A queue that this node has heard of.
    pub(super) fn queue(&self, name: &Name) -> Option<Arc<Queue>> {
        self.registry.queue(name)
    }

    /// A queue, by asking where this node hasn't heard of it.
    pub(super) async fn find_queue(&self, name: &Name) -> Result<Option<Arc<Queue>>, Error> {
        self.registry.find_queue(&self.server, &self.keys, name).await
    }

    /// A queue as it is stored now, whatever this node has heard.
    pub(super) async fn ask_queue(&self, name: &Name) -> Result<Option<Arc<Queue>>, Error> {
        self.registry.ask_queue(&self.server, &self.keys, name).await
    }

    /// A queue, which is made with the default settings if it isn't there.
    pub(super) async fn ensure_queue(&self, name: &Name) -> Result<Arc<Queue>, Error> {
        self.registry.ensure_queue(&self.server, &self.keys, name).await
    }

    pub(super) async fn put_queue(&self, queue: &Queue) -> Result<(), Error> {
        self.registry.put_queue(&self.server, &self.keys, queue, true).await
    }

    /// A group that this node has heard of.
    pub(super) fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.registry.group(name)
    }

    /// Every group that this node has heard of, by name.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        self.registry.groups()
    }

    /// A group, by asking where this node hasn't heard of it.
    pub(super) async fn find_group(&self, name: &str) -> Result<Option<Arc<Group>>, Error> {
        self.registry.find_group(&self.server, &self.keys, name).await
    }

    /// A group as it is stored now, whatever this node has heard.
    pub(super) async fn ask_group(&self, name: &str) -> Result<Option<Arc<Group>>, Error> {
        self.registry.ask_group(&self.server, &self.keys, name).await
    }

    /// Stores a group's settings, unless those that are stored were declared later.
    pub(super) async fn change_group(&self, group: &Group) -> Result<(), Error> {
        self.registry.change_group(&self.server, &self.keys, group).await
    }

    pub(super) async fn put_group(&self, group: &Group) -> Result<(), Error> {
        self.registry.put_group(&self.server, &self.keys, group, true).await
    }

    /// Takes in what other nodes declared.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        for gone in self.registry.refresh(&self.server, &self.keys, self.now()).await? {
            group::erase(self, &gone).await?;
        }
        Ok(())
    }

    pub(super) async fn mark_deleted(&self, group: &str) -> Result<(), Error> {
        self.registry.mark_deleted(&self.server, &self.keys, group, self.now()).await
    }

    /// Whether somebody here waits for what is recorded in the queue.
    pub(super) fn is_followed(&self, queue: &Name) -> bool {
        let mut followed = self.wakes.appended.is_watched(queue);
        self.registry.each_group_on(queue, |group| followed |= self.wakes.claimable.is_watched(group));
        followed
    }

    /// Something was recorded in the queue: its readers look, and the members of its groups.
    pub(super) fn wake_queue(&self, queue: &Name) {
        self.wakes.appended.wake(queue);
        self.registry.each_group_on(queue, |group| self.wakes.claimable.wake(group));
    }

    pub(super) fn wake_group(&self, group: &str) {
        self.wakes.claimable.wake(&group.to_owned());
    }

    pub(super) fn wake_settled(&self, queue: &Name) {
        self.wakes.settled.wake(queue);
    }
}
