//! Jobs that are there once.

use jobs::{Created, Failure, Job, Kind, State, Worker};
use uuid::Uuid;

use crate::{Running, Site, comes_to};

const REINDEX: Kind<(), ()> = Kind::new("reindex");

#[tokio::test]
async fn of_two_nodes_that_create_the_same_at_once_both_get_the_first_ones_id() {
    for site in Site::every().await {
        let (one, other) = (site.jobs().await, site.jobs().await);
        for round in 0..10 {
            let key = format!("products/{round}");
            let job = || REINDEX.job(&()).unique(&key);
            let made = tokio::join!(one.create(job()), other.create(job()), one.create(job()), other.create(job()));
            let made = [made.0.unwrap(), made.1.unwrap(), made.2.unwrap(), made.3.unwrap()];
            assert_eq!(made.iter().filter(|created| !created.existing).count(), 1, "{made:?}");
            assert!(made.iter().all(|created| created.id == made[0].id));
        }
        assert_eq!(one.counts().await.unwrap()[&State::Pending], 10);
    }
}

#[tokio::test]
async fn a_key_is_free_again_once_its_job_has_ended() {
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let job = || REINDEX.job(&()).unique("all");
        let first = jobs.create(job()).await.unwrap();
        assert_eq!(jobs.create(job()).await.unwrap(), Created { id: first.id, existing: true });
        let other = jobs::NewJob::new("other").task("one", REINDEX.task(&())).unique("all");
        assert!(!jobs.create(other).await.unwrap().existing, "it is the key of another name");
        let worker = Running::start(Worker::new(&jobs).register(REINDEX, |_: Job<()>| async { Ok::<(), Failure>(()) }));
        comes_to(&jobs, first.id, State::Completed).await;
        let second = jobs.create(job()).await.unwrap();
        assert!(!second.existing && second.id != first.id);
        assert_eq!(jobs.get(first.id).await.unwrap().job.key.as_deref(), Some("all"));
        worker.drain().await;
    }
}

#[tokio::test]
async fn an_id_that_is_given_names_one_job() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let id = Uuid::from_u128(7);
    assert_eq!(jobs.create(REINDEX.job(&()).id(id)).await.unwrap(), Created { id, existing: false });
    assert_eq!(jobs.create(REINDEX.job(&()).id(id)).await.unwrap(), Created { id, existing: true });
}

#[tokio::test]
async fn a_name_and_a_key_are_told_apart_wherever_a_slash_stands() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let job = |name: &str, key: &str| jobs::NewJob::new(name).task("one", REINDEX.task(&())).unique(key);
    let first = jobs.create(job("a/b", "c")).await.unwrap();
    let second = jobs.create(job("a", "b/c")).await.unwrap();
    assert!(!second.existing && second.id != first.id);
    for odd in [job("a\nb", "c"), job("a", "b\nc")] {
        assert!(jobs.create(odd).await.unwrap_err().to_string().contains("control characters"));
    }
}
