//! Random publishes, claims and settlements on several nodes, while the server is killed, its scripts are flushed and
//! nodes go away, against a model that knows only what was confirmed, delivered and settled (I1–I6). `TURNPIKE_SEED`
//! replays the steps; what is in flight when the server dies is still up to chance.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use bus::{Bus, Claim, Error, LeaseLost, Leased, Mode, Queue, Settlement, Token, Verb, redis::Redis};
use events::Envelope;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;

use super::{Manual, command, open};
use crate::conformance::{declare, event, nack_after, queue, seconds, status};

const STEPS: usize = 400;
const KILLS: u32 = 5;
const PARTITIONS: u32 = 2;
const NODES: usize = 3;

/// A partition and a position.
type Place = (u32, u64);

struct World {
    rng: StdRng,
    server: testkit::Redis,
    clock: Manual,
    nodes: Vec<Redis>,
    kills: u32,
    members: u32,
}

/// What is known from outside.
struct Model {
    keyed: bool,
    events: Vec<Envelope>,
    /// Confirmed: the event's number.
    recorded: BTreeMap<Place, usize>,
    held: Vec<Leased>,
    stale: Vec<Token>,
    tokens: HashSet<Token>,
    acked: BTreeSet<Place>,
    dead: BTreeSet<Place>,
}

fn place(leased: &Leased) -> Place {
    (leased.partition, leased.position)
}

/// Asks until Redis answers; and whether an earlier try may have been done without an answer.
async fn insist<T>(ask: impl AsyncFn() -> Result<T, Error>) -> (T, bool) {
    let trying = async {
        let mut again = false;
        loop {
            match ask().await {
                Ok(done) => return (done, again),
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
            again = true;
        }
    };
    tokio::time::timeout(seconds(60), trying).await.expect("Redis is back in time")
}

impl World {
    async fn new(seed: u64) -> Self {
        let server = testkit::redis().await;
        let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(open(&server.url(), &clock).await);
        }
        Self { rng: StdRng::seed_from_u64(seed), server, clock, nodes, kills: 0, members: 0 }
    }

    fn bus(&mut self) -> Bus {
        Bus::new(self.nodes[self.rng.random_range(0..NODES)].clone())
    }

    /// [`insist`], and sometimes the server is killed meanwhile.
    async fn ask<T>(&mut self, ask: impl AsyncFn() -> Result<T, Error>) -> (T, bool) {
        if self.kills == KILLS || !self.rng.random_ratio(KILLS, STEPS as u32 / 2) {
            return insist(ask).await;
        }
        self.kills += 1;
        let after = Duration::from_micros(self.rng.random_range(0..2000));
        let killing = async {
            tokio::time::sleep(after).await;
            self.server.restart().await;
        };
        tokio::join!(insist(ask), killing).0
    }

    async fn advance(&mut self, by: Duration) {
        *self.clock.0.lock() += by;
        for node in &self.nodes {
            insist(async || node.housekeep().await).await;
        }
    }

    /// A node goes away without a word, and another one comes.
    async fn replace_node(&mut self) {
        let node = self.rng.random_range(0..NODES);
        self.nodes[node] = open(&self.server.url(), &self.clock).await;
    }
}

impl Model {
    fn recorded(&mut self, number: usize, at: Place, duplicate: bool, again: bool) {
        let before = self.recorded.insert(at, number);
        assert!(before.is_none_or(|before| before == number), "{at:?} holds two events");
        assert!(before.is_some() || !duplicate || again, "event {number} is told as a duplicate");
        assert!(before.is_none() || duplicate, "event {number} is recorded twice");
    }

    fn key(&self, at: Place) -> &str {
        self.events[self.recorded[&at]].key()
    }

