//! The member that runs a handler: C4–C6 by the SDK, F1, F2, F12.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Consumer, Delivery, Failure, Group, Handler, Mode, Subscription, Transport};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Lab, claim, eventually, publish, publish_many, seconds, status};

/// Notes what it gets, and does what the test says.
struct Scripted<F> {
    attempts: Mutex<BTreeMap<String, u32>>,
    script: F,
}

#[async_trait]
impl<F, R> Handler for Scripted<F>
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Failure>> + Send,
{
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.attempts.lock().insert(delivery.envelope.id.clone(), delivery.attempt);
        (self.script)(delivery.clone()).await
    }
}

fn scripted<F, R>(script: F) -> Arc<Scripted<F>>
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Failure>> + Send,
{
    Arc::new(Scripted { attempts: Mutex::default(), script })
}

fn group() -> Group {
    Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel)
}

struct Running {
    drain: CancellationToken,
    drop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) {
        self.drain.cancel();
        tokio::time::timeout(seconds(10), self.task).await.expect("it stops").unwrap().unwrap();
    }
}

fn run(lab: &impl Lab, group: Group, handler: Arc<dyn Handler>) -> Running {
    let (drain, drop) = (CancellationToken::new(), CancellationToken::new());
    let task = tokio::spawn(Consumer::new(lab.bus(), group, handler).run(drain.clone(), drop.clone()));
    Running { drain, drop, task }
}

async fn settled(lab: &impl Lab) {
    let bus = lab.bus();
    eventually("every event settled", || async {
        bus.groups().await.unwrap().iter().any(|status| status.name == "g" && status.lag == 0)
    })
    .await;
}

pub(crate) async fn it_handles_and_acks(lab: impl Lab) {
    publish_many(&lab.bus(), 0..300).await;
    let handler = scripted(async |_| Ok(()));
    let running = run(&lab, group(), handler.clone());
    settled(&lab).await;
    publish_many(&lab.bus(), 300..310).await;
    settled(&lab).await;
    running.stop().await;
    let attempts = handler.attempts.lock();
    assert_eq!(attempts.len(), 310);
    assert!(attempts.values().all(|attempt| *attempt == 1));
}

pub(crate) async fn a_failing_handler_is_retried(lab: impl Lab) {
    publish(&lab.bus(), &[("fails", "k"), ("dies", "l")]).await;
    let handler = scripted(async |delivery: Delivery| match delivery.envelope.id.as_str() {
        "dies" => Err(Failure::Dead { reason: "never".into() }),
        _ if delivery.attempt < 3 => Err(anyhow::anyhow!("the database is away").into()),
        _ => Ok(()),
    });
    let running = run(&lab, group(), handler.clone());
    for attempt in 1..3 {
        eventually("a retry is scheduled", || async {
            handler.attempts.lock().get("fails") == Some(&attempt) && status(&lab.bus(), "g").await.retrying == 1
        })
        .await;
        lab.advance(seconds(6)).await;
    }
    settled(&lab).await;
    running.stop().await;
    assert_eq!(handler.attempts.lock()["fails"], 3);
    let dead = lab.bus().dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].error.as_str()), (1, "never"));
}

pub(crate) async fn a_panic_is_a_failure(lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k")]).await;
    let handler = scripted(async |delivery: Delivery| {
        assert!(delivery.attempt > 1, "the first attempt fails");
        Ok(())
    });
    let running = run(&lab, group(), handler);
    let bus = lab.bus();
    eventually("a retry is scheduled", || async {
        bus.groups().await.unwrap().iter().any(|status| status.retrying == 1)
    })
    .await;
    lab.advance(seconds(2)).await;
    settled(&lab).await;
    running.stop().await;
}

pub(crate) async fn drain_releases_what_is_not_started(lab: impl Lab) {
    publish_many(&lab.bus(), 0..10).await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        scripted(move |_| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        })
    };
    // One after another: nine wait for the first.
    let running = run(&lab, Group { mode: Mode::Exclusive, ..group() }, handler.clone());
    eventually("the first has begun", || async { handler.attempts.lock().len() == 1 }).await;
    assert_eq!(status(&lab.bus(), "g").await.in_flight, 10);
    running.drain.cancel();
    eventually("the others are released", || async { status(&lab.bus(), "g").await.in_flight == 1 }).await;
    gate.add_permits(1);
    running.stop().await;
    assert_eq!(handler.attempts.lock().len(), 1, "none was begun while draining");
    let status = status(&lab.bus(), "g").await;
    assert_eq!((status.lag, status.in_flight), (9, 0));
    assert!(claim(&lab.bus(), "g", 10).await.iter().all(|leased| leased.attempt == 1), "uncharged");
}

