//! Stop, resume and cancel, in each state and wherever it runs.

use std::time::Duration;

use jobs::{Error, Failure, Job, Jobs, Kind, NewJob, Retry, State, Worker};
use uuid::Uuid;

use crate::{Log, Running, SOON, Site, comes_to};

const WORK: Kind<Manner, ()> = Kind::new("work");

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Manner {
    Done,
    /// Fails the first time.
    Fails,
    /// Gives its task back the first time it is told.
    GivesBack,
    /// Hears nothing.
    Deaf,
}

/// Notes each beginning, and when its handler is no more.
fn worker(jobs: &Jobs, log: &Log) -> Worker {
    struct Gone(Log);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.note("gone");
        }
    }
    let log = log.clone();
    Worker::new(jobs).register(WORK, move |job: Job<Manner>| {
        let log = log.clone();
        async move {
            let again = log.all().iter().any(|line| line == "begun");
            log.note("begun");
            let _gone = Gone(log.clone());
            match job.input {
                Manner::Fails if !again => {
                    Err(Failure::Retry { reason: "not yet".to_owned(), delay: Some(Duration::from_secs(3600)) })
                }
                Manner::GivesBack if !again => {
                    job.ending().cancelled().await;
                    Err(Failure::GivenBack)
                }
                Manner::Deaf => std::future::pending().await,
                _ => Ok(()),
            }
        }
    })
}

async fn create(jobs: &Jobs, manner: Manner) -> Uuid {
    jobs.create(WORK.job(&manner)).await.unwrap().id
}

#[tokio::test]
async fn what_is_scheduled() {
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let job = WORK.job(&Manner::Done).delay(Duration::from_secs(3600));
        let id = jobs.create(job).await.unwrap().id;
        let due = jobs.get(id).await.unwrap().tasks[0].due;
        assert!(due.is_some());
        assert_eq!(jobs.resume(id).await, Err(Error::NotStopped(State::Scheduled)));
        assert_eq!(jobs.stop(id).await, Ok(State::Stopped));
        assert_eq!(jobs.stop(id).await, Ok(State::Stopped));
        assert_eq!(jobs.resume(id).await, Ok(State::Scheduled));
        assert_eq!(jobs.get(id).await.unwrap().tasks[0].due, due, "its time counts still");
        assert_eq!(jobs.cancel(id).await, Ok(State::Cancelled));
        assert_eq!(jobs.cancel(id).await, Ok(State::Cancelled));
        assert_eq!(jobs.stop(id).await, Err(Error::Ended(State::Cancelled)));
        assert_eq!(jobs.resume(id).await, Err(Error::Ended(State::Cancelled)));
        assert_eq!(jobs.stop(Uuid::nil()).await, Err(Error::NoJob(Uuid::nil())));
        assert_eq!(jobs.stop((id, "x")).await, Err(Error::NoTask(id, "x".to_owned())));
    }
}

#[tokio::test]
async fn what_waits_for_a_worker() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let (stopped, cancelled) = (create(&jobs, Manner::Done).await, create(&jobs, Manner::Done).await);
        assert_eq!(jobs.stop(stopped).await, Ok(State::Stopped));
        assert_eq!(jobs.cancel(cancelled).await, Ok(State::Cancelled));
        let worker = Running::start(worker(&jobs, &log));
        let other = create(&jobs, Manner::Done).await;
        comes_to(&jobs, other, State::Completed).await;
        assert_eq!(log.all(), ["begun", "gone"], "the others' deliveries came before");
        assert_eq!(jobs.resume(stopped).await, Ok(State::Pending));
        comes_to(&jobs, stopped, State::Completed).await;
        assert_eq!(jobs.stop(stopped).await, Err(Error::Ended(State::Completed)));
        assert_eq!(jobs.cancel(stopped).await, Err(Error::Ended(State::Completed)));
        worker.drain().await;
    }
}

#[tokio::test]
async fn what_runs_on_another_node_is_told_and_given_back_and_goes_on() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let worker = Running::start(worker(&site.jobs().await, &log));
        let id = create(&jobs, Manner::GivesBack).await;
        comes_to(&jobs, id, State::Running).await;
        log.has(1).await;
        assert_eq!(jobs.stop(id).await, Ok(State::Running));
        assert!(jobs.get(id).await.unwrap().tasks[0].stopping);
        let stopped = comes_to(&jobs, id, State::Stopped).await;
        assert_eq!(stopped.tasks[0].attempts, [], "what is given back is no attempt");
        jobs.resume(id).await.unwrap();
        let done = comes_to(&jobs, id, State::Completed).await;
        assert_eq!((done.tasks[0].attempts.len(), done.tasks[0].attempts[0].number), (1, 1));
        worker.drain().await;
    }
}