    fn delivered(&mut self, leased: Leased) {
        let at = place(&leased);
        let known = self.recorded.get(&at).unwrap_or_else(|| panic!("{at:?} was never confirmed"));
        assert_eq!(self.events[*known].id, leased.envelope.id, "{at:?}");
        assert!(self.tokens.insert(leased.token), "a token twice");
        assert!(!self.acked.contains(&at), "{at:?} comes after its ack");
        assert!(!self.dead.contains(&at), "{at:?} is dead");
        assert!((1..=9).contains(&leased.attempt));
        for other in &self.held {
            assert_ne!(place(other), at, "leased twice");
            assert!(
                !self.keyed || other.envelope.key() != leased.envelope.key(),
                "{at:?} and {:?} overlap",
                place(other)
            );
        }
        if self.keyed {
            for (other, _) in self.recorded.range((at.0, 0)..at).filter(|(other, _)| self.key(**other) == self.key(at))
            {
                let settled = self.acked.contains(other) || self.dead.contains(other);
                assert!(settled, "{at:?} comes before {other:?} of its key is settled");
            }
        }
        self.held.push(leased);
    }

    fn settled(&mut self, leased: &Leased, verb: &Verb) {
        self.stale.push(leased.token);
        match verb {
            Verb::Ack => _ = self.acked.insert(place(leased)),
            Verb::Dead { .. } => _ = self.dead.insert(place(leased)),
            _ => {}
        }
    }

    /// Leases whose time has come are nobody's.
    fn expire(&mut self, now: OffsetDateTime) {
        let over = self.held.extract_if(.., |leased| leased.until <= now);
        self.stale.extend(over.map(|leased| leased.token));
    }
}

async fn step(world: &mut World, model: &mut Model) {
    let bus = world.bus();
    match world.rng.random_range(0..100) {
        0..20 => publish(world, model, &bus).await,
        20..45 => {
            let max = world.rng.random_range(1..6);
            let member = world.rng.random_range(0..6);
            take(world, model, &bus, &format!("{member}-{}", world.members), max).await;
        }
        45..82 if !model.held.is_empty() => {
            let leased = model.held.swap_remove(world.rng.random_range(0..model.held.len()));
            let verb = match world.rng.random_range(0..20) {
                0..2 => nack_after(Duration::from_millis(world.rng.random_range(1..5000))),
                2..4 => Verb::Release,
                4 => Verb::Dead { reason: "no".into() },
                5..7 => Verb::Extend,
                _ => Verb::Ack,
            };
            settle(world, model, &bus, leased, verb).await;
        }
        82..87 if !model.stale.is_empty() => {
            let token = model.stale[world.rng.random_range(0..model.stale.len())];
            let verb = if world.rng.random() { Verb::Ack } else { Verb::Extend };
            let (outcome, _) =
                world.ask(async || bus.settle("g", vec![Settlement { token, verb: verb.clone() }]).await).await;
            assert_eq!(outcome, [Err(LeaseLost)], "a stale token settles");
        }
        87..89 => _ = command(&world.server, &["SCRIPT", "FLUSH"]).await,
        89..91 => world.replace_node().await,
        91..93 => {
            // Every member dies.
            world.members += 1;
            world.advance(seconds(31)).await;
        }
        _ => {
            let by = Duration::from_millis(world.rng.random_range(1..8000));
            world.advance(by).await;
        }
    }
    model.expire(*world.clock.0.lock());
    if world.rng.random_ratio(1, 20) {
        note_dead(model, &bus).await;
    }
}

async fn publish(world: &mut World, model: &mut Model, bus: &Bus) {
    let mut numbers: Vec<usize> = Vec::new();
    for _ in 0..world.rng.random_range(1..5) {
        // Sometimes one that the bus has already.
        let known = model.events.len();
        let number = if known > 0 && world.rng.random_ratio(1, 8) { world.rng.random_range(0..known) } else { known };
        if number == known {
            model.events.push(event(&number.to_string(), &format!("k{}", world.rng.random_range(0..10))));
        }
        numbers.push(number);
    }
    let events: Vec<Envelope> = numbers.iter().map(|number| model.events[*number].clone()).collect();
    let (outcomes, again) = world.ask(async || bus.publish(events.clone()).await).await;
    for (number, outcome) in numbers.into_iter().zip(outcomes) {
        let recorded = outcome.unwrap();
        let at = (recorded.partition, recorded.position.expect("it is within the window"));
        model.recorded(number, at, recorded.duplicate, again);
    }
}

