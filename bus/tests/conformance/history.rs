//! I1–I5 over a recorded history: random members that fail, release, die and come late; a checker that knows only what
//! was confirmed, delivered and settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bus::{Leased, Mode, Queue, Verb, Which};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Lab, claim_all, declare, event, nack_after, queue, seconds, settle, status};

/// One thing that happened to a delivery, in the order it happened.
enum Entry {
    Delivered {
        place: (u32, u64),
        key: String,
        redriven: bool,
    },
    Acked {
        place: (u32, u64),
        key: String,
    },
    /// The lease is over without an ack: nacked, released, expired.
    Returned {
        place: (u32, u64),
        key: String,
    },
}

pub(crate) async fn keyed_order_holds_under_random_members_and_failures(lab: impl Lab) {
    let seed: u64 = std::env::var("TURNPIKE_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("TURNPIKE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 3, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Keyed).await;

    let mut confirmed = BTreeMap::new();
    let mut history = Vec::new();
    let mut held: Vec<Leased> = Vec::new();
    let mut published = 0;
    for _ in 0..1500 {
        match rng.random_range(0..10) {
            0..=2 if published < 400 => {
                let key = format!("k{}", rng.random_range(0..12));
                let recorded = bus.publish(vec![event(&published.to_string(), &key)]).await.unwrap().remove(0).unwrap();
                confirmed.insert((recorded.partition, recorded.position.unwrap()), key);
                published += 1;
            }
            3..=5 => {
                let member = format!("m{}", rng.random_range(0..4));
                let max = rng.random_range(1..8);
                for leased in claim_all(&bus, "g", &member, max).await.leased {
                    history.push(delivered(&leased));
                    held.push(leased);
                }
            }
            6..=8 if !held.is_empty() => {
                let leased = held.swap_remove(rng.random_range(0..held.len()));
                let verb = match rng.random_range(0..10) {
                    0 => nack_after(Duration::from_millis(rng.random_range(1..3000))),
                    1 => Verb::Release,
                    _ => Verb::Ack,
                };
                let acked = verb == Verb::Ack;
                settle(&bus, "g", leased.token, verb).await.expect("it is within its lease");
                let (place, key) = (place(&leased), key(&leased));
                history.push(if acked { Entry::Acked { place, key } } else { Entry::Returned { place, key } });
            }
            9 if rng.random_bool(0.1) => {
                // Every member is away past its leases, and settles too late.
                lab.advance(seconds(31)).await;
                for leased in held.drain(..) {
                    settle(&bus, "g", leased.token, Verb::Ack).await.expect_err("too late");
                    history.push(Entry::Returned { place: place(&leased), key: key(&leased) });
                }
            }
            _ => {
                lab.advance(Duration::from_millis(rng.random_range(1..200))).await;
                for leased in &held {
                    settle(&bus, "g", leased.token, Verb::Extend).await.expect("it is within its lease");
                }
            }
        }
    }
    for leased in held.drain(..) {
        settle(&bus, "g", leased.token, Verb::Ack).await.unwrap_or_else(|lost| panic!("{lost}, seed {seed}"));
        history.push(Entry::Acked { place: place(&leased), key: key(&leased) });
    }
    // Whatever died on the way gets its chance, then everything must end.
    for _ in 0..2000 {
        if status(&bus, "g").await.lag == 0 && bus.redrive("g", Which::All).await.unwrap() == 0 {
            break;
        }
        lab.advance(seconds(5)).await;
        for leased in claim_all(&bus, "g", "last", 50).await.leased {
            history.push(delivered(&leased));
            settle(&bus, "g", leased.token, Verb::Ack).await.unwrap();
            history.push(Entry::Acked { place: place(&leased), key: key(&leased) });
        }
    }
    assert_eq!(status(&bus, "g").await.lag, 0, "everything ends, seed {seed}");
    check(&confirmed, &history, seed);
}

fn check(confirmed: &BTreeMap<(u32, u64), String>, history: &[Entry], seed: u64) {
    for (partition, positions) in
        confirmed.keys().fold(BTreeMap::<_, Vec<_>>::new(), |mut by, (partition, position)| {
            by.entry(partition).or_default().push(*position);
            by
        })
    {
        assert!(positions.iter().copied().eq(1..=positions.len() as u64), "dense in {partition}, seed {seed}");
    }
    let mut acked = BTreeSet::new();
    let mut unsettled: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    let mut last: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for entry in history {
        match entry {
            Entry::Delivered { place, key, redriven } => {
                assert_eq!(confirmed.get(place), Some(key), "only what was confirmed, seed {seed}");
                assert!(!acked.contains(place), "{place:?} comes again after its ack, seed {seed}");
                let other = unsettled.insert(key, *place);
                assert_eq!(other, None, "two deliveries of {key} overlap, seed {seed}");
                // Its key went on without a dead letter; redriven, it comes late.
                if !redriven {
                    let before = last.insert(key, *place);
                    assert!(before.is_none_or(|last| last <= *place), "{key}: {place:?} after {before:?}, seed {seed}");
                }
            }
            Entry::Acked { place, key } => {
                unsettled.remove(key.as_str());
                acked.insert(*place);
            }
            Entry::Returned { place, key } => {
                assert_eq!(unsettled.remove(key.as_str()), Some(*place));
            }
        }
    }
    assert_eq!(acked.len(), confirmed.len(), "nothing is missing, seed {seed}");
}

fn delivered(leased: &Leased) -> Entry {
    Entry::Delivered { place: place(leased), key: key(leased), redriven: leased.redrive > 0 }
}

fn place(leased: &Leased) -> (u32, u64) {
    (leased.partition, leased.position)
}

fn key(leased: &Leased) -> String {
    leased.envelope.key().to_owned()
}
