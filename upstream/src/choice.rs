//! Which endpoints a client chooses from, kept ready between changes: a request only draws. Made again when the roster
//! says that something has changed, and when the time of an endpoint that is out is over.
//!
//! - One that is not healthy by the active checks, or ejected, gets nothing. Where that leaves fewer than half, all count
//!   (panic): a judgement that condemns most of a service is likelier wrong than right, and the rest couldn't carry it.
//! - One where nobody listens is asked only where there is no other; so is the one that has just failed this request.
//! - Shares are even unless weights differ or an endpoint warms: then the balancers go by them.

use std::{sync::Arc, time::Instant};

use rand::rngs::SmallRng;

use crate::{
    balance::{Balancer, Draw},
    endpoint::Fitness,
    lane::Lane,
};

pub(crate) struct Choice {
    /// One an endpoint, in the upstream's order.
    pub seats: Vec<Seat>,
    /// What the roster counted when they were last looked at.
    changes: u64,
    /// Until when nothing changes by itself.
    until: Option<Instant>,
    /// The places that are to choose from.
    fit: Vec<usize>,
    /// The same, less what is left out of one draw.
    narrowed: Vec<usize>,
    /// All of them are to have the same share.
    is_even: bool,
    balancer: Balancer,
    pub random: SmallRng,
}

/// A lane, and what is known of its endpoint.
pub(crate) struct Seat {
    pub lane: Arc<Lane>,
    pub fitness: Fitness,
}

impl Choice {
    pub fn new(balancer: Balancer, random: SmallRng) -> Self {
        let (fit, narrowed) = (Vec::new(), Vec::new());
        Self { seats: Vec::new(), changes: u64::MAX, until: None, fit, narrowed, is_even: true, balancer, random }
    }

    /// Whether what is kept still holds. `changes`: of the roster.
    pub fn is_current(&self, changes: u64, now: Instant) -> bool {
        self.changes == changes && self.until.is_none_or(|until| now < until)
    }

    /// Looks at every endpoint again. `changes` was read before `lanes` were.
    pub fn renew(&mut self, lanes: Option<Vec<Arc<Lane>>>, changes: u64, now: Instant) {
        self.changes = changes;
        if let Some(lanes) = lanes {
            let known = std::mem::take(&mut self.seats);
            let seat = |lane: Arc<Lane>| {
                let known = known.iter().find(|seat| Arc::ptr_eq(&seat.lane, &lane));
                let fitness = known.map_or(Fitness::WELL, |seat| seat.fitness);
                Seat { lane, fitness }
            };
            self.seats = lanes.into_iter().map(seat).collect();
        }
        for seat in &mut self.seats {
            let fitness = seat.lane.endpoint.fitness(now);
            if seat.fitness.is_out && !fitness.is_out {
                // How slow it was while it failed says nothing of how it is now.
                seat.lane.load.forget(now);
            }
            seat.fitness = fitness;
        }
        self.until = self.seats.iter().filter_map(|seat| seat.fitness.until).min();
        let seats = &self.seats;
        let is_panic = is_panic(seats.iter().filter(|seat| !seat.fitness.is_out).count(), seats.len());
        let counts = |place: &usize| is_panic || !seats[*place].fitness.is_out;
        self.fit.clear();
        self.fit.extend((0..seats.len()).filter(|place| counts(place) && !seats[*place].fitness.is_avoided));
        if self.fit.is_empty() {
            self.fit.extend((0..seats.len()).filter(counts));
        }
        let fitness = |place: &usize| seats[*place].fitness;
        let is_alike = |one: Fitness, other: Fitness| one.weight == other.weight && other.warms.is_none();
        self.is_even = self.fit.iter().all(|place| is_alike(fitness(&self.fit[0]), fitness(place)));
    }

    /// The place that gets a request; None where there is no endpoint. `avoid`: where it has just failed.
    pub fn pick(&mut self, avoid: Option<usize>, key: Option<u64>, now: Instant) -> Option<usize> {
        if let Some(avoid) = avoid {
            self.narrow(avoid);
        }
        let Self { seats, fit, narrowed, is_even, balancer, random, .. } = self;
        let among = if avoid.is_some() { narrowed } else { fit };
        if among.is_empty() {
            return None;
        }
        Some(balancer.pick(key, Draw { seats, among, is_even: *is_even, random, now }))
    }

