//! The bus is away, or loses all it had.

use std::time::Duration;

use bus::{Group, Mode, Queue, Start};
use jobs::{Failure, Job, Kind, Priority, State, Worker};
use time::macros::datetime;

use crate::{Log, Manual, Running, Site, comes_to};

const WORK: Kind<(), ()> = Kind::new("work");

fn worker(jobs: &jobs::Jobs, log: &Log) -> Worker {
    let log = log.clone();
    Worker::new(jobs).register(WORK, move |_: Job<()>| {
        let log = log.clone();
        async move {
            log.note("done");
            Ok::<(), Failure>(())
        }
    })
}

#[tokio::test]
async fn a_flushed_bus_gets_its_tasks_again() {
    let site = Site::shared().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(jobs.create(WORK.job(&())).await.unwrap().id);
    }
    let flush = std::process::Command::new("redis-cli")
        .args(["-u", &site.redis.as_ref().unwrap().url(), "FLUSHALL"])
        .output()
        .unwrap();
    assert!(flush.status.success());
    let worker = Running::start(worker(&site.jobs().await, &log));
    for id in ids {
        comes_to(&jobs, id, State::Completed).await;
    }
    assert_eq!(log.all().len(), 5);
    worker.drain().await;
}

#[tokio::test]
async fn a_job_is_created_while_the_bus_is_away_and_begins_when_it_is_back() {
    let mut site = Site::shared().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let worker = Running::start(worker(&site.jobs().await, &log));
    let redis = site.redis.as_mut().unwrap();
    redis.kill();
    let id = jobs.create(WORK.job(&())).await.unwrap().id;
    assert_eq!(jobs.get(id).await.unwrap().job.state, State::Pending);
    redis.restart().await;
    comes_to(&jobs, id, State::Completed).await;
    assert_eq!(log.all(), ["done"]);
    worker.drain().await;
}

#[tokio::test]
async fn a_queue_that_is_full_keeps_nothing_of_another_waiting() {
    let site = Site::sqlite().await;
    let clock = Manual::at(datetime!(2026-11-21 10:30 UTC));
    let (jobs, log) = (site.jobs_at(clock.clone()).await, Log::default());
    let low = events::Name::new("JOBS_LOW").unwrap();
    site.bus.declare_queue(Queue { max_len: Some(1), ..Queue::new(low) }).await.unwrap();
    // Somebody needs what it holds, and takes nothing.
    let held = Group::new("held", "JOBS_LOW/*".parse().unwrap(), Mode::Parallel);
    site.bus.declare_group(held).await.unwrap();
    // More than are put on the bus at once.
    for _ in 0..150 {
        jobs.create(WORK.job(&()).priority(Priority::Low)).await.unwrap();
    }
    // Its id is behind theirs.
    clock.advance(time::Duration::seconds(1));
    let later = WORK.job(&()).priority(Priority::High).delay(Duration::from_secs(60));
    let later = jobs.create(later).await.unwrap().id;
    clock.advance(time::Duration::minutes(1));
    let worker = Running::start(worker(&jobs, &log));
    comes_to(&jobs, later, State::Completed).await;
    assert!(jobs.counts().await.unwrap()[&State::Pending] >= 140);
    worker.drain().await;
}

#[tokio::test]
async fn what_an_operator_has_passed_over_begins_again_after_some_days() {
    for site in Site::every().await {
        let clock = Manual::at(datetime!(2026-11-21 10:30 UTC));
        let (jobs, log) = (site.jobs_at(clock.clone()).await, Log::default());
        let begun = log.clone();
        let stuck = Worker::new(&jobs).register(WORK, move |_: Job<()>| {
            begun.note("begun");
            std::future::pending::<Result<(), Failure>>()
        });
        let stuck = Running::start(stuck.concurrency(1));
        let running = jobs.create(WORK.job(&())).await.unwrap().id;
        log.has(1).await;
        let waiting = jobs.create(WORK.job(&())).await.unwrap().id;
        stuck.kill().await;
        site.bus.seek("jobs.work.normal", Start::Latest, false).await.unwrap();
        clock.advance(time::Duration::days(4));
        let worker = Running::start(worker(&jobs, &log));
        let detail = comes_to(&jobs, running, State::Completed).await;
        let outcomes: Vec<_> = detail.tasks[0].attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
        assert_eq!(outcomes, ["lost", "completed"]);
        comes_to(&jobs, waiting, State::Completed).await;
        worker.drain().await;
    }
}
