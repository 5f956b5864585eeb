//! One after the other, each client in a circle of its own; by chance where their shares differ.

use super::Draw;

pub(super) fn pick(next: &mut usize, draw: Draw<'_>) -> usize {
    if !draw.is_even {
        return draw.by_chance(|_| 1.0);
    }
    *next = next.wrapping_add(1);
    draw.among[*next % draw.among.len()]
}
