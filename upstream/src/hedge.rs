//! A second try beside the first, where the first takes longer than most: the first good answer wins, and the others are
//! given up (HTTP/2: the stream is reset; HTTP/1.1: the connection is closed).
//!
//! Only for requests that may safely run twice at once. Each hedge is paid from the budget of the retries, and goes to
//! another endpoint; where there is none, or the budget doesn't cover it, the first try is waited for.

use std::{
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::ConfigError;

/// Answers it takes to know what is usual.
const ENOUGH: u32 = 50;
/// After so many answers, each of those before counts half.
const MEMORY: u32 = 2_000;
/// Where the buckets of latencies begin, and how each is larger than the one before.
const SHORTEST: Duration = Duration::from_micros(100);
const STEP: f64 = 1.15;
const BUCKETS: usize = 96;

/// When a second try is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    pub after: After,
    /// Tries beside the first, 1 to 3; default 1. Each comes `after` the one before.
    pub max: u32,
}

/// How long the first try is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    Time(Duration),
    /// As long as 95 of 100 answers of this upstream take, as measured; there is no second try before 50 answers.
    P95,
}

impl Hedge {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let refuse =
            |path: &str, message: &str| Err(ConfigError { path: path.to_owned(), message: message.to_owned() });
        if !(1..=3).contains(&self.max) {
            return refuse("hedge.max", "must be within 1 to 3");
        }
        if self.after == After::Time(Duration::ZERO) {
            return refuse("hedge.after", "must be above 0");
        }
        Ok(())
    }
}

/// What a race came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finish<A> {
    pub answer: A,
    /// The try it is of: 0 is the first one.
    pub number: u32,
    /// Tries that began beside the first.
    pub hedges: u32,
}

/// Runs `first`, and beside it what `another` makes, each `after` the one before and at most `max` of them, until an
/// answer is good or all have answered. `another` gives None where no more may begin.
pub(crate) async fn race<A, F: Future<Output = A>>(
    first: F,
    after: Duration,
    max: u32,
    mut another: impl FnMut(u32) -> Option<F>,
    is_good: impl Fn(&A) -> bool,
) -> Finish<A> {
    let numbered = |number: u32, race: F| async move { (number, race.await) };
    let mut under_way = FuturesUnordered::new();
    under_way.push(numbered(0, first));
    let (mut hedges, mut may_hedge) = (0, max > 0);
    let mut timer = pin!(sleep_until(Instant::now() + after));
    loop {
        let next = std::future::poll_fn(|context| {
            if let Poll::Ready(answered) = under_way.poll_next_unpin(context) {
                return Poll::Ready(answered);
            }
            if may_hedge && timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        match next.await {
            // The last word is that of the last one to speak, as nobody had better.
            Some((number, answer)) if is_good(&answer) || under_way.is_empty() => {
                return Finish { answer, number, hedges };
            }
            Some(_) => {}
            None => match another(hedges + 1) {
                Some(race) => {
                    hedges += 1;
                    may_hedge = hedges < max;
                    under_way.push(numbered(hedges, race));
                    Pin::as_mut(&mut timer).reset(Instant::now() + after);
                }
                None => may_hedge = false,
            },
        }
    }
}

/// How long answers take, as one core finds it; the old fades.
pub(crate) struct Latencies(Mutex<Counts>);

struct Counts {
    /// How many took so long, and how many that is together.
    buckets: [u32; BUCKETS],
    all: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Mutex::new(Counts { buckets: [0; BUCKETS], all: 0 }))
    }
}

/// A try under way; however it ends, it took that long, or would have taken longer.
pub(crate) struct Timed<'a> {
    latencies: &'a Latencies,
    started: std::time::Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.latencies.observe(self.started.elapsed());
    }
}

impl Latencies {
    pub fn time(&self, started: std::time::Instant) -> Timed<'_> {
        Timed { latencies: self, started }
    }

    pub fn observe(&self, took: Duration) {
        let mut counts = self.0.lock();
        counts.buckets[bucket(took)] += 1;
        counts.all += 1;
        if counts.all >= MEMORY {
            counts.buckets.iter_mut().for_each(|count| *count /= 2);
            counts.all = counts.buckets.iter().sum();
        }
    }

    /// What 95 of 100 answers don't exceed; None where too few are known.
    pub fn p95(&self) -> Option<Duration> {
        let counts = self.0.lock();
        if counts.all < ENOUGH {
            return None;
        }
        let most = counts.all - counts.all / 20;
        let mut seen = 0;
        let bucket = counts.buckets.iter().position(|count| {
            seen += count;
            seen >= most
        })?;
        Some(upper(bucket))
    }
}

