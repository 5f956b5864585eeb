//! Which endpoint gets a request: chosen per request, never per connection, among those that are fit ([`crate::choice`]
//! says which). One file a balancer.
//!
//! p2c.rs            by how soon each answers      round_robin.rs    one after the other
//! least_request.rs  by how much each has to do    ring_hash.rs      the same one for the same key
//!
//! Where endpoints are to have different shares, by their weights or while one warms, each balancer keeps to them: in the
//! long run, and as far as its own measure lets it.

mod least_request;
mod p2c;
mod ring_hash;
mod round_robin;

pub(crate) use ring_hash::mark;

use std::time::Instant;

use rand::{Rng, rngs::SmallRng};

use crate::choice::Seat;

/// By what endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// How soon each answers: two are drawn, and the better one likely gets the request.
    #[default]
    P2c,
    /// The fewest requests under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The same one for the same [`crate::Options::hash`]; requests without go as by [`Balance::P2c`].
    RingHash,
}

/// How a client chooses, with what it has to remember for it.
pub(crate) enum Balancer {
    P2c,
    LeastRequest,
    RoundRobin { next: usize },
    RingHash,
}

/// What is chosen from, and by.
pub(crate) struct Draw<'a> {
    pub seats: &'a [Seat],
    /// The places in `seats` that are to choose from; never empty.
    pub among: &'a [usize],
    /// All of them are to have the same share.
    pub is_even: bool,
    pub random: &'a mut SmallRng,
    pub now: Instant,
}

impl Balancer {
    pub fn new(balance: Balance, random: &mut impl Rng) -> Self {
        match balance {
            Balance::P2c => Self::P2c,
            Balance::LeastRequest => Self::LeastRequest,
            // Elsewhere than other clients, so that they don't come to the same endpoint together.
            Balance::RoundRobin => Self::RoundRobin { next: random.random_range(0..1 << 16) },
            Balance::RingHash => Self::RingHash,
        }
    }

    /// The place of the seat that gets the request. `key`: what a ring hash goes by; without one it is as p2c.
    pub fn pick(&mut self, key: Option<u64>, draw: Draw<'_>) -> usize {
        if let [only] = draw.among {
            return *only;
        }
        match (self, key) {
            (Self::LeastRequest, _) => least_request::pick(draw),
            (Self::RoundRobin { next }, _) => round_robin::pick(next, draw),
            (Self::RingHash, Some(key)) => ring_hash::pick(key, &draw),
            (Self::P2c | Self::RingHash, _) => p2c::pick(draw),
        }
    }
}

impl Draw<'_> {
    /// One by chance, each as likely as it weighs beside its share.
    fn by_chance(self, weight: impl Fn(&Seat) -> f64) -> usize {
        let Self { seats, among, random, now, .. } = self;
        let weight = |place: &usize| seats[*place].fitness.share(now) * weight(&seats[*place]);
        let mut point = random.random::<f64>() * among.iter().map(weight).sum::<f64>();
        let within = |place: &&usize| {
            point -= weight(place);
            point < 0.0
        };
        among.iter().find(within).copied().unwrap_or(among[0])
    }
}