pub(crate) async fn drain_waits_for_what_is_started(lab: impl Lab) {
    publish_many(&lab.bus(), 0..3).await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        scripted(move |_| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        })
    };
    let running = run(&lab, group(), handler.clone());
    eventually("all have begun", || async { handler.attempts.lock().len() == 3 }).await;
    running.drain.cancel();
    publish_many(&lab.bus(), 3..4).await;
    tokio::task::yield_now().await;
    assert!(!running.task.is_finished());
    gate.add_permits(3);
    running.stop().await;
    assert_eq!(status(&lab.bus(), "g").await.lag, 1, "three acked, the new one not claimed");
}

pub(crate) async fn drop_ends_what_still_runs(lab: impl Lab) {
    publish_many(&lab.bus(), 0..2).await;
    let handler = scripted(async |_| std::future::pending().await);
    let running = run(&lab, group(), handler.clone());
    eventually("both have begun", || async { handler.attempts.lock().len() == 2 }).await;
    running.drain.cancel();
    running.drop.cancel();
    running.stop().await;
    let leased = claim(&lab.bus(), "g", 10).await;
    assert_eq!(leased.iter().map(|leased| leased.attempt).collect::<Vec<_>>(), [1, 1], "given back, uncharged");
}

pub(crate) async fn a_handler_that_takes_too_long_is_cancelled(lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k")]).await;
    let cancelled = Arc::new(AtomicUsize::new(0));
    let handler = {
        let cancelled = cancelled.clone();
        scripted(move |delivery: Delivery| {
            let cancelled = cancelled.clone();
            tokio::spawn(async move {
                delivery.cancelled.cancelled().await;
                cancelled.fetch_add(1, Ordering::Relaxed);
            });
            std::future::pending()
        })
    };
    let group = Group { lease: seconds(1), max_processing: Some(Duration::from_millis(1200)), ..group() };
    let running = run(&lab, group, handler);
    eventually("it is nacked", || async { status_of(&lab).await.is_some_and(|status| status.retrying == 1) }).await;
    eventually("it was told", || async { cancelled.load(Ordering::Relaxed) == 1 }).await;
    running.stop().await;
}

async fn status_of(lab: &impl Lab) -> Option<bus::GroupStatus> {
    lab.bus().groups().await.unwrap().into_iter().find(|status| status.name == "g")
}

pub(crate) async fn a_lost_lease_cancels_the_handler(lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k")]).await;
    let handler = scripted(async |delivery: Delivery| {
        if delivery.attempt == 1 {
            delivery.cancelled.cancelled().await;
        }
        Ok(())
    });
    let running = run(&lab, Group { lease: seconds(1), ..group() }, handler.clone());
    eventually("it has begun", || async { handler.attempts.lock().len() == 1 }).await;
    // The bus's time jumps past the lease: the member hears of it when it extends.
    lab.advance(seconds(2)).await;
    lab.advance(seconds(2)).await;
    eventually("another attempt succeeds", || async {
        handler.attempts.lock()["a"] == 2 && status(&lab.bus(), "g").await.lag == 0
    })
    .await;
    running.stop().await;
}

pub(crate) async fn a_handler_outlives_its_first_lease(lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k")]).await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        scripted(move |_| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        })
    };
    let running = run(&lab, Group { lease: seconds(1), ..group() }, handler.clone());
    eventually("it has begun", || async { handler.attempts.lock().len() == 1 }).await;
    // The bus's clock goes with the real one, in steps that an extension at a third of the lease keeps up with.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lab.advance(Duration::from_millis(100)).await;
    }
    gate.add_permits(1);
    settled(&lab).await;
    running.stop().await;
    assert_eq!(handler.attempts.lock()["a"], 1, "delivered once");
}

pub(crate) async fn a_member_is_on_the_roster_while_it_runs(lab: impl Lab) {
    let bus = lab.bus();
    let running = run(&lab, group(), scripted(async |_| Ok(())));
    eventually("it is there", || async { bus.roster().here().len() == 1 }).await;
    let here = bus.roster().here().remove(0);
    assert_eq!(here.transport, Transport::Member);
    let follows = Subscription { name: "g".into(), filter: "DB/*".into(), group: Some("g".into()) };
    assert_eq!(here.subscriptions, [follows]);
    assert!(bus.connections().await.unwrap().iter().any(|connection| connection.id == here.id));
    running.stop().await;
    assert!(bus.roster().here().is_empty(), "it is gone");
}

pub(crate) async fn contradicting_settings_are_refused(lab: impl Lab) {
    let group = Group { concurrency: 0, ..group() };
    let consumer = Consumer::new(lab.bus(), group, scripted(async |_| Ok(())));
    let error = consumer.run(CancellationToken::new(), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("concurrency: "), "{error}");
}
