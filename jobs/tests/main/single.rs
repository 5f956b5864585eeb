//! A job of one task.

use std::time::Duration;

use jobs::{Failure, Handler, Job, Kind, NewJob, Priority, State, Task, Worker};
use serde::{Deserialize, Serialize};

use crate::{Log, Running, Site, comes_to};

#[derive(Debug, Serialize, Deserialize)]
struct Invoice {
    number: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    sent: String,
}

const SEND_INVOICE: Kind<Invoice, Receipt> = Kind::new("send_invoice");

async fn send_invoice(job: Job<Invoice>) -> Result<Receipt, Failure> {
    Ok(Receipt { sent: format!("invoice {} of {}", job.input.number, job.owner.as_deref().unwrap_or("nobody")) })
}

#[tokio::test]
async fn a_job_is_done_and_its_result_kept() {
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let created = jobs.create(SEND_INVOICE.job(&Invoice { number: 7 }).owner("alice")).await.unwrap();
        assert!(!created.existing);
        // Its worker comes later, on another node.
        let worker = Running::start(Worker::new(&site.jobs().await).register(SEND_INVOICE, send_invoice));
        let done = comes_to(&jobs, created.id, State::Completed).await;
        let receipt = done.result(&SEND_INVOICE, "send_invoice").unwrap();
        assert_eq!(receipt, Some(Receipt { sent: "invoice 7 of alice".to_owned() }));
        assert_eq!((done.job.progress, done.job.priority), (1.0, Priority::Normal));
        assert!(done.job.ended.is_some() && done.tasks[0].worker.is_some());
        let attempts: Vec<_> = done.tasks[0].attempts.iter().map(|a| (a.number, a.outcome.as_str())).collect();
        assert_eq!(attempts, [(1, "completed")]);
        worker.drain().await;
    }
}

struct Mailer(Log);

impl Handler<Invoice, Receipt> for Mailer {
    async fn handle(&self, job: Job<Invoice>) -> Result<Receipt, Failure> {
        self.0.note(job.input.number);
        send_invoice(job).await
    }
}

#[tokio::test]
async fn a_handler_may_be_something_that_has_what_it_needs() {
    let site = Site::sqlite().await;
    let (jobs, log) = (site.jobs().await, Log::default());
    let worker = Running::start(Worker::new(&jobs).register(SEND_INVOICE, Mailer(log.clone())));
    for number in 1..=3 {
        let id = jobs.create(SEND_INVOICE.job(&Invoice { number })).await.unwrap().id;
        comes_to(&jobs, id, State::Completed).await;
    }
    assert_eq!(log.all(), ["1", "2", "3"]);
    worker.drain().await;
}

#[tokio::test]
async fn input_that_is_not_the_kinds_fails_at_once() {
    let site = Site::sqlite().await;
    let jobs = site.jobs().await;
    let worker = Running::start(Worker::new(&jobs).register(SEND_INVOICE, send_invoice));
    let job = NewJob::new("by hand").task("one", Task::untyped("send_invoice", serde_json::json!({ "number": "x" })));
    let id = jobs.create(job).await.unwrap().id;
    let failed = comes_to(&jobs, id, State::Failed).await;
    assert!(failed.tasks[0].error.as_ref().unwrap().starts_with("input: "), "{failed:?}");
    worker.drain().await;
}

#[tokio::test]
async fn progress_is_seen_while_it_runs() {
    const COUNT: Kind<(), ()> = Kind::new("count");
    for site in Site::every().await {
        let jobs = site.jobs().await;
        let count = |job: Job<()>| async move {
            for page in 0..100_000 {
                job.progress(0.5, &format!("page {page}"));
                tokio::select! {
                    () = job.ending().cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
            Err(Failure::fatal("nobody looked"))
        };
        let worker = Running::start(Worker::new(&jobs).register(COUNT, count));
        let id = jobs.create(COUNT.job(&())).await.unwrap().id;
        let seen = testkit::eventually("progress is seen", crate::SOON, async || {
            let detail = jobs.get(id).await.unwrap();
            (detail.job.progress == 0.5).then_some(detail)
        })
        .await;
        assert!(seen.tasks[0].note.as_ref().unwrap().starts_with("page "));
        assert_eq!(seen.job.state, State::Running);
        // Stopped, it ends well, and that counts.
        jobs.stop(id).await.unwrap();
        assert_eq!(comes_to(&jobs, id, State::Completed).await.job.progress, 1.0);
        worker.drain().await;
    }
}
