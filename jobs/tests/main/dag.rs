//! Tasks that come after others.

use std::time::Duration;

use jobs::{Job, Jobs, Kind, NewJob, State, Worker};

use crate::{Log, Running, Site, comes_to};

const FETCH: Kind<String, u32> = Kind::new("fetch");
const DOUBLE: Kind<(), u32> = Kind::new("double");
const SUM: Kind<(), u32> = Kind::new("sum");

fn import() -> NewJob {
    NewJob::new("import")
        .task("fetch", FETCH.task(&"21".to_owned()))
        .task("left", DOUBLE.task(&()).after(["fetch"]))
        .task("right", DOUBLE.task(&()).after(["fetch"]))
        .task("sum", SUM.task(&()).after(["left", "right"]))
}

/// One that gets stuck in `stuck`, as long as it lives.
fn worker(jobs: &Jobs, log: &Log, stuck: Option<&'static str>) -> Worker {
    let (noted, doubling) = (log.clone(), log.clone());
    let fetch = |job: Job<String>| async move { Ok(job.input.parse::<u32>()?) };
    let double = move |job: Job<()>| {
        let log = doubling.clone();
        async move {
            log.note(format!("{} {}", job.task, job.attempt));
            if stuck == Some(job.task.as_str()) {
                std::future::pending::<()>().await;
            }
            Ok(job.result(&FETCH, "fetch")? * 2)
        }
    };
    let sum = move |job: Job<()>| {
        let log = noted.clone();
        async move {
            log.note("sum");
            Ok(job.result(&DOUBLE, "left")? + job.result(&DOUBLE, "right")?)
        }
    };
    Worker::new(jobs).register(FETCH, fetch).register(DOUBLE, double).register(SUM, sum)
}

#[tokio::test]
async fn a_job_of_tasks_over_two_workers_survives_the_death_of_one() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let doomed = Running::start(worker(&site.jobs().await, &log, Some("left")));
        let id = jobs.create(import()).await.unwrap().id;
        log.has(1).await;
        let other = Running::start(worker(&site.jobs().await, &log, None));
        testkit::eventually("one is stuck and the other done", crate::SOON, async || {
            let detail = jobs.get(id).await.unwrap();
            (detail.tasks[1].state == State::Running && detail.tasks[2].state == State::Completed).then_some(())
        })
        .await;
        doomed.kill().await;
        let done = comes_to(&jobs, id, State::Completed).await;
        assert_eq!(done.result(&SUM, "sum").unwrap(), Some(84));
        let left: Vec<_> = done.task("left").unwrap().attempts.iter().map(|a| a.outcome.as_str()).collect();
        assert_eq!(left, ["lost", "completed"]);
        assert_eq!(log.all().iter().filter(|line| *line == "sum").count(), 1);
        assert_eq!(log.all().last().unwrap(), "sum", "it came after both");
        other.drain().await;
    }
}

#[tokio::test]
async fn a_task_that_fails_for_good_fails_the_job_and_what_comes_after_never_begins() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let worker = Running::start(worker(&jobs, &Log::default(), None).concurrency(1));
    let job = NewJob::new("import")
        .task("fetch", FETCH.task(&"no number".to_owned()).retry(jobs::Retry::even(2, Duration::from_millis(1))))
        .task("double", DOUBLE.task(&()).after(["fetch"]));
    let id = jobs.create(job).await.unwrap().id;
    let failed = comes_to(&jobs, id, State::Failed).await;
    assert_eq!(failed.tasks[1].state, State::Cancelled);
    assert_eq!(failed.tasks[0].attempts.len(), 2);
    assert_eq!(failed.tasks[0].error.as_deref(), Some("invalid digit found in string"));
    worker.drain().await;
}

#[tokio::test]
async fn a_result_that_a_task_does_not_come_after_is_none_it_sees() {
    const PEEK: Kind<(), u32> = Kind::new("peek");
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let peek = |job: Job<()>| async move { job.result(&FETCH, "fetch") };
    let fetch = |job: Job<String>| async move { Ok(job.input.parse::<u32>()?) };
    let worker = Running::start(Worker::new(&jobs).register(PEEK, peek).register(FETCH, fetch));
    let job = NewJob::new("two").task("fetch", FETCH.task(&"1".to_owned())).task("peek", PEEK.task(&()));
    let id = jobs.create(job).await.unwrap().id;
    let failed = comes_to(&jobs, id, State::Failed).await;
    assert_eq!(failed.task("peek").unwrap().error.as_deref(), Some("\"peek\" doesn't come after \"fetch\""));
    worker.drain().await;
}
