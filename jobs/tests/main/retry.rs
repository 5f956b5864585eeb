//! Failures: errors, panics, timeouts, and workers that die of a task.

use std::time::Duration;

use jobs::{Failure, Job, Kind, Retry, State, Worker};

use crate::{Log, Running, Site, comes_to};

const QUICK: Retry = Retry::even(3, Duration::from_millis(10));

#[tokio::test]
async fn each_way_to_fail_is_an_attempt_until_there_are_no_more() {
    const FAIL: Kind<String, ()> = Kind::<String, ()>::new("fail").retry(QUICK).timeout(Duration::from_millis(100));
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let fail = |job: Job<String>| async move {
            match job.input.as_str() {
                "error" => Err(anyhow::anyhow!("the mail server").context("can't send").into()),
                "panic" => panic!("a bug"),
                "slow" => std::future::pending().await,
                "fatal" => Err(Failure::fatal("never")),
                "unasked" => Err(Failure::GivenBack),
                _ => Ok(()),
            }
        };
        let worker = Running::start(Worker::new(&jobs).register(FAIL, fail));
        for (input, error, attempts) in [
            ("error", "can't send: the mail server", 3),
            ("panic", "the handler panicked: a bug", 3),
            ("slow", "the handler took longer than 100ms", 3),
            ("fatal", "never", 1),
            ("unasked", "given back though nobody had asked for it", 3),
        ] {
            let id = jobs.create(FAIL.job(&input.to_owned())).await.unwrap().id;
            let failed = comes_to(&jobs, id, State::Failed).await;
            let task = &failed.tasks[0];
            assert_eq!(task.error.as_deref(), Some(error));
            let history: Vec<_> = task.attempts.iter().map(|a| (a.number, a.outcome.as_str())).collect();
            assert_eq!(history, (1..=attempts).map(|number| (number, "failed")).collect::<Vec<_>>());
            assert!(task.attempts.iter().all(|attempt| attempt.error.as_deref() == Some(error)));
        }
        worker.drain().await;
    }
}

#[tokio::test]
async fn a_task_that_kills_its_workers_has_failed() {
    const POISON: Kind<(), ()> = Kind::new("poison");
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let id = jobs.create(POISON.job(&())).await.unwrap().id;
        // The bus gives up on what three workers died of, whatever the policy says.
        let mut begun = 0;
        loop {
            begun += 1;
            let doing = log.clone();
            let die = move |_: Job<()>| {
                let log = doing.clone();
                async move {
                    log.note("begun");
                    std::future::pending::<()>().await;
                    Ok::<(), Failure>(())
                }
            };
            let doomed = Running::start(Worker::new(&site.jobs().await).register(POISON, die));
            let failed = testkit::eventually("it has begun again, or failed", crate::SOON, async || {
                let failed = jobs.get(id).await.unwrap().job.state == State::Failed;
                (failed || log.all().len() >= begun).then_some(failed)
            })
            .await;
            doomed.kill().await;
            if failed {
                break;
            }
        }
        assert_eq!(log.all().len(), 3);
        let failed = jobs.get(id).await.unwrap();
        assert!(failed.tasks[0].error.as_ref().unwrap().starts_with("crash_loop: "), "{failed:?}");
        let history: Vec<_> = failed.tasks[0].attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
        assert_eq!(history, ["lost"; 3]);
        let groups = site.bus.groups().await.unwrap();
        assert!(groups.iter().all(|group| group.dead == 0), "its dead letter is the job's history now");
    }
}

#[tokio::test]
async fn a_step_that_has_committed_is_not_done_again() {
    const CHARGE: Kind<(), u32> = Kind::<(), u32>::new("charge").retry(QUICK);
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let url = site.url.clone();
        let schema = [bus::Inbox::migration(1)];
        let ledger = match site.redis {
            Some(_) => database::Database::open(&url, "ledger", &schema).await.unwrap(),
            None => {
                let file = database::Url::sqlite(site.folder.path().join("ledger.db"));
                database::Database::open(&file, "ledger", &schema).await.unwrap()
            }
        };
        let log = Log::default();
        let doing = log.clone();
        let charge = move |job: Job<()>| {
            let (ledger, log) = (ledger.clone(), doing.clone());
            async move {
                let mut tx = ledger.begin().await?;
                let first = job.first(&mut tx, "charge").await?;
                tx.commit().await?;
                log.note(format!("{first} {}", job.step_id("charge")));
                // Dies of something else after the effect.
                if job.attempt == 1 { Err(Failure::retry("away")) } else { Ok(job.attempt) }
            }
        };
        let worker = Running::start(Worker::new(&jobs).register(CHARGE, charge));
        let id = jobs.create(CHARGE.job(&())).await.unwrap().id;
        assert_eq!(comes_to(&jobs, id, State::Completed).await.result(&CHARGE, "charge").unwrap(), Some(2));
        let did: Vec<_> = log.all().iter().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect();
        assert_eq!(did, ["true", "false"]);
        let ids: std::collections::BTreeSet<_> =
            log.all().iter().map(|line| line[line.len() - 36..].to_owned()).collect();
        assert_eq!(ids.len(), 1, "its id is the same in each attempt");
        worker.drain().await;
    }
}

#[tokio::test]
async fn what_a_handler_says_is_kept_whatever_stands_in_it() {
    const SAY: Kind<(), ()> = Kind::<(), ()>::new("say").retry(Retry::NEVER);
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let say = |job: Job<()>| async move {
            job.progress(0.5, "a\0b");
            job.ending().cancelled().await;
            Err::<(), _>(Failure::fatal("c\0d"))
        };
        let worker = Running::start(Worker::new(&jobs).register(SAY, say));
        let id = jobs.create(SAY.job(&())).await.unwrap().id;
        testkit::eventually("its progress is stored", crate::SOON, async || {
            (jobs.get(id).await.unwrap().tasks[0].note.as_deref() == Some("ab")).then_some(())
        })
        .await;
        jobs.stop(id).await.unwrap();
        let failed = comes_to(&jobs, id, State::Failed).await;
        assert_eq!(failed.tasks[0].error.as_deref(), Some("c\u{fffd}d"));
        worker.drain().await;
    }
}
