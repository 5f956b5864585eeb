//! The one with the fewest requests under way; of several, one by chance.

use rand::Rng as _;

use super::Draw;

pub(super) fn pick(draw: Draw<'_>) -> usize {
    if !draw.is_even {
        return draw.by_chance(|seat| ((seat.lane.load.in_flight() + 1) as f64).powi(-2));
    }
    let Draw { seats, among, random, .. } = draw;
    let begin = random.random_range(0..among.len());
    let places = among[begin..].iter().chain(&among[..begin]).copied();
    // The first of several wins, wherever it began.
    places.min_by_key(|place| seats[*place].lane.load.in_flight()).unwrap_or(among[begin])
}
