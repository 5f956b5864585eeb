//! The bus is away, or loses all it had.

use jobs::{Failure, Job, Kind, State, Worker};

use crate::{Log, Running, Site, comes_to};

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