fn bucket(took: Duration) -> usize {
    (0..BUCKETS - 1).find(|bucket| took <= upper(*bucket)).unwrap_or(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    SHORTEST.mul_f64(STEP.powi(i32::try_from(bucket).unwrap_or(i32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Tries by how long they take and whether they are good, and what became of each.
    struct Field {
        plan: Vec<(u32, bool)>,
        log: Rc<RefCell<Vec<String>>>,
    }

    struct Leaves(u32, Rc<RefCell<Vec<String>>>, bool);

    impl Drop for Leaves {
        fn drop(&mut self) {
            if !self.2 {
                self.1.borrow_mut().push(format!("{} given up", self.0));
            }
        }
    }

    impl Field {
        fn of(plan: &[(u32, bool)]) -> Self {
            Self { plan: plan.to_vec(), log: Rc::default() }
        }

        fn begin(&self, number: u32) -> Option<impl Future<Output = bool> + use<>> {
            let (millis, is_good) = *self.plan.get(number as usize)?;
            let log = Rc::clone(&self.log);
            Some(async move {
                log.borrow_mut().push(format!("{number} begins"));
                let mut leaves = Leaves(number, log, false);
                sleep(MS * millis).await;
                leaves.2 = true;
                is_good
            })
        }

        /// What came of it, after how long, and what happened.
        async fn run(&self, max: u32) -> (Finish<bool>, Duration, Vec<String>) {
            let started = Instant::now();
            let first = self.begin(0).unwrap();
            let finish = race(first, 50 * MS, max, |number| self.begin(number), |is_good| *is_good).await;
            (finish, started.elapsed(), self.log.borrow().clone())
        }
    }

    fn finish(answer: bool, number: u32, hedges: u32) -> Finish<bool> {
        Finish { answer, number, hedges }
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_in_time_runs_alone() {
        let (finished, took, log) = Field::of(&[(49, true), (1, true)]).run(1).await;
        assert_eq!((finished, took), (finish(true, 0, 0), 49 * MS));
        assert_eq!(log, ["0 begins"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_wins_and_the_other_is_given_up() {
        let (finished, took, log) = Field::of(&[(500, true), (10, true)]).run(1).await;
        assert_eq!((finished, took), (finish(true, 1, 1), 60 * MS));
        assert_eq!(log, ["0 begins", "1 begins", "0 given up"]);
        let (finished, took, log) = Field::of(&[(70, true), (100, true)]).run(1).await;
        assert_eq!((finished, took), (finish(true, 0, 1), 70 * MS));
        assert_eq!(log, ["0 begins", "1 begins", "1 given up"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_answer_waits_for_a_good_one() {
        let (finished, took, _) = Field::of(&[(80, true), (10, false)]).run(1).await;
        assert_eq!((finished, took), (finish(true, 0, 1), 80 * MS));
        let (finished, took, _) = Field::of(&[(55, false), (30, true)]).run(1).await;
        assert_eq!((finished, took), (finish(true, 1, 1), 80 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_one_that_fails_early_is_for_the_retry() {
        let (finished, took, log) = Field::of(&[(5, false), (10, true)]).run(1).await;
        assert_eq!((finished, took), (finish(false, 0, 0), 5 * MS));
        assert_eq!(log, ["0 begins"]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_fail_the_last_word_stands() {
        let (finished, took, _) = Field::of(&[(60, false), (20, false)]).run(1).await;
        assert_eq!((finished, took), (finish(false, 1, 1), 70 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_begin_than_may() {
        let (finished, took, log) = Field::of(&[(500, true), (500, true), (500, true), (5, true)]).run(2).await;
        assert_eq!((finished, took), (finish(true, 0, 2), 500 * MS));
        assert_eq!(log[..3], ["0 begins", "1 begins", "2 begins"]);
        let (finished, took, _) = Field::of(&[(500, true)]).run(2).await;
        assert_eq!((finished, took), (finish(true, 0, 0), 500 * MS), "the budget covers none");
    }

    #[tokio::test(start_paused = true)]
    async fn a_race_that_nobody_waits_for_gives_all_up() {
        let field = Field::of(&[(500, true), (500, true)]);
        assert!(tokio::time::timeout(100 * MS, field.run(1)).await.is_err());
        let mut log = field.log.borrow().clone();
        log.sort();
        assert_eq!(log, ["0 begins", "0 given up", "1 begins", "1 given up"]);
    }

    #[test]
    fn what_is_usual_is_known_after_a_while_and_follows_what_changes() {
        let latencies = Latencies::default();
        for answers in 0..ENOUGH {
            assert_eq!(latencies.p95(), None, "after {answers}");
            latencies.observe(10 * MS);
        }
        let p95 = latencies.p95().unwrap();
        assert!((10 * MS..12 * MS).contains(&p95), "{p95:?}");
        (0..ENOUGH / 10).for_each(|_| latencies.observe(900 * MS));
        let p95 = latencies.p95().unwrap();
        assert!((900 * MS..1050 * MS).contains(&p95), "a tenth took so long: {p95:?}");
        (0..20 * MEMORY).for_each(|_| latencies.observe(2 * MS));
        let p95 = latencies.p95().unwrap();
        assert!((2 * MS..3 * MS).contains(&p95), "{p95:?}");
        latencies.observe(Duration::MAX);
    }

    #[test]
    fn each_fault_names_its_place() {
        let path_of = |after, max| Hedge { after, max }.validate().err().map(|error| error.path);
        assert_eq!(path_of(After::P95, 1), None);
        assert_eq!(path_of(After::P95, 0).as_deref(), Some("hedge.max"));
        assert_eq!(path_of(After::Time(Duration::ZERO), 1).as_deref(), Some("hedge.after"));
    }
}