    /// Whom a request chooses from that has failed elsewhere.
    fn narrow(&mut self, avoid: usize) {
        let Self { seats, fit, narrowed, .. } = self;
        let others = |place: &usize| *place != avoid;
        narrowed.clear();
        narrowed.extend(fit.iter().copied().filter(others));
        if narrowed.is_empty() {
            narrowed.extend((0..seats.len()).filter(others).filter(|place| !seats[*place].fitness.is_out));
        }
        // Rather one that is out than the one that has just failed.
        if narrowed.is_empty() {
            narrowed.extend((0..seats.len()).filter(others));
        }
        if narrowed.is_empty() {
            narrowed.extend(0..seats.len());
        }
    }
}

/// Whether so few are fit that all count.
pub(crate) fn is_panic(fit: usize, all: usize) -> bool {
    fit * 2 < all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng as _;

    use super::*;
    use crate::{Balance, endpoint, standing::Event};

    const ALL: [Balance; 4] = [Balance::P2c, Balance::LeastRequest, Balance::RoundRobin, Balance::RingHash];

    struct Drawn {
        choice: Choice,
        now: Instant,
    }

    impl Drawn {
        fn new(balance: Balance, endpoints: usize) -> Self {
            Self::warming(balance, endpoints, Duration::ZERO)
        }

        fn warming(balance: Balance, endpoints: usize, slow_start: Duration) -> Self {
            let mut random = SmallRng::seed_from_u64(7);
            let now = Instant::now();
            let lanes = endpoint::tests::endpoints(endpoints, slow_start).into_iter().map(|endpoint| {
                let lane = Lane::for_test(endpoint);
                lane.load.observe(Duration::from_millis(1), now);
                lane
            });
            let mut choice = Choice::new(Balancer::new(balance, &mut random), random);
            choice.renew(Some(lanes.collect()), 0, now);
            Self { choice, now }
        }

        fn endpoint(&self, place: usize) -> &endpoint::Shared {
            &self.choice.seats[place].lane.endpoint
        }

        /// How a thousand requests fall, each with a key of its own.
        fn thousand(&mut self, avoid: Option<usize>) -> Vec<usize> {
            self.choice.renew(None, 0, self.now);
            let mut fallen = vec![0; self.choice.seats.len()];
            for key in 0..1000_u64 {
                let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                fallen[self.choice.pick(avoid, Some(key), self.now).unwrap()] += 1;
            }
            fallen
        }

        /// Where each of so many keys goes.
        fn places(&mut self, keys: u64) -> Vec<String> {
            self.choice.renew(None, 0, self.now);
            let keys = (0..keys).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let places = keys.map(|key| self.choice.pick(None, Some(key), self.now).unwrap()).collect::<Vec<_>>();
            places.into_iter().map(|place| self.endpoint(place).address.clone()).collect()
        }
    }

    #[test]
    fn equal_endpoints_share_alike_whatever_balances() {
        for balance in ALL {
            let fallen = Drawn::new(balance, 4).thousand(None);
            assert!(fallen.iter().all(|n| (190..310).contains(n)), "{balance:?} {fallen:?}");
        }
    }

    #[test]
    fn the_slower_of_two_gets_little_and_the_busier_one_less() {
        let mut slow = Drawn::new(Balance::P2c, 2);
        slow.choice.seats[1].lane.load.observe_at_least(Duration::from_millis(10), slow.now);
        assert!(slow.thousand(None)[1] < 30, "a hundredth");
        let mut busy = Drawn::new(Balance::P2c, 2);
        busy.choice.seats[0].lane.load.begin();
        assert!((120..280).contains(&busy.thousand(None)[0]), "a fifth");
    }

    #[test]
    fn least_request_takes_the_idlest() {
        let mut drawn = Drawn::new(Balance::LeastRequest, 3);
        drawn.choice.seats[0].lane.load.begin();
        drawn.choice.seats[2].lane.load.begin();
        assert_eq!(drawn.thousand(None), [0, 1000, 0]);
    }

    #[test]
    fn round_robin_goes_round() {
        let mut drawn = Drawn::new(Balance::RoundRobin, 3);
        let picked: Vec<_> = (0..7).map(|_| drawn.choice.pick(None, None, drawn.now).unwrap()).collect();
        assert!(picked.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{picked:?}");
    }

    #[test]
    fn a_key_stays_and_only_the_keys_of_one_that_goes_move() {
        let mut drawn = Drawn::new(Balance::RingHash, 10);
        let before = drawn.places(10_000);
        assert_eq!(drawn.places(10_000), before);
        let gone = drawn.endpoint(3).address.clone();
        drawn.endpoint(3).set_health(false, "check failed", drawn.now);
        let after = drawn.places(10_000);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == gone));
        assert!((850..1150).contains(&moved), "a tenth: {moved}");
    }

    #[test]
    fn without_a_key_a_ring_spreads_requests() {
        let mut drawn = Drawn::new(Balance::RingHash, 4);
        let mut fallen = [0; 4];
        (0..1000).for_each(|_| fallen[drawn.choice.pick(None, None, drawn.now).unwrap()] += 1);
        assert!(fallen.iter().all(|n| *n > 190), "{fallen:?}");
    }

    #[test]
    fn one_that_is_out_gets_nothing() {
        for balance in ALL {
            let mut drawn = Drawn::new(balance, 2);
            drawn.endpoint(1).set_health(false, "check failed", drawn.now);
            assert_eq!(drawn.thousand(None), [1000, 0], "{balance:?}");
        }
    }

    #[test]
    fn below_half_healthy_all_count() {
        for balance in ALL {
            let mut drawn = Drawn::new(balance, 3);
            drawn.endpoint(0).set_health(false, "check failed", drawn.now);
            assert_eq!(drawn.thousand(None)[0], 0, "{balance:?}");
            drawn.endpoint(1).set_health(false, "check failed", drawn.now);
            let fallen = drawn.thousand(None);
            assert!(fallen.iter().all(|n| *n > 200), "{balance:?} {fallen:?}");
        }
    }

    #[test]
    fn what_just_failed_is_avoided_even_for_an_unhealthy_one() {
        for balance in ALL {
            let mut drawn = Drawn::new(balance, 2);
            assert_eq!(drawn.thousand(Some(0)), [0, 1000]);
            drawn.endpoint(1).set_health(false, "check failed", drawn.now);
            assert_eq!(drawn.thousand(Some(0)), [0, 1000]);
        }
    }

    #[test]
    fn where_nobody_listens_is_asked_only_where_there_is_no_other() {
        let mut drawn = Drawn::new(Balance::P2c, 2);
        drawn.endpoint(0).after(Event::Absent, "connection refused", drawn.now);
        assert_eq!(drawn.thousand(None), [0, 1000]);
        drawn.endpoint(1).after(Event::Absent, "connection refused", drawn.now);
        let fallen = drawn.thousand(None);
        assert!(fallen.iter().all(|n| *n > 300), "{fallen:?}");
        drawn.now += Duration::from_secs(1);
        assert!(!drawn.choice.is_current(0, drawn.now), "their time is over");
    }

    #[test]
    fn the_only_endpoint_is_always_taken() {
        let mut drawn = Drawn::new(Balance::P2c, 1);
        drawn.endpoint(0).set_health(false, "check failed", drawn.now);
        drawn.endpoint(0).after(Event::Absent, "connection refused", drawn.now);
        assert_eq!(drawn.thousand(Some(0)), [1000]);
    }

    #[test]
    fn the_share_of_one_that_is_back_grows() {
        for balance in ALL {
            let mut drawn = Drawn::warming(balance, 4, Duration::from_secs(10));
            drawn.endpoint(0).set_health(false, "check failed", drawn.now);
            drawn.thousand(None);
            drawn.endpoint(0).set_health(true, "serving", drawn.now);
            let mut shares = Vec::new();
            for _ in 0..3 {
                drawn.choice.renew(None, 0, drawn.now);
                for seat in &drawn.choice.seats {
                    seat.lane.load.observe(Duration::from_millis(1), drawn.now);
                }
                shares.push(drawn.thousand(None)[0]);
                drawn.now += Duration::from_secs(5);
            }
            assert!(shares[0] < 60 && (80..190).contains(&shares[1]), "{balance:?} {shares:?}");
            assert!((190..310).contains(&shares[2]), "{balance:?} {shares:?}");
        }
    }
}
