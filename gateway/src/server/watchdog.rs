//! Ends connections whose clients take too long: over a request's head, over its body, over an answer, or over beginning
//! another request.
//!
//! A timer for each request would cost more than routing it. So a connection only notes what it is doing, by a clock that
//! ticks once a second, and one task a core looks through them at each tick.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::activity::{Activity, Phase};
use crate::config::Limits;

/// How long a connection may stay without a byte in either direction while its client is waited for, though it needn't
/// hurry. How long a service may be silent is its route's affair.
const SILENCE: u64 = 310;
/// How many ticks a connection has to end by itself. Longer than it lingers for the client to read why.
const GRACE: u64 = 5;

/// The connections of a core.
#[derive(Default)]
pub struct Watchdog {
    clock: Arc<AtomicU64>,
    watched: Mutex<Vec<Watch>>,
}

struct Watch {
    activity: Arc<Activity>,
    connection: AbortHandle,
    sight: Sight,
}

/// What was seen of a connection at earlier ticks.
#[derive(Default)]
struct Sight {
    moved: u64,
    /// The last tick at which bytes had passed.
    moved_at: u64,
    /// Bytes that passed in each of the last ticks, while the client was waited for.
    rate: VecDeque<u64>,
    /// When it was told that the client took too long.
    expired: Option<u64>,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Leave,
    /// It ends in order, and tells the client where there is something to tell.
    Expire,
    /// There is nobody to be told.
    Cut,
}

impl Watchdog {
    /// Notes for a new connection, whose first head is due.
    pub fn activity(&self, limits: &Arc<Limits>) -> Arc<Activity> {
        Arc::new(Activity::new(Arc::clone(&self.clock), Arc::clone(limits)))
    }

    pub fn watch(&self, activity: Arc<Activity>, connection: AbortHandle) {
        let sight = Sight { moved_at: self.clock.load(Relaxed), ..Sight::default() };
        self.watched.lock().push(Watch { activity, connection, sight });
    }

    /// Shows every connection's notes.
    pub fn each(&self, mut visit: impl FnMut(&Activity)) {
        self.watched
            .lock()
            .iter()
            .filter(|watch| !watch.connection.is_finished())
            .for_each(|watch| visit(&watch.activity));
    }

    /// Looks after the connections for as long as the core runs.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Tells every connection to finish what it is doing and close.
    pub fn drain(&self) {
        for watch in &*self.watched.lock() {
            watch.activity.finish();
        }
    }

    fn tick(&self) {
        let now = self.clock.fetch_add(1, Relaxed) + 1;
        self.watched.lock().retain_mut(|Watch { activity, connection, sight }| {
            if connection.is_finished() {
                return false;
            }
            match sight.judge(activity, now) {
                Measure::Leave => {}
                Measure::Expire => activity.expire(),
                Measure::Cut => {
                    activity.cut();
                    connection.abort();
                }
            }
            true
        });
    }
}

impl Sight {
    /// Looks at a connection; once at each tick.
    fn judge(&mut self, activity: &Activity, now: u64) -> Measure {
        let moved = activity.moved();
        let bytes = moved.wrapping_sub(self.moved);
        self.moved = moved;
        if bytes > 0 {
            self.moved_at = now;
        }
        let (phase, since) = activity.phase();
        // What was noted may have been noted right before a tick.
        let longer = |since: u64, allowed: u64| now.saturating_sub(since) > allowed;
        if !activity.is_late() {
            self.expired = None;
        }
        if let Some(expired) = self.expired {
            let is_stuck = phase != Phase::Busy && longer(expired, GRACE) || longer(self.moved_at, SILENCE);
            return if is_stuck { Measure::Cut } else { Measure::Leave };
        }
        let patience = activity.patience();
        let is_slow = match phase {
            Phase::Receiving | Phase::Sending => self.is_slow(bytes, patience.rate.0, patience.over.as_secs()),
            Phase::Idle | Phase::Head | Phase::Busy | Phase::Multiplexed => {
                self.rate = VecDeque::new();
                false
            }
        };
        let measure = match phase {
            Phase::Head if longer(since, patience.head.as_secs()) => Measure::Expire,
            Phase::Idle if longer(since, patience.idle.as_secs()) => Measure::Expire,
            Phase::Receiving if is_slow || longer(activity.begun(), patience.request.as_secs()) => Measure::Expire,
            Phase::Sending if is_slow && !activity.is_stream() => Measure::Cut,
            Phase::Sending | Phase::Multiplexed if longer(self.moved_at, SILENCE) => Measure::Cut,
            _ => Measure::Leave,
        };
        if measure == Measure::Expire {
            self.expired = Some(now);
        }
        measure
    }

