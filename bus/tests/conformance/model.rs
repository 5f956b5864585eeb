//! Random claims, settlements, expiries, seeks and redrives against a small model of one parallel group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bus::{Bus, Mode, Start, Token, Verb, Which};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{Lab, claim_all, declare, nack_after, publish_many, refuse, seconds, settle, status};

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Claim { member: u8, max: usize },
    Settle { which: usize, how: u8 },
    Advance(u64),
    Seek(u64),
    Redrive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..4_usize).prop_map(Step::Publish),
        4 => (0..3_u8, 1..5_usize).prop_map(|(member, max)| Step::Claim { member, max }),
        6 => (any::<usize>(), 0..5_u8).prop_map(|(which, how)| Step::Settle { which, how }),
        2 => (1..40_u64).prop_map(Step::Advance),
        1 => (1..20_u64).prop_map(Step::Seek),
        1 => Just(Step::Redrive),
    ]
}

/// What is known of the group from outside.
#[derive(Default)]
struct Model {
    now: Duration,
    published: u64,
    /// Leases by position: whose turn ends when.
    leases: BTreeMap<u64, (Token, Duration)>,
    stale: Vec<Token>,
    acked: BTreeSet<u64>,
    /// Dead, and not brought again by a seek.
    dead: BTreeSet<u64>,
    /// Dead letters, whether a seek brings their event again or not.
    letters: BTreeSet<u64>,
}

impl Model {
    /// Leases whose time has come are nobody's.
    fn expire(&mut self) {
        let now = self.now;
        let over: Vec<u64> =
            self.leases.iter().filter(|(_, (_, until))| *until <= now).map(|(position, _)| *position).collect();
        for position in over {
            let (token, _) = self.leases.remove(&position).unwrap();
            self.stale.push(token);
        }
    }
}

pub(crate) async fn random_claims_and_settlements_match_the_model(lab: impl Lab) {
    let seed: u64 = std::env::var("TURNPIKE_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("TURNPIKE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let steps = prop::collection::vec(step(), 600).new_tree(&mut runner).unwrap().current();

    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let mut model = Model::default();
    for step in steps {
        let context = format!("{step:?}, seed {seed}");
        match step {
            Step::Publish(count) => {
                let first = usize::try_from(model.published).unwrap();
                publish_many(&bus, first..first + count).await;
                model.published += count as u64;
            }
            Step::Claim { member, max } => {
                let leased = claim_all(&bus, "g", &member.to_string(), max).await.leased;
                assert!(leased.len() <= max, "{context}");
                for leased in leased {
                    assert!(!model.leases.contains_key(&leased.position), "leased twice: {context}");
                    assert!(!model.acked.contains(&leased.position), "after its ack: {context}");
                    assert!(!model.dead.contains(&leased.position), "a dead letter: {context}");
                    assert!(leased.attempt <= 9, "{context}");
                    model.leases.insert(leased.position, (leased.token, model.now + seconds(30)));
                }
            }
            Step::Settle { which, how } => {
                if how == 4 && !model.stale.is_empty() {
                    let token = model.stale[which % model.stale.len()];
                    assert!(settle(&bus, "g", token, Verb::Ack).await.is_err(), "a stale token: {context}");
                } else if !model.leases.is_empty() {
                    let at = which % model.leases.len();
                    let (position, (token, _)) = model.leases.iter().nth(at).map(|(at, lease)| (*at, *lease)).unwrap();
                    let verb = match how {
                        0 => nack_after(seconds(3)),
                        1 => Verb::Release,
                        2 => refuse(),
                        _ => Verb::Ack,
                    };
                    settle(&bus, "g", token, verb).await.unwrap_or_else(|lost| panic!("{lost}: {context}"));
                    model.leases.remove(&position);
                    model.stale.push(token);
                    match how {
                        0 | 1 => {}
                        2 => {
                            model.dead.insert(position);
                            model.letters.insert(position);
                        }
                        _ => _ = model.acked.insert(position),
                    }
                }
            }
            Step::Advance(by) => {
                model.now += seconds(by);
                lab.advance(seconds(by)).await;
                model.expire();
                // Dead letters of expiries alone are the bus's to tell.
                for letter in bus.dead_letters("g", (0, 0), 1000).await.unwrap() {
                    if model.letters.insert(letter.position) {
                        assert!(matches!(letter.reason.as_str(), "crash_loop" | "exhausted"), "{context}");
                        model.dead.insert(letter.position);
                    }
                }
            }
            Step::Seek(to) => {
                bus.seek("g", Start::Position(to), false).await.unwrap();
                model.stale.extend(std::mem::take(&mut model.leases).into_values().map(|(token, _)| token));
                model.acked.retain(|position| *position < to);
                // What comes again may be acked although it is a dead letter.
                model.dead.retain(|position| *position < to);
                // A letter that was with its group again is one anew.
                model.letters.extend(letters(&bus).await);
            }
            Step::Redrive => {
                // After a seek a letter's event may have been acked as well: now it comes once more.
                let before = letters(&bus).await;
                let redriven = bus.redrive("g", Which::All).await.unwrap();
                let after = letters(&bus).await;
                assert_eq!(before.len() - after.len(), usize::try_from(redriven).unwrap(), "{context}");
                for position in before.difference(&after) {
                    assert!(!model.leases.contains_key(position), "redriven while it is leased: {context}");
                    model.letters.remove(position);
                    model.dead.remove(position);
                    model.acked.remove(position);
                }
            }
        }
        let status = status(&bus, "g").await;
        assert_eq!(status.in_flight, model.leases.len() as u64, "{context}");
        assert!(status.lag <= model.published, "{context}");
    }
    finish(&lab, &mut model, seed).await;
}

async fn letters(bus: &Bus) -> BTreeSet<u64> {
    bus.dead_letters("g", (0, 0), 1000).await.unwrap().iter().map(|letter| letter.position).collect()
}

/// Everything that is left ends when it is acked.
async fn finish(lab: &impl Lab, model: &mut Model, seed: u64) {
    let bus = lab.bus();
    for (token, _) in std::mem::take(&mut model.leases).into_values() {
        settle(&bus, "g", token, Verb::Ack).await.unwrap();
    }
    for _ in 0..1000 {
        lab.advance(seconds(10)).await;
        let leased = claim_all(&bus, "g", "last", 100).await.leased;
        super::ack(&bus, "g", &leased).await;
        if status(&bus, "g").await.lag == 0 {
            return;
        }
    }
    panic!("something is stuck, seed {seed}: {:?}", status(&bus, "g").await);
}