#[tokio::test]
async fn a_deaf_handler_is_cut_off_where_it_was_cancelled() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let worker = Running::start(worker(&site.jobs().await, &log));
        let id = create(&jobs, Manner::Deaf).await;
        comes_to(&jobs, id, State::Running).await;
        log.has(1).await;
        assert_eq!(jobs.cancel(id).await, Ok(State::Cancelled));
        log.has(2).await;
        assert_eq!(log.all(), ["begun", "gone"]);
        let cancelled = jobs.get(id).await.unwrap();
        assert_eq!(cancelled.tasks[0].attempts[0].outcome, "cancelled");
        worker.drain().await;
        assert_eq!(jobs.get(id).await.unwrap().job, cancelled.job);
    }
}

#[tokio::test]
async fn what_waits_for_another_attempt() {
    let site = Site::sqlite().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let worker = Running::start(worker(&jobs, &log));
    let id = create(&jobs, Manner::Fails).await;
    let retrying = comes_to(&jobs, id, State::Retrying).await;
    assert_eq!(retrying.tasks[0].error.as_deref(), Some("not yet"));
    assert!(retrying.tasks[0].due.unwrap() > time::OffsetDateTime::now_utc() + Duration::from_secs(3000));
    assert_eq!(jobs.stop(id).await, Ok(State::Stopped));
    // It doesn't wait for the hour to be over.
    assert_eq!(jobs.resume(id).await, Ok(State::Pending));
    let done = comes_to(&jobs, id, State::Completed).await;
    assert_eq!(done.tasks[0].attempts.len(), 2);
    worker.drain().await;
}

#[tokio::test]
async fn a_task_alone_is_stopped_and_cancelled() {
    let site = Site::sqlite().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let job = || {
        NewJob::new("three")
            .task("a", WORK.task(&Manner::Done))
            .task("b", WORK.task(&Manner::Done).retry(Retry::NEVER))
            .task("after a", WORK.task(&Manner::Done).after(["a"]))
    };
    let (stopped, cancelled) = (jobs.create(job()).await.unwrap().id, jobs.create(job()).await.unwrap().id);
    jobs.stop((stopped, "a")).await.unwrap();
    jobs.cancel((cancelled, "a")).await.unwrap();
    let worker = Running::start(worker(&jobs, &log));
    let states = |detail: &jobs::JobDetail| detail.tasks.iter().map(|task| task.state).collect::<Vec<_>>();
    let was = comes_to(&jobs, stopped, State::Stopped).await;
    assert_eq!(states(&was), [State::Stopped, State::Completed, State::Pending]);
    let was = comes_to(&jobs, cancelled, State::Cancelled).await;
    assert_eq!(states(&was), [State::Cancelled, State::Completed, State::Cancelled]);
    jobs.resume((stopped, "a")).await.unwrap();
    comes_to(&jobs, stopped, State::Completed).await;
    testkit::eventually("the worker has nothing left", SOON, async || {
        site.bus.groups().await.unwrap().iter().all(|group| group.lag == 0).then_some(())
    })
    .await;
    worker.drain().await;
}

#[tokio::test]
async fn what_was_told_to_stop_and_loses_its_worker_is_stopped_and_its_attempt_lost() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let first = Running::start(worker(&site.jobs().await, &log));
        let id = create(&jobs, Manner::Deaf).await;
        comes_to(&jobs, id, State::Running).await;
        log.has(1).await;
        jobs.stop(id).await.unwrap();
        first.kill().await;
        let second = Running::start(worker(&site.jobs().await, &log));
        let stopped = comes_to(&jobs, id, State::Stopped).await;
        let outcomes = |detail: &jobs::JobDetail| {
            detail.tasks[0].attempts.iter().map(|attempt| attempt.outcome.clone()).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(&stopped), ["lost"]);
        assert!(stopped.tasks[0].attempts[0].ended.is_some());
        jobs.resume(id).await.unwrap();
        assert_eq!(outcomes(&comes_to(&jobs, id, State::Running).await), ["lost", "running"]);
        jobs.cancel(id).await.unwrap();
        assert_eq!(outcomes(&jobs.get(id).await.unwrap()), ["lost", "cancelled"]);
        second.drain().await;
    }
}
