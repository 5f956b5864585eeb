//! Which endpoint gets a request: the less loaded of two drawn at random (P2C), chosen per request.
//!
//! Unhealthy endpoints are skipped, unless fewer than half are healthy: then all count (panic mode), because a check that
//! condemns most of a service is likelier wrong than right, and the rest couldn't carry the load. Endpoints that are
//! suspect, or have just failed this very request, are taken only where there is no other.

use std::{sync::Arc, time::Instant};

use rand::Rng;

use crate::lane::Lane;

/// The place of the lane that is to have the next request. `avoid`: where it has just failed. `lanes` isn't empty.
pub(crate) fn pick(lanes: &[Arc<Lane>], avoid: Option<usize>, now: Instant, random: &mut impl Rng) -> usize {
    if lanes.len() == 1 {
        return 0;
    }
    let healthy = lanes.iter().filter(|lane| lane.endpoint.is_healthy()).count();
    let panic = healthy * 2 < lanes.len();
    let fit = |index: usize| panic || lanes[index].endpoint.is_healthy();
    let fresh = |index: usize| avoid != Some(index);
    let trusted = |index: usize| !lanes[index].endpoint.is_suspect(now);

    p2c(lanes, now, random, |index| fresh(index) && fit(index) && trusted(index))
        .or_else(|| p2c(lanes, now, random, |index| fresh(index) && fit(index)))
        .or_else(|| p2c(lanes, now, random, fresh))
        .unwrap_or(0)
}

fn p2c(lanes: &[Arc<Lane>], now: Instant, random: &mut impl Rng, eligible: impl Fn(usize) -> bool) -> Option<usize> {
    let candidates = || (0..lanes.len()).filter(|index| eligible(*index));
    let count = candidates().count();
    if count < 2 {
        return candidates().next();
    }
    let first = random.random_range(0..count);
    let second = (first + random.random_range(1..count)) % count;
    // Another core may have changed an endpoint's state since the count: then whatever is left.
    let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
    Some(if lanes[second].load.cost(now) < lanes[first].load.cost(now) { second } else { first })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    struct Picked(Vec<usize>);

    impl Picked {
        /// How a thousand picks fall on the lanes.
        fn of(lanes: &[Arc<Lane>], avoid: Option<usize>) -> Self {
            let now = Instant::now();
            let mut random = SmallRng::seed_from_u64(7);
            let mut picked = vec![0; lanes.len()];
            for _ in 0..1000 {
                picked[pick(lanes, avoid, now, &mut random)] += 1;
            }
            Self(picked)
        }
    }

    fn lanes(count: u16) -> Vec<Arc<Lane>> {
        let now = Instant::now();
        (0..count)
            .map(|n| {
                let lane = Lane::for_test(&format!("127.0.0.1:{}", 7001 + n));
                lane.load.observe(Duration::from_millis(1), now);
                lane
            })
            .collect()
    }

    #[test]
    fn equal_endpoints_share_alike() {
        let Picked(picked) = Picked::of(&lanes(4), None);
        assert!(picked.iter().all(|n| (150..350).contains(n)), "{picked:?}");
    }

    #[test]
    fn the_less_loaded_of_two_wins() {
        let lanes = lanes(2);
        lanes[0].load.begin();
        assert_eq!(Picked::of(&lanes, None).0, [0, 1000]);
    }

    #[test]
    fn the_slowest_of_three_is_never_picked() {
        let lanes = lanes(3);
        lanes[1].load.observe(Duration::from_millis(50), Instant::now());
        assert_eq!(Picked::of(&lanes, None).0[1], 0);
    }

    #[test]
    fn an_unhealthy_endpoint_is_skipped() {
        let lanes = lanes(2);
        lanes[1].endpoint.set_health(false, "check failed");
        assert_eq!(Picked::of(&lanes, None).0, [1000, 0]);
    }

    #[test]
    fn below_half_healthy_all_count() {
        let lanes = lanes(3);
        lanes[0].endpoint.set_health(false, "check failed");
        lanes[1].endpoint.set_health(false, "check failed");
        let Picked(picked) = Picked::of(&lanes, None);
        assert!(picked.iter().all(|n| *n > 200), "{picked:?}");
    }

    #[test]
    fn what_just_failed_is_avoided_even_for_an_unhealthy_one() {
        let lanes = lanes(2);
        assert_eq!(Picked::of(&lanes, Some(0)).0, [0, 1000]);
        lanes[1].endpoint.set_health(false, "check failed");
        assert_eq!(Picked::of(&lanes, Some(0)).0, [0, 1000]);
    }

    #[test]
    fn a_suspect_is_taken_only_where_there_is_no_other() {
        let lanes = lanes(2);
        lanes[0].endpoint.suspect("connection refused");
        assert_eq!(Picked::of(&lanes, None).0, [0, 1000]);
        lanes[1].endpoint.suspect("connection refused");
        let Picked(picked) = Picked::of(&lanes, None);
        assert!(picked.iter().all(|n| *n > 300), "{picked:?}");
    }

    #[test]
    fn the_only_endpoint_is_always_taken() {
        let lanes = lanes(1);
        lanes[0].endpoint.set_health(false, "check failed");
        lanes[0].endpoint.suspect("connection refused");
        assert_eq!(Picked::of(&lanes, Some(0)).0, [1000]);
    }
}
