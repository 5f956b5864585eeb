//! Too much for this node: what is measured (`signals.rs`) takes a level at once, and the level is left ten seconds after what
//! took it was over.
//!
//! | level | new connections | replay | publish | those that are there |
//! |---|---|---|---|---|
//! | 0 below 70 % | all | full | all | |
//! | 1 below 85 % | not of nobody in particular | slower | priority 1 and above | views are told once a second |
//! | 2 below 95 % | only with a cursor; not ready | waits | priority 5 and above | |
//! | 3 | none | waits | priority 9 | at most 2 % a second are sent away |
//!
//! Who is refused is told when to come back, each another time. What was recorded is never shed: who is sent away goes on from its
//! cursor, elsewhere.
//!
//! A socket may say who calls in its first frame, and says where it goes on in a later one: it is heard first ([`Probation`]), and
//! then judged.

mod crowd;
mod level;
mod probation;
mod signals;

use std::{sync::Arc, time::Duration};

use bus::Bus;
use lifecycle::Readiness;
use load::Delays;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

pub(crate) use crowd::Seat;
pub(crate) use probation::{HEARING, Probation};
pub use signals::Signals;

use self::{
    crowd::Crowd,
    level::{Held, Level},
    probation::Hearing,
};
use crate::{
    metrics,
    problem::{Kind, Problem},
};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often somebody is sent away, where that has to be.
const SHED: Duration = Duration::from_millis(100);
/// When who was refused shall come back, in milliseconds.
const RETRY: std::ops::RangeInclusive<u64> = 2_000..=15_000;
/// How long a reader of the log rests between two pages of 64 events where replay is slower: about as long as a page takes.
const REST: Duration = Duration::from_millis(10);
/// The longest it waits for a lower level, so that nobody stays behind for ever.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Measures in place of the process's own figures.
pub(crate) type Gauge = Arc<dyn Fn() -> Signals + Send + Sync>;

/// How much there is too much. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overload {
    /// The level, and the signal that took it.
    level: watch::Sender<(Level, &'static str)>,
    crowd: Arc<Crowd>,
    hearing: Hearing,
}

impl Overload {
    /// Looks for as long as it is polled; says whether the node is ready, and sends away whom it can't bear.
    pub(crate) async fn watch(&self, bus: &Bus, clients: usize, gauge: Option<Gauge>, readiness: &Readiness) {
        metrics::shed_level(self.level().number());
        let delay = watch::Sender::new(None);
        let measuring = async {
            let mut delays = Delays::default();
            loop {
                let measured = delays.next(None).await;
                delay.send_replace(measured);
            }
        };
        let looking = async {
            let mut held = Held::default();
            let mut timer = interval(LOOK);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                let signals = match &gauge {
                    Some(gauge) => gauge(),
                    None => Signals::measured(bus, *delay.borrow(), clients),
                };
                self.take(&mut held, &signals, readiness);
            }
        };
        let shedding = async {
            let mut level = self.level.subscribe();
            // The sender lives as long as this does.
            while let Ok((_, reason)) = level.wait_for(|(level, _)| *level == Level::Shedding).await.map(|now| *now) {
                match self.crowd.shed(SHED) {
                    0 => {}
                    away => metrics::shed("goaway", reason, away),
                }
                tokio::time::sleep(SHED).await;
            }
        };
        tokio::join!(measuring, looking, shedding);
    }

    fn take(&self, held: &mut Held, signals: &Signals, readiness: &Readiness) {
        let (signal, share) = signals.worst();
        let (before, after) = (self.level(), held.next(share, Instant::now()));
        if before == after {
            return;
        }
        let percent = (share * 100.0) as i64;
        if after > before {
            tracing::warn!(level = after.number(), signal, percent, "this node has too much to bear");
        } else {
            tracing::info!(level = after.number(), signal, percent, "this node has less to bear");
        }
        self.level.send_replace((after, signal));
        metrics::shed_level(after.number());
        if after >= Level::Strained {
            readiness.not_ready("overload", signal);
        } else {
            readiness.ready("overload");
        }
    }

    fn level(&self) -> Level {
        self.level.borrow().0
    }

    /// Whether somebody gets in who isn't there yet. `known`: by name.
    pub(crate) fn admit(&self, known: bool) -> Result<(), Problem> {
        match self.level() {
            Level::Calm => Ok(()),
            Level::Busy | Level::Strained if known => Ok(()),
            Level::Busy | Level::Strained => Err(self.refused("this node takes nobody in particular now")),
            Level::Shedding => Err(self.refused("this node takes nobody now")),
        }
    }

    /// Whether a socket gets in, and what it has to show then: it may say later who calls.
    pub(crate) fn hear(&self, known: bool) -> Result<Option<Probation>, Problem> {
        match self.level() {
            Level::Calm => Ok(None),
            Level::Busy if known => Ok(None),
            Level::Strained if known => Ok(Some(Probation::heard())),
            Level::Busy | Level::Strained => match self.hearing.begin() {
                Some(probation) => Ok(Some(probation)),
                None => Err(self.refused("this node listens to as many as it can whom it doesn't know yet")),
            },
            Level::Shedding => self.admit(known).map(|()| None),
        }
    }

    /// Judges a socket that has said who calls. What it still has to show: at the second level that it comes back.
    pub(crate) fn heard(&self, known: bool, probation: Option<Probation>) -> Result<Option<Probation>, Problem> {
        self.admit(known)?;
        Ok(probation.filter(|_| self.level() >= Level::Strained).map(|_| Probation::heard()))
    }

    /// Whether views of each key's last event are told once a second at most.
    pub(crate) fn slows_views(&self) -> bool {
        self.level() >= Level::Busy
    }

    /// When who is sent away before it got in shall come back, in milliseconds.
    pub(crate) fn after_ms() -> [u64; 2] {
        [*RETRY.start(), *RETRY.end()]
    }

    /// Whether somebody may begin to follow who has no cursor: not one that comes back.
    pub(crate) fn begin(&self) -> Result<(), Problem> {
        if self.level() < Level::Strained {
            return Ok(());
        }
        Err(self.refused("this node takes only who goes on from a cursor now"))
    }

    /// Whether an event of this priority is taken.
    pub(crate) fn publish(&self, priority: u8) -> Result<(), Problem> {
        let (level, reason) = *self.level.borrow();
        let least = level.least_priority();
        if priority >= least {
            return Ok(());
        }
        metrics::shed("publish", reason, 1);
        let detail = format!("priority: this node takes {least} and above now");
        Err(Problem { retry_after: Some(later()), ..Problem::new(Kind::TooMany, detail) })
    }

    /// Ends when a reader of the log may have its next page.
    pub(crate) async fn replay(&self) {
        match self.level() {
            Level::Calm => {}
            Level::Busy => tokio::time::sleep(REST).await,
            Level::Strained | Level::Shedding => {
                let mut level = self.level.subscribe();
                let calmer = level.wait_for(|(level, _)| *level < Level::Strained);
                // The sender lives as long as this does.
                _ = tokio::time::timeout(LONGEST_REST, calmer).await;
            }
        }
    }

    /// A client's place among those that may be sent away.
    pub(crate) fn sit(&self, known: bool) -> Seat {
        self.crowd.sit(known)
    }

    fn refused(&self, detail: &'static str) -> Problem {
        let (_, reason) = *self.level.borrow();
        metrics::shed("connection", reason, 1);
        Problem::unavailable(detail, later())
    }
}

