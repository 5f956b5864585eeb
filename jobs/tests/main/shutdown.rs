//! A worker that leaves.

use std::time::Duration;

use jobs::{Failure, Job, Jobs, Kind, State, Worker};

use crate::{Log, Running, SOON, Site, comes_to};

const WORK: Kind<bool, ()> = Kind::new("work");

/// Notes each beginning; waits for ever where the input says so, and this isn't the second time.
fn worker(jobs: &Jobs, log: &Log) -> Worker {
    let log = log.clone();
    Worker::new(jobs).concurrency(1).register(WORK, move |job: Job<bool>| {
        let log = log.clone();
        async move {
            log.note(job.attempt);
            match log.all().len() {
                1 if job.input => std::future::pending().await,
                1 => tokio::time::sleep(Duration::from_millis(300)).await,
                _ => {}
            }
            Ok::<(), Failure>(())
        }
    })
}

#[tokio::test]
async fn it_finishes_what_it_has_and_begins_nothing_more() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let first = jobs.create(WORK.job(&false)).await.unwrap().id;
        let leaving = Running::start(worker(&jobs, &log));
        log.has(1).await;
        let second = jobs.create(WORK.job(&false)).await.unwrap().id;
        leaving.drain().await;
        assert_eq!(jobs.get(first).await.unwrap().job.state, State::Completed);
        assert_eq!(jobs.get(second).await.unwrap().job.state, State::Pending);
        assert_eq!(log.all(), ["1"]);
    }
}

#[tokio::test]
async fn what_is_unfinished_when_patience_ends_is_given_back_uncharged() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let id = jobs.create(WORK.job(&true)).await.unwrap().id;
        let leaving = Running::start(worker(&site.jobs().await, &log));
        log.has(1).await;
        leaving.shutdown.begin(Duration::from_millis(50));
        tokio::time::timeout(SOON, leaving.work).await.unwrap().unwrap().unwrap();
        let given_back = jobs.get(id).await.unwrap();
        assert_eq!(given_back.job.state, State::Pending);
        assert_eq!(given_back.tasks[0].attempts, []);
        let next = Running::start(worker(&site.jobs().await, &log));
        let done = comes_to(&jobs, id, State::Completed).await;
        assert_eq!((log.all(), done.tasks[0].attempts.len()), (vec!["1".to_owned(), "1".to_owned()], 1));
        next.drain().await;
    }
}
