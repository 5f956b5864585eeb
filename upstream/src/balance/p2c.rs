//! Two are drawn at random, and the better one likely gets the request: the likelier, the better it is. One that takes ten
//! times as long loses ninety-nine of a hundred such draws.
//!
//! Not always the better one: endpoints that are alike never measure quite alike, and the one that happens to be a hair
//! faster would get twice its share, the slowest of them nothing.

use std::time::Instant;

use rand::Rng as _;

use super::Draw;
use crate::choice::Seat;

/// What an idle endpoint costs that was never measured: next to nothing.
const LEAST: f64 = 1e-9;

pub(super) fn pick(draw: Draw<'_>) -> usize {
    let now = draw.now;
    if !draw.is_even {
        return draw.by_chance(|seat| cost(seat, now).recip());
    }
    let Draw { seats, among, random, .. } = draw;
    let first = random.random_range(0..among.len());
    let second = (first + random.random_range(1..among.len())) % among.len();
    let (first, second) = (among[first], among[second]);
    let (of_first, of_second) = (cost(&seats[first], now), cost(&seats[second], now));
    if random.random::<f64>() * (of_first + of_second) < of_first { second } else { first }
}

/// The square, so that what is slow is shunned and what is a little slower isn't.
fn cost(seat: &Seat, now: Instant) -> f64 {
    seat.lane.load.cost(now).max(LEAST).powi(2)
}
