//! Asking for jobs, page by page, and what leaves in the end.

use jobs::{Error, Failure, Job, Kind, Listing, NewJob, State, Worker};
use time::{Duration, OffsetDateTime, macros::datetime};
use tokio_util::sync::CancellationToken;

use crate::{Manual, SOON, Site, comes_to};

const WORK: Kind<u32, ()> = Kind::new("work");
const START: OffsetDateTime = datetime!(2026-11-21 10:30 UTC);

#[tokio::test]
async fn pages_hold_each_job_once_newest_first() {
    for site in Site::every().await {
        let clock = Manual::at(START);
        let jobs = site.jobs_at(clock.clone()).await;
        let mut created = Vec::new();
        for number in 0..25 {
            // Several have the same moment.
            if number % 3 == 0 {
                clock.advance(Duration::seconds(1));
            }
            let name = if number % 2 == 0 { "even" } else { "odd" };
            let job = NewJob::new(name).task("one", WORK.task(&number)).owner(&format!("u{}", number % 5));
            created.push(jobs.create(job).await.unwrap().id);
        }
        let (mut seen, mut listing) = (Vec::new(), Listing::default());
        loop {
            let page = jobs.list(&listing, 10).await.unwrap();
            assert!(page.jobs.len() <= 10);
            seen.extend(page.jobs);
            listing.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(seen.windows(2).all(|two| (two[0].created, two[0].id) > (two[1].created, two[1].id)));
        let mut ids: Vec<_> = seen.iter().map(|job| job.id).collect();
        ids.sort_unstable();
        created.sort_unstable();
        assert_eq!(ids, created);

        jobs.cancel(seen[3].id).await.unwrap();
        let count = async |listing: Listing| jobs.list(&listing, 500).await.unwrap().jobs.len();
        assert_eq!(count(Listing { name: Some("even".to_owned()), ..Listing::default() }).await, 13);
        assert_eq!(count(Listing { owner: Some("u1".to_owned()), ..Listing::default() }).await, 5);
        assert_eq!(count(Listing { kind: Some("work".to_owned()), ..Listing::default() }).await, 25);
        assert_eq!(count(Listing { kind: Some("play".to_owned()), ..Listing::default() }).await, 0);
        assert_eq!(count(Listing { state: Some(State::Cancelled), ..Listing::default() }).await, 1);
        let (from, until) = (Some(START + Duration::seconds(2)), Some(START + Duration::seconds(4)));
        assert_eq!(count(Listing { from, until, ..Listing::default() }).await, 6);
        let counts = jobs.counts().await.unwrap();
        assert_eq!((counts[&State::Pending], counts[&State::Cancelled]), (24, 1));
    }
}

#[tokio::test]
async fn what_ended_thirty_days_ago_is_gone_and_nothing_else() {
    for site in Site::every().await {
        let clock = Manual::at(START);
        let jobs = site.jobs_at(clock.clone()).await;
        let waiting = jobs.create(WORK.job(&1).delay(std::time::Duration::from_secs(300 * 86_400))).await.unwrap().id;
        let done = jobs.create(WORK.job(&2)).await.unwrap().id;
        let worker = Worker::new(&jobs).register(WORK, |_: Job<u32>| async { Ok::<(), Failure>(()) });
        let shutdown = lifecycle::Shutdown::new();
        let work = tokio::spawn(worker.run(shutdown.clone()));
        comes_to(&jobs, done, State::Completed).await;
        shutdown.begin(SOON);
        work.await.unwrap().unwrap();
        // A look at what is old comes with the first look of all.
        let look = async || {
            let (drain, tending) = (CancellationToken::new(), jobs.clone());
            let until = drain.clone();
            let tending = tokio::spawn(async move { tending.tend(until).await });
            // Once another look has begun, the first one is over.
            for _ in 0..2 {
                let marker = jobs.create(WORK.job(&3).delay(std::time::Duration::from_secs(1))).await.unwrap().id;
                clock.advance(Duration::seconds(2));
                comes_to(&jobs, marker, State::Pending).await;
            }
            drain.cancel();
            tending.await.unwrap();
        };
        clock.advance(Duration::days(29));
        look().await;
        assert!(jobs.get(done).await.is_ok());
        clock.advance(Duration::days(1));
        look().await;
        assert_eq!(jobs.get(done).await, Err(Error::NoJob(done)));
        assert_eq!(jobs.get(waiting).await.unwrap().job.state, State::Scheduled);
    }
}
