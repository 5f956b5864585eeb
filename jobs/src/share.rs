//! Which queue is served next: 16 : 4 : 1, nobody starves, and what one doesn't need goes to the others.

pub(crate) const WEIGHTS: [i64; 3] = [16, 4, 1];

/// Turns taken, spread evenly (smooth weighted round robin).
#[derive(Debug, Default)]
pub(crate) struct Share {
    credit: [i64; 3],
}

impl Share {
    /// The next of those that may have something, highest priority first; None if none has.
    pub fn next(&mut self, hungry: [bool; 3]) -> Option<usize> {
        let mut total = 0;
        for at in 0..WEIGHTS.len() {
            if hungry[at] {
                self.credit[at] += WEIGHTS[at];
                total += WEIGHTS[at];
            }
        }
        let chosen = (0..WEIGHTS.len()).filter(|at| hungry[*at]).max_by_key(|at| (self.credit[*at], WEIGHTS[*at]))?;
        self.credit[chosen] -= total;
        Some(chosen)
    }

    /// The turn got nothing, and doesn't count.
    pub fn idle(&mut self, at: usize) {
        self.credit[at] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(share: &mut Share, hungry: [bool; 3], turns: usize) -> [usize; 3] {
        let mut had = [0; 3];
        for _ in 0..turns {
            had[share.next(hungry).unwrap()] += 1;
        }
        had
    }

    #[test]
    fn three_full_queues_are_served_16_to_4_to_1() {
        let mut share = Share::default();
        assert_eq!(turns(&mut share, [true; 3], 21), [16, 4, 1]);
        assert_eq!(turns(&mut share, [true; 3], 210), [160, 40, 10]);
    }

    #[test]
    fn what_one_does_not_need_goes_to_the_others() {
        let mut share = Share::default();
        assert_eq!(turns(&mut share, [false, true, true], 10), [0, 8, 2]);
        assert_eq!(turns(&mut share, [false, false, true], 7), [0, 0, 7]);
        assert_eq!(share.next([false; 3]), None);
    }

    #[test]
    fn an_idle_queue_saves_up_nothing() {
        let mut share = Share::default();
        turns(&mut share, [true, true, false], 1_000);
        share.idle(2);
        assert_eq!(turns(&mut share, [true; 3], 21), [16, 4, 1]);
    }
}
