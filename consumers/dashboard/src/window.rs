//! How many events a name had lately, by the second they were recorded in.

const SECONDS: i64 = 60;

#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The newest second that was counted.
    newest: i64,
    events: Box<[u32; SECONDS as usize]>,
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: i64::MIN / 2, events: Box::new([0; SECONDS as usize]) }
    }
}

impl Window {
    /// Counts an event of that second (since 1970).
    pub fn count(&mut self, second: i64) {
        if second <= self.newest - SECONDS {
            return;
        }
        self.forget_until(second);
        let event = &mut self.events[at(second)];
        *event = event.saturating_add(1);
    }

    /// The events of the minute that ends with this second.
    pub fn minute(&mut self, now: i64) -> u32 {
        self.forget_until(now);
        self.events.iter().fold(0, |sum, events| sum.saturating_add(*events))
    }

    /// The events of the last five seconds that are over.
    pub fn lately(&mut self, now: i64) -> u32 {
        self.forget_until(now);
        (1..=5).fold(0, |sum, passed| sum.saturating_add(self.events[at(now - passed)]))
    }

    fn forget_until(&mut self, second: i64) {
        if second <= self.newest {
            return;
        }
        let stale = (second - self.newest).min(SECONDS);
        for passed in 0..stale {
            self.events[at(second - passed)] = 0;
        }
        self.newest = second;
    }
}

fn at(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SECONDS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_later_an_event_no_longer_counts() {
        let mut window = Window::default();
        window.count(1_000);
        window.count(1_000);
        window.count(1_030);
        assert_eq!(window.minute(1_059), 3);
        assert_eq!(window.minute(1_060), 1);
        assert_eq!(window.minute(1_089), 1);
        assert_eq!(window.minute(5_000), 0);
    }

    #[test]
    fn lately_is_five_seconds_without_the_one_that_runs() {
        let mut window = Window::default();
        for second in 90..=100 {
            window.count(second);
        }
        assert_eq!(window.lately(100), 5);
        assert_eq!(window.lately(104), 2);
        assert_eq!(window.lately(106), 0);
    }

    #[test]
    fn an_event_that_comes_late_counts_in_its_own_second() {
        let mut window = Window::default();
        window.count(1_050);
        window.count(1_010);
        window.count(900);
        assert_eq!(window.minute(1_050), 2);
        assert_eq!(window.minute(1_070), 1);
    }
}
