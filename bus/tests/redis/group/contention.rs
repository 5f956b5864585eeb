//! Members of two nodes on one group: each event is settled once, and keys keep their order.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bus::{Bus, Claim, Leased, Mode, Queue, Settlement, Token, Verb};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::node;
use crate::conformance::{declare, event, nack_after, queue, seconds, status};

fn seed() -> u64 {
    let seed = std::env::var("TURNPIKE_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("TURNPIKE_SEED={seed}");
    seed
}

/// What members did, in the order they came to know it.
#[derive(Default)]
struct History {
    tokens: HashSet<Token>,
    /// Deliveries under way, by place.
    held: HashSet<(u32, u64)>,
    /// Keys with a delivery under way.
    keys: HashSet<String>,
    /// Each key's last settled position.
    last: BTreeMap<String, u64>,
    acked: BTreeMap<(u32, u64), u32>,
}

impl History {
    fn delivered(&mut self, leased: &Leased, keyed: bool) {
        let key = leased.envelope.key().to_owned();
        assert!(self.tokens.insert(leased.token), "a token twice");
        assert!(self.held.insert((leased.partition, leased.position)), "{} is leased twice", leased.position);
        if keyed {
            assert!(self.last.get(&key).is_none_or(|last| *last < leased.position), "{key}: out of order");
            assert!(self.keys.insert(key.clone()), "{key}: two deliveries overlap");
        }
    }

    /// Before it is settled: afterwards somebody else may have it already.
    fn returned(&mut self, leased: &Leased) {
        self.held.remove(&(leased.partition, leased.position));
        self.keys.remove(leased.envelope.key());
    }

    fn acked(&mut self, leased: &Leased) {
        *self.acked.entry((leased.partition, leased.position)).or_default() += 1;
        self.last.insert(leased.envelope.key().to_owned(), leased.position);
    }
}

/// A member on a node: claims, and acks, nacks or releases, until everything is acked.
async fn work(bus: Bus, member: String, mut rng: StdRng, history: Arc<Mutex<History>>, keyed: bool, events: usize) {
    while history.lock().acked.len() < events {
        let claim = Claim { group: "g".into(), member: member.clone(), max: rng.random_range(1..20), bytes: 1 << 20 };
        let leased = bus.claim(claim).await.unwrap().leased;
        if leased.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        leased.iter().for_each(|leased| history.lock().delivered(leased, keyed));
        let settlements: Vec<Settlement> = leased
            .iter()
            .map(|leased| {
                let verb = match rng.random_range(0..20) {
                    0 => Verb::Release,
                    1 => nack_after(Duration::from_millis(rng.random_range(1..20))),
                    _ => Verb::Ack,
                };
                let mut history = history.lock();
                history.returned(leased);
                if verb == Verb::Ack {
                    history.acked(leased);
                }
                Settlement { token: leased.token, verb }
            })
            .collect();
        let outcomes = bus.settle("g", settlements).await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "every lease is valid: {outcomes:?}");
    }
}

async fn contend(mode: Mode, partitions: u32, events: usize) {
    let seed = seed();
    let server = testkit::redis().await;
    let nodes = [node(&server).await, node(&server).await];
    nodes[0].declare_queue(Queue { partitions, ..Queue::new(queue()) }).await.unwrap();
    declare(&nodes[0], "g", mode).await;
    let history = Arc::new(Mutex::new(History::default()));
    let members: Vec<_> = (0..6_u64)
        .map(|member| {
            let (bus, history) = (nodes[usize::from(member % 2 == 0)].clone(), history.clone());
            let rng = StdRng::seed_from_u64(seed.wrapping_add(member));
            tokio::spawn(work(bus, member.to_string(), rng, history, mode == Mode::Keyed, events))
        })
        .collect();
    for (batch, first) in (0..events).step_by(50).enumerate() {
        let batch_of = (first..first + 50).map(|n| event(&n.to_string(), &format!("k{}", n % 40))).collect();
        nodes[batch % 2].publish(batch_of).await.unwrap().into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    }
    for member in members {
        tokio::time::timeout(seconds(120), member).await.unwrap_or_else(|_| panic!("stuck, seed {seed}")).unwrap();
    }
    {
        let history = history.lock();
        assert_eq!(history.acked.len(), events);
        assert!(history.acked.values().all(|times| *times == 1), "each once, seed {seed}");
    }
    for node in nodes {
        assert_eq!(status(&node, "g").await.lag, 0, "seed {seed}");
    }
}

#[tokio::test]
async fn members_of_two_nodes_settle_each_event_once() {
    contend(Mode::Parallel, 1, 2000).await;
}

#[tokio::test]
async fn members_of_two_nodes_keep_each_keys_order() {
    contend(Mode::Keyed, 3, 1000).await;
}