fn later() -> Duration {
    Duration::from_millis(rand::random_range(RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(share: f64) -> Overload {
        let overload = Overload::default();
        let signals = Signals { memory: share, ..Signals::default() };
        overload.take(&mut Held::default(), &signals, &Readiness::default());
        overload
    }

    #[test]
    fn each_level_refuses_more() {
        let lowest = |overload: &Overload| (0..=9).find(|priority| overload.publish(*priority).is_ok());
        for (share, nobody, known, begins, priority) in [
            (0.5, true, true, true, 0),
            (0.7, false, true, true, 1),
            (0.9, false, true, false, 5),
            (0.95, false, false, false, 9),
        ] {
            let overload = at(share);
            assert_eq!(overload.admit(false).is_ok(), nobody, "{share}");
            assert_eq!(overload.admit(true).is_ok(), known, "{share}");
            assert_eq!(overload.begin().is_ok(), begins, "{share}");
            assert_eq!(lowest(&overload), Some(priority), "{share}");
        }
        let refused = at(0.95).admit(true).unwrap_err();
        let wait = refused.retry_after.unwrap();
        assert!(refused.kind == Kind::Unavailable && wait >= Duration::from_secs(2) && wait <= Duration::from_secs(15));
        assert_eq!(at(0.95).publish(4).unwrap_err().kind, Kind::TooMany);
    }

    #[test]
    fn who_says_later_who_it_is_is_heard_first() {
        for (share, unknown, known) in [(0.5, false, false), (0.7, true, false), (0.9, true, true)] {
            let overload = at(share);
            assert_eq!(overload.hear(false).unwrap().is_some(), unknown, "{share}");
            assert_eq!(overload.hear(true).unwrap().is_some(), known, "{share}");
            let probation = overload.hear(false).unwrap();
            assert_eq!(overload.heard(true, probation).unwrap().is_some(), share >= 0.85, "it has to come back, too");
            let probation = overload.hear(false).unwrap();
            assert_eq!(overload.heard(false, probation).is_ok(), share < 0.7, "{share}");
        }
        assert!(at(0.95).hear(true).is_err() && at(0.95).hear(false).is_err());
        assert!(at(0.95).heard(true, None).is_err(), "it got worse meanwhile");
    }

    #[test]
    fn so_many_are_heard_at_once_and_no_more() {
        let overload = at(0.8);
        let mut heard: Vec<_> = std::iter::from_fn(|| overload.hear(false).ok()).take(10_000).collect();
        assert_eq!(heard.len(), probation::MOST);
        assert!(overload.hear(true).is_ok(), "who is known waits for nobody");
        let first = heard.pop().unwrap();
        // At once, not only when it has shown all that it has to.
        let _stays = overload.heard(true, first).unwrap();
        assert!(overload.hear(false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn replay_goes_on_slower_or_waits() {
        let took = async |overload: &Overload| {
            let began = Instant::now();
            overload.replay().await;
            began.elapsed()
        };
        assert_eq!(took(&at(0.1)).await, Duration::ZERO);
        let about = |time: Duration| time..time + Duration::from_millis(10);
        assert!(about(REST).contains(&took(&at(0.75)).await));
        assert!(about(LONGEST_REST).contains(&took(&at(0.9)).await));
    }
}
