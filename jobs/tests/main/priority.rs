//! Three queues, served 16 : 4 : 1.

use jobs::{Failure, Job, Kind, Priority, State, Worker};

use crate::{Log, Running, Site, comes_to};

const WORK: Kind<Priority, ()> = Kind::new("work");

#[tokio::test]
async fn a_worker_with_too_much_to_do_serves_them_16_to_4_to_1_and_nobody_starves() {
    for site in Site::every().await {
        let (jobs, log) = (site.jobs().await, Log::default());
        let mut last = None;
        // The lowest come first, and wait all the same.
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            for _ in 0..if priority == Priority::High { 40 } else { 12 } {
                last = Some(jobs.create(WORK.job(&priority).priority(priority)).await.unwrap().id);
            }
        }
        let doing = log.clone();
        let work = move |job: Job<Priority>| {
            let log = doing.clone();
            async move {
                log.note(job.input.as_str());
                Ok::<(), Failure>(())
            }
        };
        let worker = Running::start(Worker::new(&jobs).concurrency(1).register(WORK, work));
        log.has(64).await;
        comes_to(&jobs, last.unwrap(), State::Completed).await;
        let done = log.all();
        let count = |of: &str, among: &[String]| among.iter().filter(|priority| *priority == of).count();
        for turns in done[..42].chunks(21) {
            assert_eq!(["high", "normal", "low"].map(|of| count(of, turns)), [16, 4, 1], "{done:?}");
        }
        assert_eq!(count("low", &done), 12, "what the others don't need is for the lowest");
        worker.drain().await;
    }
}

#[tokio::test]
async fn a_kind_has_no_more_at_once_than_it_says() {
    const NARROW: Kind<Priority, ()> = Kind::<Priority, ()>::new("narrow").concurrency(2);
    let site = Site::sqlite().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let (doing, gate) = (log.clone(), std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
    let opened = gate.clone();
    let work = move |_: Job<Priority>| {
        let (log, gate) = (doing.clone(), gate.clone());
        async move {
            log.note("begun");
            gate.acquire().await?.forget();
            Ok::<(), Failure>(())
        }
    };
    let worker = Running::start(
        Worker::new(&jobs).register(NARROW, work).register(WORK, |_: Job<Priority>| async { Ok::<(), Failure>(()) }),
    );
    let mut narrow = Vec::new();
    for _ in 0..4 {
        narrow.push(jobs.create(NARROW.job(&Priority::Normal)).await.unwrap().id);
    }
    log.has(2).await;
    let other = jobs.create(WORK.job(&Priority::Normal)).await.unwrap().id;
    comes_to(&jobs, other, State::Completed).await;
    assert_eq!(log.all().len(), 2, "the other kind isn't held up, and this one has its two");
    opened.add_permits(4);
    for id in narrow {
        comes_to(&jobs, id, State::Completed).await;
    }
    worker.drain().await;
}
