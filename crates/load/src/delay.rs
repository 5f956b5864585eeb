//! How late a core comes to what it has to do: by how much a timer of its own is late, in nine of ten cases over the last
//! 5 s. A single stall is none of its business; a loop that takes that long each time is.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

const EVERY: Duration = Duration::from_millis(50);
const SPAN: Duration = Duration::from_secs(5);
/// What is seen in less says nothing.
const LEAST: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Delays(VecDeque<(Instant, Duration)>);

impl Delays {
    /// Takes another sample, which is `given` if that is known otherwise. Returns the delay, once that is known.
    pub async fn next(&mut self, given: Option<Duration>) -> Option<Duration> {
        let due = Instant::now() + EVERY;
        sleep_until(due).await;
        let now = Instant::now();
        self.0.push_back((now, given.unwrap_or(now.saturating_duration_since(due))));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > SPAN) {
            self.0.pop_front();
        }
        self.delay()
    }

    fn delay(&self) -> Option<Duration> {
        let (first, last) = (self.0.front()?.0, self.0.back()?.0);
        if last.duration_since(first) < LEAST {
            return None;
        }
        let mut delays: Vec<_> = self.0.iter().map(|(_, delay)| *delay).collect();
        let nine_of_ten = (delays.len() - 1) * 9 / 10;
        Some(*delays.select_nth_unstable(nine_of_ten).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_stall_is_nothing_and_many_are_a_delay() {
        let mut delays = Delays::default();
        let stall = Some(Duration::from_millis(400));
        for _ in 0..95 {
            assert!(delays.next(Some(Duration::ZERO)).await.is_none_or(|delay| delay.is_zero()));
        }
        assert_eq!(delays.next(stall).await, Some(Duration::ZERO));
        for _ in 0..10 {
            delays.next(stall).await;
        }
        assert_eq!(delays.delay(), stall);
        for _ in 0..100 {
            delays.next(Some(Duration::ZERO)).await;
        }
        assert!(delays.delay() == Some(Duration::ZERO) && delays.0.len() <= 102, "{}", delays.0.len());
    }
}
