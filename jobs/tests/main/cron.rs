//! Jobs by the calendar.

use std::time::Duration;

use jobs::{Error, Jobs, Kind, Listing, Missed, Schedule, State};
use lifecycle::Shutdown;
use time::{OffsetDateTime, macros::datetime};
use tokio_util::sync::CancellationToken;

use crate::{Manual, SOON, Site};

const SWEEP: Kind<u32, ()> = Kind::new("sweep");
const START: OffsetDateTime = datetime!(2026-11-21 10:30 UTC);

/// Looks after jobs until it is dropped.
struct Tending(CancellationToken);

impl Tending {
    fn start(jobs: &Jobs) -> Self {
        let (drain, jobs) = (CancellationToken::new(), jobs.clone());
        let until = drain.clone();
        tokio::spawn(async move { jobs.tend(until).await });
        Self(drain)
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn hourly() -> Schedule {
    Schedule::new("sweep hourly", "0 * * * *", SWEEP, &7)
}

async fn fired(jobs: &Jobs) -> usize {
    jobs.list(&Listing::default(), 500).await.unwrap().jobs.len()
}

async fn next(jobs: &Jobs) -> Option<OffsetDateTime> {
    jobs.schedules("", 10).await.unwrap()[0].next
}

/// Waits until the schedule's next firing lies there, so that all before it is decided.
async fn until_next(jobs: &Jobs, moment: OffsetDateTime) {
    testkit::eventually("the schedule has moved on", SOON, async || (next(jobs).await == Some(moment)).then_some(()))
        .await;
}

#[tokio::test]
async fn a_schedule_that_two_nodes_watch_fires_once() {
    for site in Site::every().await {
        let clock = Manual::at(START);
        let (one, other) = (site.jobs_at(clock.clone()).await, site.jobs_at(clock.clone()).await);
        one.schedule(&hourly()).await.unwrap();
        other.schedule(&hourly()).await.unwrap();
        let _tending = [Tending::start(&one), Tending::start(&other)];
        for hour in 1..=4 {
            clock.advance(time::Duration::hours(1));
            until_next(&one, datetime!(2026-11-21 11:00 UTC) + time::Duration::hours(hour)).await;
        }
        // What is half an hour late was missed.
        assert_eq!(fired(&one).await, 0);
        clock.advance(time::Duration::minutes(30));
        until_next(&one, datetime!(2026-11-21 16:00 UTC)).await;
        assert_eq!(fired(&one).await, 1);
        let job = one.list(&Listing::default(), 1).await.unwrap().jobs.remove(0);
        assert_eq!((job.cron.as_deref(), job.state), (Some("sweep hourly"), State::Pending));
        assert_eq!(one.schedules("", 1).await.unwrap()[0].last, Some(datetime!(2026-11-21 15:00 UTC)));
    }
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_as_the_schedule_says() {
    for (missed, firings) in [(Missed::Skip, 0), (Missed::Once, 1), (Missed::All { most: 3 }, 3)] {
        let site = Site::sqlite().await;
        let clock = Manual::at(START);
        let jobs = site.jobs_at(clock.clone()).await;
        jobs.schedule(&hourly().missed(missed)).await.unwrap();
        // Nobody was there for a day.
        clock.advance(time::Duration::days(1));
        let _tending = Tending::start(&jobs);
        until_next(&jobs, datetime!(2026-11-22 11:00 UTC)).await;
        assert_eq!(fired(&jobs).await, firings, "{missed:?}");
    }
}

#[tokio::test]
async fn a_schedule_is_disabled_enabled_changed_and_forgotten() {
    let site = Site::sqlite().await;
    let clock = Manual::at(START);
    let jobs = site.jobs_at(clock.clone()).await;
    jobs.schedule(&hourly().missed(Missed::Once)).await.unwrap();
    jobs.enable("sweep hourly", false).await.unwrap();
    assert_eq!(next(&jobs).await, None);
    clock.advance(time::Duration::hours(5));
    jobs.enable("sweep hourly", true).await.unwrap();
    assert_eq!(next(&jobs).await, Some(datetime!(2026-11-21 16:00 UTC)), "nothing is made up for");
    let daily = Schedule::new("sweep hourly", "15 6 * * *", SWEEP, &8);
    jobs.schedule(&daily).await.unwrap();
    let stored = jobs.schedules("", 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].next), (1, Some(datetime!(2026-11-22 6:15 UTC))));
    assert_eq!(stored[0].input, serde_json::json!(8));
    jobs.unschedule("sweep hourly").await.unwrap();
    assert_eq!(jobs.schedules("", 10).await.unwrap(), []);
    let none = Err(Error::NoSchedule("sweep hourly".to_owned()));
    assert_eq!(jobs.unschedule("sweep hourly").await, none);
    assert_eq!(jobs.enable("sweep hourly", true).await, none);
    let odd = Schedule::new("odd", "0 25 * * *", SWEEP, &1);
    assert!(jobs.schedule(&odd).await.unwrap_err().to_string().starts_with("expression: "));
}

#[tokio::test]
async fn what_is_delayed_begins_when_it_is_due_and_not_before() {
    for site in Site::every().await {
        let clock = Manual::at(START);
        let jobs = site.jobs_at(clock.clone()).await;
        let worker =
            jobs::Worker::new(&jobs).register(SWEEP, |_: jobs::Job<u32>| async { Ok::<(), jobs::Failure>(()) });
        let shutdown = Shutdown::new();
        let work = tokio::spawn(worker.run(shutdown.clone()));
        let delayed = jobs.create(SWEEP.job(&1).delay(Duration::from_secs(600))).await.unwrap().id;
        let at = jobs.create(SWEEP.job(&2).run_at(START + time::Duration::minutes(5))).await.unwrap().id;
        assert_eq!(jobs.get(at).await.unwrap().job.state, State::Scheduled);
        clock.advance(time::Duration::minutes(5));
        crate::comes_to(&jobs, at, State::Completed).await;
        assert_eq!(jobs.get(delayed).await.unwrap().job.state, State::Scheduled);
        clock.advance(time::Duration::minutes(5));
        crate::comes_to(&jobs, delayed, State::Completed).await;
        shutdown.begin(SOON);
        work.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_schedule_whose_jobs_could_not_be_created_is_refused() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    const ODD: Kind<u32, ()> = Kind::new("Two Words");
    const LARGE: Kind<String, ()> = Kind::new("large");
    let large = "x".repeat(jobs::MAX_DATA_BYTES);
    for (schedule, refused) in [
        (Schedule::new("odd", "0 * * * *", ODD, &1), "kind: "),
        (hourly().owner(""), "owner: "),
        (hourly().missed(Missed::All { most: 0 }), "missed.most: "),
        (Schedule::new("large", "0 * * * *", LARGE, &large), "input: "),
        (Schedule::new("a\0b", "0 * * * *", SWEEP, &1), "name: "),
        (Schedule::new("never", "0 0 30 2 *", SWEEP, &1), "expression: "),
    ] {
        let error = jobs.schedule(&schedule).await.unwrap_err().to_string();
        assert!(error.starts_with(refused), "{error}");
    }
    assert_eq!(jobs.schedules("", 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_disabled_schedule_that_is_changed_has_no_next_firing() {
    let site = Site::sqlite().await;
    let jobs = site.jobs_at(Manual::at(START)).await;
    jobs.schedule(&hourly()).await.unwrap();
    jobs.enable("sweep hourly", false).await.unwrap();
    jobs.schedule(&Schedule::new("sweep hourly", "15 6 * * *", SWEEP, &8)).await.unwrap();
    assert_eq!(next(&jobs).await, None);
    jobs.enable("sweep hourly", true).await.unwrap();
    assert_eq!(next(&jobs).await, Some(datetime!(2026-11-22 6:15 UTC)));
}