async fn take(world: &mut World, model: &mut Model, bus: &Bus, member: &str, max: usize) {
    let claim = Claim { group: "g".into(), member: member.to_owned(), max, bytes: 1 << 20 };
    let (claimed, _) = world.ask(async || bus.claim(claim.clone()).await).await;
    assert!(claimed.leased.len() <= max);
    note_dead(model, bus).await;
    claimed.leased.into_iter().for_each(|leased| model.delivered(leased));
}

async fn settle(world: &mut World, model: &mut Model, bus: &Bus, mut leased: Leased, verb: Verb) {
    let settlement = Settlement { token: leased.token, verb: verb.clone() };
    let (outcome, again) = world.ask(async || bus.settle("g", vec![settlement.clone()]).await).await;
    // Where the answer was lost, the first try did it.
    assert!(outcome[0].is_ok() || (again && verb != Verb::Extend), "a valid lease is refused: {verb:?}");
    if verb == Verb::Extend {
        leased.until = *world.clock.0.lock() + seconds(30);
        model.held.push(leased);
    } else {
        model.settled(&leased, &verb);
    }
}

/// Those that died of their expiries.
async fn note_dead(model: &mut Model, bus: &Bus) {
    let (letters, _) = insist(async || bus.dead_letters("g", (0, 0), 1000).await).await;
    let letters: BTreeSet<Place> = letters.iter().map(|letter| (letter.partition, letter.position)).collect();
    assert!(letters.is_superset(&model.dead), "a dead letter is gone");
    assert!(letters.is_disjoint(&model.acked), "dead after its ack");
    model.dead = letters;
}

async fn check(mode: Mode) {
    let seed: u64 = std::env::var("TURNPIKE_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("TURNPIKE_SEED={seed}");
    let mut world = World::new(seed).await;
    let mut model = Model {
        keyed: mode == Mode::Keyed,
        events: Vec::new(),
        recorded: BTreeMap::new(),
        held: Vec::new(),
        stale: Vec::new(),
        tokens: HashSet::new(),
        acked: BTreeSet::new(),
        dead: BTreeSet::new(),
    };
    let bus = world.bus();
    bus.declare_queue(Queue { partitions: PARTITIONS, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", mode).await;
    for _ in 0..STEPS {
        step(&mut world, &mut model).await;
    }
    finish(&mut world, &mut model).await;
}

/// Whatever is left ends, and every node sees the same log.
async fn finish(world: &mut World, model: &mut Model) {
    world.kills = KILLS;
    world.advance(seconds(31)).await;
    model.expire(*world.clock.0.lock());
    for round in 0..500 {
        let bus = world.bus();
        if status(&bus, "g").await.lag == 0 {
            break;
        }
        take(world, model, &bus, "last", 50).await;
        for leased in std::mem::take(&mut model.held) {
            settle(world, model, &bus, leased, Verb::Ack).await;
        }
        if round % 4 == 3 {
            world.advance(seconds(5)).await;
        }
    }
    let bus = world.bus();
    assert_eq!(status(&bus, "g").await.lag, 0, "something is stuck");
    note_dead(model, &bus).await;
    for at in model.recorded.keys() {
        assert!(model.acked.contains(at) || model.dead.contains(at), "{at:?} was never settled");
    }
    for node in &world.nodes {
        for partition in 0..PARTITIONS {
            let page = Bus::new(node.clone()).read(&queue(), partition, 1, 1000).await.unwrap();
            let read = page.events.iter().map(|logged| (logged.position, logged.envelope.id.clone()));
            let confirmed = model.recorded.range((partition, 0)..(partition + 1, 0));
            let confirmed = confirmed.map(|((_, position), number)| (*position, number.to_string()));
            assert_eq!(read.collect::<Vec<_>>(), confirmed.collect::<Vec<_>>(), "one log, as it was confirmed");
            assert!(page.events.iter().map(|logged| logged.position).eq(1..page.next), "dense");
        }
    }
}

#[tokio::test]
async fn keyed_groups_hold_over_nodes_and_kills() {
    check(Mode::Keyed).await;
}

#[tokio::test]
async fn parallel_groups_hold_over_nodes_and_kills() {
    check(Mode::Parallel).await;
}
