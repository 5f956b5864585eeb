//! Tasks for workers that are elsewhere.

use std::{future::ready, time::Duration};

use bus::{Group, Mode};
use jobs::{Alive, Ask, Ending, Error, Handed, Jobs, Kind, NewJob, Outcome, Outlet, Priority, Retry, State, Task};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Manual, SOON, Site, comes_to};

const COUNT: Kind<u32, u32> = Kind::new("count");

fn ask(worker: &str) -> Ask {
    Ask { kinds: vec!["count".to_owned()], worker: worker.to_owned(), max: 1 }
}

/// The next task.
async fn next(jobs: &Jobs, worker: &str) -> Handed {
    let wait = tokio::time::sleep(SOON);
    Outlet::new(jobs).claim(&ask(worker), wait).await.unwrap().remove(0)
}

async fn create(jobs: &Jobs, retry: Retry) -> Uuid {
    let task = COUNT.task(&3).retry(retry).timeout(Duration::from_secs(60));
    jobs.create(NewJob::new("counting").task("count", task)).await.unwrap().id
}

fn done(result: Value) -> Outcome {
    Outcome::Completed { result }
}

#[tokio::test]
async fn a_task_is_ended_by_whoever_has_its_ticket() {
    for site in Site::every().await {
        // Claimed on one node, heard of on another, ended on a third.
        let (one, two, three) = (site.jobs().await, site.jobs().await, site.jobs().await);
        let id = create(&one, Retry::NEVER).await;
        let task = next(&one, "w1").await;
        assert_eq!((task.job, task.attempt, &task.input), (id, 1, &json!(3)));
        let ticket = task.ticket.to_string().parse().unwrap();
        let alive = Outlet::new(&two).alive(&ticket, Some((0.25, "a quarter"))).await.unwrap();
        assert_eq!(alive, Alive { ending: None });
        let running = three.get(id).await.unwrap();
        assert_eq!((running.job.progress, running.tasks[0].note.as_deref()), (0.25, Some("a quarter")));
        Outlet::new(&three).end(&ticket, done(json!(6))).await.unwrap();
        let completed = comes_to(&one, id, State::Completed).await;
        assert_eq!(completed.result(&COUNT, "count").unwrap(), Some(6));
        assert_eq!(Outlet::new(&one).end(&ticket, done(json!(7))).await, Err(Error::LeaseLost));
        assert!(Outlet::new(&one).claim(&ask("w1"), ready(())).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_worker_that_died_has_lost_its_task_and_is_told() {
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let mut group = Group::new("jobs.count.normal", "JOBS/COUNT".parse().unwrap(), Mode::Parallel);
        group.lease = Duration::from_secs(1);
        site.bus.declare_group(group).await.unwrap();
        let id = create(&jobs, Retry::SCHEDULE).await;
        let dead = next(&jobs, "dead").await;
        let other = next(&jobs, "other").await;
        assert_eq!((other.job, other.attempt), (id, 2));
        let outlet = Outlet::new(&jobs);
        assert_eq!(outlet.alive(&dead.ticket, None).await, Err(Error::LeaseLost));
        assert_eq!(outlet.end(&dead.ticket, done(json!(1))).await, Err(Error::LeaseLost));
        outlet.end(&other.ticket, done(json!(2))).await.unwrap();
        let completed = comes_to(&jobs, id, State::Completed).await;
        let attempts = &completed.tasks[0].attempts;
        let told: Vec<_> = attempts.iter().map(|one| (one.worker.as_str(), one.outcome.as_str())).collect();
        assert_eq!(told, [("dead", "lost"), ("other", "completed")]);
    }
}

#[tokio::test]
async fn failures_go_by_the_task_s_retry() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let (outlet, retry) = (Outlet::new(&jobs), Retry::even(2, Duration::ZERO));
    let id = create(&jobs, retry).await;
    let again = || Outcome::Retry { reason: "busy".to_owned(), delay: None };
    let drain = tokio_util::sync::CancellationToken::new();
    let _tending = drain.clone().drop_guard();
    let tending = jobs.clone();
    tokio::spawn(async move { tending.tend(drain).await });
    outlet.end(&next(&jobs, "w1").await.ticket, Outcome::GivenBack).await.unwrap();
    for attempt in 1..=2 {
        let task = next(&jobs, "w1").await;
        assert_eq!(task.attempt, attempt);
        outlet.end(&task.ticket, again()).await.unwrap();
    }
    let failed = comes_to(&jobs, id, State::Failed).await;
    assert_eq!((failed.tasks[0].error.as_deref(), failed.tasks[0].attempts.len()), (Some("busy"), 2));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cut_off() {
    let site = Site::sqlite().await;
    let clock = Manual::at(OffsetDateTime::now_utc());
    let jobs = site.jobs_at(clock.clone()).await;
    let outlet = Outlet::new(&jobs);
    let id = create(&jobs, Retry::NEVER).await;
    let task = next(&jobs, "slow").await;
    clock.advance(time::Duration::seconds(59));
    outlet.alive(&task.ticket, None).await.unwrap();
    clock.advance(time::Duration::seconds(2));
    assert_eq!(outlet.alive(&task.ticket, None).await, Err(Error::LeaseLost));
    let failed = comes_to(&jobs, id, State::Failed).await;
    assert_eq!(failed.tasks[0].error.as_deref(), Some("the worker took longer than 60s"));
}

#[tokio::test]
async fn a_task_that_can_t_begin_is_nobodys_and_the_worker_is_told() {
    for site in Site::every().await {
        let (jobs, away) = (site.jobs().await, site.jobs().await);
        away.close().await;
        let id = create(&jobs, Retry::NEVER).await;
        // One is enough to know: the others stay where they are.
        let other = create(&jobs, Retry::NEVER).await;
        let claimed = Outlet::new(&away).claim(&Ask { max: 16, ..ask("w1") }, ready(())).await;
        assert!(matches!(claimed, Err(Error::Unavailable(_))), "{claimed:?}");
        let begun = [next(&jobs, "w1").await, next(&jobs, "w1").await];
        assert!(begun.iter().all(|task| task.attempt == 1 && [id, other].contains(&task.job)), "{begun:?}");
    }
}

#[tokio::test]
async fn a_worker_is_told_of_a_stop_and_of_a_cancellation() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let outlet = Outlet::new(&jobs);
    let id = create(&jobs, Retry::SCHEDULE).await;
    let task = next(&jobs, "w1").await;
    jobs.stop(id).await.unwrap();
    assert_eq!(outlet.alive(&task.ticket, None).await, Ok(Alive { ending: Some(Ending::Stop) }));
    // It is there still, and ends well.
    jobs.cancel(id).await.unwrap();
    assert_eq!(outlet.alive(&task.ticket, None).await, Ok(Alive { ending: Some(Ending::Cancel) }));
    assert_eq!(outlet.end(&task.ticket, done(json!(1))).await, Err(Error::LeaseLost));
    assert_eq!(outlet.alive(&task.ticket, None).await, Err(Error::LeaseLost), "it has heard of it");
    assert_eq!(jobs.get(id).await.unwrap().job.state, State::Cancelled);
}

#[tokio::test]
async fn all_priorities_and_kinds_are_handed_out() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    for kind in ["count", "mail"] {
        for priority in Priority::ALL {
            let job = NewJob::new("any").task("one", Task::untyped(kind, Value::Null)).priority(priority);
            jobs.create(job).await.unwrap();
        }
    }
    let kinds = vec!["count".to_owned(), "mail".to_owned()];
    let ask = Ask { kinds, worker: "w1".to_owned(), max: 16 };
    let handed = Outlet::new(&jobs).claim(&ask, ready(())).await.unwrap();
    assert_eq!(handed.len(), 6);
    for wrong in [
        Ask { kinds: Vec::new(), ..ask.clone() },
        Ask { kinds: vec!["Two Words".to_owned()], ..ask.clone() },
        Ask { max: 17, ..ask.clone() },
        Ask { worker: String::new(), ..ask },
    ] {
        assert!(matches!(Outlet::new(&jobs).claim(&wrong, ready(())).await, Err(Error::Invalid(_))), "{wrong:?}");
    }
}