    /// Whether fewer bytes pass than `rate` a second over so many ticks.
    fn is_slow(&mut self, bytes: u64, rate: u64, over: u64) -> bool {
        // The first tick is not a whole second of waiting.
        let whole = usize::try_from(over).unwrap_or(usize::MAX).saturating_add(1);
        self.rate.push_back(bytes);
        while self.rate.len() > whole {
            self.rate.pop_front();
        }
        let passed: u64 = self.rate.iter().skip(1).sum();
        self.rate.len() == whole && passed < rate * over
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use ::http1::server::Verdict;

    use super::*;

    /// A connection's notes, what was seen of it, and the clock.
    struct Scene {
        watchdog: Watchdog,
        activity: Arc<Activity>,
        sight: Sight,
    }

    impl Scene {
        fn new() -> Self {
            let watchdog = Watchdog::default();
            let activity = watchdog.activity(&Arc::default());
            Self { watchdog, activity, sight: Sight::default() }
        }

        /// Seconds until it is more than left alone, with so many bytes passing in each; none within so many.
        fn until_ended(&mut self, bytes: usize, within: u64) -> Option<(u64, Measure)> {
            (1..=within).find_map(|second| {
                self.activity.moves(bytes);
                let now = self.watchdog.clock.fetch_add(1, Relaxed) + 1;
                let measure = self.sight.judge(&self.activity, now);
                if measure == Measure::Expire {
                    self.activity.expire();
                }
                (measure != Measure::Leave).then_some((second, measure))
            })
        }
    }

    #[test]
    fn a_head_has_ten_seconds_however_its_bytes_drip() {
        let mut scene = Scene::new();
        assert_eq!(scene.until_ended(1, 60), Some((11, Measure::Expire)));
    }

    #[test]
    fn an_answer_may_take_its_time_and_the_next_request_too() {
        let mut scene = Scene::new();
        scene.activity.enter(Phase::Busy);
        assert_eq!(scene.until_ended(0, 4_000), None);
        scene.activity.enter(Phase::Idle);
        assert_eq!(scene.until_ended(0, 180), None);
        scene.activity.enter(Phase::Head);
        assert_eq!(scene.until_ended(1, 10), None);
        scene.activity.enter(Phase::Idle);
        assert_eq!(scene.until_ended(0, 300), Some((181, Measure::Expire)));
    }

    #[test]
    fn a_body_or_an_answer_of_less_than_a_kibibyte_a_second_ends_after_ten() {
        for (phase, measure) in [(Phase::Receiving, Measure::Expire), (Phase::Sending, Measure::Cut)] {
            for bytes in [0, 1, 1023] {
                let mut scene = Scene::new();
                scene.activity.enter(phase);
                assert_eq!(scene.until_ended(bytes, 60), Some((11, measure)), "{phase:?} {bytes}");
            }
            let mut scene = Scene::new();
            scene.activity.enter(phase);
            assert_eq!(scene.until_ended(1024, 55), None, "{phase:?}");
            assert_eq!(scene.until_ended(100, 60).map(|end| end.0 <= 10), Some(true), "it was fast before");
        }
    }

    #[test]
    fn a_whole_request_has_a_minute() {
        let mut scene = Scene::new();
        assert_eq!(scene.until_ended(1, 9), None);
        scene.activity.enter(Phase::Receiving);
        assert_eq!(scene.until_ended(100_000, 100), Some((52, Measure::Expire)));
    }

    #[test]
    fn a_stream_of_events_may_be_taken_slowly() {
        let mut scene = Scene::new();
        scene.activity.streams();
        scene.activity.enter(Phase::Sending);
        assert_eq!(scene.until_ended(0, 400), Some((311, Measure::Cut)), "but not never");
    }

    #[test]
    fn whoever_is_told_and_stays_is_cut() {
        let mut scene = Scene::new();
        assert_eq!(scene.until_ended(0, 60), Some((11, Measure::Expire)));
        assert_eq!(scene.until_ended(0, 60), Some((6, Measure::Cut)));
    }

    #[test]
    fn a_request_that_comes_when_the_connection_was_to_end_is_seen_through() {
        let mut scene = Scene::new();
        scene.activity.enter(Phase::Idle);
        assert_eq!(scene.until_ended(0, 300), Some((181, Measure::Expire)));
        scene.activity.enter(Phase::Head);
        scene.activity.enter(Phase::Busy);
        assert_eq!(scene.activity.verdict(&mut Context::from_waker(Waker::noop())), Verdict::Stay);
        scene.activity.enter(Phase::Sending);
        assert_eq!(scene.until_ended(100_000, 60), None);
        assert_eq!(scene.until_ended(0, 60).map(|end| end.1), Some(Measure::Cut), "and judged like any other");
    }

    #[test]
    fn a_connection_without_a_byte_ends() {
        let mut scene = Scene::new();
        scene.activity.multiplexed();
        assert_eq!(scene.until_ended(0, 400), Some((311, Measure::Cut)));
    }
}
